package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
)

const logExample = `data: 2026-02-10T14:00:05Z [info] Agent started

data: 2026-02-10T14:00:06Z [info] Processing message...

`

type logsInput struct {
	AgentID
	Tail int `query:"tail" default:"100" minimum:"1" maximum:"10000" doc:"Number of lines."`
}

func (s *Server) logs(ctx context.Context, who access.Principal, in *logsInput) (*reply[client.Logs], error) {
	text, err := s.Logs.Tail(ctx, accountOf(who), identity.AgentID(in.ID), in.Tail)
	if err != nil {
		return nil, err
	}
	return one(client.Logs{Logs: text}), nil
}

type followLogsInput struct {
	AgentID
	Tail int `query:"tail" default:"200" minimum:"0" maximum:"10000" doc:"Number of historical lines to include."`
}

func (s *Server) followLogs(ctx context.Context, who access.Principal, in *followLogsInput) (*huma.StreamResponse, error) {
	if _, err := s.Agents.Find(ctx, accountOf(who), identity.AgentID(in.ID)); err != nil {
		return nil, err
	}
	serve := func(ctx context.Context, out *stream) error {
		if err := out.begin(); err != nil {
			return err
		}
		return s.Logs.Follow(ctx, accountOf(who), identity.AgentID(in.ID), in.Tail, func(line string) error { return out.line([]byte(line)) })
	}
	// The stream has no word for an error: it ends, and the client asks again.
	return s.streaming(serve, func(_ *stream, err error) { _ = s.report(ctx, err) }), nil
}
