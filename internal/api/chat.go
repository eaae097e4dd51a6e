package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
)

// maxChatBody holds the longest message, however its characters are escaped.
const maxChatBody = 4 << 20

const chatExample = `data: {"type":"text","content":"I can help you with"}

data: {"type":"text","content":" a wide range of tasks!"}

data: {"type":"done"}

`

type chatInput struct {
	AgentID
	Body client.ChatRequest
}

func (s *Server) sendMessage(ctx context.Context, who access.Principal, in *chatInput) (*huma.StreamResponse, error) {
	turn, err := s.Chat.Prepare(ctx, who.Actor(), identity.AgentID(in.ID), in.Body)
	if err != nil {
		return nil, err
	}
	serve := func(ctx context.Context, out *stream) error {
		err := s.Chat.RunTurn(ctx, turn, func(text string) error {
			return out.send(client.ChatEvent{Type: "text", Content: text})
		})
		if err != nil {
			return err
		}
		return out.send(client.ChatEvent{Type: "done"})
	}
	return s.streaming(serve, func(out *stream, err error) {
		f := s.report(ctx, err)
		_ = out.send(client.ChatEvent{Type: "error", Code: string(f.Code), Message: f.Message}) // a client that has gone has no use for it
	}), nil
}

type historyInput struct {
	AgentID
	SessionID string `query:"sessionId" doc:"Only messages of this session."`
	Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"How many messages at most, counted from the newest."`
	Since     string `query:"since" format:"date-time" doc:"Only messages after this time."`
}

func (s *Server) history(ctx context.Context, who access.Principal, in *historyInput) (*listReply[client.ChatMessage], error) {
	since, err := parseTime("since", in.Since)
	if err != nil {
		return nil, err
	}
	messages, total, err := s.Chat.History(ctx, who.Actor().AccountID, identity.AgentID(in.ID), identity.SessionID(in.SessionID), since, in.Limit)
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
	sessions, total, err := s.Chat.Sessions(ctx, who.Actor().AccountID, identity.AgentID(in.ID))
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
	v, err := s.Chat.NewSession(ctx, who.Actor(), identity.AgentID(in.ID), peer)
	if err != nil {
		return nil, err
	}
	return one(client.NewSession{ID: string(v.ID), StartedAt: client.Time{Time: v.StartedAt}}), nil
}
