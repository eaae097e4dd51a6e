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
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"agento.host/agento/internal/vault"
)

const (
	protocolVersion = 4
	// maxFrame is the longest answer to a call. The longest in use is a page of history.
	maxFrame = 16 << 20
	// maxEvent is the longest event, and the longest frame that is read without asking for
	// memory.
	maxEvent = 256 << 10
	// readTimeout ends a connection on which nothing arrives: the gateway sends a tick
	// every 30 s.
	readTimeout = 100 * time.Second
	// handshakeTimeout is the time to open a connection.
	handshakeTimeout = 15 * time.Second
	// writeTimeout ends a connection that takes no message.
	writeTimeout = 15 * time.Second
	// eventBuffer is how many events a subscriber may be behind, and eventBytes how long
	// they may be together.
	eventBuffer = 1024
	eventBytes  = 1 << 20
)

// CallError is a call that the gateway refused.
type CallError struct {
	Method  string
	Code    string // UNAVAILABLE, INVALID_REQUEST, FORBIDDEN, …
	Message string
}

// Error implements error.
func (e *CallError) Error() string { return fmt.Sprintf("%s: %s: %s", e.Method, e.Code, e.Message) }

// errClosed is the error of every call after Close.
var errClosed = errors.New("the connection to the gateway was closed")

// call calls one method of the gateway and decodes the answer into out, which may be
// nil. An answer that does not fit out is an error; unknown fields are not. A
// refusal is a *CallError.
func (g *Gateway) call(ctx context.Context, method string, params, out any) error {
	l, err := g.connect(ctx)
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

// connect returns the open connection, or opens one.
func (g *Gateway) connect(ctx context.Context) (*link, error) {
	g.mu.Lock()
	defer g.mu.Unlock() // concurrent calls wait here and do not open a second connection
	if g.open.Err() != nil {
		return nil, errClosed
	}
	if g.link != nil && !g.link.ended() {
		return g.link, nil
	}
	var err error
	for _, token := range g.currentTokens(ctx) {
		if g.link, err = g.openLink(ctx, token); err == nil {
			g.accepted(token)
			return g.link, nil
		}
		if refused := (*CallError)(nil); !errors.As(err, &refused) {
			break
		}
	}
	return nil, err
}

// link is one WebSocket to the gateway. It sends calls and reads answers and events.
type link struct {
	conn   *websocket.Conn
	hold   func(ctx context.Context, bytes int64) (release func(), err error) // takes memory
	cancel context.CancelFunc                                                 // ends the reader
	done   chan struct{}                                                      // closed when the reader has ended

	mu      sync.Mutex
	lastID  int                        // guarded by mu; of the last call
	pending map[string]chan callResult // guarded by mu; the calls in progress by id
	subs    map[*Subscription]bool     // guarded by mu
	err     error                      // guarded by mu; the reason why it ended
}

type callResult struct {
	payload json.RawMessage
	err     *wireError
}

type frame struct {
	Type    string          `json:"type"`
	ID      string          `json:"id"`
	OK      bool            `json:"ok"`
	Payload json.RawMessage `json:"payload"`
	Error   *wireError      `json:"error"`
	Event   string          `json:"event"`
}

type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (g *Gateway) openLink(ctx context.Context, token vault.Secret) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(g.open, cancel)()
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return g.dial(ctx) },
		DisableKeepAlives: true, // the connection of a refused upgrade would stay open unused
	}
	conn, resp, err := websocket.Dial(ctx, "ws://localhost/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("open the gateway's WebSocket: %w", err)
	}
	conn.SetReadLimit(maxEvent)
	if err := authenticate(ctx, conn, token); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	conn.SetReadLimit(-1) // readFrame has its own
	readCtx, cancelRead := context.WithCancel(g.open)
	hold := func(ctx context.Context, bytes int64) (func(), error) { return g.memory.Acquire(ctx, g.holder, bytes) }
	l := &link{conn: conn, hold: hold, cancel: cancelRead, done: make(chan struct{}), pending: make(map[string]chan callResult), subs: make(map[*Subscription]bool)}
	go l.read(readCtx)
	return l, nil
}

// authenticate answers the gateway's challenge. Over loopback the shared token is
// enough.
func authenticate(ctx context.Context, conn *websocket.Conn, token vault.Secret) error {
	if _, err := waitFrame(ctx, conn, func(f frame) bool { return f.Event == "connect.challenge" }); err != nil {
		return fmt.Errorf("wait for the gateway's challenge: %w", err)
	}
	hello, err := json.Marshal(map[string]any{
		"type": "req", "id": "hello", "method": "connect",
		"params": map[string]any{
			"minProtocol": protocolVersion, "maxProtocol": protocolVersion,
			"client": map[string]string{"id": "gateway-client", "version": "1.0.0", "platform": "linux", "mode": "backend"},
			"role":   "operator",
			"scopes": []string{"operator.admin", "operator.read", "operator.write", "operator.approvals"},
			"caps":   []string{"tool-events"},
			"auth":   map[string]string{"token": token.Reveal()},
		},
	})
	if err != nil {
		return fmt.Errorf("encode the connect request: %w", err)
	}
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return fmt.Errorf("send the connect request: %w", err)
	}
	reply, err := waitFrame(ctx, conn, func(f frame) bool { return f.Type == "res" && f.ID == "hello" })
	if err != nil {
		return fmt.Errorf("wait for the gateway's answer to connect: %w", err)
	}
	if !reply.OK {
		return reply.Error.callError("connect")
	}
	return nil
}

// waitFrame reads until a frame matches and returns it. It skips the others.
func waitFrame(ctx context.Context, conn *websocket.Conn, match func(frame) bool) (frame, error) {
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return frame{}, err
		}
		var f frame
		if json.Unmarshal(data, &f) == nil && match(f) {
			return f, nil
		}
	}
}

func (l *link) call(ctx context.Context, method string, params any) (json.RawMessage, error) {
	if params == nil {
		params = struct{}{}
	}
	id, results, err := l.addCall()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer l.removeCall(id)
	data, err := json.Marshal(map[string]any{"type": "req", "id": id, "method": method, "params": params})
	if err != nil {
		return nil, fmt.Errorf("%s: encode the call: %w", method, err)
	}
	if err := l.write(ctx, data); err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	case <-l.done:
		return nil, fmt.Errorf("%s: %w", method, l.endReason())
	case r := <-results:
		if r.err != nil {
			return nil, r.err.callError(method)
		}
		return r.payload, nil
	}
}

// write sends a message. The connection, which all callers share, ends if it cannot take
// the message, but not if ctx ends: then nothing is sent, or all of it.
func (l *link) write(ctx context.Context, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := l.conn.Write(ctx, websocket.MessageText, data)
	if err != nil {
		l.end(err)
		l.cancel()
	}
	return err
}

func (l *link) addCall() (id string, results chan callResult, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return "", nil, l.err
	}
	l.lastID++
	id, results = strconv.Itoa(l.lastID), make(chan callResult, 1)
	l.pending[id] = results
	return id, results, nil
}

func (l *link) removeCall(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, id)
}

// read dispatches frames until the connection ends.
func (l *link) read(ctx context.Context) {
	defer close(l.done)
	for {
		if err := l.readFrame(ctx); err != nil {
			l.end(err)
			_ = l.conn.CloseNow()
			return
		}
	}
}

// readFrame reads and dispatches one frame. Errors: those of the connection.
func (l *link) readFrame(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, r, err := l.conn.Reader(ctx)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxEvent+1))
	if err != nil {
		return err
	}
	if len(data) > maxEvent {
		if err := l.readLongFrame(ctx, data, r); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, r)
		return err
	}
	l.dispatch(data)
	return nil
}

func (l *link) dispatch(data []byte) {
	var f frame
	if json.Unmarshal(data, &f) != nil {
		return
	}
	switch f.Type {
	case "res":
		l.completeCall(f)
	case "event":
		l.publish(Event{Name: f.Event, Payload: f.Payload})
	}
}

// readLongFrame handles a frame of which more than maxEvent is there. Only the answer to a
// call is read on. Subscribers of a long event end, so that they read the history instead.
// Errors: those of the connection.
func (l *link) readLongFrame(ctx context.Context, head []byte, rest io.Reader) error {
	f := parseHead(head)
	switch {
	case f.Type == "event":
		l.drop(f.Event)
		return nil
	case f.Type != "res" || !l.isPending(f.ID):
		return nil
	}
	release, err := l.hold(ctx, maxFrame)
	if err != nil {
		l.completeCall(frame{ID: f.ID, Error: &wireError{Code: "UNAVAILABLE", Message: err.Error()}})
		return nil
	}
	defer release()
	data, err := io.ReadAll(io.LimitReader(io.MultiReader(bytes.NewReader(head), rest), maxFrame+1))
	if err != nil {
		return err
	}
	if len(data) > maxFrame {
		l.completeCall(frame{ID: f.ID, Error: &wireError{Code: "TOO_LONG", Message: fmt.Sprintf("the answer has more than %d bytes", maxFrame)}})
		return nil
	}
	l.dispatch(data)
	return nil
}

// parseHead returns what a frame says of itself before its payload.
func parseHead(head []byte) (f frame) {
	d := json.NewDecoder(bytes.NewReader(head))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return f
	}
	for {
		key, err := d.Token()
		if err != nil {
			return f
		}
		field := map[any]*string{"type": &f.Type, "id": &f.ID, "event": &f.Event}[key]
		value, err := d.Token()
		text, isText := value.(string)
		if err != nil || field != nil && !isText {
			return f
		}
		if field != nil {
			*field = text
		} else if _, nested := value.(json.Delim); nested {
			return f
		}
	}
}

func (l *link) isPending(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending[id] != nil
}

func (l *link) completeCall(f frame) {
	l.mu.Lock()
	results := l.pending[f.ID]
	delete(l.pending, f.ID)
	l.mu.Unlock()
	if results == nil {
		return
	}
	r := callResult{payload: f.Payload}
	if !f.OK {
		r.err = f.Error
		if r.err == nil {
			r.err = &wireError{}
		}
	}
	results <- r // never blocks: buffered, and the call is no longer pending
}

// end records the reason and ends every subscription.
func (l *link) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("the connection to the gateway ended: %w", err)
	}
	for s := range l.subs {
		s.end(l.err)
	}
	clear(l.subs)
}

// close ends the connection and waits for the reader.
func (l *link) close() {
	l.mu.Lock()
	if l.err == nil {
		l.err = errClosed
	}
	l.mu.Unlock()
	l.cancel()
	<-l.done
}

func (l *link) ended() bool { return l.endReason() != nil }

func (l *link) endReason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (e *wireError) callError(method string) error {
	if e == nil {
		e = &wireError{}
	}
	return &CallError{Method: method, Code: e.Code, Message: e.Message}
}
