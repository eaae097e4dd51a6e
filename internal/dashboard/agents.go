package dashboard

import (
	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// agentPage is the data of the list of agents.
type agentPage struct {
	Agents   []client.AgentSummary
	Statuses []client.AgentStatus
	Swarms   []choice
	Sorts    []choice
	Pages    pager
	Filtered bool
}

// agentsPerPage keeps the page below 100 KB.
const agentsPerPage = 50

func (s *Server) agentList(v *visit) error {
	data := agentPage{Statuses: client.AgentStatuses(), Pages: v.page(agentsPerPage)}
	data.Sorts = []choice{{"", "newest first"}, {"name", "name"}, {"status", "state"}, {"model", "model"}, {"-memory", "most memory first"}, {"-lastMessage", "last message first"}, {"-cost", "highest cost first"}}
	data.Filtered = v.Query("search") != "" || v.Query("status") != "" || v.Query("swarm") != ""
	found, err := v.API.ListAgents(v.Context(), client.AgentQuery{
		Search: v.Query("search"), Status: client.AgentStatus(v.Query("status")), SwarmID: v.Query("swarm"), Sort: v.Query("sort"), Include: []string{"model", "state", "usage", "lastMessage", "memory"},
		Limit: data.Pages.Size, Offset: data.Pages.Offset(),
	})
	if err != nil {
		return err
	}
	data.Agents, data.Pages.Total = found.Data, found.Pagination.Total
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

// rowState returns the state of an agent in a list, which also knows whether it sleeps or has
// trouble.
func rowState(a client.AgentSummary) state {
	switch {
	case a.Status == client.Running && a.LastError != "":
		return state{"running, with trouble", "warn"}
	case a.Status == client.Running && a.Power != "" && a.Power != "awake":
		return state{"asleep until a message", "good"}
	}
	return stateOf(a.Status)
}
