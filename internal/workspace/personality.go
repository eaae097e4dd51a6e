package workspace

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Personality is who an agent is.
type Personality struct {
	SoulMD        string
	SoulHash      string
	SoulUpdatedAt time.Time
	IdentityMD    string
}

// Procedures is what an agent does: its WORKFLOW.md and the rules it refers to.
type Procedures struct {
	WorkflowMD string
	Hash       string
	UpdatedAt  time.Time
	RuleFiles  []string // with .md, without their folder, by name
}

// Personality returns an agent's SOUL.md and IDENTITY.md.
func (s *Service) Personality(ctx context.Context, accountID, agentID string) (Personality, error) {
	soul, err := live(ctx, s.DB, accountID, agentID, Soul)
	if err != nil {
		return Personality{}, err
	}
	identity, err := live(ctx, s.DB, accountID, agentID, Identity)
	if err != nil {
		return Personality{}, err
	}
	return Personality{SoulMD: soul.Content, SoulHash: soul.Hash, SoulUpdatedAt: soul.At, IdentityMD: identity.Content}, nil
}

// SetSoul replaces SOUL.md. The same content again changes nothing.
// Faults: Invalid; Conflict with the detail currentHash, if expectedHash is given
// and is not the current one.
func (s *Service) SetSoul(ctx context.Context, accountID, agentID, actor, soulMD, expectedHash string) (Version, error) {
	return s.edit(ctx, change{accountID: accountID, agentID: agentID, actor: actor, doc: Soul, content: soulMD}, expectedHash)
}

// Procedures returns an agent's WORKFLOW.md and the names of its rules.
func (s *Service) Procedures(ctx context.Context, accountID, agentID string) (Procedures, error) {
	workflow, err := live(ctx, s.DB, accountID, agentID, Workflow)
	if err != nil {
		return Procedures{}, err
	}
	rules, err := liveRules(ctx, s.DB, accountID, agentID)
	if err != nil {
		return Procedures{}, err
	}
	p := Procedures{WorkflowMD: workflow.Content, Hash: workflow.Hash, UpdatedAt: workflow.At, RuleFiles: []string{}}
	for _, r := range rules {
		p.RuleFiles = append(p.RuleFiles, r.Document.Rule()+suffix)
	}
	return p, nil
}

// SetWorkflow replaces WORKFLOW.md, as SetSoul does SOUL.md; it may be empty.
func (s *Service) SetWorkflow(ctx context.Context, accountID, agentID, actor, workflowMD, expectedHash string) (Version, error) {
	return s.edit(ctx, change{accountID: accountID, agentID: agentID, actor: actor, doc: Workflow, content: workflowMD}, expectedHash)
}

// The bounds of a page of versions.
const (
	DefaultPage = 50
	MaxPage     = 100
)

// Page is a part of a document's history.
type Page struct {
	Versions []Version // newest first, without content
	Next     int64     // give it as before to read on; 0 at the end
}

// Versions reads a document's history from the version below before on (0: from
// the newest), limit of them (0: DefaultPage).
// Faults: Invalid, for limits above MaxPage; NotFound, for a rule that never was.
func (s *Service) Versions(ctx context.Context, accountID, agentID string, d Document, before int64, limit int) (Page, error) {
	if limit == 0 {
		limit = DefaultPage
	}
	if limit < 0 || limit > MaxPage {
		return Page{}, fault.Fields{"limit": "must be from 1 to 100"}.Err()
	}
	if _, err := liveOrNone(ctx, s.DB, accountID, agentID, d); err != nil {
		return Page{}, noDocument(ctx, s.DB, accountID, agentID, d, err)
	}
	found, err := database.All(ctx, s.DB, scanVersion,
		`SELECT `+columns+of+` AND name = $3 AND ($4 = 0 OR version < $4) ORDER BY version DESC LIMIT $5`, accountID, agentID, d, before, limit+1)
	if err != nil || len(found) <= limit {
		return Page{Versions: found}, err
	}
	return Page{Versions: found[:limit], Next: found[limit-1].Number}, nil
}

// Version returns one version with its content.
func (s *Service) Version(ctx context.Context, accountID, agentID string, d Document, number int64) (Version, error) {
	v, err := numbered(ctx, s.DB, accountID, agentID, d, number)
	return v, noVersion(ctx, s.DB, accountID, agentID, d, number, err)
}

// Restore makes the content of an earlier version the live one, as a new
// version; of a deleted rule too. What is live already stays as it is.
// Faults: NotFound; Invalid, if that version notes a deletion; Conflict, if the
// agent cannot have that rule again.
func (s *Service) Restore(ctx context.Context, accountID, agentID, actor string, d Document, number int64) (Version, error) {
	var restored Version
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		old, err := numbered(ctx, tx, accountID, agentID, d, number)
		if err := noVersion(ctx, tx, accountID, agentID, d, number, err); err != nil {
			return err
		}
		if old.Deleted {
			return fault.New(fault.Invalid, "Version %d of %s is its deletion. Restore an earlier version.", number, d)
		}
		now, err := live(ctx, tx, accountID, agentID, d)
		if err != nil {
			return err
		}
		if now.Deleted {
			if err := newRule(ctx, tx, accountID, agentID, d); err != nil {
				return err
			}
		}
		c := change{accountID: accountID, agentID: agentID, actor: actor, doc: d, content: old.Content, restoredFrom: number}
		restored, err = s.replace(ctx, tx, now, c)
		return err
	})
	return restored, err
}

// noDocument says of a missing row whether the agent or the rule is missing.
func noDocument(ctx context.Context, q database.Querier, accountID, agentID string, d Document, err error) error {
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := exist(ctx, q, accountID, agentID); err != nil {
		return err
	}
	return fault.New(fault.NotFound, "The agent has no rule named %s. GET rules lists them.", d.Rule())
}

func noVersion(ctx context.Context, q database.Querier, accountID, agentID string, d Document, number int64, err error) error {
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if _, err := liveOrNone(ctx, q, accountID, agentID, d); err != nil {
		return noDocument(ctx, q, accountID, agentID, d, err)
	}
	return fault.New(fault.NotFound, "%s has no version %d. GET versions lists them.", d, number)
}
