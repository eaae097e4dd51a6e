package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	protocolVersion = 4
	maxFrame        = 26 << 20 // the gateway sends up to 25 MB
	// silence is how long a link may stay mute: the gateway ticks every 30 s.
	silence = 100 * time.Second
	// backlog is how many events wait for a subscriber.
	backlog = 1024
)

// CallError is a call that the gateway refused.
type CallError struct {
	Method     string
	Code       string // UNAVAILABLE, INVALID_REQUEST, FORBIDDEN, …
	Message    string
	Retryable  bool
	RetryAfter time.Duration
}

// Error implements error.
func (e *CallError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Method, e.Code, e.Message) }

// errLinkClosed is why calls fail after Rest or Close.
var errLinkClosed = errors.New("the connection to the gateway was closed")

// Call runs one method of the gateway. out may be nil. An answer that does not fit
// out is an error; unknown fields are not. Refusals are *CallError.
func (g *Gateway) Call(ctx context.Context, method string, params, out any) error {
	l, err := g.connected(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	payload, err := l.call(ctx, method, params)
	if err != nil {
		return err
	}
	if out == nil || len(payload) == 0 {
		return nil
	}
	if err := json.Unmarshal(payload, out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", method, err)
	}
	return nil
}

// connected returns the open link, or opens one.
func (g *Gateway) connected(ctx context.Context) (*link, error) {
	g.mu.Lock()
	defer g.mu.Unlock() // others wait here rather than open a second one
	if g.life.Err() != nil {
		return nil, errLinkClosed
	}
	if g.link != nil && g.link.alive() {
		return g.link, nil
	}
	l, err := g.open(ctx)
	if err != nil {
		return nil, err
	}
	g.link = l
	return l, nil
}

// link is one WebSocket: calls out, answers and events in.
type link struct {
	conn   *websocket.Conn
	cancel context.CancelFunc // ends the reader
	done   chan struct{}      // closed when the reader has ended

	mu      sync.Mutex
	last    int                    // guarded by mu; id of the last call
	waiting map[string]chan answer // guarded by mu; calls by id
	subs    map[*Subscription]bool // guarded by mu
	err     error                  // guarded by mu; why it ended
}

type answer struct {
	payload json.RawMessage
	err     *callFailure
}

type frame struct {
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	OK      bool            `json:"ok"`
	Payload json.RawMessage `json:"payload"`
	Error   *callFailure    `json:"error"`
	Event   string          `json:"event"`
}

type callFailure struct {
	Code         string  `json:"code"`
	Message      string  `json:"message"`
	Retryable    bool    `json:"retryable"`
	RetryAfterMS float64 `json:"retryAfterMs"`
}

func (g *Gateway) open(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return g.dial(ctx) },
		DisableKeepAlives: true, // nobody would ever use the connection of a refused upgrade again
	}
	conn, resp, err := websocket.Dial(ctx, "ws://localhost/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("open the gateway's WebSocket: %w", err)
	}
	conn.SetReadLimit(maxFrame)
	if err := g.greet(ctx, conn); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	reading, stop := context.WithCancel(g.life)
	l := &link{conn: conn, cancel: stop, done: make(chan struct{}), waiting: make(map[string]chan answer), subs: make(map[*Subscription]bool)}
	go l.read(reading)
	return l, nil
}

// greet answers the gateway's challenge. Over loopback the shared token is enough.
func (g *Gateway) greet(ctx context.Context, conn *websocket.Conn) error {
	if err := awaitFrame(ctx, conn, func(f frame) bool { return f.Event == "connect.challenge" }, nil); err != nil {
		return fmt.Errorf("await the challenge: %w", err)
	}
	hello, err := json.Marshal(map[string]any{
		"type": "req", "id": "hello", "method": "connect",
		"params": map[string]any{
			"minProtocol": protocolVersion, "maxProtocol": protocolVersion,
			"client": map[string]string{"id": "gateway-client", "version": "1.0.0", "platform": "linux", "mode": "backend"},
			"role":   "operator",
			"scopes": []string{"operator.admin", "operator.read", "operator.write", "operator.approvals"},
			"caps":   []string{"tool-events"},
			"auth":   map[string]string{"token": g.token.Reveal()},
		},
	})
	if err != nil {
		return fmt.Errorf("write the greeting: %w", err)
	}
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return fmt.Errorf("greet the gateway: %w", err)
	}
	var got frame
	if err := awaitFrame(ctx, conn, func(f frame) bool { return f.Type == "res" && f.ID == "hello" }, &got); err != nil {
		return fmt.Errorf("await the gateway's greeting: %w", err)
	}
	if !got.OK {
		return got.Error.named("connect")
	}
	return nil
}

// awaitFrame reads up to the frame that is wanted, and skips others.
func awaitFrame(ctx context.Context, conn *websocket.Conn, want func(frame) bool, out *frame) error {
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var f frame
		if json.Unmarshal(data, &f) != nil || !want(f) {
			continue
		}
		if out != nil {
			*out = f
		}
		return nil
	}
}

func (l *link) call(ctx context.Context, method string, params any) (json.RawMessage, error) {
	if params == nil {
		params = struct{}{}
	}
	id, reply, err := l.expect()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer l.forget(id)
	data, err := json.Marshal(map[string]any{"type": "req", "id": id, "method": method, "params": params})
	if err != nil {
		return nil, fmt.Errorf("%s: write the call: %w", method, err)
	}
	if err := l.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	case <-l.done:
		return nil, fmt.Errorf("%s: %w", method, l.reason())
	case a := <-reply:
		if a.err != nil {
			return nil, a.err.named(method)
		}
		return a.payload, nil
	}
}

func (l *link) expect() (id string, reply chan answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return "", nil, l.err
	}
	l.last++
	id, reply = strconv.Itoa(l.last), make(chan answer, 1)
	l.waiting[id] = reply
	return id, reply, nil
}

func (l *link) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

// read hands out what comes until the connection ends.
func (l *link) read(ctx context.Context) {
	defer close(l.done)
	for {
		data, err := l.next(ctx)
		if err != nil {
			l.end(err)
			_ = l.conn.CloseNow()
			return
		}
		var f frame
		if json.Unmarshal(data, &f) != nil {
			continue
		}
		switch f.Type {
		case "res":
			l.answer(f)
		case "event":
			l.publish(Event{Name: f.Event, Payload: f.Payload})
		}
	}
}

func (l *link) next(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, data, err := l.conn.Read(ctx)
	return data, err
}

func (l *link) answer(f frame) {
	l.mu.Lock()
	reply := l.waiting[f.ID]
	delete(l.waiting, f.ID)
	l.mu.Unlock()
	if reply == nil {
		return
	}
	a := answer{payload: f.Payload}
	if !f.OK {
		a.err = f.Error
		if a.err == nil {
			a.err = &callFailure{}
		}
	}
	reply <- a // has room for one, and only one comes
}

func (l *link) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("the connection to the gateway ended: %w", err)
	}
	for s := range l.subs {
		s.finish(l.err)
	}
	clear(l.subs)
}

func (l *link) close() {
	l.mu.Lock()
	if l.err == nil {
		l.err = errLinkClosed
	}
	l.mu.Unlock()
	l.cancel()
	<-l.done
}

func (l *link) alive() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (e *callFailure) named(method string) error {
	if e == nil {
		e = &callFailure{}
	}
	return &CallError{
		Method: method, Code: e.Code, Message: e.Message, Retryable: e.Retryable,
		RetryAfter: time.Duration(e.RetryAfterMS) * time.Millisecond,
	}
}
