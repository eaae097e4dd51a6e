package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"agento.host/agento/client"
)

type sessionsCommand struct {
	List sessionsList `cmd:"" help:"List the most recent sessions of an agent."`
	New  sessionsNew  `cmd:"" help:"Start a new session."`

	Recent sessionsRecent `cmd:"" help:"List the sessions of all agents, the one with the newest message first."`
	Rename sessionsRename `cmd:"" help:"Give a session another name."`
}

type sessionsRecent struct {
	remote

	Search string `help:"Only sessions whose name, end user or id contains this."`
	Peer   string `help:"Only sessions of this end user."`
}

// Run lists the sessions of all agents.
func (c sessionsRecent) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	found, err := api.RecentSessions(ctx, client.RecentSessionQuery{Search: c.Search, PeerID: c.Peer})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found.Data)
	}
	rows := make([]map[string]any, len(found.Data))
	for i, s := range found.Data {
		last := s.StartedAt
		if s.LastMessageAt != nil {
			last = *s.LastMessageAt
		}
		rows[i] = map[string]any{"agent": s.AgentName, "id": s.ID, "name": deref(s.Name), "peer": deref(s.PeerID), "messages": s.MessageCount, "last": formatTime(last.Time)}
	}
	return t.table(rows, "agent", "id", "name", "peer", "messages", "last")
}

type sessionsList struct{ agentArg }

// Run lists the sessions.
func (c sessionsList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	all, err := api.Sessions(ctx, id)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	imported := false
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"id": s.ID, "name": deref(s.Name), "peer": deref(s.PeerID), "messages": s.MessageCount, "started": formatTime(s.StartedAt.Time), "imported": s.Imported}
		imported = imported || s.Imported
	}
	if imported {
		return t.table(rows, "id", "name", "peer", "messages", "started", "imported")
	}
	return t.table(rows, "id", "name", "peer", "messages", "started")
}

type sessionsNew struct {
	agentArg
	Peer string `help:"Your end user who gets a new session."`
	Name string `help:"Name of the session. Default: the beginning of its first message."`
}

// Run starts a session and prints its id.
func (c sessionsNew) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	s, err := api.NewSession(ctx, id, client.NewSessionRequest{PeerID: c.Peer, Name: c.Name})
	if err != nil {
		return err
	}
	return t.print(s, s.ID)
}

type sessionsRename struct {
	agentArg
	Session string  `arg:"" help:"Id of the session."`
	Name    *string `arg:"" optional:"" help:"New name. Without one, the session has the beginning of its first message as its name."`
}

// Run renames the session.
func (c sessionsRename) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	in := client.UpdateSessionRequest{Name: client.Null[string]()}
	if c.Name != nil {
		in.Name = client.Some(*c.Name)
	}
	s, err := api.UpdateSession(ctx, id, c.Session, in)
	if err != nil {
		return err
	}
	return t.print(s, s.ID+" is named "+deref(s.Name))
}

// since is a time that a user gives as a time, or as how long ago it is.
type since struct{ client.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *since) UnmarshalText(text []byte) error {
	if d, err := time.ParseDuration(string(text)); err == nil && d >= 0 {
		s.Time.Time = time.Now().Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.ParseInLocation(layout, string(text), time.Local); err == nil {
			s.Time.Time = at
			return nil
		}
	}
	return fmt.Errorf("%q is no time: write 2h, 2026-01-31 or 2026-01-31T15:04:05Z", text)
}

// orNil returns the time, or nil if there is none.
func (s since) orNil() *client.Time { return client.NewTime(s.Time.Time) }

type historyCommand struct {
	agentArg
	Session string `help:"Only this session."`
	Limit   int    `help:"How many messages, at most 200." default:"50"`
	Since   since  `help:"Only messages after this time, such as 2h or 2026-01-31." placeholder:"TIME"`
}

// Run prints messages.
func (c historyCommand) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	messages, err := api.History(ctx, id, client.HistoryQuery{SessionID: c.Session, Limit: c.Limit, Since: c.Since.orNil()})
	if err != nil {
		return err
	}
	return printMessages(t, messages)
}

func printMessages(t *terminal, messages []client.ChatMessage) error {
	if t.json {
		return t.printJSON(messages)
	}
	for i, m := range messages {
		if i > 0 {
			if err := endLine(t.out); err != nil {
				return err
			}
		}
		when := moment{m.Timestamp.Time}.ago()
		if m.Imported {
			when += ", imported"
		}
		text := fmt.Sprintf("%s, %s:\n%s\n", m.Role, when, escapeText(strings.TrimRight(m.Content, "\r\n")))
		if _, err := io.WriteString(t.out, text); err != nil {
			return err
		}
	}
	return nil
}

type turnsCommand struct {
	List   turnsList   `cmd:"" help:"List the latest turns of an agent."`
	Get    turnsGet    `cmd:"" help:"Show a turn with its answer so far."`
	Follow turnsFollow `cmd:"" help:"Print the answer of a turn from its beginning, and go on until its end."`
	Cancel turnsCancel `cmd:"" help:"Cancel a turn."`
}

type turnsList struct {
	agentArg
	Session string `help:"Only turns of this session."`
	State   string `help:"Only turns in this state." enum:",queued,running,done,failed,cancelled" default:""`
	Limit   int    `help:"How many, newest first." default:"20"`
}

// Run lists turns.
func (c turnsList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	turns, err := api.Turns(ctx, id, client.TurnQuery{State: c.State, SessionID: c.Session, Limit: c.Limit})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(turns)
	}
	rows := make([]map[string]any, len(turns))
	for i, turn := range turns {
		rows[i] = map[string]any{
			"id": turn.ID, "state": turnState(turn), "created": formatTime(turn.CreatedAt.Time),
			"in": turn.Usage.InputTokens, "out": turn.Usage.OutputTokens,
		}
	}
	return t.table(rows, "id", "state", "created", "in", "out")
}

func turnState(turn client.ChatTurn) string {
	if turn.Error != nil {
		return turn.State + " (" + commandWords(turn.Error.Message) + ")"
	}
	if reason := deref(turn.StopReason); reason != "" && reason != "completed" && reason != turn.State {
		return turn.State + " (" + reason + ")"
	}
	return turn.State
}

// turnArg is a turn of an agent.
type turnArg struct {
	agentArg
	Turn string `arg:"" help:"Id of the turn."`
}

type turnsGet struct{ turnArg }

// Run shows a turn.
func (c turnsGet) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	turn, err := api.Turn(ctx, id, c.Turn)
	if err != nil {
		return err
	}
	err = t.describe(turn, field{"id", turn.ID}, field{"session", turn.SessionID}, field{"state", turnState(turn)}, field{"created", formatTime(turn.CreatedAt.Time)},
		field{"started", optionalTime(turn.StartedAt)}, field{"ended", optionalTime(turn.EndedAt)}, field{"tokens", fmt.Sprintf("%d in, %d out", turn.Usage.InputTokens, turn.Usage.OutputTokens)})
	if err != nil || t.json || turn.Text == nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "\n%s\n", escapeText(*turn.Text))
	return err
}

type turnsFollow struct{ turnArg }

// Run follows a turn. Ctrl-C leaves it running.
func (c turnsFollow) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	talk := conversation{t: t, api: api, agent: id}
	out := &escapingWriter{w: t.out}
	var all strings.Builder
	_, err = talk.receive(ctx, api.FollowTurn(ctx, id, c.Turn, 0), func(text string) error {
		if t.json {
			all.WriteString(text)
			return nil
		}
		return out.WriteString(text)
	})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(answer{c.Turn, all.String(), talk.why})
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return endLine(t.out)
}

type turnsCancel struct{ turnArg }

// Run cancels a turn.
func (c turnsCancel) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	turn, err := api.CancelTurn(ctx, id, c.Turn)
	if err != nil {
		return err
	}
	return t.print(turn, turn.State)
}
