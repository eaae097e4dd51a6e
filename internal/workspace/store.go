package workspace

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// Store stores the documents of agents. Methods that take a transaction are part of
// the caller's change; the others run their own transaction. An agent of another
// account is not found: NotFound.
//
// When the content that an agent's home should hold has changed, the Store notifies
// event.ReconcileTopic after the commit.
type Store struct {
	db     *database.DB
	events *event.Log
	vault  *vault.Vault // seals the contents
	quota  Quota        // nil: no limit
}

// Quota limits what accounts store.
type Quota interface {
	// CheckStorage returns nil if the account may store so many bytes more.
	// Faults: PlanLimit.
	CheckStorage(ctx context.Context, q database.Reader, account identity.AccountID, more int64) error
}

// LimitStorage makes the versions of documents count against a quota. Call it before
// anything else.
func (s *Store) LimitStorage(q Quota) { s.quota = q }

func (s *Store) checkQuota(ctx context.Context, tx *database.Tx, account identity.AccountID, more int) error {
	if s.quota == nil {
		return nil
	}
	return s.quota.CheckStorage(ctx, tx, account, int64(more))
}

// NewStore returns a Store.
func NewStore(db *database.DB, events *event.Log, v *vault.Vault) *Store {
	return &Store{db: db, events: events, vault: v}
}

// NewRule is a rule of a new agent. It is valid: it comes from a starter.
type NewRule struct{ Name, Content string }

// Init writes the first version of a new agent's documents. An empty soulMD or
// workflowMD is replaced by a default. The agent's data key must exist. Faults: Invalid, as CheckNew reports.
func (s *Store) Init(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, name, soulMD, workflowMD string, rules []NewRule) error {
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
	for _, r := range rules {
		d, err := RuleDocument(r.Name)
		if err != nil {
			return err
		}
		first[d] = r.Content
	}
	for doc, content := range first {
		if _, err := s.insertVersion(ctx, tx, change{actor: actor, agent: agent, doc: doc, content: content}); err != nil {
			return err
		}
	}
	return nil
}

// CheckNew adds to fields what is wrong with the first documents of an agent. They may
// be empty: Init has defaults.
func CheckNew(fields fault.Fields, soulMD, workflowMD string) {
	if soulMD != "" {
		checkContent(fields, Soul, soulMD)
	}
	checkContent(fields, Workflow, workflowMD)
}

// Rename writes an agent's new name into the Name line of its IDENTITY.md.
func (s *Store) Rename(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, name string) error {
	current, err := s.currentVersion(ctx, tx, actor.AccountID, agent, Identity)
	if err != nil {
		return err
	}
	// The length is not checked: a rename must not fail because the agent has written an
	// IDENTITY.md of the maximum length.
	content := renamed(current.Content, name)
	if current.unreadable {
		content = newIdentity(name)
	}
	_, err = s.replace(ctx, tx, current, change{actor: actor, agent: agent, doc: Identity, content: content})
	return err
}

// DeleteAgent deletes every version of an agent's documents.
func (s *Store) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	for _, table := range []string{"document_reviews", "documents", "home_documents", "document_refusals"} {
		_, err := database.Exec(ctx, tx, `DELETE FROM `+table+` WHERE account_id = $1 AND agent_id = $2`, actor.AccountID, agent)
		if err != nil {
			return fmt.Errorf("delete %s of agent %s: %w", table, agent, err)
		}
	}
	return nil
}

// change is a version to be written.
type change struct {
	actor             identity.Actor // of the agent's account
	agent             identity.AgentID
	doc               Document
	content           string
	deleted, setAside bool
	proposed          bool // a version that is set aside to wait for approval
	restoredFrom      int64
	number            int64     // of a version of an archive; 0: the next
	at                time.Time // of a version of an archive; zero: now
}

// edit writes a version of a document, if expectedHash is empty or the hash of the
// current version. It also creates rules.
func (s *Store) edit(ctx context.Context, c change, expectedHash string) (Version, error) {
	fields := fault.Fields{}
	checkContent(fields, c.doc, c.content)
	if err := fields.Err(); err != nil {
		return Version{}, err
	}
	var v Version
	err := s.db.Tx(ctx, "workspace.edit", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockDocuments, string(c.agent)); err != nil {
			return err
		}
		current, err := s.versionToReplace(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := checkExpectedHash(current, expectedHash); err != nil {
			return err
		}
		if err := s.checkQuota(ctx, tx, c.actor.AccountID, len(c.content)); err != nil {
			return err
		}
		v, err = s.replace(ctx, tx, current, c)
		return err
	})
	return v, err
}

// versionToReplace returns the version that c replaces, without number for a new rule.
func (s *Store) versionToReplace(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	if !c.doc.isRule() {
		return s.currentVersion(ctx, tx, c.actor.AccountID, c.agent, c.doc)
	}
	current, err := s.currentRule(ctx, tx, c.actor.AccountID, c.agent, c.doc)
	if fault.Is(err, fault.NotFound) {
		return Version{Document: c.doc}, checkNewRule(ctx, tx, c.actor.AccountID, c.agent, c.doc)
	}
	return current, err
}

// replace writes c in place of the current version. If that has the same content, it
// stays as it is, so that a repeated request creates no second version.
func (s *Store) replace(ctx context.Context, tx *database.Tx, current Version, c change) (Version, error) {
	if current.Current && !current.unreadable && !current.Deleted && !c.deleted && current.Hash == hashOf(c.content) {
		return current, nil
	}
	return s.write(ctx, tx, c)
}

// write inserts c as a version, appends an event and notifies the agent's reconciler.
func (s *Store) write(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	v, err := s.insertVersion(ctx, tx, c)
	if err != nil {
		return Version{}, err
	}
	data := map[string]any{"document": string(v.Document), "version": v.Number, "hash": v.Hash}
	if v.RestoredFrom > 0 {
		data["restoredFrom"] = v.RestoredFrom
	}
	if !c.setAside {
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(c.agent))
	}
	return v, s.events.Append(ctx, tx, c.actor, event.Event{Topic: event.AgentTopic(c.agent), Kind: eventKind(c), Data: data})
}

func eventKind(c change) string {
	switch {
	case c.proposed:
		return "agent.edit_proposed"
	case c.setAside:
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

// deleteRule writes the deletion of a rule as a version.
func (s *Store) deleteRule(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document) (v Version, err error) {
	err = s.db.Tx(ctx, "workspace.delete_rule", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockDocuments, string(agent)); err != nil {
			return err
		}
		if _, err := s.currentRule(ctx, tx, actor.AccountID, agent, d); err != nil {
			return err
		}
		v, err = s.write(ctx, tx, change{actor: actor, agent: agent, doc: d, deleted: true})
		return err
	})
	return v, err
}

// restore writes the content of an earlier version as a new version.
func (s *Store) restore(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (restored Version, err error) {
	account := actor.AccountID
	err = s.db.Tx(ctx, "workspace.restore", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockDocuments, string(agent)); err != nil {
			return err
		}
		old, err := s.findVersion(ctx, tx, account, agent, d, number)
		if err := s.versionNotFound(ctx, tx, account, agent, d, number, err); err != nil {
			return err
		}
		if old.Deleted {
			return fault.New(fault.Invalid, "Version %d of %s is its deletion. Restore an earlier version.", number, d)
		}
		if err := old.checkReadable(); err != nil {
			return err
		}
		current, err := s.versionToRestoreOver(ctx, tx, account, agent, d)
		if err != nil {
			return err
		}
		if old.Review == Pending {
			if err := s.saveReview(ctx, tx, actor, agent, old, Approved); err != nil {
				return err
			}
		}
		if err := s.checkQuota(ctx, tx, account, len(old.Content)); err != nil {
			return err
		}
		restored, err = s.replace(ctx, tx, current, change{actor: actor, agent: agent, doc: d, content: old.Content, restoredFrom: number})
		return err
	})
	return restored, err
}
