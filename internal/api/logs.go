package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/rest"
)

const logExample = `data: 2026-02-10T14:00:05Z [info] Agent started

data: 2026-02-10T14:00:06Z [info] Processing message...

`

type logsInput struct {
	AgentID
	Tail int `query:"tail" default:"100" minimum:"1" maximum:"10000" doc:"Number of lines."`
}

func (s *Server) logs(ctx context.Context, who access.Principal, in *logsInput) (*reply[client.Logs], error) {
	text, err := s.agentLogs.Tail(ctx, who.AccountID, in.ID, in.Tail)
	if err != nil {
		return nil, err
	}
	return one(client.Logs{Logs: text}), nil
}

type followLogsInput struct {
	AgentID
	Tail int `query:"tail" default:"200" minimum:"0" maximum:"10000" doc:"Number of historical lines to include."`
}

// followLogs has no event for an error: the stream ends, and the client reconnects.
func (s *Server) followLogs(ctx context.Context, who access.Principal, in *followLogsInput) (*rest.Stream, error) {
	if _, err := s.agents.Find(ctx, who.AccountID, in.ID); err != nil {
		return nil, err
	}
	return &rest.Stream{Serve: func(ctx context.Context, out *rest.Events) error {
		if err := out.Begin(); err != nil {
			return err
		}
		return s.agentLogs.Follow(ctx, who.AccountID, in.ID, in.Tail, func(line string) error { return out.SendLine([]byte(line)) })
	}}, nil
}
