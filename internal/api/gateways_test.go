package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/fake"
)

// gateways are the scripted gateways of a house. Each answers what agento asks of
// OpenClaw's, and they remember the turns they were asked for.
type gateways struct {
	mu     sync.Mutex
	turns  []*turn                                         // in the order in which they came; guarded by mu
	script func(ctx context.Context, t *turn, say sayFunc) // guarded by mu
}

// turn is one message as a gateway got it, with what the agent knew then.
type turn struct {
	Agent   string // id
	Entry   string // model: openclaw/main or openclaw/guest
	Session string
	Context string // the system message
	Message string
	Soul    string // SOUL.md in the agent's home
	Told    string // what is put into every prompt beside it: workflow and rules
	ended   chan struct{}
}

// sayFunc sends a piece of an answer. It fails when nobody listens any more.
type sayFunc func(piece string) error

func newGateways() *gateways { return &gateways{script: parrot} }

// parrot is what gateways do unless told otherwise.
func parrot(_ context.Context, t *turn, say sayFunc) {
	for _, piece := range []string{"You said: ", t.Message} {
		if say(piece) != nil {
			return
		}
	}
}

// answer makes every later turn go as told.
func (g *gateways) answer(script func(ctx context.Context, t *turn, say sayFunc)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = script
}

// all are the turns so far.
func (g *gateways) all() []*turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*turn(nil), g.turns...)
}

// last is the turn that came last.
func (g *gateways) last(t testing.TB) *turn {
	t.Helper()
	all := g.all()
	if len(all) == 0 {
		t.Fatal("no gateway was asked for a turn")
	}
	return all[len(all)-1]
}

func (g *gateways) handler(gw *fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/startupz", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"ok":true,"failing":[]}`) })
	}
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { g.complete(gw, w, r) })
	return authorized(gw, mux)
}

// authorized refuses whoever does not show the gateway's token, as OpenClaw does.
func authorized(gw *fake.Gateway, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secrets, err := gw.Secrets()
		var known struct{ GatewayToken string }
		if err != nil || json.Unmarshal(secrets, &known) != nil || r.Header.Get("Authorization") != "Bearer "+known.GatewayToken {
			http.Error(w, `{"error":{"message":"unauthorized"}}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// complete is OpenClaw's chat completions endpoint: an answer streamed in pieces,
// a failure as an event of a stream that has begun.
func (g *gateways) complete(gw *fake.Gateway, w http.ResponseWriter, r *http.Request) {
	t := &turn{Agent: string(gw.ID), Session: r.Header.Get("X-Openclaw-Session-Key"), ended: make(chan struct{})}
	defer close(t.ended)
	t.read(gw, r)
	g.mu.Lock()
	g.turns = append(g.turns, t)
	script := g.script
	g.mu.Unlock()
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(event any) error {
		text, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return err
		}
		return out.Flush()
	}
	script(r.Context(), t, func(piece string) error {
		if failure, failed := strings.CutPrefix(piece, failing); failed {
			return send(map[string]any{"error": map[string]string{"message": failure, "type": "api_error"}})
		}
		return send(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": piece}}}})
	})
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// failing begins a piece that is an error instead of text.
const failing = "\x00fails: "

func (t *turn) read(gw *fake.Gateway, r *http.Request) {
	var asked struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		panic(err) // the test fails: the client sees a broken connection
	}
	t.Entry = asked.Model
	for _, m := range asked.Messages {
		if m.Role == "system" {
			t.Context = m.Content
		} else {
			t.Message = m.Content
		}
	}
	t.Soul = readHome(gw, "workspace/SOUL.md")
	t.Told = readHome(gw, "workspace/injected/AGENTS.md")
}

func readHome(gw *fake.Gateway, path string) string {
	text, err := os.ReadFile(filepath.Join(gw.HomeDir(), path))
	if err != nil {
		return ""
	}
	return string(text)
}

// edit changes a file in an agent's home, as the agent itself does.
func (h *house) edit(agentID, path, content string) {
	h.t.Helper()
	gw := h.driver.Gateway(identity.AgentID(agentID))
	if gw == nil {
		h.t.Fatalf("the agent %s has no gateway that could edit its files", agentID)
	}
	if err := os.WriteFile(filepath.Join(gw.HomeDir(), path), []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// eventually waits until what must come has come.
func eventually(t testing.TB, what string, come func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !come() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("in vain we waited for this: %s", what)
		}
	}
}

// await waits for a channel to be closed.
func await(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("in vain we waited for this: %s", what)
	}
}

// sayOnce answers every turn with one piece.
func sayOnce(piece string) func(context.Context, *turn, sayFunc) {
	return func(_ context.Context, _ *turn, say sayFunc) { _ = say(piece) }
}
