// Package chat owns conversations with agents: sessions, turns and history. A
// session belongs to a peer, or to an API key where no peer is named, and no two
// owners ever share one.
package chat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
)

// Limits of one message, in characters. The context's is the contract's.
const (
	maxMessage = 200_000
	maxContext = 2000
	maxPeer    = 256
)

// Session is one conversation of an agent.
type Session struct {
	ID         string
	AccountID  string
	AgentID    string
	Owner      string // whose it is: "peer:ID", "key:ID" or "channel:KEY"
	PeerID     string
	Entry      openclaw.Entry // which of the gateway's agent entries answers
	GatewayKey string         // the session's key in the gateway
	Name       string
	Channel    string
	StartedAt  time.Time
}

// Message is one message of a session.
type Message struct {
	Role    string // user or assistant
	Content string
	At      time.Time
}

// check returns the request's context as the agent will see it.
// Faults: Invalid, naming every broken field.
func check(in client.ChatRequest) (string, error) {
	wrong := fault.Fields{}
	switch n := utf8.RuneCountInString(in.Message); {
	case strings.TrimSpace(in.Message) == "":
		wrong.Add("message", "must not be empty")
	case n > maxMessage:
		wrong.Add("message", "must have at most %d characters, it has %d", maxMessage, n)
	case strings.ContainsRune(in.Message, 0):
		wrong.Add("message", "must not contain a NUL character")
	}
	checkPeer(wrong, in.PeerID)
	text, problem := formatContext(in.Context)
	if problem != "" {
		wrong.Add("context", "%s", problem)
	}
	if n := utf8.RuneCountInString(text); n > maxContext {
		wrong.Add("context", "must have at most %d characters after formatting, it has %d", maxContext, n)
	}
	return text, wrong.Err()
}

func checkPeer(wrong fault.Fields, peer string) {
	if n := utf8.RuneCountInString(peer); n > maxPeer {
		wrong.Add("peerId", "must have at most %d characters, it has %d", maxPeer, n)
	}
	if strings.ContainsRune(peer, 0) {
		wrong.Add("peerId", "must not contain a NUL character")
	}
}

// formatContext shows an object as a line a key, in the order of the keys, so
// that the same context always reads the same.
func formatContext(context any) (text, problem string) {
	switch v := context.(type) {
	case nil:
		return "", ""
	case string:
		return strings.TrimSpace(v), ""
	case map[string]any:
		lines := make([]string, 0, len(v))
		for key, value := range v {
			lines = append(lines, fmt.Sprintf("%s: %s", key, show(value)))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n"), ""
	}
	return "", "must be a string or an object of key-value pairs"
}

func show(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil { // it was decoded from JSON just now
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(out.String())
}
