package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// ChatRequest is one message to an agent.
type ChatRequest struct {
	Message   string `json:"message" doc:"The message to send to the agent."`
	SessionID string `json:"sessionId,omitempty" doc:"Chat session. Without it, the default session of the peer, or of the API key if there is no peer."`
	PeerID    string `json:"peerId,omitempty" doc:"Your end user. Peers never share sessions or memory."`
	Context   any    `json:"context,omitempty" doc:"Context of this conversation for the agent: a string, or an object of key-value pairs. At most 2000 characters after formatting."`
}

// ChatEvent is one event of an answer. Type is text (with Content), done, or error
// (with Code and Message).
type ChatEvent struct {
	Type    string `json:"type"`
	Content string `json:"content,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// ChatMessage is one message of a history.
type ChatMessage struct {
	Role      string `json:"role" enum:"user,assistant"`
	Content   string `json:"content"`
	Timestamp Time   `json:"timestamp"`
}

// ChatSession is one session of an agent.
type ChatSession struct {
	ID        string  `json:"id"`
	Name      *string `json:"name"`
	Channel   string  `json:"channel" doc:"api, or the channel of the session, such as telegram."`
	StartedAt Time    `json:"startedAt"`
}

// NewSessionRequest starts a new session.
type NewSessionRequest struct {
	PeerID string `json:"peerId,omitempty" doc:"The end user who gets a new session."`
}

// NewSession is the result of Client.NewSession.
type NewSession struct {
	ID        string `json:"id"`
	StartedAt Time   `json:"startedAt"`
}

// Chat sends a message and yields the events of the agent's answer as they arrive. An
// answer that is interrupted before done or error ends with io.ErrUnexpectedEOF.
// Ending the iteration, or ctx, aborts the agent's run.
func (c *Client) Chat(ctx context.Context, agentID string, in ChatRequest) iter.Seq2[ChatEvent, error] {
	return func(yield func(ChatEvent, error) bool) {
		res, err := c.do(ctx, http.MethodPost, agentPath(agentID)+"/chat/messages", in)
		if err != nil {
			yield(ChatEvent{}, err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		for line, err := range dataLines(res.Body) {
			var e ChatEvent
			if err == nil {
				err = json.Unmarshal([]byte(line), &e)
			}
			if !yield(e, err) || err != nil || e.Type == "done" || e.Type == "error" {
				return
			}
		}
		yield(ChatEvent{}, io.ErrUnexpectedEOF)
	}
}

// HistoryQuery filters the history of a chat.
type HistoryQuery struct {
	SessionID string
	Limit     int // 0: the server's default
	Since     *Time
}

// History returns messages of an agent, oldest first.
func (c *Client) History(ctx context.Context, agentID string, q HistoryQuery) ([]ChatMessage, error) {
	v := url.Values{}
	if q.SessionID != "" {
		v.Set("sessionId", q.SessionID)
	}
	if q.Limit > 0 {
		v.Set("limit", fmt.Sprint(q.Limit))
	}
	if q.Since != nil {
		v.Set("since", q.Since.UTC().Format(timeLayout))
	}
	list, err := call[List[ChatMessage]](ctx, c, http.MethodGet, agentPath(agentID)+"/chat/messages?"+v.Encode(), nil)
	return list.Data, err
}

// Sessions returns the most recent sessions of an agent, newest first.
func (c *Client) Sessions(ctx context.Context, agentID string) ([]ChatSession, error) {
	list, err := call[List[ChatSession]](ctx, c, http.MethodGet, agentPath(agentID)+"/chat/sessions", nil)
	return list.Data, err
}

// NewSession starts a new session.
func (c *Client) NewSession(ctx context.Context, agentID string, in NewSessionRequest) (NewSession, error) {
	return data[NewSession](ctx, c, http.MethodPost, agentPath(agentID)+"/chat/sessions", in)
}

// dataLines yields the data of a stream of server-sent events that have one line
// each. It skips comments.
func dataLines(r io.Reader) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadString('\n')
			if errors.Is(err, io.EOF) {
				return // a line without its end is incomplete
			}
			if err != nil {
				yield("", err)
				return
			}
			if text, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "data:"); ok {
				if !yield(strings.TrimPrefix(text, " "), nil) {
					return
				}
			}
		}
	}
}
