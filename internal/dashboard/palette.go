package dashboard

import (
	"encoding/json"
	"slices"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// target is where the palette can go.
type target struct {
	Title string `json:"title"`
	Kind  string `json:"kind"`
	Path  string `json:"path"`
}

// maxTargets is how many targets the palette shows.
const maxTargets = 20

// palette returns the pages, agents and sessions that the words of ?q name, as JSON. After an
// agent's words can come those of one of its pages: "support logs".
func (s *Server) palette(v *visit) error {
	if err := sameAccount(v.Visitor, v.r.Header.Get(accountHeader)); err != nil {
		writeError(v.w, err)
		return nil
	}
	found, err := s.targets(v, strings.ToLower(strings.TrimSpace(v.Query("q"))))
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(found[:min(len(found), maxTargets)])
}

func (s *Server) targets(v *visit, q string) ([]target, error) {
	found := []target{}
	for _, e := range append(s.menu(v), s.personal(v)...) {
		if strings.Contains(strings.ToLower(e.Title), q) {
			found = append(found, target{e.Title, "page", e.Path})
		}
	}
	if !v.Can(access.AgentsRead) {
		return found, nil
	}
	agents, err := v.API.ListAgents(v.Context(), client.AgentQuery{Search: q, Limit: maxTargets})
	if err != nil {
		return nil, err
	}
	for i, a := range agents.Data {
		tabs := s.tabs(v, a.ID)
		if len(tabs) == 0 {
			continue
		}
		found = append(found, target{a.Name, "agent · " + stateOf(a.Status).Word, tabs[0].Path})
		if q != "" && i == 0 {
			found = append(append(found, tabTargets(a, tabs[1:], "")...), s.sessionsOf(v, a, "")...)
		}
	}
	if name, word, ok := cutLast(q); ok && len(agents.Data) == 0 {
		if agents, err = v.API.ListAgents(v.Context(), client.AgentQuery{Search: name, Limit: maxTargets}); err != nil {
			return nil, err
		}
		for i, a := range agents.Data {
			found = append(found, tabTargets(a, s.tabs(v, a.ID), word)...)
			if i == 0 {
				found = append(found, s.sessionsOf(v, a, word)...)
			}
		}
	}
	if q != "" {
		found = append(found, s.recentSessions(v, q, found)...)
	}
	return found, nil
}

// cutLast cuts the last word off.
func cutLast(q string) (before, last string, ok bool) {
	i := strings.LastIndexByte(q, ' ')
	if i < 0 {
		return "", "", false
	}
	return strings.TrimSpace(q[:i]), q[i+1:], true
}

func tabTargets(a client.AgentSummary, tabs []entry, word string) []target {
	var found []target
	for _, t := range tabs {
		if strings.Contains(strings.ToLower(t.Title), word) {
			found = append(found, target{a.Name + " · " + t.Title, "page of the agent", t.Path})
		}
	}
	return found
}

// maxSessions is how many sessions of an agent are searched.
const maxSessions = 100

// sessionsOf returns the sessions of an agent whose name, peer or id has the word.
func (s *Server) sessionsOf(v *visit, a client.AgentSummary, word string) []target {
	if !v.Can(access.Chat) || !s.has("GET /agents/{id}/chat") {
		return nil
	}
	page, err := v.API.SessionPage(v.Context(), a.ID, client.SessionQuery{Limit: maxSessions})
	if err != nil {
		return nil // the agent was just deleted, or the plan has no chat: there is nothing to go to
	}
	var found []target
	for _, c := range page.Data {
		if t := s.sessionTarget(c, a.ID, a.Name); strings.Contains(strings.ToLower(t.Title+" "+valueOf(c.PeerID)+" "+c.ID), word) {
			found = append(found, t)
		}
	}
	return found
}

// recentSessions returns the sessions of all agents whose name, peer or id has the words, without
// those that were found already.
func (s *Server) recentSessions(v *visit, words string, known []target) []target {
	if !v.Can(access.Chat) || !s.has("GET /agents/{id}/chat") {
		return nil
	}
	page, err := v.API.RecentSessions(v.Context(), client.RecentSessionQuery{Search: words, Limit: maxTargets})
	if err != nil {
		return nil // the plan has no chat: there is nothing to go to
	}
	var found []target
	for _, c := range page.Data {
		if t := s.sessionTarget(c.ChatSession, c.AgentID, c.AgentName); !slices.Contains(known, t) {
			found = append(found, t)
		}
	}
	return found
}

func (s *Server) sessionTarget(c client.ChatSession, agent, name string) target {
	peer := ""
	if c.PeerID != nil {
		peer = " · " + *c.PeerID
	}
	title := c.ID
	if c.Name != nil {
		title = *c.Name
	}
	return target{title, "session of " + name + peer, s.outside.path(path("/agents/%s/chat", agent)) + "?session=" + c.ID}
}
