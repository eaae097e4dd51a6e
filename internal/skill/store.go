package skill

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/skill/github"
)

// newID makes an id of 16 letters and digits after its prefix: 80 random bits.
func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()[:16]) }

// now is the present in the resolution in which it is stored.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

const columns = `id, account_id, agent_id, skill_id, name, version, trust_level, source, pin, digest, slug, label, score, is_enabled, installed_at, updated_at`

func scanInstalled(r database.Row) (Installed, error) {
	var i Installed
	var installed, updated int64
	err := r.Scan(&i.ID, &i.accountID, &i.agentID, &i.SkillID, &i.Name, &i.Version, &i.Trust, &i.Source, &i.pin, &i.digest, &i.Slug, &i.label, &i.Score, &i.Enabled, &installed, &updated)
	i.InstalledAt, i.UpdatedAt = database.Time(installed), database.Time(updated)
	return i, err
}

func insertInstalled(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_skills (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		i.ID, i.accountID, i.agentID, i.SkillID, i.Name, i.Version, i.Trust, i.Source, i.pin, i.digest, i.Slug, i.label, i.Score, i.Enabled,
		database.Millis(i.InstalledAt), database.Millis(i.UpdatedAt))
	return err
}

func updateInstalled(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `UPDATE agent_skills SET name = $1, version = $2, pin = $3, digest = $4, label = $5, score = $6, is_enabled = $7, updated_at = $8
		WHERE account_id = $9 AND agent_id = $10 AND id = $11`,
		i.Name, i.Version, i.pin, i.digest, i.label, i.Score, i.Enabled, database.Millis(i.UpdatedAt), i.accountID, i.agentID, i.ID)
	return err
}

func allInstalled(ctx context.Context, q database.Querier, accountID, agentID string) ([]Installed, error) {
	return database.All(ctx, q, scanInstalled,
		`SELECT `+columns+` FROM agent_skills WHERE account_id = $1 AND agent_id = $2 ORDER BY installed_at, id`, accountID, agentID)
}

// findInstalled takes the skill's id, the installation's id or the GitHub address
// it came from. sql.ErrNoRows if there is none.
func findInstalled(ctx context.Context, q database.Querier, accountID, agentID, name string) (Installed, error) {
	if src, err := github.Parse(name); err == nil {
		return database.One(ctx, q, scanInstalled, `SELECT `+columns+` FROM agent_skills
			WHERE account_id = $1 AND agent_id = $2 AND trust_level = $3 AND source = $4 ORDER BY installed_at LIMIT 1`, accountID, agentID, Custom, src.String())
	}
	return database.One(ctx, q, scanInstalled, `SELECT `+columns+` FROM agent_skills
		WHERE account_id = $1 AND agent_id = $2 AND (skill_id = $3 OR id = $3)`, accountID, agentID, name)
}

// putFiles stores the files of an owner, in place of those it had.
func putFiles(ctx context.Context, tx *database.Tx, accountID, ownerID string, files map[string][]byte) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM skill_files WHERE account_id = $1 AND owner_id = $2`, accountID, ownerID); err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		data := files[path]
		if data == nil {
			data = []byte{} // an empty file is not NULL
		}
		hash := hashOf(data)
		if _, err := tx.ExecContext(ctx, `INSERT INTO skill_blobs (account_id, hash, data) VALUES ($1, $2, $3) ON CONFLICT (account_id, hash) DO NOTHING`, accountID, hash, data); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO skill_files (account_id, owner_id, path, hash) VALUES ($1, $2, $3, $4)`, accountID, ownerID, path, hash); err != nil {
			return err
		}
	}
	return sweep(ctx, tx, accountID)
}

func dropFiles(ctx context.Context, tx *database.Tx, accountID, ownerID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM skill_files WHERE account_id = $1 AND owner_id = $2`, accountID, ownerID); err != nil {
		return err
	}
	return sweep(ctx, tx, accountID)
}

// sweep deletes contents that nothing names any more.
func sweep(ctx context.Context, tx *database.Tx, accountID string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM skill_blobs WHERE account_id = $1 AND NOT EXISTS
		(SELECT 1 FROM skill_files f WHERE f.account_id = skill_blobs.account_id AND f.hash = skill_blobs.hash)`, accountID)
	return err
}

type file struct {
	path, hash string
	data       []byte
}

func readFiles(ctx context.Context, q database.Querier, accountID, ownerID string) (map[string][]byte, error) {
	list, err := database.All(ctx, q, func(r database.Row) (f file, err error) { return f, r.Scan(&f.path, &f.data) },
		`SELECT f.path, b.data FROM skill_files f JOIN skill_blobs b ON b.account_id = f.account_id AND b.hash = f.hash
		WHERE f.account_id = $1 AND f.owner_id = $2`, accountID, ownerID)
	if err != nil {
		return nil, fmt.Errorf("read files of %s: %w", ownerID, err)
	}
	files := make(map[string][]byte, len(list))
	for _, f := range list {
		files[f.path] = f.data
	}
	return files, nil
}

// upload is a version in an account's own catalog.
type upload struct {
	id        string
	accountID string
	manifest  Manifest
	report    string // JSON
	digest    string
	size      int64
	createdAt time.Time
	deletedAt time.Time
}

const uploadColumns = `id, account_id, manifest, report, digest, size, created_at, deleted_at`

func scanUpload(r database.Row) (upload, error) {
	var u upload
	var manifest string
	var created, deleted int64
	if err := r.Scan(&u.id, &u.accountID, &manifest, &u.report, &u.digest, &u.size, &created, &deleted); err != nil {
		return u, err
	}
	u.createdAt, u.deletedAt = database.Time(created), database.Time(deleted)
	return u, json.Unmarshal([]byte(manifest), &u.manifest)
}

// uploadsOf returns every version of a skill ever uploaded, highest first.
func uploadsOf(ctx context.Context, q database.Querier, accountID, skillID string) ([]upload, error) {
	all, err := database.All(ctx, q, scanUpload, `SELECT `+uploadColumns+` FROM custom_skills WHERE account_id = $1 AND skill_id = $2`, accountID, skillID)
	slices.SortFunc(all, byVersion)
	return all, err
}

func byVersion(a, b upload) int {
	switch {
	case newer(a.manifest.Version, b.manifest.Version):
		return -1
	case newer(b.manifest.Version, a.manifest.Version):
		return 1
	}
	return 0
}

// latestUploads returns the highest version of each skill that is not deleted.
func latestUploads(ctx context.Context, q database.Querier, accountID string) ([]upload, error) {
	all, err := database.All(ctx, q, scanUpload, `SELECT `+uploadColumns+` FROM custom_skills WHERE account_id = $1 AND deleted_at = 0 ORDER BY skill_id`, accountID)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b upload) int {
		if c := strings.Compare(a.manifest.ID, b.manifest.ID); c != 0 {
			return c
		}
		return byVersion(a, b)
	})
	return slices.CompactFunc(all, func(a, b upload) bool { return a.manifest.ID == b.manifest.ID }), nil
}

func insertUpload(ctx context.Context, tx *database.Tx, u upload) error {
	manifest, err := json.Marshal(u.manifest)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO custom_skills (id, account_id, skill_id, version, manifest, report, digest, size, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		u.id, u.accountID, u.manifest.ID, u.manifest.Version, string(manifest), u.report, u.digest, u.size, database.Millis(u.createdAt))
	return err
}

// installs counts, over all accounts, the agents that have a skill now.
func installs(ctx context.Context, q database.Querier, trust Trust, accountID string) (map[string]int, error) {
	type count struct {
		id string
		n  int
	}
	query, args := `SELECT skill_id, COUNT(*) FROM agent_skills WHERE trust_level = $1 GROUP BY skill_id`, []any{trust}
	if trust == Custom { // two accounts' skills of one id are two skills
		query, args = `SELECT skill_id, COUNT(*) FROM agent_skills WHERE trust_level = $1 AND account_id = $2 GROUP BY skill_id`, []any{trust, accountID}
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

func missing(err error) bool { return errors.Is(err, sql.ErrNoRows) }
