package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// overview is the data of the first page of an agent.
type overview struct {
	Live     *client.LiveStatus // nil: it is not known, or the agent does not run
	Steps    []step             // of a start that goes on, or has failed; empty: there is none
	Log      string             // the end of the log of a failed start
	Today    *client.Usage      // nil: nothing was used today
	Sessions []client.ChatSession
}

// step is a step of a start.
type step struct {
	Class string // done, now, failed or empty
	Text  string
}

func (s *Server) agentOverview(v *visit) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	data := overview{}
	if a.Status == client.Running {
		data.Live = reported(v, a.ID)
	}
	if data.Steps, err = bootSteps(v, a); err != nil {
		return err
	}
	if a.Status == client.Errored && v.Can(access.Logs) {
		data.Log, _ = v.API.Logs(v.Context(), a.ID, 60) // there may be none, which is no reason to show nothing
	}
	today := client.Time{Time: time.Now().UTC().Truncate(24 * time.Hour)}
	used, err := v.API.AgentUsage(v.Context(), a.ID, client.UsageQuery{From: &today, By: "day"})
	if err != nil {
		return err
	}
	if len(used.Data) > 0 {
		data.Today = &used.Data[0]
	}
	if v.Can(access.Chat) {
		page, err := v.API.SessionPage(v.Context(), a.ID, client.SessionQuery{Limit: 5})
		if err != nil && !client.IsCode(err, "plan_limit") {
			return err
		}
		data.Sessions = page.Data
	}
	return v.RenderAgent("agent", a, "Overview", data)
}

// reportTime is how long a page waits for the state of a gateway. A report is there at once; to
// examine the gateway takes longer, and nobody waits for that.
const reportTime = 10 * time.Millisecond

// reported returns what was last reported of a gateway; nil: there is no report.
func reported(v *visit, id string) *client.LiveStatus {
	ctx, cancel := context.WithTimeout(v.Context(), reportTime)
	defer cancel()
	live, err := v.API.AgentStatus(ctx, id)
	if err != nil {
		return nil
	}
	return &live
}

// bootSteps returns the steps of a start, as far as it is.
func bootSteps(v *visit, a client.Agent) ([]step, error) {
	starting := a.Status == client.Provisioning || a.Status == client.Starting
	if !starting && a.Status != client.Errored {
		return nil, nil
	}
	placed, err := v.API.Audit(v.Context(), client.AuditQuery{Target: "agent/" + a.ID, Action: "agent.placed", Limit: 1})
	if err != nil {
		return nil, err
	}
	at := min(len(placed.Data), 1)
	texts := []string{"A place with room for it is chosen", "Its files are written, and its gateway boots: 15 to 30 seconds", "It answers"}
	if a.ErrorCategory != nil && *a.ErrorCategory == "capacity" {
		at = 0
		texts[0] = "It waits for room: it starts by itself when another agent stops"
	}
	steps := make([]step, len(texts))
	for i, text := range texts {
		steps[i].Text = text
		switch {
		case i < at:
			steps[i].Class = "done"
		case i == at && starting:
			steps[i].Class = "now"
		case i == at:
			steps[i].Class = "failed"
		}
	}
	return steps, nil
}

func (s *Server) startAgent(v *visit) error {
	_, err := v.API.BeginStart(v.Context(), v.Arg("id"))
	return v.backToAgent(err, "")
}

func (s *Server) restartAgent(v *visit) error {
	_, err := v.API.BeginRestart(v.Context(), v.Arg("id"))
	return v.backToAgent(err, "")
}

func (s *Server) stopAgent(v *visit) error {
	_, err := v.API.BeginStop(v.Context(), v.Arg("id"))
	return v.backToAgent(err, "")
}

// backToAgent ends a form of an agent: its page shows what happens, or why nothing does.
func (v *visit) backToAgent(err error, done string) error {
	var f form
	to := path("/agents/%s", v.Arg("id"))
	if err != nil {
		if f = (form{errors: map[string]string{}}); !f.Refused(err) {
			return err
		}
		return v.Redirect(to, bad(f.Error))
	}
	return v.Redirect(to, good(done))
}

func (s *Server) deleteAgent(v *visit) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	if v.Form().Value("typed") != a.Name {
		return v.Redirect(path("/agents/%s", a.ID), bad("Nothing was deleted: what you typed is not the name of the agent."))
	}
	if _, err := v.API.DeleteAgent(v.Context(), a.ID); err != nil {
		return v.backToAgent(err, "")
	}
	return v.Redirect("/agents", good("The agent "+a.Name+" is deleted."))
}

// changeAgents starts or stops the agents that were chosen in the list.
func (s *Server) changeAgents(v *visit) error {
	f := v.Form()
	ids := f.All("agent")
	if len(ids) > agentsPerPage {
		ids = ids[:agentsPerPage]
	}
	done, failed := 0, []error{}
	for _, id := range ids {
		var err error
		if f.Value("do") == "stop" {
			_, err = v.API.BeginStop(v.Context(), id)
		} else {
			_, err = v.API.BeginStart(v.Context(), id)
		}
		if err == nil {
			done++
			continue
		}
		failed = append(failed, err)
	}
	back := "/agents"
	if query, err := url.ParseQuery(v.Query("back")); err == nil && len(query) > 0 {
		back += "?" + query.Encode()
	}
	return v.Redirect(back, bulkNotice(f.Value("do"), done, failed))
}

func bulkNotice(what string, done int, failed []error) notice {
	verb := "start"
	if what == "stop" {
		verb = "stop"
	}
	switch {
	case done+len(failed) == 0:
		return warn("Choose agents first: each row has a box.")
	case len(failed) == 0:
		return good(fmt.Sprintf("%s %s now.", agentCount(done), verb))
	}
	var answered *client.Error
	why := "the server's log has the reason"
	if errors.As(failed[0], &answered) && answered.Status != http.StatusInternalServerError {
		why = answered.Message
	}
	return bad(fmt.Sprintf("%s %s now; %s could not: %s", agentCount(done), verb, agentCount(len(failed)), why))
}

func agentCount(n int) string {
	if n == 1 {
		return "1 agent"
	}
	return fmt.Sprintf("%d agents", n)
}
