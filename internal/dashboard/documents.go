package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// documentRoutes are the pages of an agent's documents.
func (s *Server) documentRoutes() []route {
	routes := []route{
		page("GET /agents/{id}/rules", has(access.AgentsRead), s.rules),
		page("POST /agents/{id}/rules", has(access.AgentsWrite), s.createRule),
		page("POST /agents/{id}/rules/{name}/delete", has(access.AgentsWrite), s.deleteRule),
	}
	for _, at := range []string{"personality", "identity", "workflow", "rules/{name}"} {
		below := "/agents/{id}/" + at
		routes = append(routes,
			page("GET "+below, has(access.AgentsRead), s.document),
			page("GET "+below+"/versions/{n}", has(access.AgentsRead), s.documentVersion),
			page("POST "+below+"/versions/{n}/restore", has(access.AgentsWrite), s.restoreVersion),
			page("POST "+below+"/versions/{n}/approve", has(access.AgentsWrite), s.approveVersion),
			page("POST "+below+"/versions/{n}/reject", has(access.AgentsWrite), s.rejectVersion),
		)
		if at != "identity" { // the agent alone writes it
			routes = append(routes, page("POST "+below, has(access.AgentsWrite), s.saveDocument))
		}
	}
	return routes
}

// document is one text of an agent, and how the API reads and writes it.
type document struct {
	Title, About string
	Path         string // of its page, below /app
	Field        string // of the form
	Max          int    // bytes
	Name         string // in the workspace
	rule         string
}

// documentOf returns the document that a request names.
func documentOf(v *visit) document {
	agent := path("/agents/%s", v.Arg("id"))
	switch name := v.Arg("name"); {
	case name != "":
		return document{Title: "Rule " + name, About: "A rule is a procedure that the agent follows in one kind of case.", Path: agent + path("/rules/%s", name), Max: 64 << 10, Name: "rules/" + name, rule: name}
	case lastOf(v.row.pattern, "/workflow"):
		return document{Title: "Workflow", About: "WORKFLOW.md: the agent's role and its procedures.", Path: agent + "/workflow", Max: 128 << 10, Name: "WORKFLOW.md"}
	case lastOf(v.row.pattern, "/identity"):
		return document{Title: "Identity", About: "IDENTITY.md: the agent's name and what it knows of itself. The agent writes it.", Path: agent + "/identity", Name: "IDENTITY.md"}
	}
	return document{Title: "Personality", About: "SOUL.md: how the agent thinks and speaks.", Path: agent + "/personality", Max: 20000, Name: "SOUL.md"}
}

// lastOf reports whether a pattern is that of a document, or below it.
func lastOf(pattern, at string) bool {
	for _, end := range []string{"", "/versions/{n}", "/versions/{n}/restore", "/versions/{n}/approve", "/versions/{n}/reject"} {
		if len(pattern) > len(at+end) && pattern[len(pattern)-len(at+end):] == at+end {
			return true
		}
	}
	return false
}

// read returns the text that the agent has now, and its hash.
func (d document) read(ctx context.Context, api *client.Client, agent string) (text, hash string, err error) {
	switch d.Name {
	case "WORKFLOW.md":
		w, err := api.Workflow(ctx, agent)
		return w.WorkflowMD, w.Hash, err
	case "SOUL.md", "IDENTITY.md":
		p, err := api.Personality(ctx, agent)
		if d.Name == "IDENTITY.md" {
			return p.IdentityMD, "", err
		}
		return p.SoulMD, p.SoulMDHash, err
	}
	r, err := api.Rule(ctx, agent, d.rule)
	return r.Content, r.Hash, err
}

// write replaces the text, if the present one has the hash; an empty hash is any.
func (d document) write(ctx context.Context, api *client.Client, agent, text, hash string) (needsRestart bool, err error) {
	switch d.Name {
	case "WORKFLOW.md":
		w, err := api.SetWorkflow(ctx, agent, client.SetWorkflowRequest{WorkflowMD: text, ExpectedHash: hash})
		return w.NeedsRestart, err
	case "SOUL.md":
		p, err := api.SetPersonality(ctx, agent, client.SetPersonalityRequest{SoulMD: text, ExpectedHash: hash})
		return p.NeedsRestart, err
	}
	r, err := api.PutRule(ctx, agent, d.rule, client.PutRuleRequest{Content: text, ExpectedHash: hash})
	return r.NeedsRestart, err
}

func (d document) versions(ctx context.Context, api *client.Client, agent, after string) (client.CursorList[client.DocumentVersion], error) {
	q := client.VersionsQuery{Limit: 30, Offset: after}
	switch d.Name {
	case "WORKFLOW.md":
		return api.WorkflowVersions(ctx, agent, q)
	case "SOUL.md":
		return api.PersonalityVersions(ctx, agent, q)
	case "IDENTITY.md":
		return api.IdentityVersions(ctx, agent, q)
	}
	return api.RuleVersions(ctx, agent, d.rule, q)
}

func (d document) version(ctx context.Context, api *client.Client, agent string, n int64) (client.DocumentVersion, error) {
	switch d.Name {
	case "WORKFLOW.md":
		return api.WorkflowVersion(ctx, agent, n)
	case "SOUL.md":
		return api.PersonalityVersion(ctx, agent, n)
	case "IDENTITY.md":
		return api.IdentityVersion(ctx, agent, n)
	}
	return api.RuleVersion(ctx, agent, d.rule, n)
}

func (d document) restore(ctx context.Context, api *client.Client, agent string, n int64) (needsRestart bool, err error) {
	switch d.Name {
	case "WORKFLOW.md":
		w, err := api.RestoreWorkflow(ctx, agent, n)
		return w.NeedsRestart, err
	case "SOUL.md":
		p, err := api.RestorePersonality(ctx, agent, n)
		return p.NeedsRestart, err
	case "IDENTITY.md":
		i, err := api.RestoreIdentity(ctx, agent, n)
		return i.NeedsRestart, err
	}
	r, err := api.RestoreRule(ctx, agent, d.rule, n)
	return r.NeedsRestart, err
}

// documentPage is the data of the page of a document.
type documentPage struct {
	Document document
	Text     string // that the agent has
	Hash     string
	Form     *form
	Theirs   []diffLine // what somebody else has changed, if the form was in conflict
	Versions []version
	Next     string
}

// version is one of the versions of a document.
type version struct {
	client.DocumentVersion
	Author string
}

// authors returns the names of people and keys by id, as far as the person may know them.
func authors(v *visit) map[string]string {
	names := map[string]string{"agent": "the agent", "system": "the server", "operator": "the operator"}
	if people, err := v.API.ListMembers(v.Context()); err == nil { // who may not know them sees ids
		for _, m := range people.Data {
			if names[m.ID] = m.Email; m.Name != nil {
				names[m.ID] = *m.Name
			}
		}
	}
	if !v.Can(access.AccountAdmin) {
		return names
	}
	if keys, err := v.API.ListKeys(v.Context(), 0, 0); err == nil { // as above
		for _, k := range keys.Data {
			names[k.ID] = "key " + k.Label
		}
	}
	return names
}

func nameOf(names map[string]string, id string) string {
	if n, ok := names[id]; ok {
		return n
	}
	return id
}

func (s *Server) document(v *visit) error { return s.showDocument(v, nil, nil) }

func (s *Server) showDocument(v *visit, f *form, theirs []diffLine) error {
	d := documentOf(v)
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	data := documentPage{Document: d, Form: f, Theirs: theirs}
	if data.Text, data.Hash, err = d.read(v.Context(), v.API, a.ID); err != nil {
		return err
	}
	if f == nil {
		data.Form = newForm("text", data.Text, "hash", data.Hash)
	}
	found, err := d.versions(v.Context(), v.API, a.ID, v.Query("after"))
	if err != nil {
		return err
	}
	names := authors(v)
	for _, one := range found.Data {
		data.Versions = append(data.Versions, version{one, nameOf(names, one.Actor)})
	}
	if next := found.Pagination.NextOffset; next != nil {
		data.Next = *next
	}
	if f != nil {
		return v.RenderAgentRefused("document", a, d.Title, data)
	}
	return v.RenderAgent("document", a, d.Title, data)
}

// saveDocument stores what was typed, unless somebody else has changed the document since it
// was opened: then it shows what has changed, and keeps what was typed.
func (s *Server) saveDocument(v *visit) error {
	d, f := documentOf(v), v.Form()
	restart, err := d.write(v.Context(), v.API, v.Arg("id"), normalizeLines(f.Raw("text")), f.Value("hash"))
	if err != nil {
		var answered *client.Error
		if errors.As(err, &answered) && answered.Status == http.StatusConflict && answered.Details["currentHash"] != "" {
			now, hash, readErr := d.read(v.Context(), v.API, v.Arg("id"))
			if readErr != nil {
				return readErr
			}
			f.values.Set("hash", hash)
			f.Error = "Somebody has changed this meanwhile, so yours was not stored. The difference is below: take over what you want to keep, and save again to replace theirs."
			return s.showDocument(v, f, diff(now, normalizeLines(f.Raw("text"))))
		}
		if f.Refused(err, map[string]string{"soulMd": "text", "workflowMd": "text", "content": "text"}) {
			return s.showDocument(v, f, nil)
		}
		return err
	}
	return v.Redirect(d.Path, saved(restart))
}

// saved returns what a page says after a change.
func saved(needsRestart bool) notice {
	if needsRestart {
		return warn("Saved. The running gateway gets the change when the agent is restarted.")
	}
	return good("Saved. The agent has it from its next message on.")
}

// versionPage is the data of the page of one version.
type versionPage struct {
	Document document
	Version  version
	Diff     []diffLine // from the version of now to this one; empty: no difference
}

func (s *Server) documentVersion(v *visit) error {
	d := documentOf(v)
	n, err := versionNumber(v)
	if err != nil {
		return err
	}
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	one, err := d.version(v.Context(), v.API, a.ID, n)
	if err != nil {
		return err
	}
	now, _, err := d.read(v.Context(), v.API, a.ID)
	if err != nil && !client.IsCode(err, "not_found") { // a rule may be deleted by now
		return err
	}
	data := versionPage{Document: d, Version: version{one, nameOf(authors(v), one.Actor)}, Diff: diff(now, valueOf(one.Content))}
	return v.RenderAgent("documentversion", a, fmt.Sprintf("%s, version %d", d.Title, n), data)
}

func versionNumber(v *visit) (int64, error) {
	n, err := strconv.ParseInt(v.Arg("n"), 10, 64)
	if err != nil {
		return 0, fault.New(fault.NotFound, "There is no such version.")
	}
	return n, nil
}

func (s *Server) restoreVersion(v *visit) error {
	n, err := versionNumber(v)
	if err != nil {
		return err
	}
	d := documentOf(v)
	restart, err := d.restore(v.Context(), v.API, v.Arg("id"), n)
	if err != nil {
		return err
	}
	return v.Redirect(d.Path, saved(restart))
}

func (s *Server) approveVersion(v *visit) error {
	n, err := versionNumber(v)
	if err != nil {
		return err
	}
	d := documentOf(v)
	if err := v.API.ApproveEdit(v.Context(), v.Arg("id"), d.Name, n); err != nil {
		return err
	}
	return v.Redirect(d.Path, good("The agent's edit was approved, and is what the agent has now."))
}

func (s *Server) rejectVersion(v *visit) error {
	n, err := versionNumber(v)
	if err != nil {
		return err
	}
	d := documentOf(v)
	if _, err := v.API.RejectEdit(v.Context(), v.Arg("id"), d.Name, n); err != nil {
		return err
	}
	return v.Redirect(d.Path, good("The agent's edit was rejected. It stays in the list of versions."))
}

// rulesPage is the data of the list of rules.
type rulesPage struct {
	Rules []client.RuleSummary
	Form  *form
}

func (s *Server) rules(v *visit) error { return s.showRules(v, nil) }

func (s *Server) showRules(v *visit, f *form) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	all, err := v.API.Rules(v.Context(), a.ID)
	if err != nil {
		return err
	}
	if f != nil {
		return v.RenderAgentRefused("rules", a, "Rules", rulesPage{all, f})
	}
	return v.RenderAgent("rules", a, "Rules", rulesPage{all, newForm()})
}

func (s *Server) createRule(v *visit) error {
	f := v.Form()
	name := f.Value("name")
	_, err := v.API.Rule(v.Context(), v.Arg("id"), name)
	switch {
	case name == "":
		f.Wrong("name", "Give the rule a name.")
		return s.showRules(v, f)
	case err == nil:
		f.Wrong("name", "There is a rule of this name already.")
		return s.showRules(v, f)
	}
	r, err := v.API.PutRule(v.Context(), v.Arg("id"), name, client.PutRuleRequest{Content: normalizeLines(f.Raw("content"))})
	if err != nil {
		if f.Refused(err) {
			return s.showRules(v, f)
		}
		return err
	}
	return v.Redirect(path("/agents/%s/rules/%s", v.Arg("id"), name), saved(r.NeedsRestart))
}

func (s *Server) deleteRule(v *visit) error {
	r, err := v.API.DeleteRule(v.Context(), v.Arg("id"), v.Arg("name"))
	if err != nil {
		return err
	}
	n := saved(r.NeedsRestart)
	n.Text = "The rule was deleted. Its versions are kept: a new rule of the same name can restore them."
	return v.Redirect(path("/agents/%s/rules", v.Arg("id")), n)
}
