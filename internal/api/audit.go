package api

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
)

type auditInput struct {
	Target string `query:"target" doc:"Only changes of this object, such as agent/ID, swarm/ID, user/ID or key/ID."`
	Action string `query:"action" doc:"Only changes of this kind, such as agent.created."`
	Actor  string `query:"actor" doc:"Only changes by this actor: the id of a person or an API key, or agent, system, operator."`
	Since  string `query:"since" doc:"Only changes at or after this time: an ISO 8601 date or date and time, in UTC unless it has an offset." example:"2026-02-10T14:00:00.000Z"`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Maximum number of changes."`
	Offset string `query:"offset" absent:"begin with the first page" doc:"Pagination cursor from a previous response."`
}

func (s *Server) audit(ctx context.Context, who access.Principal, in *auditInput) (*cursorReply[client.AuditEvent], error) {
	since, err := parseTime("since", in.Since)
	if err != nil {
		return nil, err
	}
	before, err := parseCursor(in.Offset)
	if err != nil {
		return nil, err
	}
	found, err := s.events.List(ctx, who.AccountID, event.Filter{
		Topic: event.Topic(in.Target), Kind: in.Action, Actor: in.Actor, Since: since, Before: before, Limit: in.Limit + 1, // one more shows whether there is another page
	})
	if err != nil {
		return nil, err
	}
	var next int64
	if len(found) > in.Limit {
		found = found[:in.Limit]
		next = found[in.Limit-1].Number
	}
	people, agents, err := s.namesIn(ctx, who.AccountID, found)
	if err != nil {
		return nil, err
	}
	rows := make([]client.AuditEvent, len(found))
	for i, e := range found {
		actor, target := people[identity.UserID(e.Actor.ID)], people[identity.UserID(e.Topic.ID())]
		if strings.HasPrefix(string(e.Topic), event.AgentPrefix) {
			target = agents[identity.AgentID(e.Topic.ID())]
		}
		rows[i] = client.AuditEvent{ActorName: orNull(actor), TargetName: orNull(target), ID: strconv.FormatInt(e.Number, 10), Actor: e.Actor.String(), Action: e.Kind, Target: string(e.Topic), Data: e.Data, At: client.Time{Time: e.At}}
	}
	return cursorPage(rows, cursor(next)), nil
}

// namesIn returns what to call the people and agents of events.
func (s *Server) namesIn(ctx context.Context, account identity.AccountID, events []event.Event) (map[identity.UserID]string, map[identity.AgentID]string, error) {
	var people []identity.UserID
	agents := map[identity.AgentID]bool{}
	for _, e := range events {
		if e.Actor.Kind == identity.User {
			people = append(people, identity.UserID(e.Actor.ID))
		}
		switch {
		case strings.HasPrefix(string(e.Topic), user.TopicPrefix):
			people = append(people, identity.UserID(e.Topic.ID()))
		case strings.HasPrefix(string(e.Topic), event.AgentPrefix):
			agents[identity.AgentID(e.Topic.ID())] = true
		}
	}
	names, err := s.people.Names(ctx, people)
	if err != nil {
		return nil, nil, err
	}
	named, err := s.agents.Names(ctx, account, slices.Collect(maps.Keys(agents)))
	return names, named, err
}
