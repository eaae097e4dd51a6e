// Package swarm owns swarms: agents of one account that share a knowledge base
// and provider credentials. Which agents belong to one is the agents' own
// record; this room asks for it through Members.
package swarm

import (
	"agento.host/agento/internal/identity"

	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// Service reads and changes swarms. Methods that take a transaction belong to a
// change of the caller's; the others run their own. A swarm of another account
// is no swarm: NotFound. All fields but OnDelete are needed.
type Service struct {
	DB      *database.DB
	Events  *event.Log
	Members Members
	Secrets Secrets

	// Allows fails with PlanLimit if the account's plan has no swarms.
	Allows func(ctx context.Context, accountID string) error

	// OnDelete, if not nil, settles what happens to a swarm's knowledge. It runs
	// in the deletion's transaction, while the agents are still in the swarm.
	OnDelete func(ctx context.Context, tx *database.Tx, accountID, swarmID string) error
}

// Members knows which agents are in a swarm; deleted agents are in none.
type Members interface {
	// CountBySwarm counts agents by swarm id; a swarm without agents may be absent.
	CountBySwarm(ctx context.Context, q database.Querier, accountID string) (map[string]int, error)
	// InSwarm lists a swarm's agents in the order in which they are shown.
	InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]AgentRow, error)
	// LeaveSwarm takes every agent out of a swarm.
	LeaveSwarm(ctx context.Context, tx *database.Tx, accountID, swarmID, actor string) error
}

// Secrets keeps a swarm's credentials under its id. *vault.Vault is one.
type Secrets interface {
	Put(ctx context.Context, tx *database.Tx, accountID, ownerID string, secrets map[string]vault.Secret) error
	Delete(ctx context.Context, tx *database.Tx, accountID, ownerID string, names ...string) error
	Names(ctx context.Context, q database.Querier, accountID, ownerID string) ([]string, error)
	Shred(ctx context.Context, tx *database.Tx, accountID, ownerID string) error
}

// AgentRow is an agent as its swarm shows it.
type AgentRow struct {
	ID, Name, Status string
	CreatedAt        time.Time
}

// Swarm is a group of agents. An empty Description or Icon is none.
type Swarm struct {
	ID, AccountID           string
	Name, Slug              string
	Description, Icon       string
	AgentCount, MemberCount int
	CreatedAt, UpdatedAt    time.Time
}

// Details is a swarm with its agents.
type Details struct {
	Swarm
	Agents []AgentRow
}

// Changes are what an update replaces; nil leaves as is. An empty Description or
// Icon clears it.
type Changes struct {
	Name, Description, Icon *string
}

// The limits of swarms, in characters, and how many an account may have: the
// list is not paged.
const (
	MaxName        = 100
	MaxDescription = 500
	MaxIcon        = 64
	MaxSwarms      = 1000
)

// members is how many people an account has. It has no members besides its
// owner: API keys are machines.
const members = 1

// List returns an account's swarms, newest first.
func (s *Service) List(ctx context.Context, accountID string) ([]Swarm, error) {
	all, err := list(ctx, s.DB, accountID)
	if err != nil {
		return nil, err
	}
	counts, err := s.Members.CountBySwarm(ctx, s.DB, accountID)
	if err != nil {
		return nil, fmt.Errorf("count agents by swarm: %w", err)
	}
	for i := range all {
		all[i].AgentCount = counts[all[i].ID]
	}
	return all, nil
}

// Get returns a swarm with its agents.
func (s *Service) Get(ctx context.Context, accountID, id string) (Details, error) {
	w, err := find(ctx, s.DB, accountID, id)
	if err != nil {
		return Details{}, err
	}
	agents, err := s.Members.InSwarm(ctx, s.DB, accountID, id)
	if err != nil {
		return Details{}, fmt.Errorf("list agents of swarm %s: %w", id, err)
	}
	w.AgentCount = len(agents)
	return Details{Swarm: w, Agents: agents}, nil
}

// Exists fails with NotFound if the account has no such swarm. Give it the
// transaction in which an agent joins.
func (s *Service) Exists(ctx context.Context, q database.Querier, account identity.AccountID, id identity.SwarmID) error {
	_, err := find(ctx, q, string(account), string(id))
	return err
}

// Names returns every swarm of an account by id, without counts: what agents
// show of the swarm they are in.
func (s *Service) Names(ctx context.Context, q database.Querier, accountID string) (map[string]Swarm, error) {
	all, err := list(ctx, q, accountID)
	byID := make(map[string]Swarm, len(all))
	for _, w := range all {
		byID[w.ID] = w
	}
	return byID, err
}

// Create makes a swarm; its slug comes from the name and never changes.
// Faults: Invalid; PlanLimit; Conflict, if the account has MaxSwarms.
func (s *Service) Create(ctx context.Context, accountID, actor, name, description, icon string) (Swarm, error) {
	if err := s.Allows(ctx, accountID); err != nil {
		return Swarm{}, err
	}
	now := database.Time(database.Millis(time.Now()))
	w := Swarm{
		ID: uuid.Must(uuid.NewV7()).String(), AccountID: accountID, MemberCount: members, CreatedAt: now, UpdatedAt: now,
		Name: strings.TrimSpace(name), Description: strings.TrimSpace(description), Icon: strings.TrimSpace(icon),
	}
	if err := w.validate(); err != nil {
		return Swarm{}, err
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if w, err = insert(ctx, tx, w); err != nil {
			return err
		}
		return s.tell(ctx, tx, w, "swarm.created", actor, map[string]any{"name": w.Name, "slug": w.Slug})
	})
	return w, err
}

// Update changes a swarm's name, description or icon; the slug stays.
// Faults: Invalid, NotFound.
func (s *Service) Update(ctx context.Context, accountID, actor, id string, c Changes) (Swarm, error) {
	var w Swarm
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if w, err = find(ctx, tx, accountID, id); err != nil {
			return err
		}
		changed := w.apply(c)
		if err := w.validate(); err != nil || len(changed) == 0 {
			return err
		}
		w.UpdatedAt = database.Time(database.Millis(time.Now()))
		if err := update(ctx, tx, w); err != nil {
			return err
		}
		return s.tell(ctx, tx, w, "swarm.updated", actor, map[string]any{"fields": changed})
	})
	if err != nil {
		return Swarm{}, err
	}
	counts, err := s.Members.CountBySwarm(ctx, s.DB, accountID)
	if err != nil {
		return Swarm{}, fmt.Errorf("count agents by swarm: %w", err)
	}
	w.AgentCount = counts[id]
	return w, nil
}

// Delete takes the agents out of a swarm, which stay as they are otherwise, and
// removes it with its credentials. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, accountID, actor, id string) error {
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		w, err := find(ctx, tx, accountID, id)
		if err != nil {
			return err
		}
		if s.OnDelete != nil {
			if err := s.OnDelete(ctx, tx, accountID, id); err != nil {
				return fmt.Errorf("settle the knowledge of swarm %s: %w", id, err)
			}
		}
		if err := s.Members.LeaveSwarm(ctx, tx, accountID, id, actor); err != nil {
			return fmt.Errorf("take the agents out of swarm %s: %w", id, err)
		}
		if err := s.Secrets.Shred(ctx, tx, accountID, id); err != nil {
			return err
		}
		if err := remove(ctx, tx, accountID, id); err != nil {
			return err
		}
		return s.tell(ctx, tx, w, "swarm.deleted", actor, map[string]any{"name": w.Name, "slug": w.Slug})
	})
}

func (s *Service) tell(ctx context.Context, tx *database.Tx, w Swarm, kind, actor string, data map[string]any) error {
	return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(w.AccountID), actor), event.Event{Topic: event.Topic("swarm/" + w.ID), Kind: kind, Data: data})
}

// apply puts changes in and names the fields that are now different.
func (w *Swarm) apply(c Changes) []string {
	changed := []string{}
	for _, f := range []struct {
		name string
		to   *string
		at   *string
	}{{"name", c.Name, &w.Name}, {"description", c.Description, &w.Description}, {"icon", c.Icon, &w.Icon}} {
		if f.to == nil {
			continue
		}
		if v := strings.TrimSpace(*f.to); v != *f.at {
			*f.at = v
			changed = append(changed, f.name)
		}
	}
	return changed
}

func (w *Swarm) validate() error {
	fields := fault.Fields{}
	if w.Name == "" {
		fields.Add("name", "must have 1 to %d characters", MaxName)
	}
	checkText(fields, "name", w.Name, MaxName, false)
	checkText(fields, "description", w.Description, MaxDescription, true)
	checkText(fields, "icon", w.Icon, MaxIcon, false)
	return fields.Err()
}

func checkText(fields fault.Fields, field, text string, limit int, lines bool) {
	switch {
	case !utf8.ValidString(text):
		fields.Add(field, "must be valid UTF-8")
	case utf8.RuneCountInString(text) > limit:
		fields.Add(field, "must have at most %d characters", limit)
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && (!lines || !strings.ContainsRune("\n\r\t", r)) }):
		fields.Add(field, "must not contain control characters")
	}
}

// noSwarm turns the absence of a row into a fault.
func noSwarm(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "There is no swarm with that id. List them with GET /v1/swarms.")
	}
	return err
}
