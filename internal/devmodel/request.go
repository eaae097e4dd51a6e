package devmodel

import (
	"net/http"
	"slices"
	"strings"

	"agento.host/agento/internal/vault"
)

// API is the protocol a request was spoken in; the names are OpenClaw's.
type API string

// The protocols the scripted model speaks.
const (
	Anthropic       API = "anthropic-messages"
	OpenAIChat      API = "openai-completions"
	OpenAIResponses API = "openai-responses"
	Gemini          API = "google-generative-ai"
)

// Request is what the model was asked, in the same words for every API.
type Request struct {
	API      API
	Model    string
	Key      vault.Secret // the caller's credential
	System   string       // all system text, in order, joined by blank lines
	Messages []Message    // oldest first, without system messages
	Tools    []Tool
	Stream   bool
	Header   http.Header // without credentials
	Body     []byte      // as it came
}

// Roles of a Message. A tool's result always has the role Tool, also in
// Anthropic's API, where it is sent as a user message.
const (
	User      = "user"
	Assistant = "assistant"
	ToolRole  = "tool"
)

// Message is one turn of the conversation.
type Message struct {
	Role   string
	Text   string
	Calls  []ToolCall // of the assistant
	CallID string     // of a tool's result: the call it answers
}

// Tool is one function the model may call.
type Tool struct {
	Name        string
	Description string
}

// ToolCall asks the caller to run a tool. An empty ID is filled in; Input is a
// JSON object, "{}" if empty.
type ToolCall struct {
	ID    string
	Name  string
	Input string
}

// LastUser returns what the user said last, without what OpenClaw adds to it;
// "" if nobody said anything.
func (r Request) LastUser() string {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if r.Messages[i].Role != User {
			continue
		}
		if text := said(r.Messages[i].Text); text != "" {
			return text
		}
	}
	return ""
}

// ToolResults returns the results that came in after the last turn of the
// model, which it is now to answer; none if a user spoke last.
func (r Request) ToolResults() []Message {
	var results []Message
	for i := len(r.Messages) - 1; i >= 0; i-- {
		m := r.Messages[i]
		switch {
		case m.Role == ToolRole:
			results = append(results, m)
		case m.Role != User || said(m.Text) != "":
			slices.Reverse(results)
			return results
		}
	}
	slices.Reverse(results)
	return results
}

// CallName returns the name of the tool that a call id belongs to.
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

// HasTool says whether the model may call the tool of that name.
func (r Request) HasTool(name string) bool {
	for _, t := range r.Tools {
		if t.Name == name {
			return true
		}
	}
	return false
}

// words is what the scripted model takes for tokens.
func (r Request) words() int64 {
	n := len(strings.Fields(r.System))
	for _, m := range r.Messages {
		n += len(strings.Fields(m.Text))
	}
	return int64(n)
}

// credential takes the key out of the request, wherever the API has it, and
// returns the headers that remain.
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
