package dashboard

import (
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// agentPage is the data of the list of agents.
type agentPage struct {
	Agents   []client.AgentSummary
	Costs    map[string]*int64 // by agent: today's, in millionths of a US dollar
	Statuses []client.AgentStatus
	Swarms   []choice
	Sorts    []choice
	Pages    pager
	Filtered bool
}

// Cost returns what an agent has cost today.
func (p agentPage) Cost(id string) string {
	micros, used := p.Costs[id]
	if !used {
		return money(int64(0))
	}
	return money(micros)
}

// agentsPerPage keeps the page below 100 KB.
const agentsPerPage = 50

func (s *Server) agentList(v *visit) error {
	data := agentPage{Statuses: client.AgentStatuses(), Pages: v.page(agentsPerPage), Costs: map[string]*int64{}}
	data.Sorts = []choice{{"", "newest first"}, {"name", "by name"}, {"lastUsed", "last used first"}}
	data.Filtered = v.Query("search") != "" || v.Query("status") != "" || v.Query("swarm") != ""
	found, err := v.API.ListAgents(v.Context(), client.AgentQuery{
		Search: v.Query("search"), Status: client.AgentStatus(v.Query("status")), SwarmID: v.Query("swarm"), Sort: v.Query("sort"), Details: true,
		Limit: data.Pages.Size, Offset: data.Pages.Offset(),
	})
	if err != nil {
		return err
	}
	data.Agents, data.Pages.Total = found.Data, found.Pagination.Total
	if err := data.addCosts(v); err != nil {
		return err
	}
	if v.Can(access.SwarmsRead) {
		swarms, err := v.API.ListSwarms(v.Context())
		if err != nil && !client.IsCode(err, "plan_limit") {
			return err
		}
		for _, one := range swarms {
			data.Swarms = append(data.Swarms, choice{one.ID, one.Name})
		}
	}
	return v.Render("agents", "Agents", data)
}

// addCosts adds what the agents of the account have cost today, of those that were used.
func (p *agentPage) addCosts(v *visit) error {
	today := client.Time{Time: time.Now().UTC().Truncate(24 * time.Hour)}
	for u, err := range v.API.AllUsage(v.Context(), client.UsageQuery{From: &today, By: "agent", Limit: maxUsageRows}) {
		if err != nil {
			return err
		}
		if u.Group != nil {
			p.Costs[*u.Group] = u.CostMicros
		}
	}
	return nil
}

// maxUsageRows is the largest page of the API's usage.
const maxUsageRows = 1000

// state is what people are told of the status of an agent.
type state struct {
	Word  string
	Class string // of the badge: good, busy, off, bad
}

// stateOf returns the state of an agent in words.
func stateOf(status client.AgentStatus) state {
	switch status {
	case client.Provisioning:
		return state{"being created", "busy"}
	case client.Starting:
		return state{"starting", "busy"}
	case client.Running:
		return state{"running", "good"}
	case client.Stopping:
		return state{"stopping", "busy"}
	case client.Stopped:
		return state{"stopped", "off"}
	case client.Errored:
		return state{"needs repair", "bad"}
	}
	return state{string(status), "off"}
}

// rowState returns the state of an agent in a list, which also knows whether it sleeps, waits
// or has trouble.
func rowState(a client.AgentSummary) state {
	d := a.Details
	switch {
	case d == nil:
	case a.Status == client.Running && d.LastError != nil:
		return state{"running, with trouble", "warn"}
	case a.Status == client.Running && d.Asleep:
		return state{"asleep until a message", "good"}
	case d.ErrorCategory != nil && *d.ErrorCategory == "capacity":
		return state{"waits for room", "warn"}
	}
	return stateOf(a.Status)
}
