package dashboard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// auditRoutes are the pages of what was changed.
func (s *Server) auditRoutes() []route {
	return []route{
		page("GET /audit", has(access.AgentsRead), s.audit),
		page("GET /agents/{id}/events", has(access.AgentsRead), s.events),
	}
}

// auditPage is the data of both.
type auditPage struct {
	Events  []auditRow
	Next    string
	Filters bool
}

// auditRow is a change in words.
type auditRow struct {
	client.AuditEvent
	Who    string
	What   string
	Thing  string // what was changed
	Link   string // its page; empty: there is none
	Detail []setting
}

func (s *Server) audit(v *visit) error {
	data, err := s.auditOf(v, v.Query("target"))
	if err != nil {
		return err
	}
	return v.Render("audit", "Audit", data)
}

func (s *Server) events(v *visit) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	data, err := s.auditOf(v, "agent/"+a.ID)
	if err != nil {
		return err
	}
	return v.RenderAgent("audit", a, "Events", data)
}

func (s *Server) auditOf(v *visit, target string) (auditPage, error) {
	q := client.AuditQuery{Target: target, Action: v.Query("action"), Actor: v.Query("actor"), Limit: 50, Offset: v.Query("after")}
	if since := v.Query("since"); since != "" {
		at, err := parseMoment(since)
		if err != nil {
			return auditPage{}, err
		}
		q.Since = &client.Time{Time: at}
	}
	found, err := v.API.Audit(v.Context(), q)
	if err != nil {
		return auditPage{}, err
	}
	data := auditPage{Filters: q.Action != "" || q.Actor != "" || q.Since != nil || v.Query("target") != ""}
	names := authors(v)
	for _, e := range found.Data {
		row := auditRow{AuditEvent: e, Who: cmp.Or(valueOf(e.ActorName), nameOf(names, e.Actor)), What: actionText(e.Action)}
		kind, id, _ := strings.Cut(e.Target, "/")
		row.Thing = cmp.Or(valueOf(e.TargetName), nameOf(names, id), kind)
		if name, ok := e.Data["name"].(string); ok && name != "" && row.Thing == id {
			row.Thing = name
		}
		row.Link = s.pageOfTarget(kind, id)
		for _, name := range slices.Sorted(maps.Keys(e.Data)) {
			row.Detail = append(row.Detail, setting{name, fmt.Sprint(e.Data[name])})
		}
		data.Events = append(data.Events, row)
	}
	if next := found.Pagination.NextOffset; next != nil {
		data.Next = *next
	}
	return data, nil
}

// actionText returns the name of a change as words: agent.secrets_updated is "agent: secrets
// updated".
func actionText(action string) string {
	kind, what, ok := strings.Cut(action, ".")
	if !ok {
		return strings.ReplaceAll(action, "_", " ")
	}
	return kind + ": " + strings.ReplaceAll(what, "_", " ")
}

// pageOfTarget returns the page of what was changed; empty if there is none.
func (s *Server) pageOfTarget(kind, id string) string {
	at := map[string]string{"agent": "/agents/%s", "swarm": "/swarms/%s", "key": "/keys/%s", "widget": "/widgets/%s"}[kind]
	switch {
	case at != "" && s.has("GET "+strings.ReplaceAll(at, "%s", "{id}")):
		return s.outside.path(path(at, id))
	case kind == "user" || kind == "invitation" || kind == "account":
		return s.outside.path("/account")
	}
	return ""
}
