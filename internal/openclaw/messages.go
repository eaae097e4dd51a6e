package openclaw

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// SessionKeys returns the keys of at most limit sessions, the last used first.
func (g *Gateway) SessionKeys(ctx context.Context, limit int) ([]string, error) {
	rows, err := g.sessionRows(ctx, limit)
	keys := make([]string, 0, len(rows))
	for _, row := range rows {
		keys = append(keys, text(row["key"]))
	}
	return keys, err
}

func (g *Gateway) sessionRows(ctx context.Context, limit int) ([]object, error) {
	var out struct{ Sessions []object }
	params := map[string]any{"limit": limit, "sortBy": "activity"}
	err := g.call(ctx, "sessions.list", params, &out)
	return out.Sessions, err
}

// DeleteSession removes a session with its history. One that does not exist is no error.
func (g *Gateway) DeleteSession(ctx context.Context, key string) error {
	return g.call(ctx, "sessions.delete", map[string]any{"key": key}, nil)
}

// sessionOptions are what a session shows its person of the work on an answer, and how it
// works. Commands set them.
var sessionOptions = []string{"verboseLevel", "traceLevel", "reasoningLevel", "responseUsage", "thinkingLevel", "fastMode", "elevatedLevel"}

// ClearOptions takes the options back that commands have set in sessions, of at most limit
// sessions and of those whose key is selected. Versions of agento in which people of channels
// could give commands have left such options.
func (g *Gateway) ClearOptions(ctx context.Context, limit int, selected func(key string) bool) error {
	rows, err := g.sessionRows(ctx, limit)
	if err != nil {
		return err
	}
	for _, row := range rows {
		key := text(row["key"])
		set := func(option string) bool { return row[option] != nil }
		if !selected(key) || !slices.ContainsFunc(sessionOptions, set) {
			continue
		}
		params := map[string]any{"key": key}
		for _, option := range sessionOptions {
			params[option] = nil
		}
		if err := g.call(ctx, "sessions.patch", params, nil); err != nil {
			return err
		}
	}
	return nil
}

// Roles of a Message.
const (
	RoleUser      = "user"
	RoleAssistant = "assistant"
)

// Message is one row of a session's history.
type Message struct {
	ID   string // OpenClaw's, unique in the session
	Role string // RoleUser, RoleAssistant, or one of OpenClaw's own: toolResult, system, custom
	Text string // empty for a tool call without text
	// Sender is the name of the person who wrote through a channel.
	Sender string
	Time   time.Time
	// Internal rows were written neither by the user nor by the agent: tool results,
	// resets, OpenClaw's own prompts.
	Internal bool
}

// maxText is the length in characters to which History shortens a message.
const maxText = 200_000

// History returns the last limit (1 to 1,000) messages of a session, oldest first,
// without the newest offset ones. more reports whether there are older ones. A
// session that does not exist has no messages.
func (g *Gateway) History(ctx context.Context, key string, limit, offset int) (messages []Message, more bool, err error) {
	params := map[string]any{"sessionKey": key, "limit": limit, "maxChars": maxText}
	if offset > 0 {
		params["offset"] = offset
	}
	var out struct {
		Messages []json.RawMessage
		HasMore  any
	}
	if err := g.call(ctx, "chat.history", params, &out); err != nil {
		return nil, false, err
	}
	for _, raw := range out.Messages {
		if m, ok := parseMessage(raw); ok {
			messages = append(messages, m)
		}
	}
	more, _ = out.HasMore.(bool)
	return messages, more, nil
}

// SessionMessage is a message that was just added to a session, by an API turn or
// through a channel.
type SessionMessage struct {
	SessionKey string
	Message    Message
}

// EventMessage is the name of the events that ParseSessionMessage reads.
const EventMessage = "session.message"

// ParseSessionMessage reads an event of a Subscription. ok is false if the event is
// of another kind or malformed.
func ParseSessionMessage(e Event) (m SessionMessage, ok bool) {
	if e.Name != EventMessage {
		return SessionMessage{}, false
	}
	var raw struct {
		SessionKey any
		Message    json.RawMessage
	}
	if json.Unmarshal(e.Payload, &raw) != nil {
		return SessionMessage{}, false
	}
	m.SessionKey = text(raw.SessionKey)
	m.Message, ok = parseMessage(raw.Message)
	return m, ok && m.SessionKey != ""
}

// parseMessage reads one row of a transcript, in which any field may be missing or
// of another type. ok is false if it has no role.
func parseMessage(data []byte) (m Message, ok bool) {
	var raw struct {
		Role      any `json:"role"`
		Content   any `json:"content"`
		Timestamp any `json:"timestamp"`
		Meta      any `json:"__openclaw"`
	}
	if json.Unmarshal(data, &raw) != nil {
		return Message{}, false
	}
	m.Role = text(raw.Role)
	if m.Role == "" {
		return Message{}, false
	}
	m.Text, m.Time = withoutMark(contentText(raw.Content)), unixMillis(raw.Timestamp)
	meta, _ := raw.Meta.(map[string]any)
	m.ID, m.Sender = text(meta["id"]), text(meta["senderName"])
	m.Internal = (m.Role != RoleUser && m.Role != RoleAssistant) || m.Text == "" ||
		meta["contextFreeCommand"] == true || m.Role == RoleUser && strings.HasPrefix(m.Text, resumePrefix)
	return m, true
}

// resumePrefix starts the row that OpenClaw adds when it resumes a turn after a crash.
const resumePrefix = "[System] "

// contentText joins the text parts of a content, which may also be a string.
func contentText(content any) string {
	switch c := content.(type) {
	case string:
		return c
	case []any:
		var parts []string
		for _, part := range c {
			if p, ok := part.(map[string]any); ok && p["type"] == "text" && text(p["text"]) != "" {
				parts = append(parts, text(p["text"]))
			}
		}
		return strings.Join(parts, "\n\n")
	}
	return ""
}

// text returns a string, and "" for any other value.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// unixMillis reads a time in Unix milliseconds. Any other value is the zero time.
func unixMillis(v any) time.Time {
	const year9999 = 253402300799000
	ms, ok := v.(float64)
	if !ok || ms <= 0 || ms > year9999 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
