package dashboard

import (
	"strconv"

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

// pager is a page of a list. The partial template "pager" shows it.
type pager struct {
	Page, Size, Total int // Page counts from 1
}

// page returns the page that the address names, of a list with size rows on each.
func (v *visit) page(size int) pager {
	n, err := strconv.Atoi(v.Query("page"))
	if err != nil {
		n = 1
	}
	return pager{Page: max(n, 1), Size: size}
}

// Offset is how many rows are before the page.
func (p pager) Offset() int { return (p.Page - 1) * p.Size }

// From and To are the numbers of the first and the last row.
func (p pager) From() int { return min(p.Offset()+1, p.Total) }

// To is the number of the last row.
func (p pager) To() int { return min(p.Offset()+p.Size, p.Total) }

// Previous and Next are the numbers of the pages around this one; empty: there is none.
func (p pager) Previous() string {
	if p.Page <= 1 {
		return ""
	}
	return strconv.Itoa(p.Page - 1)
}

// Next is the number of the next page; empty: there is none.
func (p pager) Next() string {
	if p.To() >= p.Total {
		return ""
	}
	return strconv.Itoa(p.Page + 1)
}
