package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
)

// maxChatBody has room for the longest message, however its characters are escaped.
const maxChatBody = 4 << 20

const chatExample = `id: 1
data: {"type":"text","content":"I can help you with"}

id: 2
data: {"type":"text","content":" a wide range of tasks!"}

id: 3
data: {"type":"done","stopReason":"end","sessionId":"sess_abc123","usage":{"inputTokens":812,"outputTokens":46,"reasoningTokens":0,"cacheReadTokens":640,"cacheWriteTokens":0,"requests":1,"estimatedRequests":0,"unpricedRequests":0,"costMicros":932}}

`

// chatText, chatDone and chatFailed describe the events of an answer: client.ChatEvent has
// the fields of all of them.
type chatText struct {
	Type    string `json:"type" enum:"text" doc:"text: a piece of the answer."`
	Content string `json:"content" doc:"The text that follows what came before."`
}

type chatDone struct {
	Type       string            `json:"type" enum:"done" doc:"done: the answer is complete. It is the last event."`
	StopReason string            `json:"stopReason" values:"end,length,refusal,filter,limit" doc:"Why the answer ended: end, the model had said everything; length, it reached its maximum length; refusal, the model refused; filter, a filter of the provider ended it; limit, the turn reached one of its limits."`
	SessionID  string            `json:"sessionId" doc:"The session that the message belongs to."`
	Usage      *client.ChatUsage `json:"usage,omitempty" doc:"What the turn has used. Left out if it has called no model."`
}

type chatFailed struct {
	Type       string            `json:"type" enum:"error" doc:"error: the answer is incomplete. It is the last event."`
	Code       string            `json:"code" doc:"Code for programs, as in other errors." example:"upstream_error"`
	Message    string            `json:"message" doc:"Sentence for people that says what to do."`
	StopReason string            `json:"stopReason,omitempty" values:"cancelled,interrupted" doc:"Of a turn that did not fail, but was ended by somebody."`
	Usage      *client.ChatUsage `json:"usage,omitempty" doc:"What the turn has used. Left out if it has called no model."`
}

// chatEvents are the events of an answer.
func chatEvents() []any { return []any{chatText{}, chatDone{}, chatFailed{}} }

// turnHeader names the turn that a stream belongs to.
const turnHeader = "X-Turn-Id"

// chatCaller returns the caller as package chat knows it.
func chatCaller(who access.Principal) chat.Caller {
	c := chat.Caller{Actor: who.Actor(), Owner: who.ChatsAsOwner(), Source: chat.FromAPI}
	switch c.Kind {
	case identity.User:
		c.Source = chat.FromDashboard
	case identity.Operator:
		c.Source = chat.FromOperator
	}
	return c
}

// sender returns the caller of a request that sends a message.
func sender(ctx context.Context, who access.Principal) chat.Caller {
	c := chatCaller(who)
	if source, ok := ctx.Value(sourceKey{}).(chat.Source); ok {
		c.Source = source
	}
	return c
}

// sourceKey is the context key of the source of messages, of a request that does not come from
// the caller itself.
type sourceKey struct{}

type chatInput struct {
	AgentID
	Body client.ChatRequest
}

func (s *Server) sendMessage(ctx context.Context, who access.Principal, in *chatInput) (*rest.Stream, error) {
	turn, err := s.chat.Start(ctx, sender(ctx, who), in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	return s.turnStream(turn, 0, func(ctx context.Context) {
		if turn.CancelOnDisconnect() {
			_, _ = s.chat.Cancel(context.WithoutCancel(ctx), chatCaller(who), in.ID, turn.ID) // nobody waits for the result
		}
	}), nil
}

// reopenTurn returns the stream of the turn that an earlier, equal request has started.
func (s *Server) reopenTurn(r *http.Request, header http.Header) (*rest.Stream, error) {
	turn, _, err := s.chat.FindTurn(r.Context(), chatCaller(callerOf(r.Context())), identity.AgentID(r.PathValue("id")), identity.TurnID(header.Get(turnHeader)))
	if err != nil {
		return nil, hideKept(err)
	}
	return s.turnStream(turn, 0, func(context.Context) {}), nil
}

// hideKept returns a NotFound fault that does not name what was not found: the caller may
// have lost the right to know since the response was kept.
func hideKept(err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "What this request has made before does not exist for this API key any more. Use a new Idempotency-Key.").Because(err)
	}
	return err
}

// turnStream returns the events of a turn whose number is greater than after. It calls
// left if the reader leaves before the end.
func (s *Server) turnStream(t chat.Turn, after int64, left func(context.Context)) *rest.Stream {
	last := after // the number of the last event
	why := ""     // the reason that the turn ended for
	var used *client.ChatUsage
	return &rest.Stream{
		Header:  http.Header{turnHeader: {string(t.ID)}},
		Waiting: func() string { return s.chat.Waiting(t.ID) },
		Serve: func(ctx context.Context, out *rest.Events) error {
			if after > 0 {
				_ = out.Begin() // the client has had the response's beginning; a failure is an event
			}
			end, err := s.chat.Follow(ctx, t, after, func(seq int64, text string) error {
				last = seq
				return out.SendNumbered(seq, client.ChatEvent{Type: "text", Content: text})
			})
			why = end.Why()
			if end.Usage != (chat.Usage{}) {
				u := usageJSON(end.Usage)
				used = &u
			}
			switch {
			case end.Ended() && after > end.LastSeq:
				return nil // the client has had the last event
			case end.Ended():
				last = end.LastSeq + 1
			case s.draining.Err() == nil:
				left(ctx)
			}
			if err != nil {
				return err
			}
			return out.SendNumbered(last, client.ChatEvent{Type: "done", StopReason: why, SessionID: string(t.SessionID), Usage: used})
		},
		Fail: func(out *rest.Events, f *fault.Fault) {
			_ = out.SendNumbered(last, client.ChatEvent{Type: "error", Code: string(f.Code), Message: f.Message, StopReason: why, Usage: used}) // fails if the client has disconnected
		},
	}
}

// TurnID is the turn in the path of a request.
type TurnID struct {
	AgentID
	TurnID identity.TurnID `path:"turnId" doc:"Id of the turn: the header X-Turn-Id of the stream." example:"turn_abc123"`
}

type turnStreamInput struct {
	TurnID
	LastEventID int64 `header:"Last-Event-ID" absent:"read the answer from its beginning" minimum:"0" doc:"Id of the last event that you have received."`
	After       int64 `query:"after" minimum:"0" doc:"The same, for clients that cannot set the header."`
}

func (s *Server) followTurn(ctx context.Context, who access.Principal, in *turnStreamInput) (*rest.Stream, error) {
	turn, _, err := s.chat.FindTurn(ctx, chatCaller(who), in.ID, in.TurnID.TurnID)
	if err != nil {
		return nil, err
	}
	return s.turnStream(turn, max(in.LastEventID, in.After), func(context.Context) {}), nil
}

func (s *Server) getTurn(ctx context.Context, who access.Principal, in *TurnID) (*reply[client.ChatTurn], error) {
	turn, text, err := s.chat.FindTurn(ctx, chatCaller(who), in.ID, in.TurnID)
	if err != nil {
		return nil, err
	}
	steps, err := s.chat.Steps(ctx, turn)
	if err != nil {
		return nil, err
	}
	out := turnJSON(turn, &text)
	for _, v := range steps {
		out.Steps = append(out.Steps, client.ChatStep{Name: v.Name, Input: v.Input, Output: v.Output, Cut: v.Cut, StartedAt: client.Time{Time: v.Began}, EndedAt: client.NewTime(v.Ended)})
	}
	return one(out), nil
}

func (s *Server) cancelTurn(ctx context.Context, who access.Principal, in *TurnID) (*reply[client.ChatTurn], error) {
	turn, err := s.chat.Cancel(ctx, chatCaller(who), in.ID, in.TurnID)
	if err != nil {
		return nil, err
	}
	return one(turnJSON(turn, nil)), nil
}

// checkTurnReplay returns a fault if the turn in the path does not exist for the caller,
// which may have had more rights when the response was kept. Faults: NotFound.
func (s *Server) checkTurnReplay(r *http.Request, _ rest.Response) error {
	_, _, err := s.chat.FindTurn(r.Context(), chatCaller(callerOf(r.Context())), identity.AgentID(r.PathValue("id")), identity.TurnID(r.PathValue("turnId")))
	return hideKept(err)
}

type turnsInput struct {
	AgentID
	State     chat.State         `query:"state" enum:"queued,running,done,failed,cancelled" doc:"Only turns in this state."`
	SessionID identity.SessionID `query:"sessionId" absent:"list the turns of every session" doc:"Only turns of this session."`
	Limit     int                `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Maximum number of turns, counted from the newest."`
	Offset    int                `query:"offset" minimum:"0" doc:"How many turns to skip, counted from the newest."`
}

func (s *Server) listTurns(ctx context.Context, who access.Principal, in *turnsInput) (*listReply[client.ChatTurn], error) {
	turns, total, err := s.chat.Turns(ctx, chatCaller(who), in.ID, chat.TurnQuery{State: in.State, Session: in.SessionID, Offset: in.Offset, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	rows := make([]client.ChatTurn, len(turns))
	for i, t := range turns {
		rows[i] = turnJSON(t, nil)
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

// turnJSON returns a turn, with its text unless that is nil.
func turnJSON(t chat.Turn, text *string) client.ChatTurn {
	out := client.ChatTurn{
		ID: string(t.ID), SessionID: string(t.SessionID), State: string(t.State), StopReason: orNull(t.StopReason), Text: text, Source: orNull(string(t.Source)),
		Usage:     usageJSON(t.Usage),
		CreatedAt: client.Time{Time: t.CreatedAt}, StartedAt: client.NewTime(t.StartedAt), EndedAt: client.NewTime(t.EndedAt),
	}
	if t.ErrorCode != "" {
		out.Error = &client.ChatTurnError{Code: string(t.ErrorCode), Message: t.ErrorMessage}
	}
	return out
}

func usageJSON(u chat.Usage) client.ChatUsage {
	return client.ChatUsage{
		InputTokens: u.InputTokens, OutputTokens: u.OutputTokens, ReasoningTokens: u.ReasoningTokens, CacheReadTokens: u.CacheReadTokens, CacheWriteTokens: u.CacheWriteTokens,
		Cost: costJSON(u.Requests, u.EstimatedRequests, u.UnpricedRequests, u.CostMicros),
	}
}

type historyInput struct {
	AgentID
	SessionID string             `query:"sessionId" absent:"read the messages of every session" doc:"Only messages of this session."`
	PeerID    string             `query:"peerId" absent:"read the messages of every peer" doc:"Only messages of the sessions of this peer."`
	Limit     int                `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Maximum number of messages, counted from the newest, or from the message of before or after."`
	Offset    int                `query:"offset" minimum:"0" doc:"How many messages to skip, counted from the newest. Not together with before or after."`
	Before    identity.MessageID `query:"before" absent:"begin at the newest message" doc:"Only messages before this one: the id of a message, such as pagination.before."`
	After     identity.MessageID `query:"after" absent:"begin at the newest message" doc:"Only messages after this one, the oldest of them first: the id of a message, such as pagination.after, or start for the oldest of all."`
	Since     string             `query:"since" doc:"Only messages after this time: an ISO 8601 date or date and time, in UTC unless it has an offset." example:"2026-02-10T14:00:00.000Z"`
}

func (s *Server) history(ctx context.Context, who access.Principal, in *historyInput) (*listReply[client.ChatMessage], error) {
	since, err := parseTime("since", in.Since)
	if err != nil {
		return nil, err
	}
	found, err := s.chat.History(ctx, chatCaller(who), in.ID, chat.HistoryQuery{
		Session: identity.SessionID(in.SessionID), Peer: in.PeerID, Since: since, Before: in.Before, After: in.After, Offset: in.Offset, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	rows := make([]client.ChatMessage, len(found.Messages))
	for i, m := range found.Messages {
		rows[i] = client.ChatMessage{
			ID: string(m.ID), SessionID: string(m.SessionID), PeerID: orNull(m.PeerID), Channel: m.Channel,
			TurnID: orNull(string(m.TurnID)), Source: orNull(string(m.Source)), Role: m.Role, Content: m.Content, Timestamp: client.Time{Time: m.At}, Imported: m.Imported,
		}
	}
	out := page(rows, found.Total, in.Limit, in.Offset)
	p := &out.Body.Pagination
	p.HasMore = found.HasMore
	switch {
	case len(rows) > 0:
		p.Before, p.After = &rows[0].ID, &rows[len(rows)-1].ID
	case in.Before != "":
		p.Before, p.After = orNull(string(in.Before)), orNull(string(chat.HistoryStart))
	case in.Offset == 0: // what comes next is after it
		p.After = orNull(string(cmp.Or(in.After, chat.HistoryStart)))
	}
	return out, nil
}

type listSessionsInput struct {
	AgentID
	PeerID string `query:"peerId" absent:"list the sessions of every peer" doc:"Only sessions of this peer."`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"100" doc:"Maximum number of sessions, counted from the newest."`
	Offset int    `query:"offset" minimum:"0" doc:"How many sessions to skip, counted from the newest."`
}

func (s *Server) listSessions(ctx context.Context, who access.Principal, in *listSessionsInput) (*listReply[client.ChatSession], error) {
	sessions, total, err := s.chat.Sessions(ctx, chatCaller(who), in.ID, chat.SessionQuery{Peer: in.PeerID, Offset: in.Offset, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	rows := make([]client.ChatSession, len(sessions))
	for i, v := range sessions {
		rows[i] = sessionJSON(v)
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

type recentSessionsInput struct {
	Search string `query:"search" absent:"list all" doc:"Only sessions whose name, peer or id contains this text, in any case, among the newest 5,000." maxLength:"200"`
	PeerID string `query:"peerId" absent:"list the sessions of every peer" doc:"Only sessions of this peer."`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"100" doc:"Maximum number of sessions, counted from the one with the newest message."`
	Offset int    `query:"offset" minimum:"0" doc:"How many sessions to skip, counted from the one with the newest message."`
}

func (s *Server) recentSessions(ctx context.Context, who access.Principal, in *recentSessionsInput) (*listReply[client.RecentSession], error) {
	sessions, total, err := s.chat.RecentSessions(ctx, chatCaller(who), chat.SessionQuery{Search: in.Search, Peer: in.PeerID, Offset: in.Offset, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	rows := make([]client.RecentSession, len(sessions))
	for i, v := range sessions {
		rows[i] = client.RecentSession{ChatSession: sessionJSON(v), AgentID: string(v.AgentID), AgentName: v.AgentName}
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

func sessionJSON(v chat.Session) client.ChatSession {
	return client.ChatSession{
		ID: string(v.ID), Name: orNull(v.Name), Channel: v.Channel, StartedAt: client.Time{Time: v.StartedAt},
		PeerID: orNull(v.PeerID), MessageCount: v.MessageCount, LastMessageAt: client.NewTime(v.LastMessageAt), Imported: v.Imported,
	}
}

type renameSessionInput struct {
	AgentID
	SessionID identity.SessionID `path:"sessionId" doc:"Id of the session." example:"sess_abc123"`
	Body      client.UpdateSessionRequest
}

func (s *Server) renameSession(ctx context.Context, who access.Principal, in *renameSessionInput) (*reply[client.ChatSession], error) {
	name := in.Body.Name
	if !name.Set || !name.Null && strings.TrimSpace(name.Value) == "" {
		return nil, fault.Fields{"name": "must be a name, or null to remove it"}.Err()
	}
	v, err := s.chat.RenameSession(ctx, chatCaller(who), in.ID, in.SessionID, name.Value)
	if err != nil {
		return nil, err
	}
	return one(sessionJSON(v)), nil
}

type newSessionInput struct {
	AgentID
	Body *client.NewSessionRequest `required:"false"`
}

func (s *Server) newSession(ctx context.Context, who access.Principal, in *newSessionInput) (*reply[client.NewSession], error) {
	var peer, name string
	if in.Body != nil {
		peer, name = in.Body.PeerID, in.Body.Name
	}
	v, err := s.chat.NewSession(ctx, chatCaller(who), in.ID, peer, name)
	if err != nil {
		return nil, err
	}
	return one(client.NewSession{ID: string(v.ID), StartedAt: client.Time{Time: v.StartedAt}}), nil
}

// checkNewSessionReplay is checkTurnReplay for the session that a response names.
func (s *Server) checkNewSessionReplay(r *http.Request, res rest.Response) error {
	var body client.Data[client.NewSession]
	if res.Status != http.StatusOK {
		return nil
	}
	if err := json.Unmarshal(res.Body, &body); err != nil {
		return fmt.Errorf("decode the kept response: %w", err)
	}
	_, err := s.chat.FindSession(r.Context(), chatCaller(callerOf(r.Context())), identity.AgentID(r.PathValue("id")), identity.SessionID(body.Data.ID))
	return hideKept(err)
}
