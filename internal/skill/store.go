package skill

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill/github"
)

// StoreSettings configure a Store.
type StoreSettings struct {
	DB  *database.DB
	Dir string       // directory of the skills, relative to the home of an agent
	Log *slog.Logger // nil: nothing is logged
}

// Store keeps the installed skills of agents, the uploads of accounts and the files of
// both, and writes the files into the homes of agents. Its methods may be called
// concurrently.
type Store struct {
	db  *database.DB
	dir string
	log *slog.Logger
}

// NewStore returns a store.
func NewStore(s StoreSettings) *Store {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{db: s.DB, dir: s.Dir, log: s.Log}
}

// DeleteAgent deletes the records of an agent's skills. It leaves the agent's home as it
// is.
func (s *Store) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	for _, query := range []string{
		`DELETE FROM skill_files WHERE account_id = $1 AND owner_id IN (SELECT id FROM agent_skills WHERE account_id = $1 AND agent_id = $2)`,
		`DELETE FROM agent_skills WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM agent_skill_paths WHERE account_id = $1 AND agent_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, actor.AccountID, agent); err != nil {
			return fmt.Errorf("delete skills of agent %s: %w", agent, err)
		}
	}
	if err := deleteUnusedBlobs(ctx, tx, actor.AccountID); err != nil {
		return fmt.Errorf("delete skills of agent %s: %w", agent, err)
	}
	return nil
}

// newID returns an id of 16 letters and digits after a prefix: 80 random bits.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }

// now returns the current time in the resolution of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

const installedColumns = `id, account_id, agent_id, skill_id, name, version, trust_level, source, pin, digest, slug, label, score, is_enabled, installed_at, updated_at`

func scanInstalled(r database.Row) (Installed, error) {
	var i Installed
	var installed, updated int64
	err := r.Scan(&i.ID, &i.account, &i.agent, &i.SkillID, &i.Name, &i.Version, &i.Trust, &i.Source, &i.pin, &i.digest, &i.Slug, &i.label, &i.Score, &i.Enabled, &installed, &updated)
	i.InstalledAt, i.UpdatedAt = database.Time(installed), database.Time(updated)
	return i, err
}

// damagedInstalled keeps a skill some of whose columns cannot be decoded: it can be
// uninstalled.
func damagedInstalled(i *Installed, _ error) (row string, keep bool) {
	return "installed skill " + i.ID, true
}

func insertInstalled(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_skills (`+installedColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		i.ID, i.account, i.agent, i.SkillID, i.Name, i.Version, i.Trust, i.Source, i.pin, i.digest, i.Slug, i.label, i.Score, i.Enabled,
		database.Millis(i.InstalledAt), database.Millis(i.UpdatedAt))
	return err
}

func updateInstalled(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `UPDATE agent_skills SET name = $1, version = $2, pin = $3, digest = $4, label = $5, score = $6, is_enabled = $7, updated_at = $8
		WHERE account_id = $9 AND agent_id = $10 AND id = $11`,
		i.Name, i.Version, i.pin, i.digest, i.label, i.Score, i.Enabled, database.Millis(i.UpdatedAt), i.account, i.agent, i.ID)
	return err
}

func deleteInstalled(ctx context.Context, tx *database.Tx, i Installed) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM agent_skills WHERE account_id = $1 AND agent_id = $2 AND id = $3`, i.account, i.agent, i.ID); err != nil {
		return err
	}
	return deleteFiles(ctx, tx, i.account, i.ID)
}

// listInstalled returns the skills of an agent, oldest first.
func listInstalled(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]Installed, error) {
	return database.AllReadable(ctx, q, scanInstalled, damagedInstalled,
		`SELECT `+installedColumns+` FROM agent_skills WHERE account_id = $1 AND agent_id = $2 ORDER BY installed_at, id`, account, agent)
}

// ListEnabled returns the skills of all agents of an account that are switched on.
func (s *Store) ListEnabled(ctx context.Context, q database.Reader, account identity.AccountID) ([]Installed, error) {
	return database.AllReadable(ctx, q, scanInstalled, damagedInstalled,
		`SELECT `+installedColumns+` FROM agent_skills WHERE account_id = $1 AND is_enabled ORDER BY installed_at, id`, account)
}

// findInstalled finds a skill of an agent by the skill's id, the installation's id or
// the GitHub address of its source. Errors: sql.ErrNoRows.
func findInstalled(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, name string) (Installed, error) {
	if src, err := github.Parse(name); err == nil {
		return database.OneReadable(ctx, q, scanInstalled, damagedInstalled, `SELECT `+installedColumns+` FROM agent_skills
			WHERE account_id = $1 AND agent_id = $2 AND trust_level = $3 AND source = $4 ORDER BY installed_at LIMIT 1`, account, agent, Custom, src.String())
	}
	return database.OneReadable(ctx, q, scanInstalled, damagedInstalled, `SELECT `+installedColumns+` FROM agent_skills
		WHERE account_id = $1 AND agent_id = $2 AND (skill_id = $3 OR id = $3)`, account, agent, name)
}

// hasOtherDigest reports whether the account has the same version of the same skill
// installed with other files.
func hasOtherDigest(ctx context.Context, q database.Reader, i Installed) (bool, error) {
	n, err := database.One(ctx, q, database.Scalar[int], `SELECT COUNT(*) FROM agent_skills
		WHERE account_id = $1 AND trust_level = $2 AND skill_id = $3 AND version = $4 AND digest <> $5`, i.account, i.Trust, i.SkillID, i.Version, i.digest)
	return n > 0, err
}

// countInstalls returns, by skill id, how many agents have a skill: of all accounts, or
// for custom skills of one account.
func countInstalls(ctx context.Context, q database.Reader, trust Trust, account identity.AccountID) (map[string]int, error) {
	type count struct {
		id string
		n  int
	}
	query, args := `SELECT skill_id, COUNT(*) FROM agent_skills WHERE trust_level = $1 GROUP BY skill_id`, []any{trust}
	if trust == Custom { // the same id in two accounts means two skills
		query, args = `SELECT skill_id, COUNT(*) FROM agent_skills WHERE trust_level = $1 AND account_id = $2 GROUP BY skill_id`, []any{trust, account}
	}
	all, err := database.All(ctx, q, func(r database.Row) (c count, err error) { return c, r.Scan(&c.id, &c.n) }, query, args...)
	if err != nil {
		return nil, fmt.Errorf("count installs: %w", err)
	}
	out := make(map[string]int, len(all))
	for _, c := range all {
		out[c.id] = c.n
	}
	return out, nil
}
