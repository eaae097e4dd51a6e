package openclaw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

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
	http   *http.Client
	memory *budget.Budget  // of long answers; nil: no limit
	holder string          // whose memory it is
	open   context.Context // ends with Close
	cancel context.CancelFunc

	mu   sync.Mutex
	link *link // guarded by mu; nil if there was none yet

	tokenMu   sync.Mutex     // locked after mu
	tokens    []vault.Secret // guarded by tokenMu; the gateway accepts one of them
	replacing chan struct{}  // guarded by tokenMu; not nil while the gateway replaces its token, closed afterwards
}

// maxReplacing is how long a request waits for the gateway to replace its token. Source:
// 0.3-1.7 s were measured.
const maxReplacing = 4 * time.Second

// NewGateway returns a client without connecting. The gateway accepts one of the tokens:
// if there are several, the client finds out which. The caller closes it.
func NewGateway(dial Dial, token vault.Secret, others ...vault.Secret) *Gateway {
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives:  true, // a turn must not use a connection that the gateway is closing
		DisableCompression: true, // compression would delay deltas
	}
	open, cancel := context.WithCancel(context.Background())
	return &Gateway{dial: dial, tokens: append([]vault.Secret{token}, others...), http: &http.Client{Transport: transport}, open: open, cancel: cancel}
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

// get reads a page about the gateway's health, which the gateway answers whatever the token
// is; a token that it accepts shows more.
func (g *Gateway) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s: %w", path, err)
	}
	g.tokenMu.Lock()
	setToken(req, g.tokens[0])
	g.tokenMu.Unlock()
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

func (g *Gateway) authorize(req *http.Request) error {
	tokens := g.currentTokens(req.Context())
	if len(tokens) > 1 {
		if _, err := g.connect(req.Context()); err != nil { // it finds out which
			return err
		}
		tokens = g.currentTokens(req.Context())
	}
	setToken(req, tokens[0])
	return nil
}

func setToken(req *http.Request, token vault.Secret) {
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
}

// currentTokens returns the tokens of which the gateway accepts one. It waits while the
// gateway replaces its token.
func (g *Gateway) currentTokens(ctx context.Context) []vault.Secret {
	g.tokenMu.Lock()
	replacing := g.replacing
	g.tokenMu.Unlock()
	if replacing != nil {
		timer := time.NewTimer(maxReplacing)
		defer timer.Stop()
		select {
		case <-replacing:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	g.tokenMu.Lock()
	defer g.tokenMu.Unlock()
	return g.tokens
}

// accepted records that the gateway has accepted a token, unless it got another one
// meanwhile.
func (g *Gateway) accepted(token vault.Secret) {
	g.tokenMu.Lock()
	defer g.tokenMu.Unlock()
	if slices.ContainsFunc(g.tokens, func(t vault.Secret) bool { return t.Reveal() == token.Reveal() }) {
		g.tokens = []vault.Secret{token}
	}
}

// ReloadSecrets makes the gateway read its secrets file again, in which its own token is
// token. Its next model request uses the new content. It tries again for some seconds
// where the gateway gives up because it read its configuration at the same time, which it
// does some time after each change of the file.
func (g *Gateway) ReloadSecrets(ctx context.Context, token vault.Secret) error {
	for wait := reloadBackoff; ; wait *= 2 {
		l, err := g.connect(ctx)
		if err != nil {
			return fmt.Errorf("secrets.reload: %w", err)
		}
		err = g.reload(ctx, l, token)
		if err == nil {
			break
		}
		// The answer is the same for a file that cannot be read.
		refused := (*CallError)(nil)
		if !errors.As(err, &refused) || refused.Code != "UNAVAILABLE" || wait > maxReloadBackoff {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
	// The gateway ends the connections of its old token, perhaps before it answers.
	_, err := g.connect(ctx)
	return err
}

// reloadBackoff is the time until a reload that was refused is tried again; it doubles
// with each attempt, up to maxReloadBackoff.
const (
	reloadBackoff    = 100 * time.Millisecond
	maxReloadBackoff = 3 * time.Second
)

// reload calls secrets.reload, and afterwards knows the token, or that it is one of two.
func (g *Gateway) reload(ctx context.Context, l *link, token vault.Secret) error {
	g.tokenMu.Lock()
	old, done := g.tokens[0], make(chan struct{})
	if old.Reveal() != token.Reveal() {
		g.replacing = done
	}
	g.tokenMu.Unlock()
	_, err := l.call(ctx, "secrets.reload", nil)
	g.tokenMu.Lock()
	defer g.tokenMu.Unlock()
	defer close(done)
	g.replacing = nil
	refused := (*CallError)(nil)
	switch {
	case err == nil:
		g.tokens = []vault.Secret{token}
	case errors.As(err, &refused):
		return err
	case old.Reveal() == token.Reveal():
		return err
	default:
		g.tokens = []vault.Secret{token, old}
		if !l.ended() {
			return err
		}
	}
	return nil
}
