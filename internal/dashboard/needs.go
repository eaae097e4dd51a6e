package dashboard

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// needsRoutes are the first page: what waits for a person.
func (s *Server) needsRoutes() []route {
	return []route{
		page("GET /", has(access.AgentsRead), s.needs),
		page("POST /needs/{item}/{action}", has(access.AgentsRead), s.doAction),
	}
}

// needsPage is the data of the first page.
type needsPage struct {
	Items    []waitingItem
	Total    int
	Operator []OperatorNeed // for people who are operators, too
}

// waitingItem is one thing that waits.
type waitingItem struct {
	client.AttentionItem
	Class   string // of its badge
	Word    string
	Where   string // the page of what it is about
	Actions []needAction
}

// needAction is a button that does something, or a link to the page where it is done.
type needAction struct {
	Name  string
	Link  string // empty: a form
	Index string
}

func (s *Server) needs(v *visit) error {
	found, err := v.API.Attention(v.Context(), 0)
	if err != nil {
		return err
	}
	data := needsPage{Total: found.Pagination.Total}
	for _, item := range found.Data {
		one := waitingItem{AttentionItem: item, Class: "warn", Word: kindWord(item.Kind)}
		switch item.Severity {
		case "error":
			one.Class = "bad"
		case "review":
			one.Class = "busy"
		}
		one.Where = s.pageOfItem(item)
		for i, a := range item.Actions {
			link := s.pageOfAction(item, a)
			if link == "" && (a.Input || !v.Can(access.AgentsWrite)) {
				continue // who may only look has nothing to press
			}
			one.Actions = append(one.Actions, needAction{a.Name, link, strconv.Itoa(i)})
		}
		data.Items = append(data.Items, one)
	}
	if v.Operator && s.waiting != nil {
		if data.Operator, err = s.waiting(v.Context()); err != nil {
			return err
		}
	}
	return v.Render("needs", "Needs you", data)
}

// kindWord returns what kind of thing waits.
func kindWord(kind string) string {
	words := map[string]string{
		"agent": "agent", "key": "provider key", "model": "model", "capacity": "room", "channel": "channel", "edit": "edit to approve", "plan": "plan", "skill": "skill",
	}
	if w, ok := words[kind]; ok {
		return w
	}
	return kind
}

// pageOfItem returns the page that shows what an item is about; empty if there is none.
func (s *Server) pageOfItem(item client.AttentionItem) string {
	if item.AgentID == nil {
		if item.Kind == "plan" {
			return s.outside.path("/account")
		}
		return ""
	}
	at := map[string]string{"edit": editPage(valueOf(item.Subject)), "channel": "/channels", "skill": "/skills", "key": "/secrets", "model": "/settings"}[item.Kind]
	return s.outside.path(path("/agents/%s", *item.AgentID) + at)
}

// editPage returns the page of a document below its agent.
func editPage(document string) string {
	switch document {
	case "SOUL.md":
		return "/personality"
	case "IDENTITY.md":
		return "/identity"
	case "WORKFLOW.md":
		return "/workflow"
	}
	name, _ := strings.CutPrefix(document, "rules/")
	return path("/rules/%s", strings.TrimSuffix(name, ".md"))
}

// pageOfAction returns the page on which an action that needs something typed is done.
func (s *Server) pageOfAction(item client.AttentionItem, a client.AttentionAction) string {
	if !a.Input || item.AgentID == nil {
		return ""
	}
	agent := path("/agents/%s", *item.AgentID)
	switch {
	case strings.HasSuffix(a.Path, "/secrets") && item.Kind == "channel":
		return s.outside.path(agent + "/channels")
	case strings.HasSuffix(a.Path, "/secrets"):
		return s.outside.path(agent + "/secrets")
	case a.Method == http.MethodPatch && item.Kind == "skill":
		return s.outside.path(agent + "/skills")
	case a.Method == http.MethodPatch:
		return s.outside.path(agent + "/settings")
	}
	return ""
}

// doAction does what an item offers. The item is looked up again, so that only what the API
// offers now is done, and nothing that the form says.
func (s *Server) doAction(v *visit) error {
	found, err := v.API.Attention(v.Context(), 1000)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(found.Data, func(item client.AttentionItem) bool { return item.ID == v.Arg("item") })
	n, err := strconv.Atoi(v.Arg("action"))
	if i < 0 || err != nil || n < 0 || n >= len(found.Data[i].Actions) {
		return v.Redirect("/", warn("That does not wait any more. This is what waits now."))
	}
	item, action := found.Data[i], found.Data[i].Actions[n]
	if err := act(v, item, action); err != nil {
		message, _, ok := refusal(err)
		if !ok {
			return err
		}
		return v.Redirect("/", bad(action.Name+": "+message))
	}
	return v.Redirect("/", good(action.Name+": done."))
}

func act(v *visit, item client.AttentionItem, a client.AttentionAction) (err error) {
	last := a.Path[strings.LastIndexByte(a.Path, '/')+1:]
	agent := valueOf(item.AgentID)
	switch last {
	case "start":
		_, err = v.API.BeginStart(v.Context(), agent)
	case "restart":
		_, err = v.API.BeginRestart(v.Context(), agent)
	case "stop":
		_, err = v.API.BeginStop(v.Context(), agent)
	case "dismiss":
		_, err = v.API.DismissAttention(v.Context(), item.ID)
	case "approve", "reject":
		version, e := versionOf(a.Path)
		if e != nil {
			return e
		}
		if last == "approve" {
			return v.API.ApproveEdit(v.Context(), agent, valueOf(item.Subject), version)
		}
		_, err = v.API.RejectEdit(v.Context(), agent, valueOf(item.Subject), version)
	default:
		if a.Method != http.MethodDelete || !strings.Contains(a.Path, "/skills/") {
			return fault.New(fault.Invalid, "This cannot be done here. Open the page of the agent.")
		}
		_, err = v.API.UninstallSkill(v.Context(), agent, last)
	}
	return err
}

// versionOf returns the number in …/versions/N/approve.
func versionOf(path string) (int64, error) {
	parts := strings.Split(path, "/")
	if len(parts) < 2 {
		return 0, fault.New(fault.Invalid, "The edit has no number.")
	}
	return strconv.ParseInt(parts[len(parts)-2], 10, 64)
}
