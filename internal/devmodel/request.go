package devmodel

import (
	"net/http"
	"slices"
	"strings"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Request is a request to the model, in one form for every protocol.
type Request struct {
	Protocol provider.Protocol
	Model    string
	Key      vault.Secret // the caller's credential
	System   string       // all system text, in order, joined by blank lines
	Messages []Message    // oldest first, without system messages
	Tools    []Tool
	Stream   bool
	Header   http.Header // without credentials
	Body     []byte      // as received
}

// Roles of a Message. A tool's result always has ToolRole, also in Anthropic's
// protocol, where it is part of a user message.
const (
	User      = "user"
	Assistant = "assistant"
	ToolRole  = "tool"
)

// Message is one message of the conversation.
type Message struct {
	Role   string
	Text   string
	Calls  []ToolCall // of an assistant message
	CallID string     // of a tool's result: the call that it answers
}

// Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
}

// ToolCall asks the caller to run a tool. The model replaces an empty ID. Input is a
// JSON object; empty means "{}".
type ToolCall struct {
	ID    string
	Name  string
	Input string
}

// LastUser returns the last user message without OpenClaw's additions; empty if there
// is none.
func (r Request) LastUser() string {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if r.Messages[i].Role != User {
			continue
		}
		if text := openclaw.UserText(r.Messages[i].Text); text != "" {
			return text
		}
	}
	return ""
}

// ToolResults returns the results after the model's last message, which the model now
// has to answer. There are none if the last message is the user's.
func (r Request) ToolResults() []Message {
	var results []Message
	for i := len(r.Messages) - 1; i >= 0; i-- {
		m := r.Messages[i]
		switch {
		case m.Role == ToolRole:
			results = append(results, m)
		case m.Role != User || openclaw.UserText(m.Text) != "":
			slices.Reverse(results)
			return results
		}
	}
	slices.Reverse(results)
	return results
}

// CallName returns the name of the tool that the call with this id calls.
func (r Request) CallName(id string) string {
	for _, m := range r.Messages {
		for _, c := range m.Calls {
			if c.ID == id {
				return c.Name
			}
		}
	}
	return ""
}

// HasTool reports whether the model may call the tool of that name.
func (r Request) HasTool(name string) bool {
	for _, t := range r.Tools {
		if t.Name == name {
			return true
		}
	}
	return false
}

// countWords returns the number of words, which the scripted model reports as input
// tokens.
func (r Request) countWords() int64 {
	n := len(strings.Fields(r.System))
	for _, m := range r.Messages {
		n += len(strings.Fields(m.Text))
	}
	return int64(n)
}

// credential returns the request's key, which each protocol has in another place, and
// the headers without it.
func credential(r *http.Request) (vault.Secret, http.Header) {
	header := r.Header.Clone()
	bearer, _ := strings.CutPrefix(header.Get("Authorization"), "Bearer ")
	key := bearer
	for _, v := range []string{header.Get("X-Api-Key"), header.Get("X-Goog-Api-Key"), r.URL.Query().Get("key")} {
		if v != "" {
			key = v
		}
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"} {
		header.Del(name)
	}
	return vault.NewSecret(key), header
}
