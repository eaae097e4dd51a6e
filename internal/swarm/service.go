package swarm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// Agents reads and changes which agents are in a swarm. Deleted agents are in none.
type Agents interface {
	// CountBySwarm counts an account's agents by swarm. Swarms without agents may be
	// missing.
	CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error)
	// InSwarm lists a swarm's agents, newest first.
	InSwarm(ctx context.Context, q database.Reader, account identity.AccountID, swarm identity.SwarmID) ([]AgentRow, error)
	// LeaveSwarm removes every agent from a swarm.
	LeaveSwarm(ctx context.Context, tx *database.Tx, actor identity.Actor, swarm identity.SwarmID) error
	// SwarmNeedsRestart reports whether an agent of the swarm needs a restart, for
	// example because a new key of the swarm changes which provider the agent uses.
	SwarmNeedsRestart(ctx context.Context, account identity.AccountID, swarm identity.SwarmID) (bool, error)
}

// Members are the people of swarms.
type Members interface {
	// CountBySwarm counts the people of an account's swarms. Swarms without people may be
	// missing.
	CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error)
	// SwarmCreated adds the actor, if it is a person, to the swarm that it has created.
	SwarmCreated(ctx context.Context, tx *database.Tx, actor identity.Actor, swarm identity.SwarmID) error
}

// Knowledge moves the knowledge of deleted swarms.
type Knowledge interface {
	// PassOn moves a swarm's knowledge to the agents that are in it, in many short
	// transactions. It precedes SwarmDeleted, which then has little left to do.
	PassOn(ctx context.Context, account identity.AccountID, swarm identity.SwarmID, agents []identity.AgentID) error
	// SwarmDeleted moves a swarm's knowledge to the agents that were in it.
	SwarmDeleted(ctx context.Context, tx *database.Tx, account identity.AccountID, swarm identity.SwarmID, agents []identity.AgentID) error
}

// URLChecker refuses endpoints that agents must not call.
type URLChecker interface{ CheckURL(string) error }

// Settings configure a Service. All fields are required.
type Settings struct {
	Store     *Store
	Events    *event.Log
	Vault     *vault.Vault
	Agents    Agents
	Members   Members
	Knowledge Knowledge
	URLs      URLChecker // checks the endpoints of secrets
}

// Service reads and changes swarms. A swarm of another account is not found: NotFound.
type Service struct {
	store     *Store
	events    *event.Log
	vault     *vault.Vault
	agents    Agents
	members   Members
	knowledge Knowledge
	urls      URLChecker
}

// New returns a Service.
func New(s Settings) *Service {
	return &Service{store: s.Store, events: s.Events, vault: s.Vault, agents: s.Agents, members: s.Members, knowledge: s.Knowledge, urls: s.URLs}
}

// List returns an account's swarms, newest first.
func (s *Service) List(ctx context.Context, account identity.AccountID) ([]Swarm, error) {
	all, err := list(ctx, s.store.db, account)
	if err != nil {
		return nil, err
	}
	if err := s.count(ctx, account, all); err != nil {
		return nil, err
	}
	return all, nil
}

// Get returns a swarm with its agents. Faults: NotFound.
func (s *Service) Get(ctx context.Context, account identity.AccountID, id identity.SwarmID) (Details, error) {
	sw, err := find(ctx, s.store.db, account, id)
	if err != nil {
		return Details{}, err
	}
	agents, err := s.agents.InSwarm(ctx, s.store.db, account, id)
	if err != nil {
		return Details{}, fmt.Errorf("list agents of swarm %s: %w", id, err)
	}
	members, err := s.members.CountBySwarm(ctx, s.store.db, account)
	if err != nil {
		return Details{}, err
	}
	sw.AgentCount, sw.MemberCount = len(agents), members[id]
	return Details{Swarm: sw, Agents: agents}, nil
}

// Create creates a swarm. Its slug is made from the name and never changes. If the
// actor's request has created a swarm before, Create returns that swarm.
// Faults: Invalid; Conflict, if the account has MaxSwarms; NotFound, if the swarm of an
// earlier execution was deleted. The API checks that the plan has swarms.
func (s *Service) Create(ctx context.Context, actor identity.Actor, name, description, icon string) (Swarm, error) {
	now := database.Time(database.Millis(time.Now()))
	sw := Swarm{
		ID: identity.SwarmID(uuid.Must(uuid.NewV7()).String()), AccountID: actor.AccountID, CreatedAt: now, UpdatedAt: now,
		Name: strings.TrimSpace(name), Description: strings.TrimSpace(description), Icon: strings.TrimSpace(icon),
	}
	if err := sw.validate(); err != nil {
		return Swarm{}, err
	}
	err := s.store.db.Tx(ctx, "swarm.create", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockSwarms, string(actor.AccountID)); err != nil {
			return err
		}
		if created, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok {
			sw, err = find(ctx, tx, actor.AccountID, identity.SwarmID(created.Topic.ID()))
			return err
		}
		if sw, err = insert(ctx, tx, sw); err != nil {
			return err
		}
		if err := s.appendEvent(ctx, tx, actor, sw.ID, "swarm.created", map[string]any{"name": sw.Name, "slug": sw.Slug}); err != nil {
			return err
		}
		return s.members.SwarmCreated(ctx, tx, actor, sw.ID)
	})
	if err != nil {
		return Swarm{}, err
	}
	one := []Swarm{sw}
	err = s.count(ctx, actor.AccountID, one)
	return one[0], err
}

// Update changes a swarm's name, description or icon. The slug stays as it is.
// Faults: Invalid, NotFound.
func (s *Service) Update(ctx context.Context, actor identity.Actor, id identity.SwarmID, c Changes) (Swarm, error) {
	var sw Swarm
	err := s.store.db.Tx(ctx, "swarm.update", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockSwarm, string(id)); err != nil {
			return err
		}
		if sw, err = find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		changed := sw.apply(c)
		if err := sw.validate(); err != nil || len(changed) == 0 {
			return err
		}
		sw.UpdatedAt = database.Time(database.Millis(time.Now()))
		if err := update(ctx, tx, sw); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, sw.ID, "swarm.updated", map[string]any{"fields": changed})
	})
	if err != nil {
		return Swarm{}, err
	}
	one := []Swarm{sw}
	err = s.count(ctx, actor.AccountID, one)
	return one[0], err
}

// Delete deletes a swarm with its secrets. Its agents leave the swarm and keep its
// knowledge: they have got some or all of it if Delete fails. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, id identity.SwarmID) error {
	if _, err := find(ctx, s.store.db, actor.AccountID, id); err != nil {
		return err
	}
	agents, err := s.agentsIn(ctx, s.store.db, actor.AccountID, id)
	if err != nil {
		return err
	}
	if err := s.knowledge.PassOn(ctx, actor.AccountID, id, agents); err != nil {
		return err
	}
	return s.store.db.Tx(ctx, "swarm.delete", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSwarm, string(id)); err != nil {
			return err
		}
		sw, err := find(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		if err := s.moveKnowledge(ctx, tx, actor.AccountID, id); err != nil {
			return fmt.Errorf("move the knowledge of swarm %s: %w", id, err)
		}
		if err := s.agents.LeaveSwarm(ctx, tx, actor, id); err != nil {
			return fmt.Errorf("remove the agents from swarm %s: %w", id, err)
		}
		if err := s.vault.Shred(ctx, tx, actor.AccountID, vault.OfSwarm(id)); err != nil {
			return err
		}
		if err := remove(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, id, "swarm.deleted", map[string]any{"name": sw.Name, "slug": sw.Slug})
	})
}

// moveKnowledge moves a swarm's knowledge to its agents. Call it before they leave.
func (s *Service) moveKnowledge(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.SwarmID) error {
	agents, err := s.agentsIn(ctx, tx, account, id)
	if err != nil {
		return err
	}
	return s.knowledge.SwarmDeleted(ctx, tx, account, id, agents)
}

func (s *Service) agentsIn(ctx context.Context, q database.Reader, account identity.AccountID, id identity.SwarmID) ([]identity.AgentID, error) {
	agents, err := s.agents.InSwarm(ctx, q, account, id)
	ids := make([]identity.AgentID, len(agents))
	for i := range agents {
		ids[i] = agents[i].ID
	}
	return ids, err
}

// count sets how many agents and people each swarm of an account has.
func (s *Service) count(ctx context.Context, account identity.AccountID, swarms []Swarm) error {
	agents, err := s.agents.CountBySwarm(ctx, s.store.db, account)
	if err != nil {
		return fmt.Errorf("count agents by swarm: %w", err)
	}
	members, err := s.members.CountBySwarm(ctx, s.store.db, account)
	if err != nil {
		return err
	}
	for i := range swarms {
		swarms[i].AgentCount, swarms[i].MemberCount = agents[swarms[i].ID], members[swarms[i].ID]
	}
	return nil
}

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.SwarmID, kind string, data map[string]any) error {
	return s.events.Append(ctx, tx, actor, event.Event{Topic: event.SwarmTopic(id), Kind: kind, Data: data})
}
