package workspace

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// SelfEdit says what happens with an agent's edits of its own documents.
type SelfEdit string

// The values of SelfEdit.
const (
	SelfEditOn     SelfEdit = "on"     // they become the current versions
	SelfEditReview SelfEdit = "review" // they become versions that wait for approval
	SelfEditOff    SelfEdit = "off"    // they are refused
)

// Review is the state of the review of an agent's edit.
type Review string

// The states of a review.
const (
	NoReview Review = "" // the version needed none
	Pending  Review = "pending"
	Approved Review = "approved"
	Rejected Review = "rejected"
)

// MaxPending is how many edits of an agent can wait for approval.
const MaxPending = 100

// withhold stores an edit that must not become current as a version that waits for
// approval, or refuses it, as a.selfEdit says. The home gets the current version again.
func (a *absorption) withhold(ctx context.Context, e edit, current Version) error {
	switch {
	case e.invalid:
	case a.selfEdit == SelfEditReview:
		if err := a.propose(ctx, e, current); err != nil {
			return err
		}
	default:
		a.refuse(e, "config.selfEdit is off")
	}
	a.events.NotifyAfterCommit(a.tx, event.ReconcileTopic(a.agent))
	// The hash is not that of the current version, so that Pending lists the document.
	return saveHomeDocument(ctx, a.tx, a.account, a.agent, homeDocument{doc: e.doc, version: e.before.version, hash: e.hash})
}

func (a *absorption) refuse(e edit, reason string) {
	a.result.Refused = append(a.result.Refused, Refusal{Path: string(e.doc), Reason: reason})
}

// propose stores an edit as a version that waits for approval, unless the same edit waits
// already or was rejected.
func (a *absorption) propose(ctx context.Context, e edit, current Version) error {
	known, err := database.One(ctx, a.tx, database.Scalar[int],
		`SELECT COUNT(*) FROM document_reviews r JOIN documents d USING (account_id, agent_id, name, version)
		 WHERE r.account_id = $1 AND r.agent_id = $2 AND r.name = $3 AND d.hash = $4 AND r.state IN ($5, $6)`,
		a.account, a.agent, e.doc, e.hash, Pending, Rejected)
	if err != nil || known > 0 {
		return err
	}
	waiting, err := database.One(ctx, a.tx, database.Scalar[int],
		`SELECT COUNT(*) FROM document_reviews WHERE account_id = $1 AND agent_id = $2 AND state = $3`, a.account, a.agent, Pending)
	if err != nil {
		return err
	}
	if waiting >= MaxPending {
		a.refuse(e, fmt.Sprintf("%d edits wait for approval already", waiting))
		return nil
	}
	base := ""
	if current.Number == 0 || current.Deleted {
		var f *fault.Fault
		if err := checkAddRule(a.rules, e.doc); errors.As(err, &f) {
			a.refuse(e, f.Message)
			return nil
		}
	} else if base, err = a.baseOf(ctx, e, current); err != nil {
		return err
	}
	c := a.change(e)
	c.setAside, c.proposed = true, true
	v, err := a.write(ctx, a.tx, c)
	if err != nil {
		return err
	}
	_, err = database.Exec(ctx, a.tx, `INSERT INTO document_reviews (account_id, agent_id, name, version, state, base_hash) VALUES ($1, $2, $3, $4, $5, $6)`,
		a.account, a.agent, v.Document, v.Number, Pending, base)
	if err != nil {
		return fmt.Errorf("store the review of %s: %w", v.Document, err)
	}
	v.Review = Pending
	a.result.Proposed = append(a.result.Proposed, v)
	return nil
}

// baseOf returns the hash of the content that e replaces: that of the version in the
// home, or of the current one if the home holds another edit.
func (a *absorption) baseOf(ctx context.Context, e edit, current Version) (string, error) {
	v, err := findByHash(ctx, a.tx, a.account, a.agent, e.doc, e.before.hash, false)
	if errors.Is(err, sql.ErrNoRows) {
		return current.Hash, nil
	}
	return v.Hash, err
}

// pendingReviews lists the versions of an agent that wait for approval, oldest first,
// without content.
func pendingReviews(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]Version, error) {
	return database.AllReadable(ctx, q, scanVersion, damaged, `SELECT `+selected+fromDocuments+
		` AND (name, version) IN (SELECT name, version FROM document_reviews WHERE account_id = $1 AND agent_id = $2 AND state = $3) ORDER BY created_at, name, version`,
		account, agent, Pending)
}

// approve makes the content of a version that waits for approval current, as a new
// version. If that has been done and is still current, it changes nothing.
func (s *Store) approve(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (approved Version, err error) {
	err = s.db.Tx(ctx, "workspace.approve", func(ctx context.Context, tx *database.Tx) error {
		edit, base, err := s.lockReview(ctx, tx, actor.AccountID, agent, d, number)
		if err != nil {
			return err
		}
		current, err := versionToRestoreOver(ctx, tx, actor.AccountID, agent, d)
		if err != nil {
			return err
		}
		if edit.Review == Approved && current.Hash == edit.Hash {
			approved = current
			return nil
		}
		if err := checkWaits(edit); err != nil {
			return err
		}
		if base != currentHash(current) {
			return fault.New(fault.Conflict, "%s was changed after the agent's edit. Restore version %d to replace it nevertheless, or reject the edit.", d, number)
		}
		approved, err = s.replace(ctx, tx, current, change{actor: actor, agent: agent, doc: d, content: edit.Content, restoredFrom: number})
		if err != nil {
			return err
		}
		return s.saveReview(ctx, tx, actor, agent, edit, Approved)
	})
	return approved, err
}

// reject ends the review of a version that waits for approval. If it was rejected before,
// nothing changes.
func (s *Store) reject(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (rejected Version, err error) {
	err = s.db.Tx(ctx, "workspace.reject", func(ctx context.Context, tx *database.Tx) error {
		edit, _, err := s.lockReview(ctx, tx, actor.AccountID, agent, d, number)
		if rejected = edit; err != nil || edit.Review == Rejected {
			return err
		}
		if err := checkWaits(edit); err != nil {
			return err
		}
		rejected.Review = Rejected
		return s.saveReview(ctx, tx, actor, agent, edit, Rejected)
	})
	return rejected, err
}

// lockReview returns a version and the hash of the content that it replaces.
func (s *Store) lockReview(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, d Document, number int64) (Version, string, error) {
	if err := tx.Lock(ctx, database.LockDocuments, string(agent)); err != nil {
		return Version{}, "", err
	}
	v, err := findVersion(ctx, tx, account, agent, d, number)
	if err := versionNotFound(ctx, tx, account, agent, d, number, err); err != nil || v.Review == NoReview {
		return v, "", err
	}
	base, err := database.One(ctx, tx, database.Scalar[string],
		`SELECT base_hash FROM document_reviews WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND version = $4`, account, agent, d, number)
	return v, base, err
}

func checkWaits(v Version) error {
	switch v.Review {
	case Pending:
		return nil
	case NoReview:
		return fault.New(fault.Conflict, "Version %d of %s needs no approval.", v.Number, v.Document)
	}
	return fault.New(fault.Conflict, "Version %d of %s was %s already. Restore it to make its content current.", v.Number, v.Document, v.Review)
}

// currentHash returns the hash of a document's current content; empty for a rule that does
// not exist.
func currentHash(current Version) string {
	if current.Number == 0 || current.Deleted {
		return ""
	}
	return current.Hash
}

func (s *Store) saveReview(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, v Version, state Review) error {
	_, err := database.Exec(ctx, tx, `UPDATE document_reviews SET state = $1 WHERE account_id = $2 AND agent_id = $3 AND name = $4 AND version = $5`,
		state, actor.AccountID, agent, v.Document, v.Number)
	if err != nil {
		return fmt.Errorf("store the review of %s: %w", v.Document, err)
	}
	return s.events.Append(ctx, tx, actor, event.Event{
		Topic: event.AgentTopic(agent), Kind: "agent.edit_" + string(state),
		Data: map[string]any{"document": string(v.Document), "version": v.Number, "hash": v.Hash},
	})
}

// PendingEdits lists the agent's edits that wait for approval, oldest first, without
// content: at most MaxPending.
func (s *Service) PendingEdits(ctx context.Context, account identity.AccountID, agent identity.AgentID) ([]Version, error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return nil, err
	}
	if err := checkAgent(ctx, s.store.db, account, agent); err != nil {
		return nil, err
	}
	return pendingReviews(ctx, s.store.db, account, agent)
}

// Approve makes the content of an edit that waits for approval current, as a new version.
// Faults: NotFound; Conflict, if the version does not wait for approval, or the document
// was changed after the edit, or the agent cannot have that rule.
func (s *Service) Approve(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (v Version, needsRestart bool, err error) {
	return s.change(ctx, actor, agent, func() (Version, error) { return s.store.approve(ctx, actor, agent, d, number) })
}

// Reject ends the review of an edit that waits for approval. The version is kept and can
// be restored. Faults: NotFound; Conflict, if the version does not wait for approval.
func (s *Service) Reject(ctx context.Context, actor identity.Actor, agent identity.AgentID, d Document, number int64) (Version, error) {
	if err := s.agents.Absorb(ctx, actor.AccountID, agent); err != nil {
		return Version{}, err
	}
	return s.store.reject(ctx, actor, agent, d, number)
}
