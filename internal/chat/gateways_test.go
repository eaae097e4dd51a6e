package chat

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"agento.host/agento/internal/runtime/fake"
)

// gateways are the scripted gateways of a world: chat completions, and of the
// WebSocket what the mirror asks for.
type gateways struct {
	mu        sync.Mutex
	asked     []asked             // guarded by mu
	script    script              // guarded by mu
	held      map[string][]saidBy // messages by session key; guarded by mu
	listeners []*listener         // connections that subscribed; guarded by mu
}

// asked is a turn as a gateway got it.
type asked struct{ Entry, Session, Context, Message string }

// script answers a turn: say sends a piece, and fails when nobody listens any more.
type script func(ctx context.Context, a asked, say func(piece string) error)

// failing begins a piece that is an error instead of text.
const failing = "\x00fails: "

func newGateways() *gateways {
	return &gateways{held: map[string][]saidBy{}, script: func(_ context.Context, a asked, say func(string) error) {
		for _, piece := range []string{"You said: ", a.Message} {
			if say(piece) != nil {
				return
			}
		}
	}}
}

// answer makes every later turn go as told.
func (g *gateways) answer(s script) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = s
}

// dictated is a script of which the test says each piece; closing ends the answer.
func dictated() (script, chan string) {
	pieces := make(chan string)
	return func(ctx context.Context, _ asked, say func(string) error) {
		for {
			select {
			case piece, more := <-pieces:
				if !more || say(piece) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}, pieces
}

// dictatedTwo is one for turns of two agents, each told by its message.
func dictatedTwo(first, second string) (script, [2]chan string) {
	one, oneSays := dictated()
	two, twoSays := dictated()
	by := map[string]script{first: one, second: two}
	return func(ctx context.Context, a asked, say func(string) error) { by[a.Message](ctx, a, say) }, [2]chan string{oneSays, twoSays}
}

func (g *gateways) all() []asked {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]asked(nil), g.asked...)
}

func (g *gateways) handler(*fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz"} {
		mux.HandleFunc("GET "+path, func(http.ResponseWriter, *http.Request) {})
	}
	mux.HandleFunc("POST /v1/chat/completions", g.complete)
	mux.HandleFunc("GET /{$}", g.calls)
	return mux
}

func (g *gateways) complete(rw http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	a := asked{Entry: in.Model, Session: r.Header.Get("X-Openclaw-Session-Key")}
	for _, m := range in.Messages {
		if m.Role == "system" {
			a.Context = m.Content
		} else {
			a.Message = m.Content
		}
	}
	g.mu.Lock()
	g.asked = append(g.asked, a)
	script := g.script
	g.mu.Unlock()
	out := http.NewResponseController(rw)
	script(r.Context(), a, func(piece string) error {
		event := map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": piece}}}}
		if failure, failed := strings.CutPrefix(piece, failing); failed {
			event = map[string]any{"error": map[string]string{"message": failure, "type": "api_error"}}
		}
		text, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(rw, "data: %s\n\n", text); err != nil {
			return err
		}
		return out.Flush()
	})
	_, _ = fmt.Fprint(rw, "data: [DONE]\n\n") // a client that has gone does not read it
}

// saidBy is a message as a gateway's transcript has it.
type saidBy struct {
	ID, Role, Text, Sender string
	At                     int64 // milliseconds
}

func (s saidBy) row() map[string]any {
	return map[string]any{"role": s.Role, "content": s.Text, "timestamp": s.At, "__openclaw": map[string]any{"id": s.ID, "senderName": s.Sender}}
}

// listener is a WebSocket connection that wants to hear of new messages.
type listener struct {
	mu   sync.Mutex // of writing: answers and events
	conn *websocket.Conn
}

func (l *listener) write(ctx context.Context, v any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = wsjson.Write(ctx, l.conn, v) // a broken connection shows in Read
}

// calls is a gateway's WebSocket.
func (g *gateways) calls(rw http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(rw, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	ctx, l := r.Context(), &listener{conn: c}
	l.write(ctx, map[string]any{"type": "event", "event": "connect.challenge"})
	for {
		var f struct {
			ID, Method string
			Params     struct{ SessionKey string }
		}
		if wsjson.Read(ctx, c, &f) != nil {
			return
		}
		l.write(ctx, map[string]any{"type": "res", "id": f.ID, "ok": true, "payload": g.call(l, f.Method, f.Params.SessionKey)})
	}
}

func (g *gateways) call(l *listener, method, key string) any {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch method {
	case "sessions.subscribe":
		g.listeners = append(g.listeners, l)
	case "sessions.list":
		rows := []any{}
		for key := range g.held {
			rows = append(rows, map[string]any{"key": key})
		}
		return map[string]any{"sessions": rows}
	case "chat.history":
		rows := []any{}
		for _, m := range g.held[key] {
			rows = append(rows, m.row())
		}
		return map[string]any{"messages": rows}
	}
	return map[string]any{}
}

// hold adds messages to a session's transcript, which tells nobody.
func (g *gateways) hold(key string, said ...saidBy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held[key] = append(g.held[key], said...)
}

// tell sends everybody who listens the news of a message.
func (g *gateways) tell(ctx context.Context, key string, said saidBy) {
	for _, l := range g.listening() {
		l.write(ctx, map[string]any{"type": "event", "event": "session.message", "payload": map[string]any{"sessionKey": key, "message": said.row()}})
	}
}

func (g *gateways) listening() []*listener {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*listener(nil), g.listeners...)
}

// hangUp breaks the connections of all who listen.
func (g *gateways) hangUp() {
	for _, l := range g.listening() {
		_ = l.conn.CloseNow()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listeners = nil
}
