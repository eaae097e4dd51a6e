// Package workspace owns the documents that define an agent: SOUL.md, IDENTITY.md,
// WORKFLOW.md and rules/*.md. The database is the source of truth and keeps every
// version: the documents can be read while the agent is stopped, and nothing that was
// ever written is lost. Edits that an agent makes in its home are absorbed as versions.
//
// Store holds the documents, for the packages that run agents. Service is for the
// callers of the API.
package workspace

import (
	"context"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Agents connects the documents with the homes of running agents.
type Agents interface {
	// Absorb absorbs the edits that an agent has made to its documents until now. An
	// agent without a gateway has none. Faults: NotFound.
	Absorb(ctx context.Context, account identity.AccountID, agent identity.AgentID) error
	// Sync writes the current documents to the home of a running agent. It reports
	// whether the agent needs a restart nevertheless; if not, the agent's next turn uses
	// the new documents. Faults: NotFound.
	Sync(ctx context.Context, account identity.AccountID, agent identity.AgentID) (needsRestart bool, err error)
}

// Service reads and changes the documents of agents. Every method first absorbs the
// agent's own edits, so that nobody reads or replaces an outdated version. Methods that
// change a document then sync it to the agent, and return whether it needs a restart
// nevertheless. An agent of another account is not found: NotFound.
type Service struct {
	store  *Store
	agents Agents
}

// New returns a Service.
func New(store *Store, agents Agents) *Service { return &Service{store: store, agents: agents} }

// Personality is an agent's SOUL.md and IDENTITY.md.
type Personality struct {
	SoulMD        string
	SoulHash      string
	SoulUpdatedAt time.Time
	IdentityMD    string
}

// Personality returns an agent's SOUL.md and IDENTITY.md.
func (s *Service) Personality(ctx context.Context, account identity.AccountID, agent identity.AgentID) (Personality, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return Personality{}, err
	}
	soul, err := currentVersion(ctx, s.store.db, account, agent, Soul)
	if err != nil {
		return Personality{}, err
	}
	id, err := currentVersion(ctx, s.store.db, account, agent, Identity)
	if err != nil {
		return Personality{}, err
	}
	return Personality{SoulMD: soul.Content, SoulHash: soul.Hash, SoulUpdatedAt: soul.At, IdentityMD: id.Content}, nil
}

// SetSoul replaces SOUL.md. The same content again changes nothing.
// Faults: Invalid; Conflict with the detail currentHash, if expectedHash is not empty
// and is not the current hash.
func (s *Service) SetSoul(ctx context.Context, actor identity.Actor, agent identity.AgentID, soulMD, expectedHash string) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) {
		return s.store.edit(ctx, change{actor: actor, agent: agent, doc: Soul, content: soulMD}, expectedHash)
	})
}

// Procedures is an agent's WORKFLOW.md and the names of its rules.
type Procedures struct {
	WorkflowMD string
	Hash       string
	UpdatedAt  time.Time
	RuleFiles  []string // with .md, without their folder, by name
}

// Procedures returns an agent's WORKFLOW.md and the names of its rules.
func (s *Service) Procedures(ctx context.Context, account identity.AccountID, agent identity.AgentID) (Procedures, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return Procedures{}, err
	}
	workflow, err := currentVersion(ctx, s.store.db, account, agent, Workflow)
	if err != nil {
		return Procedures{}, err
	}
	rules, err := currentRules(ctx, s.store.db, account, agent)
	if err != nil {
		return Procedures{}, err
	}
	p := Procedures{WorkflowMD: workflow.Content, Hash: workflow.Hash, UpdatedAt: workflow.At, RuleFiles: []string{}}
	for _, r := range rules {
		p.RuleFiles = append(p.RuleFiles, r.Document.Rule()+suffix)
	}
	return p, nil
}

// SetWorkflow replaces WORKFLOW.md, as SetSoul replaces SOUL.md. It may be empty.
func (s *Service) SetWorkflow(ctx context.Context, actor identity.Actor, agent identity.AgentID, workflowMD, expectedHash string) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) {
		return s.store.edit(ctx, change{actor: actor, agent: agent, doc: Workflow, content: workflowMD}, expectedHash)
	})
}

// Rules lists an agent's rules by name, without content.
func (s *Service) Rules(ctx context.Context, account identity.AccountID, agent identity.AgentID) ([]Version, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return nil, err
	}
	if err := checkAgent(ctx, s.store.db, account, agent); err != nil {
		return nil, err
	}
	return currentRules(ctx, s.store.db, account, agent)
}

// Rule returns a rule with its content. The name may end with .md.
// Faults: Invalid, for an invalid name; NotFound.
func (s *Service) Rule(ctx context.Context, account identity.AccountID, agent identity.AgentID, name string) (Version, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return Version{}, err
	}
	d, err := RuleDocument(name)
	if err != nil {
		return Version{}, err
	}
	return currentRule(ctx, s.store.db, account, agent, d)
}

// PutRule creates a rule or replaces it, as SetSoul replaces SOUL.md. If expectedHash is
// not empty, the rule must exist.
// Faults: Invalid; Conflict, also if the agent has MaxRules rules already, or a rule
// whose name differs in case only.
func (s *Service) PutRule(ctx context.Context, actor identity.Actor, agent identity.AgentID, name, content, expectedHash string) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) {
		d, err := RuleDocument(name)
		if err != nil {
			return Version{}, err
		}
		return s.store.edit(ctx, change{actor: actor, agent: agent, doc: d, content: content}, expectedHash)
	})
}

// DeleteRule deletes a rule. Its versions stay and can be restored. It returns the
// version that records the deletion. Faults: Invalid, NotFound.
func (s *Service) DeleteRule(ctx context.Context, actor identity.Actor, agent identity.AgentID, name string) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) {
		d, err := RuleDocument(name)
		if err != nil {
			return Version{}, err
		}
		return s.store.deleteRule(ctx, actor, agent, d)
	})
}

// Versions lists a document's versions before the number before (0: from the newest),
// at most limit (0: DefaultPage).
// Faults: Invalid, for limits above MaxPage; NotFound, for a rule that never existed.
func (s *Service) Versions(ctx context.Context, account identity.AccountID, agent identity.AgentID, d Document, before int64, limit int) (Page, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return Page{}, err
	}
	if limit == 0 {
		limit = DefaultPage
	}
	if limit < 0 || limit > MaxPage {
		return Page{}, fault.Fields{"limit": "must be from 1 to 100"}.Err()
	}
	if err := checkDocument(ctx, s.store.db, account, agent, d); err != nil {
		return Page{}, err
	}
	found, err := listVersions(ctx, s.store.db, account, agent, d, before, limit+1)
	if err != nil || len(found) <= limit {
		return Page{Versions: found}, err
	}
	return Page{Versions: found[:limit], Next: found[limit-1].Number}, nil
}

// Version returns one version with its content. Faults: NotFound.
func (s *Service) Version(ctx context.Context, account identity.AccountID, agent identity.AgentID, d Document, number int64) (Version, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return Version{}, err
	}
	v, err := findVersion(ctx, s.store.db, account, agent, d, number)
	return v, versionNotFound(ctx, s.store.db, account, agent, d, number, err)
}

// Restore makes the content of an earlier version current again, as a new version. It
// also restores a deleted rule. Restoring the current content changes nothing.
// Faults: NotFound; Invalid, if that version records a deletion; Conflict, if the agent
// cannot have that rule again.
func (s *Service) Restore(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) { return s.store.restore(ctx, actor, agent, d, number) })
}

// change absorbs the agent's edits, calls write and syncs.
func (s *Service) change(ctx context.Context, actor identity.Actor, agent identity.AgentID, write func() (Version, error)) (v Version, needsRestart bool, err error) {
	if err := s.agents.Absorb(ctx, actor.AccountID, agent); err != nil {
		return Version{}, false, err
	}
	if v, err = write(); err != nil {
		return Version{}, false, err
	}
	needsRestart, err = s.agents.Sync(ctx, actor.AccountID, agent)
	return v, needsRestart, err
}
