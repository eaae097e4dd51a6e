package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SessionRow is one session as the gateway lists it.
type SessionRow struct {
	Key       string
	SessionID string // OpenClaw's own id
	Name      string
	Preview   string // of the last message
	Channel   string // "telegram", "slack"; empty for the API's
	CreatedAt time.Time
	UpdatedAt time.Time
	Running   bool // a turn is under way
}

// CreateSession makes an empty session. A session that exists already is left as
// it is. Without it, the first turn makes one that has no time of creation.
func (g *Gateway) CreateSession(ctx context.Context, key, name string) (SessionRow, error) {
	params := map[string]any{"key": key}
	if s, ok := ParseSessionKey(key); ok {
		params["agentId"] = string(s.Entry)
	}
	if name != "" {
		params["displayName"] = name
	}
	var out struct {
		Key       any `json:"key"`
		SessionID any `json:"sessionId"`
		Entry     rawSession
	}
	if err := g.Call(ctx, "sessions.create", params, &out); err != nil {
		return SessionRow{}, err
	}
	row := out.Entry.row()
	row.Key, row.SessionID = text(out.Key), text(out.SessionID)
	return row, nil
}

// Sessions lists at most limit sessions, the latest used first.
func (g *Gateway) Sessions(ctx context.Context, limit int) ([]SessionRow, error) {
	var out struct{ Sessions []rawSession }
	params := map[string]any{"limit": limit, "sortBy": "activity", "includeLastMessage": true}
	if err := g.Call(ctx, "sessions.list", params, &out); err != nil {
		return nil, err
	}
	rows := make([]SessionRow, 0, len(out.Sessions))
	for _, s := range out.Sessions {
		rows = append(rows, s.row())
	}
	return rows, nil
}

// PatchSession changes fields of a session, as OpenClaw names them.
func (g *Gateway) PatchSession(ctx context.Context, key string, fields map[string]any) error {
	params := map[string]any{"key": key}
	for name, value := range fields {
		params[name] = value
	}
	return g.Call(ctx, "sessions.patch", params, nil)
}

// ResetSession empties a session in place; its key stays.
func (g *Gateway) ResetSession(ctx context.Context, key string) error {
	return g.Call(ctx, "sessions.reset", map[string]any{"key": key, "reason": "new"}, nil)
}

// DeleteSession removes a session and its transcript; one that is gone is success.
// An archive of the transcript stays in the home for a day.
func (g *Gateway) DeleteSession(ctx context.Context, key string) error {
	return g.Call(ctx, "sessions.delete", map[string]any{"key": key, "deleteTranscript": true}, nil)
}

// Roles of a Message.
const (
	RoleUser      = "user"
	RoleAssistant = "assistant"
)

// Message is one row of a conversation.
type Message struct {
	ID   string // OpenClaw's, unique in the session
	Role string // RoleUser, RoleAssistant, or one of OpenClaw's own: toolResult, system, custom
	Text string // empty for a tool call alone
	// Sender is the name of who wrote through a channel.
	Sender string
	Time   time.Time
	// Internal rows were said by neither side: tools, resets, OpenClaw's own prompts.
	Internal bool
}

// maxText is how long a message History gives in full, in characters.
const maxText = 200_000

// History returns the last limit (1 to 1,000) messages of a session, oldest first,
// leaving out the offset newest ones. A session that does not exist has none.
func (g *Gateway) History(ctx context.Context, key string, limit, offset int) (messages []Message, more bool, err error) {
	params := map[string]any{"sessionKey": key, "limit": limit, "maxChars": maxText}
	if offset > 0 {
		params["offset"] = offset
	}
	var out struct {
		Messages []json.RawMessage
		HasMore  any
	}
	if err := g.Call(ctx, "chat.history", params, &out); err != nil {
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

// Abort ends the turns that run or wait in a session, whoever began them; the text
// so far stays in its history.
func (g *Gateway) Abort(ctx context.Context, key string) error {
	return g.Call(ctx, "sessions.abort", map[string]any{"key": key, "clearQueued": true}, nil)
}

// ReloadSecrets makes the gateway read its secrets file again; its next model
// request uses what is there.
func (g *Gateway) ReloadSecrets(ctx context.Context) error {
	return g.Call(ctx, "secrets.reload", nil, nil)
}

// ChannelStatus says how a channel is doing.
type ChannelStatus struct {
	Channel   string
	Running   bool
	Connected bool
	Error     string // the last one, as OpenClaw words it
}

// Channels lists the channels that the agent is configured for.
func (g *Gateway) Channels(ctx context.Context) ([]ChannelStatus, error) {
	var out struct {
		ChannelAccounts map[string][]struct{ Running, Connected, LastError any }
	}
	if err := g.Call(ctx, "channels.status", nil, &out); err != nil {
		return nil, err
	}
	var found []ChannelStatus
	for name, accounts := range out.ChannelAccounts {
		for _, a := range accounts {
			running, _ := a.Running.(bool)
			connected, _ := a.Connected.(bool)
			found = append(found, ChannelStatus{Channel: name, Running: running, Connected: connected, Error: text(a.LastError)})
		}
	}
	slices.SortFunc(found, func(a, b ChannelStatus) int { return strings.Compare(a.Channel, b.Channel) })
	return found, nil
}

// WarmUp makes the gateway load what its first turn needs, without a model call, so
// that this turn is as quick as the later ones. It takes some seconds and may run
// beside other calls.
func (g *Gateway) WarmUp(ctx context.Context) error {
	for _, entry := range []Entry{Guest, Main} {
		if err := g.warm(ctx, SessionKey(entry, "", warmConversation)); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	return nil
}

const warmConversation = "agento-warm-up"

func (g *Gateway) warm(ctx context.Context, key string) error {
	sub, err := g.Subscribe(ctx, "chat")
	if err != nil {
		return err
	}
	defer sub.Close()
	run := fmt.Sprintf("warm-%d", time.Now().UnixNano())
	if err := g.Call(ctx, "chat.send", map[string]any{"sessionKey": key, "message": "/status", "idempotencyKey": run}, nil); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-sub.C:
			if !ok {
				return errors.Join(errors.New("no answer to /status"), sub.Err())
			}
			var chat struct{ RunID, State string }
			if json.Unmarshal(e.Payload, &chat) == nil && chat.RunID == run && ended(chat.State) {
				return g.DeleteSession(ctx, key)
			}
		}
	}
}

func ended(state string) bool { return state == "final" || state == "aborted" || state == "error" }

// SessionMessage is a message that has just been added to a session, by whichever
// way it came.
type SessionMessage struct {
	SessionKey string
	Message    Message
}

// EventMessage is the name of the events that ParseSessionMessage reads.
const EventMessage = "session.message"

// ParseSessionMessage reads an event of Subscribe; ok is false if it is another
// kind, or not understood.
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
