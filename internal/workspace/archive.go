package workspace

import (
	"context"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// This file writes the documents of an agent into an archive, with every version, and reads
// them from one.

// ArchivedVersion is a version of a document as an archive has it.
type ArchivedVersion struct {
	Document     Document
	Number       int64
	Content      string
	Deleted      bool
	SetAside     bool // it never became current
	RestoredFrom int64
	At           time.Time
}

// archivePage is how many versions are read at a time.
const archivePage = 20

// Export calls yield with every version of an agent's documents, one document after the other
// and oldest first. It leaves out versions that cannot be read, and returns how many those
// are. Errors: yield's. Faults: NotFound.
func (s *Service) Export(ctx context.Context, account identity.AccountID, agent identity.AgentID, yield func(ArchivedVersion) error) (damaged int, err error) {
	if err := s.agents.Absorb(ctx, account, agent); err != nil {
		return 0, err
	}
	if err := checkAgent(ctx, s.store.db, account, agent); err != nil {
		return 0, err
	}
	documents, err := database.All(ctx, s.store.db, database.Scalar[Document], `SELECT DISTINCT name`+fromDocuments+` ORDER BY name`, account, agent)
	if err != nil {
		return 0, fmt.Errorf("list the documents of agent %s: %w", agent, err)
	}
	check := NewArchiveCheck()
	checked := func(v ArchivedVersion) error {
		if check.Add(v) != nil { // its columns are damaged
			damaged++
			return nil //nolint:nilerr // it is left out
		}
		return yield(v)
	}
	for _, d := range documents {
		n, err := s.store.exportDocument(ctx, account, agent, d, checked)
		if damaged += n; err != nil {
			return damaged, err
		}
	}
	return damaged, nil
}

func (s *Store) exportDocument(ctx context.Context, account identity.AccountID, agent identity.AgentID, d Document, yield func(ArchivedVersion) error) (unreadable int, err error) {
	key, err := s.textKey(ctx, s.db, account, agent)
	if err != nil {
		return 0, err
	}
	for after := int64(0); ; {
		versions, err := database.AllReadable(ctx, s.db, scanContentWith(key), damaged,
			`SELECT `+selected+`, content`+fromDocuments+` AND name = $3 AND version > $4 AND typeof(version) = 'integer' ORDER BY version LIMIT $5`, account, agent, d, after, archivePage)
		if err != nil {
			return unreadable, fmt.Errorf("read the versions of %s: %w", d, err)
		}
		for _, v := range versions {
			if after = v.Number; v.unreadable {
				unreadable++
				continue
			}
			a := ArchivedVersion{Document: v.Document, Number: v.Number, Content: v.Content, Deleted: v.Deleted, SetAside: v.SetAside, RestoredFrom: v.RestoredFrom, At: v.At}
			if err := yield(a); err != nil {
				return unreadable, err
			}
		}
		if len(versions) < archivePage {
			return unreadable, nil
		}
	}
}

// Renamed returns the version that follows a version of IDENTITY.md when its agent gets a name.
// The length is not checked, as in Store.Rename.
func (v ArchivedVersion) Renamed(name string) ArchivedVersion {
	return ArchivedVersion{Document: Identity, Number: v.Number + 1, Content: renamed(v.Content, name), At: time.Now()}
}

// maxVersionNumber is more than any document has versions.
const maxVersionNumber = 1 << 31

// maxRenamed is how much longer than its limit IDENTITY.md can have become when its agent got a
// name.
const maxRenamed = 250

// ArchiveCheck checks the versions of an archive as a whole.
type ArchiveCheck struct {
	last    map[Document]int64 // number of the last version
	current map[Document]bool  // documents with a current version that is no deletion
}

// NewArchiveCheck returns an ArchiveCheck.
func NewArchiveCheck() *ArchiveCheck {
	return &ArchiveCheck{last: map[Document]int64{}, current: map[Document]bool{}}
}

// Add returns what is wrong with the next version. Faults: Invalid.
func (c *ArchiveCheck) Add(v ArchivedVersion) error {
	fields := fault.Fields{}
	if !v.Document.isKnown() {
		fields.Add("document", "must be SOUL.md, IDENTITY.md, WORKFLOW.md or rules/NAME.md")
		return fields.Err()
	}
	if v.Number <= c.last[v.Document] || v.Number > maxVersionNumber {
		fields.Add("version", "must be higher than that of the version before, %d", c.last[v.Document])
	}
	if v.RestoredFrom < 0 || v.RestoredFrom >= max(v.Number, 1) {
		fields.Add("restoredFrom", "must be an earlier version, or 0")
	}
	switch {
	case v.Deleted && !v.Document.isRule():
		fields.Add("deleted", "must be false: every agent has a %s", v.Document)
	case v.Deleted && (v.Content != "" || v.SetAside):
		fields.Add("deleted", "must be false for a version with content, or one that is set aside")
	case v.Deleted:
	case v.Document == Identity && utf16Length(v.Content) <= MaxCharacters+maxRenamed:
		if problem := v.Document.textProblem(v.Content); problem != "" {
			fields.Add(v.Document.field(), "%s", problem)
		}
	default:
		checkContent(fields, v.Document, v.Content)
	}
	if v.At.Before(time.Unix(0, 0)) || v.At.After(time.Now().Add(24*time.Hour)) {
		fields.Add("at", "must be a time from 1970 to now")
	}
	if err := fields.Err(); err != nil {
		return err
	}
	c.last[v.Document] = v.Number
	if !v.SetAside {
		c.current[v.Document] = !v.Deleted
	}
	return nil
}

// End returns what is wrong with all the versions together. Faults: Invalid; Conflict.
func (c *ArchiveCheck) End() error {
	for _, d := range []Document{Soul, Identity, Workflow} {
		if !c.current[d] {
			return fault.New(fault.Invalid, "The archive has no current version of %s.", d)
		}
	}
	var rules []Version
	for d, exists := range c.current {
		if !d.isRule() || !exists {
			continue
		}
		if err := checkAddRule(rules, d); err != nil {
			return fault.New(fault.Invalid, "The archive has too many rules, or two whose names differ in case only: %s", fault.From(err).Message)
		}
		rules = append(rules, Version{Document: d})
	}
	return nil
}

// isKnown reports whether an agent can have the document.
func (d Document) isKnown() bool {
	if !d.isRule() {
		return d == Soul || d == Identity || d == Workflow
	}
	known, err := RuleDocument(d.Rule())
	return err == nil && known == d && strings.HasSuffix(string(d), suffix)
}

// Import stores versions of an archive, which an ArchiveCheck has passed, in an agent that is
// being imported, as changes of the actor. Faults: PlanLimit.
func (s *Store) Import(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, versions []ArchivedVersion) error {
	size := 0
	for _, v := range versions {
		size += len(v.Content)
	}
	if err := s.checkQuota(ctx, tx, actor.AccountID, size); err != nil {
		return err
	}
	for _, v := range versions {
		c := change{actor: actor, agent: agent, doc: v.Document, content: v.Content, deleted: v.Deleted, setAside: v.SetAside, restoredFrom: v.RestoredFrom, number: v.Number, at: v.At}
		if _, err := s.insertVersion(ctx, tx, c); err != nil {
			return err
		}
	}
	return nil
}
