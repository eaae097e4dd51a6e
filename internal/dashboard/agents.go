package dashboard

import (
	"agento.host/agento/client"
)

// agentPage is the data of the list of agents.
type agentPage struct {
	Agents   []client.AgentSummary
	Statuses []client.AgentStatus
	Pages    pager
}

// agentsPerPage keeps the page below 100 KB.
const agentsPerPage = 50

func (s *Server) agentList(v *visit) error {
	p := v.page(agentsPerPage)
	found, err := v.API.ListAgents(v.Context(), client.AgentQuery{
		Search: v.Query("search"), Status: client.AgentStatus(v.Query("status")), SwarmID: v.Query("swarm"), Limit: p.Size, Offset: p.Offset(),
	})
	if err != nil {
		return err
	}
	p.Total = found.Pagination.Total
	return v.Render("agents", "Agents", agentPage{Agents: found.Data, Statuses: client.AgentStatuses(), Pages: p})
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
