// Package attention finds what waits for a person, over all agents of an account, and for the
// operator over the installation: what does not work, what will soon not work, and what somebody
// has to decide. It reads the records of other packages and keeps nothing but what was dismissed.
package attention

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill"
)

// Kind says what an item is about, and with it how a person repairs it.
type Kind string

// The kinds.
const (
	AgentFailed Kind = "agent"    // an agent does not run, or not well
	Key         Kind = "key"      // it has no key, or its provider refuses the key or its account is empty
	Model       Kind = "model"    // its model calls fail
	Capacity    Kind = "capacity" // it waits for room
	Channel     Kind = "channel"  // it is not connected to a channel
	Edit        Kind = "edit"     // its edit of a document waits for approval
	PlanLimit   Kind = "plan"     // the account comes near a limit of its plan
	Skill       Kind = "skill"    // a skill has findings, or a later version
	Backup      Kind = "backup"   // for operators: the last backup failed
	Quarantine  Kind = "quarantine"
)

// Severity says how much an item matters.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // something does not work
	Warning Severity = "warning" // something will not, or works badly
	Review  Severity = "review"  // somebody has to decide
)

var severities = []Severity{Error, Warning, Review}

// Item is something that waits for a person.
type Item struct {
	ID        string // names what it is about and its state
	Kind      Kind
	Severity  Severity
	AgentID   identity.AgentID // empty: it is about the account or the installation
	AgentName string
	Subject   string    // the document, channel, skill or limit; empty for others
	Sentence  string    // what is wrong, and what to do
	Since     time.Time // zero: not known
	Actions   []Action  // that repair it, the best first; none: the sentence says who can
}

// Action is a request that repairs an item.
type Action struct {
	Name   string // of a button
	Method string
	Path   string
	Input  bool // the request has a body that a person fills in
}

// Settings are what New needs.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Agents *agent.Service
	Access *access.Service
	Skills *skill.Service
	// Quarantined counts the homes in quarantine; nil: there is no quarantine.
	Quarantined func(context.Context) (int, error)
}

// Service finds what waits for a person.
type Service struct{ Settings }

// New returns the service.
func New(s Settings) *Service { return &Service{s} }

// List returns what waits in an account, the worst first, then the newest. It is what keys and
// people of the account may see.
func (s *Service) List(ctx context.Context, account identity.AccountID) ([]Item, error) {
	all := []Item{}
	for _, find := range []func(context.Context, identity.AccountID) ([]Item, error){s.agents, s.edits, s.limits, s.skills, s.updates} {
		found, err := find(ctx, account)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	all, err := s.withoutDismissed(ctx, account, all)
	sortItems(all)
	return all, err
}

func sortItems(all []Item) {
	slices.SortStableFunc(all, func(a, b Item) int {
		return cmp.Or(cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)), b.Since.Compare(a.Since))
	})
}

// Operator returns what waits for the operator of the installation. No key and no person of an
// account may see it.
func (s *Service) Operator(ctx context.Context) ([]Item, error) {
	all := []Item{}
	newest, good, err := backup.Last(ctx, s.DB)
	if err != nil {
		return nil, err
	}
	if newest.ID != "" && newest.ID != good.ID {
		all = append(all, backupItem(newest, good))
	}
	if s.Quarantined == nil {
		return all, nil
	}
	n, err := s.Quarantined(ctx)
	if err != nil {
		return all, err
	}
	if n > 0 {
		all = append(all, quarantineItem(n))
	}
	return all, nil
}

const (
	agentsPath = "/v1/agents/"
	dismiss    = "Dismiss"
)

func post(name, path string) Action { return Action{Name: name, Method: http.MethodPost, Path: path} }
func input(name, method, path string) Action {
	return Action{Name: name, Method: method, Path: path, Input: true}
}
