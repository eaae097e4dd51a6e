package dashboard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// knowledgeRoutes are the pages of knowledge: the list of all knowledge bases, and the pages
// of one, which an agent and a swarm have alike.
func (s *Server) knowledgeRoutes() []route {
	all := []route{page("GET /knowledge", has(access.KnowledgeRead), s.knowledgeBases)}
	for _, owner := range []string{"/agents/{id}", "/swarms/{id}"} {
		all = append(all,
			page("GET "+owner+"/knowledge", has(access.KnowledgeRead), s.knowledge),
			page("POST "+owner+"/knowledge/files", has(access.KnowledgeWrite), s.checkFiles),
			page("POST "+owner+"/knowledge/text", has(access.KnowledgeWrite), s.checkText),
			page("GET "+owner+"/knowledge/check/{files}", has(access.KnowledgeWrite), s.showChecked),
			page("POST "+owner+"/knowledge/check/{files}", has(access.KnowledgeWrite), s.addChecked),
			page("GET "+owner+"/knowledge/entries/{entry}", has(access.KnowledgeRead), s.knowledgeEntry),
			page("POST "+owner+"/knowledge/entries/{entry}", has(access.KnowledgeWrite), s.editEntry),
			page("POST "+owner+"/knowledge/entries/{entry}/delete", has(access.KnowledgeWrite), s.deleteEntry),
			page("POST "+owner+"/knowledge/delete", has(access.KnowledgeWrite), s.deleteSource),
			page("POST "+owner+"/knowledge/undo", has(access.KnowledgeWrite), s.undoDeletion),
		)
	}
	return all
}

// entriesPerPage and shownText keep the page below 100 KB.
const (
	entriesPerPage = 25
	shownText      = 600 // characters of an entry in a list
	sourcesShown   = 100
)

// owner is the agent or the swarm whose knowledge base a page is about.
type owner struct {
	Target client.KnowledgeTarget
	Base   string // the path of the owner, below /app
	Name   string
	Swarm  *client.SwarmDetails // whose page it is
	Agent  *client.Agent        // whose page it is
}

// Live returns the topics of the knowledge base.
func (o owner) Live() string {
	if o.Agent == nil {
		return "swarm/" + o.Target.SwarmID
	}
	topics := "agent/" + o.Agent.ID
	if o.Agent.Swarm != nil {
		topics += " swarm/" + o.Agent.Swarm.ID
	}
	return topics
}

// API returns the parameter of the API that names the owner.
func (o owner) API() string {
	if o.Agent != nil {
		return "agentId=" + o.Agent.ID
	}
	return "swarmId=" + o.Target.SwarmID
}

func (v *visit) owner() (owner, error) {
	id := v.Arg("id")
	if strings.Contains(v.row.pattern, " /swarms/") {
		w, err := v.API.Swarm(v.Context(), id)
		return owner{Target: client.KnowledgeTarget{SwarmID: w.ID}, Base: path("/swarms/%s", w.ID), Name: w.Name, Swarm: &w}, err
	}
	a, err := v.API.Agent(v.Context(), id)
	return owner{Target: client.KnowledgeTarget{AgentID: a.ID}, Base: path("/agents/%s", a.ID), Name: a.Name, Agent: &a}, err
}

// renderOwned shows a page of the knowledge of an agent or a swarm.
func (v *visit) renderOwned(name string, o owner, refused bool, title string, data any) error {
	switch {
	case o.Agent != nil && refused:
		return v.RenderAgentRefused(name, *o.Agent, title, data)
	case o.Agent != nil:
		return v.RenderAgent(name, *o.Agent, title, data)
	case refused:
		return v.RenderRefused(name, title+" · "+o.Name, data)
	}
	return v.Render(name, title+" · "+o.Name, data)
}

// shownEntry is an entry as a list shows it.
type shownEntry struct {
	client.KnowledgeEntry
	Short string
	IsCut bool
	Found *client.KnowledgeFound // by a search
}

func showEntry(e client.KnowledgeEntry, found *client.KnowledgeFound) shownEntry {
	short, isCut := cutText(e.Text, shownText)
	return shownEntry{e, short, isCut, found}
}

// Why says which search found the entry.
func (e shownEntry) Why() string {
	switch e.Found.Reason {
	case "text":
		return "by its words"
	case "vector":
		return "by its meaning"
	}
	return "by words and meaning"
}

// Similar is the similarity of an entry that was found by its meaning.
func (e shownEntry) Similar() string {
	if e.Found.Similarity == nil {
		return ""
	}
	return fmt.Sprintf("similarity %.2f", *e.Found.Similarity)
}

// cutText returns at most n characters of a text.
func cutText(text string, n int) (short string, isCut bool) {
	if utf8.RuneCountInString(text) <= n {
		return text, false
	}
	return string([]rune(text)[:n]) + "…", true
}

// knowledgePage is the data of the page of a knowledge base.
type knowledgePage struct {
	Owner   owner
	Entries []shownEntry
	Sources []client.KnowledgeSource
	More    bool // sources than are shown
	Size    client.KnowledgeBase
	Search  string
	Source  string
	Next    string
	Undo    *deletedTexts // what was just deleted
	UndoID  string
	Form    *form // of a pasted text
}

func (s *Server) knowledge(v *visit) error { return s.showKnowledge(v, newForm()) }

func (s *Server) showKnowledge(v *visit, f *form) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	p := knowledgePage{Owner: o, Search: v.Query("q"), Source: v.Query("source"), Form: f, UndoID: v.Query("undo")}
	if deleted, ok := onShelf[deletedTexts](&s.shelf, v, p.UndoID); ok {
		p.Undo = &deleted
	}
	if p.Search != "" {
		found, err := v.API.SearchKnowledge(v.Context(), o.Target, p.Search, entriesPerPage)
		if err != nil {
			return err
		}
		for i := range found {
			p.Entries = append(p.Entries, showEntry(found[i].KnowledgeEntry, &found[i]))
		}
	} else {
		list, err := v.API.Knowledge(v.Context(), o.Target, client.KnowledgeQuery{Source: p.Source, Limit: entriesPerPage, Offset: v.Query("after")})
		if err != nil {
			return err
		}
		for _, e := range list.Data {
			p.Entries = append(p.Entries, showEntry(e, nil))
		}
		p.Next = valueOf(list.Pagination.NextOffset)
	}
	sources, err := v.API.KnowledgeSources(v.Context(), o.Target, client.KnowledgeQuery{Limit: sourcesShown})
	if err != nil {
		return err
	}
	p.Sources, p.More = sources.Data, sources.Pagination.HasMore
	if p.Size, err = s.sizeOf(v, o); err != nil {
		return err
	}
	return v.renderOwned("knowledge", o, !f.Valid(), "Knowledge", p)
}

// sizeOf returns how much the knowledge base of an owner has.
func (s *Server) sizeOf(v *visit, o owner) (client.KnowledgeBase, error) {
	all, err := v.API.KnowledgeBases(v.Context())
	swarm, agent := o.Target.SwarmID, o.Target.AgentID
	if o.Agent != nil && o.Agent.Swarm != nil {
		swarm = o.Agent.Swarm.ID
	}
	for _, b := range all {
		if swarm != "" && valueOf(b.SwarmID) == swarm || swarm == "" && valueOf(b.AgentID) == agent {
			return b, err
		}
	}
	return client.KnowledgeBase{}, err
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// baseRow is a row of the list of knowledge bases.
type baseRow struct {
	Name, Path string
	Kind       string
	Entries    int
	Bytes      int64
	Note       string
}

// knowledgeBases shows all knowledge bases of the account, and who has none.
func (s *Server) knowledgeBases(v *visit) error {
	bases, err := v.API.KnowledgeBases(v.Context())
	if err != nil {
		return err
	}
	swarms, err := v.API.ListSwarms(v.Context())
	if err != nil && !isForbidden(err) {
		return err
	}
	agents, err := v.API.ListAgents(v.Context(), client.AgentQuery{})
	if err != nil && !isForbidden(err) {
		return err
	}
	p := v.page(agentsPerPage)
	rows := baseRows(bases, swarms, agents.Data)
	if search := strings.ToLower(v.Query("search")); search != "" {
		rows = slices.DeleteFunc(rows, func(r baseRow) bool { return !strings.Contains(strings.ToLower(r.Name), search) })
	}
	p.Total = len(rows)
	rows = rows[min(p.Offset(), len(rows)):p.To()]
	return v.Render("knowledgebases", "Knowledge", struct {
		Rows  []baseRow
		Pages pager
	}{rows, p})
}

// baseRows returns swarms, then agents, those with the most entries first.
func baseRows(bases []client.KnowledgeBase, swarms []client.Swarm, agents []client.AgentSummary) []baseRow {
	sizes := map[string]client.KnowledgeBase{}
	for _, b := range bases {
		sizes[cmp.Or(valueOf(b.AgentID), valueOf(b.SwarmID))] = b
	}
	var rows []baseRow
	for _, w := range swarms {
		b := sizes[w.ID]
		rows = append(rows, baseRow{Name: w.Name, Path: path("/swarms/%s/knowledge", w.ID), Kind: "swarm", Entries: b.Entries, Bytes: b.Bytes, Note: fmt.Sprintf("shared by %s", count(w.AgentCount, "agent", "agents"))})
	}
	for _, a := range agents {
		b := sizes[a.ID]
		r := baseRow{Name: a.Name, Path: path("/agents/%s/knowledge", a.ID), Kind: "agent", Entries: b.Entries, Bytes: b.Bytes}
		if a.Swarm != nil {
			r.Note = "also searches and adds to the knowledge of the swarm " + a.Swarm.Name
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(x, y baseRow) int { return cmp.Compare(y.Entries, x.Entries) })
	return rows
}

// count returns a number with what it counts.
func count(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return "1 " + one
	}
	return number(n) + " " + many
}

func isForbidden(err error) bool {
	var answered *client.Error
	return errors.As(err, &answered) && answered.Status == http.StatusForbidden
}

// metadataText returns metadata as people read it.
func metadataText(m map[string]any) string {
	text, err := json.Marshal(m)
	if err != nil || len(m) == 0 {
		return ""
	}
	return string(text)
}
