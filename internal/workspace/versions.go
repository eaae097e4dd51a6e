package workspace

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// Version is one version of a document. Numbers count from 1 for each document.
type Version struct {
	Document     Document
	Number       int64
	Current      bool // what the agent's home should hold now
	Deleted      bool // records a deletion; there is no content
	SetAside     bool // an agent's edit that did not become current: of a document that the API had changed, or one that needs approval
	Review       Review
	RestoredFrom int64 // 0: not restored
	Actor        identity.Actor
	At           time.Time
	Size         int64  // bytes
	Hash         string // SHA-256 of the content, in hex
	Content      string // empty in lists

	unreadable bool // the content is damaged, or its key is lost
}

// The bounds of a page of versions.
const (
	DefaultPage = 50
	MaxPage     = 100
)

// Page is a part of a document's history.
type Page struct {
	Versions []Version // newest first, without content
	Next     int64     // the value of before for the next page; 0: this is the last page
}

const (
	columns       = `account_id, agent_id, name, version, is_current, deleted, set_aside, restored_from, actor, created_at, size, hash`
	selected      = columns + `, COALESCE((SELECT state FROM document_reviews r WHERE r.account_id = documents.account_id AND r.agent_id = documents.agent_id AND r.name = documents.name AND r.version = documents.version), '')`
	fromDocuments = ` FROM documents WHERE account_id = $1 AND agent_id = $2`
	onlyCurrent   = ` AND is_current`

	// onlyRules selects names that begin with rules/; 0 follows / in ASCII.
	onlyRules = ` AND name >= 'rules/' AND name < 'rules0'`
)

// scanVersion scans selected.
func scanVersion(r database.Row) (Version, error) { return scanWith(r) }

// scanContentWith returns a function that scans selected and the content, and opens that.
func scanContentWith(key vault.TextKey) func(database.Row) (Version, error) {
	return func(r database.Row) (Version, error) {
		var content vault.Text
		v, err := scanWith(r, &content)
		if err != nil {
			return v, err
		}
		if v.Content, err = key.Open(content, contentPlace(v.Document, v.Number)...); err != nil {
			v.unreadable = true
			return v, &database.ColumnError{Column: "content", Err: err}
		}
		return v, nil
	}
}

// contentPlace returns what the content of a version is sealed for.
func contentPlace(d Document, number int64) []string {
	return []string{"document", string(d), strconv.FormatInt(number, 10)}
}

// textKey returns the key of an agent's documents.
func (s *Store) textKey(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (vault.TextKey, error) {
	return s.vault.TextKey(ctx, q, account, vault.OfAgent(agent))
}

// checkReadable returns nil if the content of a version can be read. Faults: Conflict.
func (v Version) checkReadable() error {
	if v.unreadable {
		return fault.New(fault.Conflict, "Version %d of %s cannot be read: its content is damaged, or the data key is lost that sealed it.", v.Number, v.Document)
	}
	return nil
}

func scanWith(r database.Row, more ...any) (Version, error) {
	var v Version
	var account identity.AccountID
	var agent identity.AgentID
	var actor string
	var at int64
	err := r.Scan(append([]any{
		&account, &agent, &v.Document, &v.Number, &v.Current, &v.Deleted, &v.SetAside, &v.RestoredFrom, &actor, &at, &v.Size, &v.Hash, &v.Review,
	}, more...)...)
	if v.Actor = identity.ParseActor(account, actor); v.Actor.Kind == identity.Agent {
		v.Actor = identity.ByAgent(account, agent) // an agent edits its own documents only
	}
	v.At = database.Time(at)
	return v, err
}

// damaged keeps a version some of whose columns cannot be decoded: its content is what
// the home must hold.
func damaged(v *Version, _ error) (row string, keep bool) {
	return fmt.Sprintf("version %d of document %s of %s", v.Number, v.Document, v.Actor), true
}

// currentVersion returns the current version of a document that every agent has.
func (s *Store) currentVersion(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document) (Version, error) {
	v, err := s.findCurrent(ctx, q, account, agent, d)
	return v, agentNotFound(err)
}

// findCurrent returns the current version of a document.
// Errors: sql.ErrNoRows, if the document never existed.
func (s *Store) findCurrent(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document) (Version, error) {
	key, err := s.textKey(ctx, q, account, agent)
	if err != nil {
		return Version{}, err
	}
	return database.OneReadable(ctx, q, scanContentWith(key), damaged, `SELECT `+selected+`, content`+fromDocuments+` AND name = $3`+onlyCurrent, account, agent, d)
}

// findVersion returns the version with a number. Errors: sql.ErrNoRows.
func (s *Store) findVersion(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document, number int64) (Version, error) {
	key, err := s.textKey(ctx, q, account, agent)
	if err != nil {
		return Version{}, err
	}
	return database.OneReadable(ctx, q, scanContentWith(key), damaged, `SELECT `+selected+`, content`+fromDocuments+` AND name = $3 AND version = $4`, account, agent, d, number)
}

// findByHash returns the newest version with that content. It considers versions that
// were set aside only if setAside is true. Errors: sql.ErrNoRows.
func findByHash(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document, hash string, setAside bool) (Version, error) {
	return database.OneReadable(ctx, q, scanVersion, damaged,
		`SELECT `+selected+fromDocuments+` AND name = $3 AND hash = $4 AND NOT deleted AND (NOT set_aside OR $5) ORDER BY version DESC LIMIT 1`, account, agent, d, hash, setAside)
}

// checkAgent returns nil if the agent exists. Faults: NotFound.
func checkAgent(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) error {
	_, err := database.One(ctx, q, database.Scalar[int64], `SELECT version`+fromDocuments+` AND name = $3`+onlyCurrent, account, agent, Soul)
	return agentNotFound(err)
}

// currentRules lists the rules that are not deleted, by name, without content.
func currentRules(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]Version, error) {
	return database.AllReadable(ctx, q, scanVersion, damaged,
		`SELECT `+selected+fromDocuments+onlyRules+onlyCurrent+` AND NOT deleted ORDER BY name`, account, agent)
}

// listVersions lists a document's versions, newest first, without content. before is the
// number of the version that ended the page before; 0 is the first page.
func listVersions(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document, before int64, limit int) ([]Version, error) {
	return database.AllReadable(ctx, q, scanVersion, damaged,
		`SELECT `+selected+fromDocuments+` AND name = $3 AND ($4 = 0 OR version < $4) ORDER BY version DESC LIMIT $5`, account, agent, d, before, limit)
}

// insertVersion inserts c as the next version of its document. It becomes the current
// version unless it is set aside. Faults: Conflict, if the agent's data key is damaged.
func (s *Store) insertVersion(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	account := c.actor.AccountID
	if c.number == 0 {
		last, err := database.One(ctx, tx, database.Scalar[int64], `SELECT COALESCE(MAX(version), 0)`+fromDocuments+` AND name = $3`, account, c.agent, c.doc)
		if err != nil {
			return Version{}, fmt.Errorf("read versions of %s: %w", c.doc, err)
		}
		c.number = last + 1
	}
	if c.at.IsZero() {
		c.at = time.Now()
	}
	if !c.setAside {
		_, err := database.Exec(ctx, tx, `UPDATE documents SET is_current = FALSE WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND is_current`, account, c.agent, c.doc)
		if err != nil {
			return Version{}, fmt.Errorf("replace %s: %w", c.doc, err)
		}
	}
	v := Version{
		Document: c.doc, Number: c.number, Current: !c.setAside, Deleted: c.deleted, SetAside: c.setAside, RestoredFrom: c.restoredFrom,
		Actor: c.actor, At: database.Time(database.Millis(c.at)), Size: int64(len(c.content)), Hash: hashOf(c.content), Content: c.content,
	}
	content, err := s.seal(ctx, tx, account, c.agent, v)
	if err != nil {
		return Version{}, err
	}
	_, err = database.Exec(ctx, tx,
		`INSERT INTO documents (`+columns+`, content) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		account, c.agent, v.Document, v.Number, v.Current, v.Deleted, v.SetAside, v.RestoredFrom, v.Actor.String(), database.Millis(v.At), v.Size, v.Hash, content)
	if err != nil {
		return Version{}, fmt.Errorf("store %s: %w", c.doc, err)
	}
	return v, nil
}

// seal returns the content of a version as it is stored.
func (s *Store) seal(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, v Version) (vault.Text, error) {
	key, err := s.textKey(ctx, tx, account, agent)
	if err != nil {
		return vault.Text{}, err
	}
	return key.Seal(v.Content, contentPlace(v.Document, v.Number)...)
}

// updateContent replaces the content of a version.
func (s *Store) updateContent(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, v Version) error {
	content, err := s.seal(ctx, tx, account, agent, v)
	if err != nil {
		return err
	}
	_, err = database.Exec(ctx, tx, `UPDATE documents SET content = $5, size = $6, hash = $7 WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND version = $4`,
		account, agent, v.Document, v.Number, content, v.Size, v.Hash)
	if err != nil {
		return fmt.Errorf("store %s again: %w", v.Document, err)
	}
	return nil
}

// deleteOldEdits deletes all versions of a document that its agent has made but the last
// ones and the current one.
func deleteOldEdits(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, d Document, keep int) error {
	_, err := database.Exec(ctx, tx, `DELETE FROM documents WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND actor = $4 AND NOT is_current AND version <= (
		SELECT version FROM documents WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND actor = $4 ORDER BY version DESC LIMIT 1 OFFSET $5)`,
		account, agent, d, identity.ByAgent(account, agent).String(), keep)
	if err != nil {
		return fmt.Errorf("delete old versions of %s: %w", d, err)
	}
	return nil
}

// agentNotFound replaces sql.ErrNoRows, for a document that every agent has, by a fault.
func agentNotFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.New(fault.NotFound, "There is no agent with that id. List them with GET /v1/agents.")
	}
	return err
}

// checkDocument returns nil if a document has versions. Faults: NotFound.
func checkDocument(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document) error {
	_, err := database.One(ctx, q, database.Scalar[int64], `SELECT version`+fromDocuments+` AND name = $3 LIMIT 1`, account, agent, d)
	return ruleNotFound(ctx, q, account, agent, d, err)
}

// versionToRestoreOver returns the version that an earlier content of d replaces, without
// number for a rule that never was current.
func (s *Store) versionToRestoreOver(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, d Document) (Version, error) {
	current, err := s.findCurrent(ctx, tx, account, agent, d)
	switch {
	case errors.Is(err, sql.ErrNoRows) && d.isRule():
		return Version{Document: d}, checkNewRule(ctx, tx, account, agent, d)
	case err == nil && current.Deleted:
		return current, checkNewRule(ctx, tx, account, agent, d)
	}
	return current, agentNotFound(err)
}

// ruleNotFound replaces sql.ErrNoRows, for a rule, by a fault about the agent or the
// rule, whichever is missing.
func ruleNotFound(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document, err error) error {
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if err := checkAgent(ctx, q, account, agent); err != nil {
		return err
	}
	return fault.New(fault.NotFound, "The agent has no rule named %s. GET rules lists them.", d.Rule())
}

// versionNotFound replaces sql.ErrNoRows, for a version, by a fault about the agent, the
// rule or the version, whichever is missing.
func (s *Store) versionNotFound(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, d Document, number int64, err error) error {
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if _, err := s.findCurrent(ctx, q, account, agent, d); err != nil {
		return ruleNotFound(ctx, q, account, agent, d, err)
	}
	return fault.New(fault.NotFound, "%s has no version %d. GET versions lists them.", d, number)
}
