package dashboard

import "strings"

// entry is a link of the menu, or a tab.
type entry struct {
	Title, Path string
	Current     bool
}

// menu returns the entries that the person can use. One appears when its route is in the
// table.
func (s *Server) menu(v *visit) []entry {
	return s.entries(v, "", [][2]string{
		{"Needs you", "/"},
		{"Agents", "/agents"},
		{"Knowledge", "/knowledge"},
		{"Skills", "/skills"},
		{"Swarms", "/swarms"},
		{"API keys", "/keys"},
		{"Chat widgets", "/widgets"},
		{"Usage", "/usage"},
		{"Audit", "/audit"},
		{"Account", "/account"},
		{"Operator", "/operator"},
	})
}

// personal returns the entries of the person in the top bar.
func (s *Server) personal(v *visit) []entry {
	return s.entries(v, "", [][2]string{
		{"Profile", "/profile"},
		{"Change account", "/accounts"},
	})
}

// tabs returns the pages of an agent that the person can use.
func (s *Server) tabs(v *visit, agent string) []entry {
	return s.entries(v, agent, [][2]string{
		{"Overview", "/agents/{id}"},
		{"Chat", "/agents/{id}/chat"},
		{"Logs", "/agents/{id}/logs"},
		{"Personality", "/agents/{id}/personality"},
		{"Workflow", "/agents/{id}/workflow"},
		{"Rules", "/agents/{id}/rules"},
		{"Skills", "/agents/{id}/skills"},
		{"Knowledge", "/agents/{id}/knowledge"},
		{"Secrets", "/agents/{id}/secrets"},
		{"Channels", "/agents/{id}/channels"},
		{"Network", "/agents/{id}/network"},
		{"Usage", "/agents/{id}/usage"},
		{"Events", "/agents/{id}/events"},
		{"Settings", "/agents/{id}/settings"},
	})
}

// entries returns those of titles and paths that have a route whose need the person meets.
// The current one is that of the page, or the one whose path the page is below.
func (s *Server) entries(v *visit, id string, listed [][2]string) []entry {
	var found []entry
	current := -1
	for _, e := range listed {
		if !s.has("GET "+e[1]) || !s.needOf("GET "+e[1]).met(v.Visitor) {
			continue
		}
		at := strings.ReplaceAll(e[1], "{id}", id)
		found = append(found, entry{Title: e[0], Path: s.outside.path(at)})
		if below := v.r.URL.Path; below == at || at != "/" && strings.HasPrefix(below, at+"/") && (current < 0 || len(found[current].Path) < len(s.outside.path(at))) {
			current = len(found) - 1
		}
	}
	if current >= 0 {
		found[current].Current = true
	}
	return found
}
