// Package chat owns conversations with agents: sessions, turns and history. A session
// belongs to a peer or, if the caller names no peer, to the caller. Two owners never
// share a session, and neither do the two entries of an agent.
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
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// Limits of one message, in characters. maxContext is in the API contract.
const (
	maxMessage = 200_000
	maxContext = 2000
	maxPeer    = 256
)

// Caller is who talks with an agent. A caller that is not Owner is a guest: the guest
// entry answers all its messages, and the sessions of the main entry, with their turns
// and messages, do not exist for it.
type Caller struct {
	identity.Actor
	Owner  bool
	Source Source // of the messages that it sends
}

// Source is through what a message came.
type Source string

// The sources of messages that are sent with the API in some form. Those of a channel have
// its name.
const (
	FromAPI       Source = "api"
	FromDashboard Source = "dashboard"
	FromOpenAI    Source = "openai"
	FromMCP       Source = "mcp"
	FromWidget    Source = "widget"
	FromOperator  Source = "operator" // on the socket of the data directory
)

// visible returns the entry whose sessions exist for the caller; empty means every entry.
func (c Caller) visible() openclaw.Entry {
	if c.Owner {
		return ""
	}
	return openclaw.Guest
}

// bySystem returns the server as a caller, for which every session exists.
func bySystem(account identity.AccountID) Caller {
	return Caller{Actor: identity.BySystem(account), Owner: true}
}

// Session is one conversation of an agent.
type Session struct {
	ID         identity.SessionID
	AccountID  identity.AccountID
	AgentID    identity.AgentID
	Owner      string // "peer:ID", "key:ID" or another kind of caller, "conversation:HASH", "channel:KEY", "once:ID" or "import"
	PeerID     string
	Entry      openclaw.Entry // the gateway's agent entry that answers
	GatewayKey string         // the session's key in the gateway
	Channel    string
	Imported   bool // its texts come from an archive; see ImportSession
	StartedAt  time.Time

	// Only of sessions that Service.Sessions, RecentSessions, FindSession or RenameSession returned:
	Name          string // given by a caller or the channel, otherwise the beginning of the first message; empty if there is none
	MessageCount  int
	LastMessageAt time.Time // zero: there is none
	AgentName     string    // only of RecentSessions

	name, title vault.Text // as they are stored
	oneShot     bool       // it serves a single turn, and is in no list
}

// Message is one message of a session.
type Message struct {
	ID        identity.MessageID // empty until it is stored
	SessionID identity.SessionID
	PeerID    string // empty: none
	Channel   string
	TurnID    identity.TurnID // empty: it belongs to none
	Source    Source          // empty: not known
	Imported  bool            // see Session.Imported
	Role      string          // user or assistant
	Content   string
	At        time.Time
}

// checkRequest checks a message and returns its context as it is sent to the agent.
// Faults: Invalid, with every invalid field.
func checkRequest(in client.ChatRequest) (contextText string, err error) {
	fields := fault.Fields{}
	switch n := utf8.RuneCountInString(in.Message); {
	case fault.IsBlank(in.Message):
		fields.Add("message", "must not be empty")
	case n > maxMessage:
		fields.Add("message", "must have at most %d characters, it has %d", maxMessage, n)
	case strings.ContainsRune(in.Message, 0):
		fields.Add("message", "must not contain a NUL character")
	}
	checkPeer(fields, in.PeerID)
	contextText, problem := formatContext(in.Context)
	if problem != "" {
		fields.Add("context", "%s", problem)
	}
	if n := utf8.RuneCountInString(contextText); n > maxContext {
		fields.Add("context", "must have at most %d characters after formatting, it has %d", maxContext, n)
	}
	return contextText, fields.Err()
}

func checkPeer(fields fault.Fields, peer string) {
	if n := utf8.RuneCountInString(peer); n > maxPeer {
		fields.Add("peerId", "must have at most %d characters, it has %d", maxPeer, n)
	}
	if strings.ContainsRune(peer, 0) {
		fields.Add("peerId", "must not contain a NUL character")
	}
	if peer != "" && fault.IsBlank(peer) {
		fields.Add("peerId", "must not consist of blanks")
	}
}

// formatContext returns an object as one line for each key, sorted by key, so that
// equal contexts have equal texts. problem is what is wrong with the context, or "".
func formatContext(context any) (text, problem string) {
	switch v := context.(type) {
	case nil:
		return "", ""
	case string:
		return strings.TrimSpace(v), ""
	case map[string]any:
		lines := make([]string, 0, len(v))
		for key, value := range v {
			lines = append(lines, fmt.Sprintf("%s: %s", key, formatValue(value)))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n"), ""
	}
	return "", "must be a string or an object of key-value pairs"
}

// formatValue returns a string as it is, and any other value as JSON.
func formatValue(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil { // cannot happen: the value was decoded from JSON
		return fmt.Sprint(value)
	}
	return strings.TrimSpace(out.String())
}
