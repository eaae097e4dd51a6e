package openclaw

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/vault"
)

// Dial connects to a gateway's port: runtime.Driver.Dial for one agent.
type Dial func(ctx context.Context) (net.Conn, error)

// Gateway is the client of one running gateway. Each turn uses an HTTP connection
// of its own. Everything else uses one WebSocket, which opens at the first call and
// again after it broke. All methods may be called concurrently.
type Gateway struct {
	dial   Dial
	token  vault.Secret
	http   *http.Client
	memory *budget.Budget  // of long answers; nil: no limit
	holder string          // whose memory it is
	open   context.Context // ends with Close
	cancel context.CancelFunc

	mu   sync.Mutex
	link *link // guarded by mu; nil if there was none yet
}

// NewGateway returns a client without connecting. The caller closes it.
func NewGateway(dial Dial, token vault.Secret) *Gateway {
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives:  true, // a turn must not use a connection that the gateway is closing
		DisableCompression: true, // compression would delay deltas
	}
	open, cancel := context.WithCancel(context.Background())
	return &Gateway{dial: dial, token: token, http: &http.Client{Transport: transport}, open: open, cancel: cancel}
}

// LimitMemory makes the gateway's long answers take memory from a budget as a holder. Call
// it before anything else.
func (g *Gateway) LimitMemory(b *budget.Budget, holder string) { g.memory, g.holder = b, holder }

// Close closes every connection. Turns and calls in progress end with an error, and
// so does every later one.
func (g *Gateway) Close() {
	g.cancel()
	g.mu.Lock()
	l := g.link
	g.link = nil
	g.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// baseURL only fills what HTTP requires: Dial decides where a connection goes. With
// another host name the gateway would treat the caller as remote.
const baseURL = "http://localhost"

func (g *Gateway) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s: %w", path, err)
	}
	g.authorize(req)
	resp, err := g.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return resp.StatusCode, bytes.TrimSpace(body), nil
}

func (g *Gateway) authorize(req *http.Request) {
	req.Header.Set("Authorization", "Bearer "+g.token.Reveal())
}
