package skill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Digest returns a digest of the files that an agent's home should have of its skills,
// without reading their contents. A home that was synced at this digest needs no
// SyncHome. q may be a transaction.
func (s *Store) Digest(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (string, error) {
	files, err := s.desiredFiles(ctx, q, account, agent)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, f := range files {
		_, _ = fmt.Fprintf(h, "%s %s\n", f.hash, f.path) // writing to a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// SyncHome writes the files of the agent's enabled skills into its home, and removes the
// files of skills that are no longer installed or enabled, with the folders that become
// empty. Files that the agent changed are restored; all other files are left alone. It may
// be repeated, and repairs what a crash left incomplete. It must not run twice at the same
// time for one home.
func (s *Store) SyncHome(ctx context.Context, home runtime.Home, account identity.AccountID, agent identity.AgentID) error {
	desired, err := s.desiredFiles(ctx, s.db, account, agent)
	if err != nil {
		return err
	}
	stale, err := s.staleFiles(ctx, s.db, account, agent)
	if err != nil {
		return err
	}
	if err := s.removeStale(ctx, home, stale); err != nil {
		return fmt.Errorf("remove skills of agent %s: %w", agent, err)
	}
	for _, f := range desired {
		if err := s.writeFile(ctx, home, account, f); err != nil {
			return fmt.Errorf("write skills of agent %s: %w", agent, err)
		}
	}
	return s.saveRemoved(ctx, account, agent, stale)
}

// writeFile writes a file into a home unless it is there unchanged.
func (s *Store) writeFile(ctx context.Context, home runtime.Home, account identity.AccountID, f storedFile) error {
	if current, err := home.ReadFile(f.path, MaxFileBytes); err == nil && sha256Hex(current) == f.hash {
		return nil
	}
	data, err := readBlob(ctx, s.db, account, f.hash)
	if isNoRows(err) {
		return nil // uninstalled in the meantime: the request that did it syncs again
	}
	if err != nil {
		return err
	}
	return home.WriteFile(f.path, data)
}

// desiredFiles returns the files that the home of an agent should have, with paths in the
// home. The SKILL.md of a skill comes last: OpenClaw watches for it, and then finds the
// skill complete.
func (s *Store) desiredFiles(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]storedFile, error) {
	list, err := database.All(ctx, q, func(r database.Row) (f storedFile, err error) {
		var slug, name string
		err = r.Scan(&slug, &name, &f.hash)
		f.path = path.Join(s.dir, slug, name)
		return f, err
	}, `SELECT s.slug, f.path, f.hash FROM agent_skills s JOIN skill_files f ON f.account_id = s.account_id AND f.owner_id = s.id
		WHERE s.account_id = $1 AND s.agent_id = $2 AND s.is_enabled ORDER BY s.slug, CASE WHEN f.path = $3 THEN 1 ELSE 0 END, f.path`, account, agent, mainFile)
	if err != nil {
		return nil, fmt.Errorf("read skills of agent %s: %w", agent, err)
	}
	return list, nil
}

// recordPaths records the paths of a skill's files in the home, before SyncHome writes
// any of them.
func (s *Store) recordPaths(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_skill_paths (account_id, agent_id, path, hash, is_removed, recorded_at)
		SELECT account_id, $1, $2 || path, hash, FALSE, CAST($5 AS BIGINT) FROM skill_files WHERE account_id = $3 AND owner_id = $4
		ON CONFLICT (account_id, agent_id, path, hash) DO UPDATE SET is_removed = FALSE, recorded_at = excluded.recorded_at`,
		i.agent, s.folder(i), i.account, i.ID, database.Millis(now()))
	return err
}

// expirePaths makes the next SyncHome remove the files of a skill, also those that the
// agent changed. The files of a skill that is not enabled were removed when it was
// disabled.
func (s *Store) expirePaths(ctx context.Context, tx *database.Tx, i Installed) error {
	if !i.Enabled {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE agent_skill_paths SET is_removed = FALSE WHERE account_id = $1 AND agent_id = $2
		AND (path, hash) IN (SELECT $3 || path, hash FROM skill_files WHERE account_id = $1 AND owner_id = $4)`, i.account, i.agent, s.folder(i), i.ID)
	return err
}

// folder returns the folder of a skill in the home, with a slash at its end.
func (s *Store) folder(i Installed) string { return s.dir + "/" + i.Slug + "/" }

// staleFile is a file that a skill brought into a home and that should not be there.
type staleFile struct {
	path, hash string
	removed    bool // it was removed before: a file at this path is removed again only if its content is the same
}

func (s *Store) staleFiles(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]staleFile, error) {
	list, err := database.All(ctx, q, func(r database.Row) (f staleFile, err error) { return f, r.Scan(&f.path, &f.hash, &f.removed) },
		`SELECT path, hash, is_removed FROM agent_skill_paths p WHERE account_id = $1 AND agent_id = $2 AND NOT EXISTS
		(SELECT 1 FROM agent_skills s JOIN skill_files f ON f.account_id = s.account_id AND f.owner_id = s.id
		WHERE s.account_id = $1 AND s.agent_id = $2 AND s.is_enabled AND $3 || s.slug || '/' || f.path = p.path) ORDER BY path, hash`,
		account, agent, s.dir+"/")
	if err != nil {
		return nil, fmt.Errorf("read stale skill files of agent %s: %w", agent, err)
	}
	return list, nil
}

// saveRemoved saves that stale files are removed, unless they became desired again in the
// meantime. The paths are kept for a year, in case an old snapshot of the home brings the
// files back.
func (s *Store) saveRemoved(ctx context.Context, account identity.AccountID, agent identity.AgentID, stale []staleFile) error {
	if !slices.ContainsFunc(stale, func(f staleFile) bool { return !f.removed }) {
		return nil
	}
	err := s.db.Tx(ctx, "skill.save_removed", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSkills, string(agent)); err != nil {
			return err
		}
		current, err := s.staleFiles(ctx, tx, account, agent)
		if err != nil {
			return err
		}
		for _, f := range stale {
			if f.removed || !slices.Contains(current, f) {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE agent_skill_paths SET is_removed = TRUE WHERE account_id = $1 AND agent_id = $2 AND path = $3 AND hash = $4`, account, agent, f.path, f.hash); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM agent_skill_paths WHERE account_id = $1 AND agent_id = $2 AND is_removed AND recorded_at < $3`,
			account, agent, database.Millis(now().AddDate(-1, 0, 0)))
		return err
	})
	if err != nil {
		return fmt.Errorf("save removed skill files of agent %s: %w", agent, err)
	}
	return nil
}

// removeStale removes stale files. A file that cannot be reached, since the agent replaced
// its folder by something else, counts as removed: it must not prevent every later start
// of the agent. If it comes back, it is removed like a file that was removed before.
func (s *Store) removeStale(ctx context.Context, home runtime.Home, stale []staleFile) error {
	folders := map[string]bool{} // that may be empty now
	for _, f := range stale {
		ok, err := isFile(home, f.path)
		if err != nil && !f.removed {
			s.log.WarnContext(ctx, "a file of an uninstalled skill cannot be reached", "path", f.path, "error", err)
		}
		if err != nil || !ok {
			continue
		}
		if f.removed && !isUnchanged(home, f) {
			continue
		}
		if err := home.RemoveAll(f.path); err != nil {
			return err
		}
		folders[path.Dir(f.path)] = true
	}
	for dir := range folders {
		if err := s.removeEmpty(home, dir); err != nil {
			return err
		}
	}
	return nil
}

// isFile reports whether there is a file at a path. A directory at that path belongs to
// the agent.
func isFile(home runtime.Home, name string) (bool, error) {
	entries, err := home.ReadDir(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e runtime.Entry) bool { return e.Name == path.Base(name) && !e.Dir }), nil
}

// isUnchanged reports whether the file in the home has the content that the skill brought.
func isUnchanged(home runtime.Home, f staleFile) bool {
	data, err := home.ReadFile(f.path, MaxFileBytes)
	return err == nil && sha256Hex(data) == f.hash
}

// removeEmpty removes a folder if it is empty, and then the empty folders above it, up to
// the directory of all skills.
func (s *Store) removeEmpty(home runtime.Home, dir string) error {
	for ; strings.HasPrefix(dir, s.dir+"/"); dir = path.Dir(dir) {
		entries, err := home.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || len(entries) > 0 {
			return err
		}
		if err := home.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}
