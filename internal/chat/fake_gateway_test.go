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

// fakeGateways are the gateways of an environment. They serve chat completions and the
// WebSocket calls that ChannelReader makes.
type fakeGateways struct {
	mu          sync.Mutex
	turns       []receivedTurn              // guarded by mu
	script      turnScript                  // guarded by mu
	transcripts map[string][]gatewayMessage // by session key; guarded by mu
	subscribers []*subscriber               // guarded by mu
	cleared     map[string]bool             // the sessions whose options were cleared; guarded by mu
	deleted     []string                    // keys of sessions; guarded by mu
	slack       map[string]any              // the state of Slack; nil: the gateway has no Slack; guarded by mu
}

// receivedTurn is a turn as a gateway received it.
type receivedTurn struct {
	Entry, Session, Context, Message string
	Images                           string // URLs, joined by blanks
}

// turnScript answers a turn. emit sends a piece of the answer and fails when the client
// has disconnected.
type turnScript func(ctx context.Context, r receivedTurn, emit func(piece string) error)

// errorPiece starts a piece that is sent as an error instead of text.
const errorPiece = "\x00error: "

// newFakeGateways returns gateways that answer "You said: " and the message.
func newFakeGateways() *fakeGateways {
	return &fakeGateways{transcripts: map[string][]gatewayMessage{}, cleared: map[string]bool{}, script: func(_ context.Context, r receivedTurn, emit func(string) error) {
		for _, piece := range []string{"You said: ", r.Message} {
			if emit(piece) != nil {
				return
			}
		}
	}}
}

// setScript sets the script of all later turns.
func (g *fakeGateways) setScript(s turnScript) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = s
}

// controlledScript returns a script that answers with the pieces sent to the channel.
// Closing the channel ends the answer.
func controlledScript() (turnScript, chan string) {
	pieces := make(chan string)
	return func(ctx context.Context, _ receivedTurn, emit func(string) error) {
		for {
			select {
			case piece, more := <-pieces:
				if !more || emit(piece) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}, pieces
}

// controlledScripts returns a script for two turns with different messages, and the
// channel of each.
func controlledScripts(first, second string) (turnScript, [2]chan string) {
	one, onePieces := controlledScript()
	two, twoPieces := controlledScript()
	byMessage := map[string]turnScript{first: one, second: two}
	return func(ctx context.Context, r receivedTurn, emit func(string) error) { byMessage[r.Message](ctx, r, emit) }, [2]chan string{onePieces, twoPieces}
}

// received returns all turns that the gateways received.
func (g *fakeGateways) received() []receivedTurn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]receivedTurn(nil), g.turns...)
}

// setSlack sets the state of Slack.
func (g *fakeGateways) setSlack(state map[string]any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slack = state
}

func (g *fakeGateways) handler(*fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz"} {
		mux.HandleFunc("GET "+path, func(http.ResponseWriter, *http.Request) {})
	}
	mux.HandleFunc("POST /v1/chat/completions", g.serveCompletions)
	mux.HandleFunc("GET /{$}", g.serveWebSocket)
	return mux
}

func (g *fakeGateways) serveCompletions(rw http.ResponseWriter, req *http.Request) {
	var in struct {
		Model    string
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
	}
	if err := json.NewDecoder(req.Body).Decode(&in); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	r := receivedTurn{Entry: in.Model, Session: req.Header.Get("X-Openclaw-Session-Key")}
	for _, m := range in.Messages {
		text, images := readContent(m.Content)
		if m.Role == "system" {
			r.Context = text
		} else {
			r.Message, r.Images = text, images
		}
	}
	g.mu.Lock()
	g.turns = append(g.turns, r)
	script := g.script
	g.mu.Unlock()
	out := http.NewResponseController(rw)
	script(req.Context(), r, func(piece string) error {
		event := map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": piece}}}}
		if message, failed := strings.CutPrefix(piece, errorPiece); failed {
			event = map[string]any{"error": map[string]string{"message": message, "type": "api_error"}}
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
	_, _ = fmt.Fprint(rw, "data: [DONE]\n\n") // fails if the client has disconnected
}

// readContent returns the text of a message and the URLs of its images.
func readContent(content json.RawMessage) (text, images string) {
	if json.Unmarshal(content, &text) == nil {
		return text, ""
	}
	var parts []struct {
		Text     string
		ImageURL struct{ URL string } `json:"image_url"`
	}
	if err := json.Unmarshal(content, &parts); err != nil {
		panic(err) // the test fails: the client sees a broken connection
	}
	for _, p := range parts {
		text += p.Text
		images = strings.TrimSpace(images + " " + p.ImageURL.URL)
	}
	return text, images
}

// deletedSessions returns the keys of the sessions that were deleted.
func (g *fakeGateways) deletedSessions() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.deleted...)
}

// gatewayMessage is a message in a gateway's transcript.
type gatewayMessage struct {
	ID, Role, Text, Sender string
	At                     int64 // milliseconds
}

func (m gatewayMessage) row() map[string]any {
	return map[string]any{"role": m.Role, "content": m.Text, "timestamp": m.At, "__openclaw": map[string]any{"id": m.ID, "senderName": m.Sender}}
}

// subscriber is a WebSocket connection that subscribed to new messages.
type subscriber struct {
	mu   sync.Mutex // serialises writes: responses and events
	conn *websocket.Conn
}

func (s *subscriber) write(ctx context.Context, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = wsjson.Write(ctx, s.conn, v) // a broken connection is detected by reading
}

// serveWebSocket serves a gateway's WebSocket calls.
func (g *fakeGateways) serveWebSocket(rw http.ResponseWriter, req *http.Request) {
	c, err := websocket.Accept(rw, req, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	ctx, s := req.Context(), &subscriber{conn: c}
	s.write(ctx, map[string]any{"type": "event", "event": "connect.challenge"})
	for {
		var f struct {
			ID, Method string
			Params     struct{ SessionKey, Key string }
		}
		if wsjson.Read(ctx, c, &f) != nil {
			return
		}
		s.write(ctx, map[string]any{"type": "res", "id": f.ID, "ok": true, "payload": g.call(s, f.Method, f.Params.SessionKey+f.Params.Key)})
	}
}

// call returns the result of a WebSocket call.
func (g *fakeGateways) call(s *subscriber, method, key string) any {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch method {
	case "sessions.subscribe":
		g.subscribers = append(g.subscribers, s)
	case "sessions.list":
		rows := []any{}
		for key := range g.transcripts {
			row := map[string]any{"key": key}
			if !g.cleared[key] {
				row["verboseLevel"] = "on"
			}
			rows = append(rows, row)
		}
		return map[string]any{"sessions": rows}
	case "chat.history":
		rows := []any{}
		for _, m := range g.transcripts[key] {
			rows = append(rows, m.row())
		}
		return map[string]any{"messages": rows}
	case "sessions.delete":
		g.deleted = append(g.deleted, key)
	case "sessions.patch":
		g.cleared[key] = true
	case "channels.status":
		accounts := map[string]any{}
		if g.slack != nil {
			accounts["slack"] = []any{g.slack}
		}
		return map[string]any{"channelAccounts": accounts}
	}
	return map[string]any{}
}

// addMessages adds messages to a session's transcript without notifying subscribers.
func (g *fakeGateways) addMessages(key string, messages ...gatewayMessage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.transcripts[key] = append(g.transcripts[key], messages...)
}

// publish sends a message of a session to all subscribers.
func (g *fakeGateways) publish(ctx context.Context, key string, m gatewayMessage) {
	for _, s := range g.subscribed() {
		s.write(ctx, map[string]any{"type": "event", "event": "session.message", "payload": map[string]any{"sessionKey": key, "message": m.row()}})
	}
}

func (g *fakeGateways) subscribed() []*subscriber {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*subscriber(nil), g.subscribers...)
}

// disconnect closes the connections of all subscribers.
func (g *fakeGateways) disconnect() {
	for _, s := range g.subscribed() {
		_ = s.conn.CloseNow()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.subscribers = nil
}
