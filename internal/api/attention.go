package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/attention"
)

type attentionInput struct {
	Limit  int `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"Maximum number of items."`
	Offset int `query:"offset" minimum:"0" doc:"How many items to skip."`
}

func (s *Server) listAttention(ctx context.Context, who access.Principal, in *attentionInput) (*listReply[client.AttentionItem], error) {
	all, err := s.attention.List(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	total := len(all)
	all = all[min(in.Offset, total):min(in.Offset+in.Limit, total)]
	rows := make([]client.AttentionItem, len(all))
	for i := range all {
		rows[i] = attentionJSON(all[i])
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

type attentionID struct {
	ID string `path:"id" maxLength:"300" doc:"Id of the item." example:"skill:as_abc123:1.0.0"`
}

func (s *Server) dismissAttention(ctx context.Context, who access.Principal, in *attentionID) (*reply[client.Dismissed], error) {
	if err := s.attention.Dismiss(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.Dismissed{ID: in.ID, Dismissed: true}), nil
}

func attentionJSON(i attention.Item) client.AttentionItem {
	out := client.AttentionItem{
		ID: i.ID, Kind: string(i.Kind), Severity: string(i.Severity), AgentID: orNull(string(i.AgentID)), AgentName: orNull(i.AgentName), Subject: orNull(i.Subject),
		Sentence: i.Sentence, Since: client.NewTime(i.Since), Actions: make([]client.AttentionAction, len(i.Actions)),
	}
	for n, a := range i.Actions {
		out.Actions[n] = client.AttentionAction(a)
	}
	return out
}
