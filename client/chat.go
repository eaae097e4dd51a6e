package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ChatContext is a string or a map[string]any; nil is no context.
type ChatContext any

// ChatRequest is one message to an agent.
type ChatRequest struct {
	Message   string `json:"message" doc:"The message to send to the agent." bounds:"1..200000"`
	SessionID string `json:"sessionId,omitempty" absent:"use the default session" doc:"Chat session. Without it, the default session of the peer, or of the API key if there is no peer."`
	// PeerID is sent unless it is empty. Without a peer the message may be the owner's, so
	// check an id that could be empty.
	PeerID  string      `json:"peerId,omitempty" absent:"speak for the API key itself" doc:"Your end user, such as the id of a customer. Peers never share sessions or memory." bounds:"..256"`
	Context ChatContext `json:"context,omitempty" absent:"give none" doc:"Context of this conversation for the agent: a string, or an object of key-value pairs. At most 2000 characters after formatting. It is not stored in the history."`
	// OnDisconnect is continue or cancel; empty means continue.
	OnDisconnect string `json:"onDisconnect,omitempty" enum:"continue,cancel" doc:"What happens to the turn when you close the connection: continue (default) or cancel."`
}

// ChatEvent is one event of an answer. Type is text (with Content), done (with StopReason), or
// error (with Code and Message, and with StopReason if the turn was ended by somebody).
type ChatEvent struct {
	TurnID string `json:"-"` // the turn that the event belongs to
	ID     int64  `json:"-"` // the number of the event; FollowTurn goes on after it

	RequestID string `json:"-"` // of the request that the event answers

	Type    string `json:"type"`
	Content string `json:"content,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// StopReason is end, length, refusal, filter or limit in done, and cancelled or interrupted in error.
	StopReason string `json:"stopReason,omitempty"`

	SessionID string `json:"sessionId,omitempty"` // of done

	// Usage is what the turn has used, in done and error; nil if it has called no model.
	Usage *ChatUsage `json:"usage,omitempty"`
}

// ChatTurn is one message with its answer.
type ChatTurn struct {
	ID         string         `json:"id" doc:"Id of the turn." example:"turn_abc123"`
	SessionID  string         `json:"sessionId" doc:"The session that the message belongs to." example:"sess_abc123"`
	State      string         `json:"state" enum:"queued,running,done,failed,cancelled" doc:"queued: earlier messages of the session are being answered; running; done; failed: see error; cancelled."`
	StopReason *string        `json:"stopReason" doc:"Why the turn ended: completed, length (the model's answer reached its maximum length), refusal (the model refused), filter (a filter of the provider ended the answer), limit (the turn reached a limit), truncated (the answer was longer than 1 MiB), cancelled, error, interrupted (the server stopped) or expired (no server ran for ten minutes). Null until the turn ends." values:"completed,length,refusal,filter,limit,truncated,cancelled,error,interrupted,expired"`
	Text       *string        `json:"text,omitempty" doc:"The answer so far. Only in the response for one turn."`
	Steps      []ChatStep     `json:"steps,omitempty" doc:"The calls of tools so far. Only in the response for one turn. Of an interrupted turn, and of turns from before this field, they are not known."`
	Source     *string        `json:"source" doc:"Through what the message came: api, dashboard, openai, mcp, widget or operator (the socket of the data directory). Null if it is not known." example:"api"`
	Usage      ChatUsage      `json:"usage" doc:"Tokens, requests and price of the turn."`
	Error      *ChatTurnError `json:"error" doc:"Why the turn failed; null unless state is failed."`
	CreatedAt  Time           `json:"createdAt" doc:"When the message was accepted."`
	StartedAt  *Time          `json:"startedAt" doc:"Null while the turn is queued."`
	EndedAt    *Time          `json:"endedAt" doc:"When the turn ended; null until then."`
}

// ChatStep is a call of a tool by the model.
type ChatStep struct {
	Name      string `json:"name" doc:"Name of the tool." example:"memory_search"`
	Input     string `json:"input" doc:"What the model called it with, as JSON. At most 8 KB of it."`
	Output    string `json:"output" doc:"What the tool returned. At most 8 KB of it."`
	Cut       bool   `json:"cut,omitempty" doc:"true if input or output was longer."`
	StartedAt Time   `json:"startedAt" doc:"When the model called it."`
	EndedAt   *Time  `json:"endedAt" doc:"When the model was told the output; null until then."`
}

// ChatUsage is the number of tokens of a turn, as the provider counted them; 0 until the
// turn has ended.
type ChatUsage struct {
	InputTokens  int64 `json:"inputTokens" doc:"Tokens that were sent to the model, cached or not."`
	OutputTokens int64 `json:"outputTokens" doc:"Tokens that the model has written."`
	// ReasoningTokens are those of OutputTokens that are no text of the answer.
	ReasoningTokens int64 `json:"reasoningTokens" doc:"Those of the output tokens that the model has used to think, as far as that is known."`
	// CacheReadTokens and CacheWriteTokens are those of InputTokens that the provider has read from its cache, and written to it.
	CacheReadTokens  int64 `json:"cacheReadTokens" doc:"Those of the input tokens that the provider has read from its cache."`
	CacheWriteTokens int64 `json:"cacheWriteTokens" doc:"Those of the input tokens that the provider has written to its cache."`
	Cost
}

// ChatTurnError is why a turn failed.
type ChatTurnError struct {
	Code    string `json:"code" doc:"Code for programs." example:"upstream_error"`
	Message string `json:"message" doc:"Sentence for people that says what to do."`
}

// ChatMessage is one message of a history.
type ChatMessage struct {
	ID        string  `json:"id" doc:"Id of the message. It is a cursor: pass it as before or after." example:"msg_abc123"`
	SessionID string  `json:"sessionId" doc:"The session that the message belongs to." example:"sess_abc123"`
	PeerID    *string `json:"peerId" doc:"The end user of the session, or who writes in the channel. Null without a peer."`
	Channel   string  `json:"channel" doc:"api, or the channel of the session, such as telegram."`
	TurnID    *string `json:"turnId" doc:"The turn that the message belongs to; null for a message of a channel." example:"turn_abc123"`
	Source    *string `json:"source" doc:"Through what the message came: api, dashboard, openai, mcp, widget, operator (the socket of the data directory), or the channel, such as telegram. Null if it is not known." example:"api"`
	Role      string  `json:"role" enum:"user,assistant" doc:"user: who wrote to the agent; assistant: the agent."`
	Content   string  `json:"content" doc:"Text of the message."`
	Timestamp Time    `json:"timestamp" doc:"When it became visible: a message of yours when its turn began, an answer when it ended."`
	Imported  bool    `json:"imported,omitempty" doc:"true for a message of a session that was imported: nobody vouches for who wrote it."`
}

// ChatSession is one session of an agent.
type ChatSession struct {
	ID            string  `json:"id" doc:"Id of the session." example:"sess_abc123"`
	Name          *string `json:"name" doc:"The name that you gave it, the name of the sender in a channel, or the beginning of the first message."`
	Channel       string  `json:"channel" doc:"api, or the channel of the session, such as telegram."`
	StartedAt     Time    `json:"startedAt" doc:"When the session was started."`
	PeerID        *string `json:"peerId" doc:"The end user, or who writes in the channel. Null without a peer."`
	MessageCount  int     `json:"messageCount" doc:"Number of messages of both sides."`
	LastMessageAt *Time   `json:"lastMessageAt" doc:"When the last message became visible; null if there are none."`
	Imported      bool    `json:"imported,omitempty" doc:"true for a session that was imported with the agent. It can be read, and no message continues it."`
}

// RecentSession is a session in the list of all agents.
type RecentSession struct {
	ChatSession

	AgentID   string `json:"agentId" doc:"Id of the agent." example:"0198c5f1-7b1e-7c7a-9d6e-0242ac120002"`
	AgentName string `json:"agentName" doc:"Name of the agent."`
}

// NewSessionRequest starts a new session.
type NewSessionRequest struct {
	PeerID string `json:"peerId,omitempty" absent:"start a session of the API key itself" doc:"The end user who gets a new session." bounds:"..256"`
	Name   string `json:"name,omitempty" absent:"give it the beginning of its first message" doc:"Name of the session. Without it, the session gets the beginning of its first message." bounds:"..100"`
}

// UpdateSessionRequest changes a session.
type UpdateSessionRequest struct {
	Name Optional[string] `json:"name,omitzero" doc:"New name, or null: then the session has the beginning of its first message as its name." bounds:"..100"`
}

// NewSession is the result of Client.NewSession.
type NewSession struct {
	ID        string `json:"id" doc:"Id of the new session." example:"sess_def456"`
	StartedAt Time   `json:"startedAt" doc:"When it was started."`
}

// Chat sends a message and yields the events of the agent's answer as they arrive. A
// stream that breaks before done or error goes on by itself, each event coming once. If that
// fails, or Client.Retries is negative, it ends with an error: that of the last attempt, or
// io.ErrUnexpectedEOF; go on with FollowTurn. The event with an error names the turn, if the
// server had accepted the message. When the iteration or ctx ends, the turn goes on, unless
// OnDisconnect is cancel.
func (c *Client) Chat(ctx context.Context, agentID string, in ChatRequest) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) {
		c.stream(ctx, agentID, ChatEvent{}, func(ctx context.Context) (*http.Response, error) {
			return c.do(ctx, http.MethodPost, agentPath(agentID)+"/chat/messages", in)
		}, yield)
	}
}

// FollowTurn yields the events of a turn whose ID is greater than after, as Chat does.
func (c *Client) FollowTurn(ctx context.Context, agentID, turnID string, after int64) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) {
		at := ChatEvent{TurnID: turnID, ID: after}
		c.stream(ctx, agentID, at, func(ctx context.Context) (*http.Response, error) { return c.openTurn(ctx, agentID, at) }, yield)
	}
}

// openTurn requests the events of a turn after one.
func (c *Client) openTurn(ctx context.Context, agentID string, last ChatEvent) (*http.Response, error) {
	return c.do(ctx, http.MethodGet, turnPath(agentID, last.TurnID)+"/stream?after="+strconv.FormatInt(last.ID, 10), nil)
}

// stream yields the events of a response up to the last, and continues a stream that breaks
// after its last event. last has the turn and the number of the last event, as far as they are
// known.
func (c *Client) stream(ctx context.Context, agentID string, last ChatEvent, open func(context.Context) (*http.Response, error), yield func(ChatEvent, error) bool) {
	for n := 0; ; n++ {
		before := last.ID
		ended, err := c.read(ctx, &last, open, yield)
		if ended {
			return
		}
		if last.ID > before {
			n = 0 // the last attempt has brought something
		}
		var answered *Error
		if last.TurnID == "" || errors.As(err, &answered) || ctx.Err() != nil || n >= c.retries() || !pause(ctx, n, err) {
			yield(ChatEvent{TurnID: last.TurnID, RequestID: last.RequestID}, err)
			return
		}
		open = func(ctx context.Context) (*http.Response, error) { return c.openTurn(ctx, agentID, last) }
	}
}

// silence is how long a stream may be silent: the server sends a comment at least every 15 s.
// After it the connection counts as broken, though nobody has closed it.
const silence = time.Minute

// errSilence is why a connection was given up.
var errSilence = errors.New("the server has sent nothing for a minute")

// read yields the events of one response. It reports whether that was the end: the last event,
// or a reader that wants no more. Otherwise err says why the stream broke.
func (c *Client) read(ctx context.Context, last *ChatEvent, open func(context.Context) (*http.Response, error), yield func(ChatEvent, error) bool) (ended bool, err error) {
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	res, err := open(reading)
	if err != nil {
		return false, err
	}
	defer func() { _ = res.Body.Close() }()
	if turn := res.Header.Get("X-Turn-Id"); turn != "" {
		last.TurnID = turn
	}
	last.RequestID = res.Header.Get("X-Request-Id")
	watch := time.AfterFunc(silence, func() { cancel(errSilence) })
	defer watch.Stop()
	body := readerFunc(func(p []byte) (int, error) {
		n, err := res.Body.Read(p)
		watch.Reset(silence)
		return n, err
	})
	for line, err := range eventLines(body) {
		if err != nil {
			if cause := context.Cause(reading); cause != nil {
				err = cause
			}
			return false, err
		}
		e := ChatEvent{TurnID: last.TurnID, ID: line.id, RequestID: last.RequestID}
		if err := json.Unmarshal([]byte(line.data), &e); err != nil {
			yield(e, err)
			return true, nil
		}
		last.ID = max(last.ID, line.id)
		watch.Stop() // the reader may take its time
		if !yield(e, nil) || e.Type == "done" || e.Type == "error" {
			return true, nil
		}
		watch.Reset(silence)
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return false, io.ErrUnexpectedEOF
}

// readerFunc is an io.Reader.
type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func setNumber(q url.Values, name string, n int) {
	if n > 0 {
		q.Set(name, strconv.Itoa(n))
	}
}

func turnPath(agentID, turnID string) string {
	return agentPath(agentID) + "/chat/turns/" + url.PathEscape(turnID)
}

// Turn returns a turn and its text so far.
func (c *Client) Turn(ctx context.Context, agentID, turnID string) (ChatTurn, error) {
	return data[ChatTurn](ctx, c, http.MethodGet, turnPath(agentID, turnID), nil)
}

// CancelTurn ends a turn and its model call. A turn that has ended stays as it is.
func (c *Client) CancelTurn(ctx context.Context, agentID, turnID string) (ChatTurn, error) {
	return data[ChatTurn](ctx, c, http.MethodPost, turnPath(agentID, turnID)+"/cancel", nil)
}

// TurnQuery filters the turns of an agent.
type TurnQuery struct {
	State     string
	SessionID string
	Limit     int // 0: the server's default
	Offset    int // how many turns to skip, counted from the newest
}

// Turns returns the latest turns of an agent, newest first.
func (c *Client) Turns(ctx context.Context, agentID string, q TurnQuery) ([]ChatTurn, error) {
	page, err := c.TurnPage(ctx, agentID, q)
	return page.Data, err
}

// TurnPage is Turns with the place of the page in the list.
func (c *Client) TurnPage(ctx context.Context, agentID string, q TurnQuery) (List[ChatTurn], error) {
	v := url.Values{}
	set(v, "state", q.State)
	set(v, "sessionId", q.SessionID)
	setNumber(v, "limit", q.Limit)
	setNumber(v, "offset", q.Offset)
	return call[List[ChatTurn]](ctx, c, http.MethodGet, agentPath(agentID)+"/chat/turns?"+v.Encode(), nil)
}

// HistoryStart is the HistoryQuery.After of the oldest messages.
const HistoryStart = "start"

// HistoryQuery filters the history of a chat. At most one of Offset, Before and After is
// set.
type HistoryQuery struct {
	SessionID string
	PeerID    string
	Limit     int // 0: the server's default
	Offset    int // how many messages to skip, counted from the newest
	Before    string
	After     string
	Since     *Time
}

// History returns messages of an agent, oldest first.
func (c *Client) History(ctx context.Context, agentID string, q HistoryQuery) ([]ChatMessage, error) {
	page, err := c.HistoryPage(ctx, agentID, q)
	return page.Data, err
}

// HistoryPage is History with the place of the page in the history.
func (c *Client) HistoryPage(ctx context.Context, agentID string, q HistoryQuery) (List[ChatMessage], error) {
	v := url.Values{}
	set(v, "sessionId", q.SessionID)
	set(v, "peerId", q.PeerID)
	set(v, "before", q.Before)
	set(v, "after", q.After)
	setNumber(v, "limit", q.Limit)
	setNumber(v, "offset", q.Offset)
	if q.Since != nil {
		v.Set("since", q.Since.UTC().Format(timeLayout))
	}
	return call[List[ChatMessage]](ctx, c, http.MethodGet, agentPath(agentID)+"/chat/messages?"+v.Encode(), nil)
}

// AllMessages yields the messages of an agent that q selects, oldest first, those after
// q.After or all, until there are no more. It ignores q.Before and q.Offset.
func (c *Client) AllMessages(ctx context.Context, agentID string, q HistoryQuery) iter.Seq2[ChatMessage, error] {
	return func(yield func(ChatMessage, error) bool) {
		q.Before, q.Offset = "", 0
		if q.After == "" {
			q.After = HistoryStart
		}
		for more := true; more; {
			page, err := c.HistoryPage(ctx, agentID, q)
			if err != nil {
				yield(ChatMessage{}, err)
				return
			}
			for _, m := range page.Data {
				if !yield(m, nil) {
					return
				}
				q.After = m.ID
			}
			more = page.Pagination.HasMore
		}
	}
}

// SessionQuery filters the sessions of an agent.
type SessionQuery struct {
	PeerID string
	Limit  int // 0: the server's default
	Offset int // how many sessions to skip, counted from the newest
}

// Sessions returns the most recent sessions of an agent, newest first.
func (c *Client) Sessions(ctx context.Context, agentID string) ([]ChatSession, error) {
	page, err := c.SessionPage(ctx, agentID, SessionQuery{})
	return page.Data, err
}

// SessionPage returns a page of the sessions of an agent, newest first.
func (c *Client) SessionPage(ctx context.Context, agentID string, q SessionQuery) (List[ChatSession], error) {
	v := url.Values{}
	set(v, "peerId", q.PeerID)
	setNumber(v, "limit", q.Limit)
	setNumber(v, "offset", q.Offset)
	return call[List[ChatSession]](ctx, c, http.MethodGet, agentPath(agentID)+"/chat/sessions?"+v.Encode(), nil)
}

// RecentSessionQuery filters the sessions of all agents.
type RecentSessionQuery struct {
	Search string // part of the name, the peer or the id
	PeerID string
	Limit  int // 0: the server's default
	Offset int // how many sessions to skip
}

// RecentSessions returns a page of the sessions of all agents, the one with the newest
// message first.
func (c *Client) RecentSessions(ctx context.Context, q RecentSessionQuery) (List[RecentSession], error) {
	v := url.Values{}
	set(v, "search", q.Search)
	set(v, "peerId", q.PeerID)
	setNumber(v, "limit", q.Limit)
	setNumber(v, "offset", q.Offset)
	return call[List[RecentSession]](ctx, c, http.MethodGet, "/v1/sessions?"+v.Encode(), nil)
}

// UpdateSession changes a session.
func (c *Client) UpdateSession(ctx context.Context, agentID, sessionID string, in UpdateSessionRequest) (ChatSession, error) {
	return data[ChatSession](ctx, c, http.MethodPatch, agentPath(agentID)+"/chat/sessions/"+url.PathEscape(sessionID), in)
}

// NewSession starts a new session.
func (c *Client) NewSession(ctx context.Context, agentID string, in NewSessionRequest) (NewSession, error) {
	return data[NewSession](ctx, c, http.MethodPost, agentPath(agentID)+"/chat/sessions", in)
}

// dataLines yields the data of a stream of server-sent events that have one line
// each. It skips comments.
func dataLines(r io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for line, err := range eventLines(r) {
			if !yield(line.data, err) {
				return
			}
		}
	}
}

// eventLine is an event whose data is one line. id is 0 if it has none.
type eventLine struct {
	id   int64
	data string
}

// eventLines yields the events of a stream, and the error that ends it.
func eventLines(r io.Reader) iter.Seq2[eventLine, error] {
	return func(yield func(eventLine, error) bool) {
		in := bufio.NewReader(r)
		var next eventLine
		for {
			line, err := in.ReadString('\n')
			if errors.Is(err, io.EOF) {
				return // a line without its end is incomplete
			}
			if err != nil {
				yield(eventLine{}, err)
				return
			}
			line = strings.TrimRight(line, "\r\n")
			if text, ok := strings.CutPrefix(line, "id:"); ok {
				next.id, _ = strconv.ParseInt(strings.TrimSpace(text), 10, 64) // 0 for an id of another kind
			}
			if text, ok := strings.CutPrefix(line, "data:"); ok {
				next.data = strings.TrimPrefix(text, " ")
				if !yield(next, nil) {
					return
				}
				next = eventLine{}
			}
		}
	}
}
