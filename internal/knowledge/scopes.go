package knowledge

import (
	"context"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Scope identifies one knowledge base. An agent and a swarm each have at most one.
// Entries of one scope are never compared with those of another.
type Scope struct {
	kind scopeKind
	id   string
}

type scopeKind string

const (
	agentKind scopeKind = "agent"
	swarmKind scopeKind = "swarm"
)

// AgentScope returns the scope of an agent's own knowledge.
func AgentScope(id identity.AgentID) Scope { return Scope{agentKind, string(id)} }

// SwarmScope returns the scope of a swarm's knowledge.
func SwarmScope(id identity.SwarmID) Scope { return Scope{swarmKind, string(id)} }

// topic returns the topic of the scope's agent or swarm.
func (s Scope) topic() event.Topic {
	if s.kind == swarmKind {
		return event.SwarmTopic(identity.SwarmID(s.id))
	}
	return event.AgentTopic(identity.AgentID(s.id))
}

// Target names the agent or the swarm that a request is about. Exactly one id is set.
type Target struct {
	AgentID identity.AgentID
	SwarmID identity.SwarmID

	imported bool // see ImportTarget
}

// Agents reads the records of agents.
type Agents interface {
	// SwarmOf returns the swarm that an agent is in, or "" if it is in none.
	// Faults: NotFound.
	SwarmOf(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (identity.SwarmID, error)
	// CheckStaged returns nil if an agent is being imported. Faults: NotFound.
	CheckStaged(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) error
}

// Swarms reads the records of swarms.
type Swarms interface {
	// Exists returns nil if the account has the swarm. Faults: NotFound.
	Exists(ctx context.Context, q database.Reader, account identity.AccountID, swarm identity.SwarmID) error
}

// Scopes finds the scope of a target in the records of agents and swarms.
type Scopes struct {
	db     *database.DB
	agents Agents
	swarms Swarms
}

// NewScopes returns a Scopes that reads the given records.
func NewScopes(db *database.DB, agents Agents, swarms Swarms) Scopes {
	return Scopes{db, agents, swarms}
}

// Resolve returns the scope that a target's knowledge is stored in: for a swarm its
// own, for an agent that of its swarm, or its own if it is in none.
// Faults: Invalid, if not exactly one id is set; NotFound.
func (s Scopes) Resolve(ctx context.Context, account identity.AccountID, t Target) (Scope, error) {
	if (t.AgentID == "") == (t.SwarmID == "") {
		return Scope{}, fault.New(fault.Invalid, "Give either swarmId or agentId, and not both.")
	}
	if t.imported {
		return AgentScope(t.AgentID), s.agents.CheckStaged(ctx, s.db, account, t.AgentID)
	}
	if t.SwarmID != "" {
		return SwarmScope(t.SwarmID), s.swarms.Exists(ctx, s.db, account, t.SwarmID)
	}
	swarm, err := s.agents.SwarmOf(ctx, s.db, account, t.AgentID)
	if err == nil && swarm != "" {
		return SwarmScope(swarm), nil
	}
	return AgentScope(t.AgentID), err
}
