package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/vault"
)

// Dial connects to a gateway's port; runtime.Driver.Dial bound to one agent.
type Dial func(ctx context.Context) (net.Conn, error)

// Gateway speaks with one running gateway. Turns go over HTTP, one connection
// each; everything else over one WebSocket, which opens at the first call and
// again after it broke. All methods may be called concurrently.
type Gateway struct {
	dial  Dial
	token vault.Secret
	http  *http.Client
	life  context.Context // ends with Close
	end   context.CancelFunc

	mu   sync.Mutex
	link *link // guarded by mu; nil: none yet
}

// NewGateway prepares to speak with a gateway; nothing is dialled yet. Close ends it.
func NewGateway(dial Dial, token vault.Secret) *Gateway {
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives:  true, // a turn must not meet a connection that the gateway is just dropping
		DisableCompression: true, // it would hold deltas back
	}
	life, end := context.WithCancel(context.Background())
	return &Gateway{dial: dial, token: token, http: &http.Client{Transport: transport}, life: life, end: end}
}

// Close drops every connection; what is under way ends with an error. A closed
// gateway stays closed.
func (g *Gateway) Close() {
	g.end()
	g.Rest()
}

// Rest drops the WebSocket, before the gateway is frozen say. The next call opens
// it again.
func (g *Gateway) Rest() {
	g.mu.Lock()
	l := g.link
	g.link = nil
	g.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// baseURL is only what HTTP requires: Dial decides where a connection goes. Under
// another name the gateway would take us for a stranger.
const baseURL = "http://localhost"

// poll is how often Ready asks; booting takes 15 s, so it costs nothing to be quick.
const poll = 100 * time.Millisecond

// Ready waits until the gateway can serve turns. When ctx ends first, the error
// says what it was still waiting for. A channel that cannot connect does not count:
// the agent answers everywhere else, and Channels tells of it.
func (g *Gateway) Ready(ctx context.Context) error {
	reason := errors.New("not asked yet")
	for {
		err := g.ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway did not get ready: %w (last seen: %w)", ctx.Err(), reason)
		case <-time.After(poll):
		}
	}
}

func (g *Gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, body, err := g.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		return nil
	}
	var answer struct{ Failing []string }
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Failing) == 0 {
		return fmt.Errorf("/readyz answered %d", status)
	}
	for _, name := range answer.Failing {
		if essential(name) {
			return errors.New(strings.Join(answer.Failing, ", "))
		}
	}
	return nil
}

// essential tells OpenClaw's own conditions from the names of channels, which it
// looks at only when all of its own are met.
func essential(failing string) bool {
	switch failing {
	case "telegram", "slack":
		return false
	}
	return true
}

func (g *Gateway) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", path, err)
	}
	g.authorize(req)
	resp, err := g.http.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", path, err)
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
