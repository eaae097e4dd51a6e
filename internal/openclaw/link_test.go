package openclaw_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// newWSGateway returns the client of a gateway that accepts connections and passes
// each call to serve, which writes frames. The counter counts the connections.
func newWSGateway(t testing.TB, serve func(ctx context.Context, c *websocket.Conn, id, method string) error) (*openclaw.Gateway, *atomic.Int64) {
	t.Helper()
	var opened atomic.Int64
	var running sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		opened.Add(1)
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		ctx := r.Context()
		_ = wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "connect.challenge"})
		for {
			var f struct {
				ID, Method string
				Params     struct{ Auth struct{ Token string } }
			}
			if wsjson.Read(ctx, c, &f) != nil {
				return
			}
			if f.Method == "connect" {
				ok := f.Params.Auth.Token == "t"
				_ = wsjson.Write(ctx, c, map[string]any{"type": "res", "id": f.ID, "ok": ok, "error": map[string]any{"code": "UNAUTHORIZED"}})
				continue
			}
			if serve(ctx, c, f.ID, f.Method) != nil {
				return
			}
		}
	}))
	g := openclaw.NewGateway(dialTo(server.Listener.Addr().String()), vault.NewSecret("t"))
	t.Cleanup(func() {
		g.Close()
		server.Close()
		running.Wait()
	})
	return g, &opened
}

func reply(ctx context.Context, c *websocket.Conn, id string, payload any) error {
	return wsjson.Write(ctx, c, map[string]any{"type": "res", "id": id, "ok": true, "payload": payload})
}

func TestCallsShareOneConnection(t *testing.T) {
	g, opened := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		return reply(ctx, c, id, map[string]string{"method": method})
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			var out struct{ Method string }
			if err := openclaw.Call(g, t.Context(), "x.y", nil, &out); err != nil || out.Method != "x.y" {
				t.Errorf("Call = %v %v", out, err)
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls", n)
	}
	g.Close()
	if err := openclaw.Call(g, t.Context(), "x.y", nil, nil); err == nil {
		t.Error("Call succeeded after Close")
	}
}

func TestCallReturnsErrors(t *testing.T) {
	g, _ := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		switch method {
		case "refuse":
			return wsjson.Write(ctx, c, map[string]any{"type": "res", "id": id, "ok": false,
				"error": map[string]any{"code": "UNAVAILABLE", "message": "later", "retryable": true, "retryAfterMs": 1500}})
		case "nothing":
			return wsjson.Write(ctx, c, map[string]any{"type": "res", "id": id})
		case "disconnect":
			return errors.New("gone")
		case "odd":
			return reply(ctx, c, id, "a string")
		}
		return nil // never answers
	})
	var refused *openclaw.CallError
	err := openclaw.Call(g, t.Context(), "refuse", nil, nil)
	if !errors.As(err, &refused) || refused.Code != "UNAVAILABLE" || refused.Message != "later" {
		t.Errorf("refuse = %#v", err)
	}
	if err := openclaw.Call(g, t.Context(), "nothing", nil, nil); !errors.As(err, &refused) {
		t.Errorf("an answer without result and error: %v", err)
	}
	var out struct{ X int }
	if err := openclaw.Call(g, t.Context(), "odd", nil, &out); err == nil {
		t.Error("an answer of another type is accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := openclaw.Call(g, ctx, "silence", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("silence = %v", err)
	}
	if err := openclaw.Call(g, t.Context(), "disconnect", nil, nil); err == nil {
		t.Error("Call succeeded on a broken connection")
	}
	if err := openclaw.Call(g, t.Context(), "refuse", nil, nil); !errors.As(err, &refused) {
		t.Errorf("after a broken connection: %v", err)
	}
}

// TestACancelledCallLeavesTheOthers: all callers share one connection.
func TestACancelledCallLeavesTheOthers(t *testing.T) {
	received, answer := make(chan struct{}), make(chan struct{})
	g, _ := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		if method == "slow" {
			close(received)
			select {
			case <-answer:
			case <-ctx.Done():
			}
		}
		return reply(ctx, c, id, map[string]any{})
	})
	slow := make(chan error, 1)
	go func() { slow <- openclaw.Call(g, t.Context(), "slow", nil, nil) }()
	<-received
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := openclaw.Call(g, cancelled, "other", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call = %v", err)
	}
	close(answer)
	if err := <-slow; err != nil {
		t.Errorf("another call in progress: %v", err)
	}
}

func TestCallWithAWrongTokenIsUnauthorized(t *testing.T) {
	g, _ := newWSGateway(t, nil)
	var refused *openclaw.CallError
	bad := openclaw.NewGateway(openclaw.DialOf(g), vault.NewSecret("wrong"))
	defer bad.Close()
	if err := openclaw.Call(bad, t.Context(), "x", nil, nil); !errors.As(err, &refused) || refused.Code != "UNAUTHORIZED" {
		t.Errorf("Call = %v", err)
	}
}

// Of several tokens the client finds out which one the gateway accepts, and sends requests
// with that alone.
func TestTheAcceptedTokenIsFoundOut(t *testing.T) {
	ws, opened := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, _ string) error { return reply(ctx, c, id, nil) })
	g := openclaw.NewGateway(openclaw.DialOf(ws), vault.NewSecret("replaced"), vault.NewSecret("t"), vault.NewSecret("newer"))
	defer g.Close()
	for range 2 {
		if token, err := openclaw.TokenOf(t.Context(), g); err != nil || token != "Bearer t" {
			t.Errorf("%q, %v", token, err)
		}
	}
	if n := opened.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A request that begins while the gateway replaces its token is sent with the new one.
func TestRequestsWaitForTheNewToken(t *testing.T) {
	reloading, answer := make(chan struct{}), make(chan struct{})
	ws, _ := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, _ string) error {
		close(reloading)
		<-answer
		return reply(ctx, c, id, nil)
	})
	done := make(chan error, 1)
	go func() { done <- ws.ReloadSecrets(t.Context(), vault.NewSecret("new")) }()
	<-reloading
	token := make(chan string, 1)
	go func() {
		header, _ := openclaw.TokenOf(t.Context(), ws)
		token <- header
	}()
	select {
	case header := <-token:
		t.Errorf("sent with %q", header)
	default:
	}
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if header := <-token; header != "Bearer new" {
		t.Errorf("sent with %q", header)
	}
}

// The gateway gives up a reload while it reads its configuration.
func TestReloadOfSecretsIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		code     string
		refusals int32
		calls    int32
	}{
		"a passing refusal": {code: "UNAVAILABLE", refusals: 2, calls: 3},
		"a final refusal":   {code: "FORBIDDEN", refusals: 1, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			g, _ := newWSGateway(t, func(ctx context.Context, conn *websocket.Conn, id, _ string) error {
				if calls.Add(1) > c.refusals {
					return reply(ctx, conn, id, nil)
				}
				return wsjson.Write(ctx, conn, map[string]any{"type": "res", "id": id, "ok": false, "error": map[string]any{"code": c.code, "message": "secrets.reload failed"}})
			})
			err := g.ReloadSecrets(t.Context(), vault.NewSecret("t"))
			if failed := err != nil; failed != (c.code != "UNAVAILABLE") || calls.Load() != c.calls {
				t.Errorf("%v after %d calls", err, calls.Load())
			}
		})
	}
}

// Callers repeat a call until a starting gateway accepts it.
func TestARefusedConnectionIsClosed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	var open atomic.Int64
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := dialTo(server.Listener.Addr().String())(ctx)
		open.Add(1)
		return &countedConn{Conn: conn, open: &open}, err
	}
	g := openclaw.NewGateway(dial, vault.NewSecret("t"))
	defer g.Close()
	for range 5 {
		if err := openclaw.Call(g, t.Context(), "x", nil, nil); err == nil {
			t.Fatal("Call succeeded on a refused connection")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); open.Load() > 0; goruntime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 5 connections are still open", open.Load())
		}
	}
}

// countedConn is counted in open until it is closed.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func TestSubscriptionsEnd(t *testing.T) {
	g, _ := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		if method == "flood" {
			for i := range 3000 {
				if err := wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "chat", "payload": i}); err != nil {
					return err
				}
			}
		}
		for _, name := range []string{"chat", "tick"} {
			if err := wsjson.Write(ctx, c, map[string]any{"type": "event", "event": name, "payload": map[string]string{"of": method}}); err != nil {
				return err
			}
		}
		return reply(ctx, c, id, nil)
	})
	chat, err := g.Subscribe(t.Context(), "chat")
	if err != nil {
		t.Fatal(err)
	}
	if err := openclaw.Call(g, t.Context(), "one", nil, nil); err != nil {
		t.Fatal(err)
	}
	if e := <-chat.C; e.Name != "chat" || string(e.Payload) != `{"of":"one"}` {
		t.Errorf("event = %s %s", e.Name, e.Payload)
	}
	chat.Close()
	if _, ok := <-chat.C; ok || chat.Err() != nil {
		t.Errorf("after Close: %v", chat.Err())
	}

	slow, err := g.Subscribe(t.Context(), "chat")
	if err != nil {
		t.Fatal(err)
	}
	if err := openclaw.Call(g, t.Context(), "flood", nil, nil); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range slow.C {
		n++
	}
	if !errors.Is(slow.Err(), openclaw.ErrLagged) || n == 0 {
		t.Errorf("a slow reader got %d events and %v, want ErrLagged", n, slow.Err())
	}

	last, err := g.Subscribe(t.Context(), "chat")
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if _, ok := <-last.C; ok || last.Err() == nil {
		t.Errorf("after the connection ended: %v", last.Err())
	}
	slow.Close() // has ended already
}

// longFrame has a payload of n bytes.
func longFrame(head string, n int) []byte {
	return []byte(head + `,"payload":"` + strings.Repeat("x", n) + `"}`)
}

// TestLongFramesTakeMemory: an answer that is longer than an event is read if its gateway has
// memory for it and if somebody waits for it. Other long frames are not kept.
func TestLongFramesTakeMemory(t *testing.T) {
	g, opened := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		head, n := `{"type":"res","ok":true,"id":"`+id+`"`, 1<<20
		if method == "endless" {
			n = 17 << 20
		}
		for _, data := range [][]byte{longFrame(`{"type":"res","id":"nobody"`, n), longFrame(`{"x":[1]`, n), longFrame(head, n)} {
			if err := c.Write(ctx, websocket.MessageText, data); err != nil {
				return err
			}
		}
		return nil
	})
	memory := budget.New(budget.Settings{Total: 16 << 20, Refusal: "Send less"})
	g.LimitMemory(memory, "agent")
	var out string
	if err := openclaw.Call(g, t.Context(), "page", nil, &out); err != nil || len(out) != 1<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	var refused *openclaw.CallError
	if err := openclaw.Call(g, t.Context(), "endless", nil, &out); !errors.As(err, &refused) || refused.Code != "TOO_LONG" {
		t.Errorf("of an answer that is too long: %v", err)
	}
	release, err := memory.Acquire(t.Context(), "other", 1)
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); goruntime.Gosched() {
		release, err = memory.Acquire(t.Context(), "other", 1) // the reader has given back what the last answer took
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := openclaw.Call(g, t.Context(), "page", nil, &out); !errors.As(err, &refused) || refused.Code != "UNAVAILABLE" {
		t.Errorf("without memory: %v", err)
	}
	release()
	if err := openclaw.Call(g, t.Context(), "page", nil, &out); err != nil || opened.Load() != 1 {
		t.Errorf("after that: %v, over %d connections", err, opened.Load())
	}
}

// TestEventsAreBoundedInBytes: a subscriber that does not read them ends, as one does that
// would get an event which is too long.
func TestEventsAreBoundedInBytes(t *testing.T) {
	g, _ := newWSGateway(t, func(ctx context.Context, c *websocket.Conn, id, method string) error {
		n, size := 1, 1<<20
		if method == "many" {
			n, size = 20, 100<<10
		}
		for range n {
			if err := c.Write(ctx, websocket.MessageText, longFrame(`{"type":"event","event":"chat"`, size)); err != nil {
				return err
			}
		}
		return reply(ctx, c, id, nil)
	})
	for _, method := range []string{"many", "long"} {
		chat, err := g.Subscribe(t.Context(), "chat")
		if err != nil {
			t.Fatal(err)
		}
		other, err := g.Subscribe(t.Context(), "agent")
		if err != nil {
			t.Fatal(err)
		}
		if err := openclaw.Call(g, t.Context(), method, nil, nil); err != nil {
			t.Fatal(err)
		}
		held := 0
		for e := range chat.C {
			held += len(e.Payload)
		}
		if !errors.Is(chat.Err(), openclaw.ErrLagged) || held > 1<<20 {
			t.Errorf("%s: %d bytes held, %v", method, held, chat.Err())
		}
		if other.Close(); other.Err() != nil {
			t.Errorf("%s: a subscriber of other events ended: %v", method, other.Err())
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(`{"role":"user","content":"hi","timestamp":1795525148139,"__openclaw":{"id":"x"}}`)
	f.Add(`{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"toolCall"},3],"timestamp":"x","__openclaw":[]}`)
	f.Add(`{"role":7}`)
	f.Fuzz(func(t *testing.T, data string) {
		m, ok := openclaw.ParseMessage([]byte(data))
		if ok && m.Role == "" {
			t.Errorf("a message without a role from %s", data)
		}
		if !ok && m.Text != "" {
			t.Errorf("text without a message from %s", data)
		}
		if m.Time.Year() > 9999 {
			t.Errorf("a time after the year 9999 from %s", data)
		}
		payload, err := json.Marshal(map[string]any{"sessionKey": data, "message": data})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = openclaw.ParseSessionMessage(openclaw.Event{Name: openclaw.EventMessage, Payload: payload})
		_, _ = openclaw.ParseSessionMessage(openclaw.Event{Name: openclaw.EventMessage, Payload: []byte(data)})
	})
}
