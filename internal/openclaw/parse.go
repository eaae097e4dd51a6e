package openclaw

import (
	"encoding/json"
	"strings"
	"time"
)

// rawSession is a row as it comes: any field may be missing or of another type.
type rawSession struct {
	Key                any `json:"key"`
	SessionID          any `json:"sessionId"`
	DisplayName        any `json:"displayName"`
	Label              any `json:"label"`
	LastMessagePreview any `json:"lastMessagePreview"`
	Channel            any `json:"channel"`
	CreatedAt          any `json:"createdAt"`
	UpdatedAt          any `json:"updatedAt"`
	HasActiveRun       any `json:"hasActiveRun"`
}

func (s rawSession) row() SessionRow {
	name := text(s.DisplayName)
	if name == "" {
		name = text(s.Label)
	}
	running, _ := s.HasActiveRun.(bool)
	return SessionRow{
		Key: text(s.Key), SessionID: text(s.SessionID), Name: name, Preview: text(s.LastMessagePreview),
		Channel: text(s.Channel), CreatedAt: millis(s.CreatedAt), UpdatedAt: millis(s.UpdatedAt), Running: running,
	}
}

// parseMessage reads one row of a transcript; ok is false if it is not one.
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
	m.Text, m.Time = contentText(raw.Content), millis(raw.Timestamp)
	meta, _ := raw.Meta.(map[string]any)
	m.ID, m.Sender = text(meta["id"]), text(meta["senderName"])
	m.Internal = (m.Role != RoleUser && m.Role != RoleAssistant) || m.Text == "" ||
		meta["contextFreeCommand"] == true || m.Role == RoleUser && strings.HasPrefix(m.Text, interrupted)
	return m, true
}

// interrupted begins the row that OpenClaw adds when it takes up a turn after a crash.
const interrupted = "[System] "

// contentText joins the text parts of a content, which may be a string.
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

func text(v any) string {
	s, _ := v.(string)
	return s
}

// millis reads a time in Unix milliseconds; anything else is the zero time.
func millis(v any) time.Time {
	const year9999 = 253402300799000
	ms, ok := v.(float64)
	if !ok || ms <= 0 || ms > year9999 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)).UTC()
}
