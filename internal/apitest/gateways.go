package apitest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"agento.host/agento/internal/runtime/fake"
)

// Gateways are the scripted gateways of an environment. They answer the requests
// that agento sends to OpenClaw and record the turns.
type Gateways struct {
	mu     sync.Mutex
	turns  []*Turn // in order of arrival; guarded by mu
	script Script  // guarded by mu

	Booting atomic.Bool // they are not ready yet
}

// Turn is one message as the gateway received it, with the agent's files at that time.
type Turn struct {
	Agent    string // id
	Entry    string // model: openclaw/main or openclaw/guest
	Session  string
	Context  string // the system message
	Message  string
	Images   int    // how many the message has
	Soul     string // SOUL.md in the agent's home
	Injected string // the rest of every prompt: workflow and rules
	Ended    chan struct{}
}

// Script answers a turn.
type Script func(ctx context.Context, t *Turn, send Send)

// Send sends a piece of an answer. It fails if the client has disconnected.
type Send func(piece string) error

func newGateways() *Gateways { return &Gateways{script: Echo} }

// Echo is the default script.
func Echo(_ context.Context, t *Turn, send Send) {
	for _, piece := range []string{"You said: ", t.Message} {
		if send(piece) != nil {
			return
		}
	}
}

// SetScript sets what answers the following turns.
func (g *Gateways) SetScript(script Script) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = script
}

// Turns returns the turns so far.
func (g *Gateways) Turns() []*Turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*Turn(nil), g.turns...)
}

// ResetTurns drops the recorded turns.
func (g *Gateways) ResetTurns() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turns = nil
}

// LastTurn returns the latest turn.
func (g *Gateways) LastTurn(t testing.TB) *Turn {
	t.Helper()
	all := g.Turns()
	if len(all) == 0 {
		t.Fatal("no gateway received a turn")
	}
	return all[len(all)-1]
}

func (g *Gateways) handler(gw *fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/startupz", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if g.Booting.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			_, _ = fmt.Fprint(w, `{"ok":true,"failing":[]}`)
		})
	}
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { g.complete(gw, w, r) })
	return requireToken(gw, mux)
}

// requireToken refuses requests without the gateway's token, as OpenClaw does. It is that
// of the start: nothing makes this gateway read its secrets again.
func requireToken(gw *fake.Gateway, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var known struct{ GatewayToken string }
		if json.Unmarshal(gw.Spec.Secrets, &known) != nil || r.Header.Get("Authorization") != "Bearer "+known.GatewayToken {
			http.Error(w, `{"error":{"message":"unauthorized"}}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// complete is OpenClaw's chat completions endpoint: it streams the answer in pieces
// and sends a failure as an event of the stream.
func (g *Gateways) complete(gw *fake.Gateway, w http.ResponseWriter, r *http.Request) {
	t := &Turn{Agent: string(gw.ID), Session: r.Header.Get("X-Openclaw-Session-Key"), Ended: make(chan struct{})}
	defer close(t.Ended)
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
		if failure, failed := strings.CutPrefix(piece, FailurePrefix); failed {
			return send(map[string]any{"error": map[string]string{"message": failure, "type": "api_error"}})
		}
		return send(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": piece}}}})
	})
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// FailurePrefix begins a piece that is an error instead of text.
const FailurePrefix = "\x00fails: "

func (t *Turn) read(gw *fake.Gateway, r *http.Request) {
	var request struct {
		Model    string
		Messages []struct {
			Role    string
			Content any
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		panic(err) // the test fails: the client sees a broken connection
	}
	t.Entry = request.Model
	for _, m := range request.Messages {
		text, isText := m.Content.(string)
		switch {
		case !isText: // parts: a text and images
			parts, _ := m.Content.([]any)
			t.Message, _ = parts[0].(map[string]any)["text"].(string)
			t.Images = len(parts) - 1
		case m.Role == "system":
			t.Context = text
		default:
			t.Message = text
		}
	}
	t.Soul = ReadHome(gw, "workspace/SOUL.md")
	t.Injected = ReadHome(gw, "workspace/injected/AGENTS.md")
}

// ReadHome returns a file of a gateway's home; empty if there is none.
func ReadHome(gw *fake.Gateway, path string) string {
	text, err := os.ReadFile(filepath.Join(gw.HomeDir(), path))
	if err != nil {
		return ""
	}
	return string(text)
}

// AnswerOnce answers every turn with one piece.
func AnswerOnce(piece string) Script {
	return func(_ context.Context, _ *Turn, send Send) { _ = send(piece) }
}
