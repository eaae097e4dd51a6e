package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
)

// maxChatBody has room for the longest message, however its characters are escaped.
const maxChatBody = 4 << 20

const chatExample = `data: {"type":"text","content":"I can help you with"}

data: {"type":"text","content":" a wide range of tasks!"}

data: {"type":"done"}

`

type chatInput struct {
	AgentID
	Body client.ChatRequest
}

func (s *Server) sendMessage(ctx context.Context, who access.Principal, in *chatInput) (*rest.Stream, error) {
	turn, err := s.chat.Prepare(ctx, who.Actor(), in.ID, in.Body)
	if err != nil {
		return nil, err
	}
	return &rest.Stream{
		Serve: func(ctx context.Context, out *rest.Events) error {
			err := s.chat.RunTurn(ctx, turn, func(text string) error {
				return out.Send(client.ChatEvent{Type: "text", Content: text})
			})
			if err != nil {
				return err
			}
			return out.Send(client.ChatEvent{Type: "done"})
		},
		Fail: func(out *rest.Events, f *fault.Fault) {
			_ = out.Send(client.ChatEvent{Type: "error", Code: string(f.Code), Message: f.Message}) // fails if the client has disconnected
		},
	}, nil
}

type historyInput struct {
	AgentID
	SessionID string `query:"sessionId" doc:"Only messages of this session."`
	Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Maximum number of messages, counted from the newest."`
	Since     string `query:"since" format:"date-time" doc:"Only messages after this time."`
}

func (s *Server) history(ctx context.Context, who access.Principal, in *historyInput) (*listReply[client.ChatMessage], error) {
	since, err := parseTime("since", in.Since)
	if err != nil {
		return nil, err
	}
	messages, total, err := s.chat.History(ctx, who.AccountID, in.ID, identity.SessionID(in.SessionID), since, in.Limit)
	if err != nil {
		return nil, err
	}
	rows := make([]client.ChatMessage, len(messages))
	for i, m := range messages {
		rows[i] = client.ChatMessage{Role: m.Role, Content: m.Content, Timestamp: client.Time{Time: m.At}}
	}
	return page(rows, total, in.Limit, 0), nil
}

func (s *Server) listSessions(ctx context.Context, who access.Principal, in *AgentID) (*listReply[client.ChatSession], error) {
	sessions, total, err := s.chat.Sessions(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.ChatSession, len(sessions))
	for i, v := range sessions {
		rows[i] = client.ChatSession{ID: string(v.ID), Name: orNull(v.Name), Channel: v.Channel, StartedAt: client.Time{Time: v.StartedAt}}
	}
	return page(rows, total, 100, 0), nil
}

type newSessionInput struct {
	AgentID
	Body *client.NewSessionRequest `required:"false"`
}

func (s *Server) newSession(ctx context.Context, who access.Principal, in *newSessionInput) (*reply[client.NewSession], error) {
	var peer string
	if in.Body != nil {
		peer = in.Body.PeerID
	}
	v, err := s.chat.NewSession(ctx, who.Actor(), in.ID, peer)
	if err != nil {
		return nil, err
	}
	return one(client.NewSession{ID: string(v.ID), StartedAt: client.Time{Time: v.StartedAt}}), nil
}
