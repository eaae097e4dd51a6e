// Package workspace owns the documents that make an agent what it is: SOUL.md,
// IDENTITY.md, WORKFLOW.md and rules/*.md. The database is their truth and keeps
// every version, so that they are read while the agent is stopped and nothing
// that was ever written is lost; edits that an agent makes in its home are
// absorbed as versions too.
package workspace

import (
	"agento.host/agento/internal/identity"

	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
)

// ByAgent is the actor of a version that an agent wrote in its home.
const ByAgent = "agent"

// Service reads and changes the documents of agents. Methods that take a
// transaction belong to a change of the caller's; the others run their own. An
// agent of another account is no agent: NotFound.
type Service struct {
	DB     *database.DB
	Events *event.Log

	// Changed, if not nil, is called in the transaction of each change to what an
	// agent should hold.
	Changed func(ctx context.Context, tx *database.Tx, accountID, agentID string) error
}

// Version is one version of a document. Numbers count from 1 for each document.
type Version struct {
	Document     Document
	Number       int64
	Live         bool  // what the agent has or gets now
	Deleted      bool  // notes a deletion; there is no content
	Aside        bool  // an agent's edit that came after a newer change of the API
	RestoredFrom int64 // 0: not a restored one
	Actor        string
	At           time.Time
	Size         int64  // bytes
	Hash         string // SHA-256 of the content, in hex
	Content      string // not filled in lists
}

// Init writes the first version of a new agent's documents; an empty soulMD or
// workflowMD is replaced by a default. Faults: Invalid, as CheckNew says.
func (s *Service) Init(ctx context.Context, tx *database.Tx, accountID, agentID, actor, name, soulMD, workflowMD string) error {
	fields := fault.Fields{}
	CheckNew(fields, soulMD, workflowMD)
	if err := fields.Err(); err != nil {
		return err
	}
	first := map[Document]string{
		Soul:     orDefault(soulMD, defaultSoul),
		Identity: newIdentity(name),
		Workflow: orDefault(workflowMD, defaultWorkflow),
	}
	for doc, content := range first {
		c := change{accountID: accountID, agentID: agentID, actor: actor, doc: doc, content: content}
		if _, err := insert(ctx, tx, c); err != nil {
			return err
		}
	}
	return nil
}

// CheckNew notes in fields what is wrong with the first documents of an agent.
// Empty ones are fine: Init has defaults.
func CheckNew(fields fault.Fields, soulMD, workflowMD string) {
	if soulMD != "" {
		check(fields, Soul, soulMD)
	}
	check(fields, Workflow, workflowMD)
}

// Rename writes an agent's new name into the Name line of its IDENTITY.md.
func (s *Service) Rename(ctx context.Context, tx *database.Tx, accountID, agentID, actor, name string) error {
	c := change{accountID: accountID, agentID: agentID, actor: actor, doc: Identity}
	now, err := live(ctx, tx, accountID, agentID, Identity)
	if err != nil {
		return err
	}
	// The limit is not checked: a rename must not fail because the agent has
	// written its IDENTITY.md full.
	c.content = renamed(now.Content, name)
	_, err = s.replace(ctx, tx, now, c)
	return err
}

// DeleteAgent removes every version of an agent's documents.
func (s *Service) DeleteAgent(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	for _, table := range []string{"documents", "home_documents", "document_refusals"} {
		_, err := database.Exec(ctx, tx, `DELETE FROM `+table+` WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
		if err != nil {
			return fmt.Errorf("delete %s of agent %s: %w", table, agentID, err)
		}
	}
	return nil
}

// change is a version about to be written.
type change struct {
	accountID, agentID, actor string
	doc                       Document
	content                   string
	deleted, aside            bool
	restoredFrom              int64
}

// edit writes a version of a document, if expectedHash is empty or names what is
// live. Of rules it makes new ones too.
func (s *Service) edit(ctx context.Context, c change, expectedHash string) (Version, error) {
	fields := fault.Fields{}
	check(fields, c.doc, c.content)
	if err := fields.Err(); err != nil {
		return Version{}, err
	}
	var v Version
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		now, err := replaceable(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := expect(now, expectedHash); err != nil {
			return err
		}
		v, err = s.replace(ctx, tx, now, c)
		return err
	})
	return v, err
}

// replaceable is the version that c replaces; the zero one for a new rule.
func replaceable(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	if !c.doc.isRule() {
		return live(ctx, tx, c.accountID, c.agentID, c.doc)
	}
	now, err := rule(ctx, tx, c.accountID, c.agentID, c.doc)
	if fault.Is(err, fault.NotFound) {
		return Version{Document: c.doc}, newRule(ctx, tx, c.accountID, c.agentID, c.doc)
	}
	return now, err
}

// replace writes c over now. A document that has that content already stays as
// it is, so that a repeated request leaves no second version.
func (s *Service) replace(ctx context.Context, tx *database.Tx, now Version, c change) (Version, error) {
	if now.Live && !now.Deleted && !c.deleted && now.Hash == hashOf(c.content) {
		return now, nil
	}
	return s.write(ctx, tx, c)
}

// write makes c a version and tells of it.
func (s *Service) write(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	v, err := insert(ctx, tx, c)
	if err != nil {
		return Version{}, err
	}
	told := map[string]any{"document": string(v.Document), "version": v.Number, "hash": v.Hash}
	if v.RestoredFrom > 0 {
		told["restoredFrom"] = v.RestoredFrom
	}
	err = s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(c.accountID), c.actor), event.Event{Topic: event.Topic("agent/" + c.agentID), Kind: kind(c), Data: told})
	if err != nil || c.aside || s.Changed == nil {
		return v, err
	}
	return v, s.Changed(ctx, tx, c.accountID, c.agentID)
}

func kind(c change) string {
	switch {
	case c.aside:
		return "agent.edit_set_aside"
	case c.deleted:
		return "agent.rule_deleted"
	case c.doc.isRule():
		return "agent.rule_updated"
	case c.doc == Workflow:
		return "agent.workflow_updated"
	default:
		return "agent.personality_updated"
	}
}

// noAgent turns the absence of a document that every agent has into a fault.
func noAgent(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "There is no agent with that id. List them with GET /v1/agents.")
	}
	return err
}

func orDefault(content, standard string) string {
	if content == "" {
		return standard
	}
	return content
}
