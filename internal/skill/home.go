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
	"agento.host/agento/internal/runtime"
)

// DefaultDir is where skills lie in an agent's home.
const DefaultDir = "workspace/skills"

// Home is what Sync needs of an agent's directory; a runtime.Home is one.
type Home interface {
	ReadFile(path string, limit int64) ([]byte, error)
	WriteFile(path string, data []byte) error
	ReadDir(path string) ([]runtime.Entry, error)
	RemoveAll(path string) error
}

// Files returns what an agent's home should hold of its skills, by path in the
// home: SLUG/… below Settings.Dir, of every skill that is enabled. q may be a
// transaction.
func (s *Service) Files(ctx context.Context, q database.Querier, accountID, agentID string) (map[string][]byte, error) {
	list, err := s.wanted(ctx, q, accountID, agentID)
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte, len(list))
	for _, f := range list {
		if files[f.path], err = blob(ctx, q, accountID, f.hash); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Hash changes whenever Files would, and is cheap: an agent whose home was synced
// at this hash needs no Sync.
func (s *Service) Hash(ctx context.Context, q database.Querier, accountID, agentID string) (string, error) {
	list, err := s.wanted(ctx, q, accountID, agentID)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, f := range list {
		_, _ = fmt.Fprintf(h, "%s %s\n", f.hash, f.path) // a hash takes every write
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Sync makes a home hold the agent's skills: it writes what is missing or was
// changed, and removes what a skill brought that is no longer wanted, with the
// folders that become empty. Nothing else is touched. It may be repeated, and
// repairs what a crash left half done; two at once on one home are not allowed.
func (s *Service) Sync(ctx context.Context, home Home, accountID, agentID string) error {
	want, err := s.wanted(ctx, s.DB, accountID, agentID)
	if err != nil {
		return err
	}
	gone, err := s.unwanted(ctx, s.DB, accountID, agentID)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, home, gone); err != nil {
		return fmt.Errorf("remove skills of agent %s: %w", agentID, err)
	}
	for _, f := range want {
		if err := s.write(ctx, home, accountID, f); err != nil {
			return fmt.Errorf("write skills of agent %s: %w", agentID, err)
		}
	}
	return s.settle(ctx, accountID, agentID, gone)
}

func (s *Service) write(ctx context.Context, home Home, accountID string, f file) error {
	if has, err := home.ReadFile(f.path, MaxFileBytes); err == nil && hashOf(has) == f.hash {
		return nil
	}
	data, err := blob(ctx, s.DB, accountID, f.hash)
	if missing(err) {
		return nil // uninstalled meanwhile; whoever did that syncs again
	}
	if err != nil {
		return err
	}
	return home.WriteFile(f.path, data)
}

// DeleteAgent removes what is kept of an agent's skills; its home goes its own way.
func (s *Service) DeleteAgent(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	for _, query := range []string{
		`DELETE FROM skill_files WHERE account_id = $1 AND owner_id IN (SELECT id FROM agent_skills WHERE account_id = $1 AND agent_id = $2)`,
		`DELETE FROM agent_skills WHERE account_id = $1 AND agent_id = $2`,
		`DELETE FROM agent_skill_paths WHERE account_id = $1 AND agent_id = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, accountID, agentID); err != nil {
			return fmt.Errorf("delete skills of agent %s: %w", agentID, err)
		}
	}
	if err := sweep(ctx, tx, accountID); err != nil {
		return fmt.Errorf("delete skills of agent %s: %w", agentID, err)
	}
	return nil
}

// wanted lists paths in the home with the hashes of their contents. A skill's
// SKILL.md comes last, so that OpenClaw, which watches for it, sees the skill whole.
func (s *Service) wanted(ctx context.Context, q database.Querier, accountID, agentID string) ([]file, error) {
	list, err := database.All(ctx, q, func(r database.Row) (f file, err error) {
		var slug, name string
		err = r.Scan(&slug, &name, &f.hash)
		f.path = path.Join(s.Dir, slug, name)
		return f, err
	}, `SELECT s.slug, f.path, f.hash FROM agent_skills s JOIN skill_files f ON f.account_id = s.account_id AND f.owner_id = s.id
		WHERE s.account_id = $1 AND s.agent_id = $2 AND s.is_enabled ORDER BY s.slug, CASE WHEN f.path = $3 THEN 1 ELSE 0 END, f.path`, accountID, agentID, mainFile)
	if err != nil {
		return nil, fmt.Errorf("read skills of agent %s: %w", agentID, err)
	}
	return list, nil
}

func blob(ctx context.Context, q database.Querier, accountID, hash string) ([]byte, error) {
	data, err := database.One(ctx, q, database.Scalar[[]byte], `SELECT data FROM skill_blobs WHERE account_id = $1 AND hash = $2`, accountID, hash)
	if err != nil {
		return nil, fmt.Errorf("read skill file %s: %w", hash, err)
	}
	return data, nil
}

// remember notes, before anything is written, which files a skill will bring.
func (s *Service) remember(ctx context.Context, tx *database.Tx, i Installed) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO agent_skill_paths (account_id, agent_id, path, hash, settled, noted_at)
		SELECT account_id, $1, $2 || path, hash, FALSE, CAST($5 AS BIGINT) FROM skill_files WHERE account_id = $3 AND owner_id = $4
		ON CONFLICT (account_id, agent_id, path, hash) DO UPDATE SET settled = FALSE, noted_at = excluded.noted_at`, i.agentID, s.folder(i), i.accountID, i.ID, database.Millis(now()))
	return err
}

// leave notes that the files a skill brought are to go. Those of a skill that was
// hidden before went then.
func (s *Service) leave(ctx context.Context, tx *database.Tx, i Installed) error {
	if !i.Enabled {
		return nil
	}
	_, err := tx.ExecContext(ctx, `UPDATE agent_skill_paths SET settled = FALSE WHERE account_id = $1 AND agent_id = $2
		AND (path, hash) IN (SELECT $3 || path, hash FROM skill_files WHERE account_id = $1 AND owner_id = $4)`, i.accountID, i.agentID, s.folder(i), i.ID)
	return err
}

func (s *Service) folder(i Installed) string { return s.Dir + "/" + i.Slug + "/" }

// leftover is a file that a skill brought and that is not wanted any more.
type leftover struct {
	path, hash string
	settled    bool // it was removed once; what lies there now goes only if it is the same
}

func (s *Service) unwanted(ctx context.Context, q database.Querier, accountID, agentID string) ([]leftover, error) {
	list, err := database.All(ctx, q, func(r database.Row) (l leftover, err error) { return l, r.Scan(&l.path, &l.hash, &l.settled) },
		`SELECT path, hash, settled FROM agent_skill_paths p WHERE account_id = $1 AND agent_id = $2 AND NOT EXISTS
		(SELECT 1 FROM agent_skills s JOIN skill_files f ON f.account_id = s.account_id AND f.owner_id = s.id
		WHERE s.account_id = $1 AND s.agent_id = $2 AND s.is_enabled AND $3 || s.slug || '/' || f.path = p.path) ORDER BY path, hash`,
		accountID, agentID, s.Dir+"/")
	if err != nil {
		return nil, fmt.Errorf("read leftovers of agent %s: %w", agentID, err)
	}
	return list, nil
}

// settle notes that leftovers are removed, unless they are wanted again by now.
// They are remembered for a year, in case an old snapshot brings them back.
func (s *Service) settle(ctx context.Context, accountID, agentID string, gone []leftover) error {
	if !slices.ContainsFunc(gone, func(l leftover) bool { return !l.settled }) {
		return nil
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		still, err := s.unwanted(ctx, tx, accountID, agentID)
		if err != nil {
			return err
		}
		for _, l := range gone {
			if l.settled || !slices.Contains(still, l) {
				continue
			}
			if _, err := tx.ExecContext(ctx, `UPDATE agent_skill_paths SET settled = TRUE WHERE account_id = $1 AND agent_id = $2 AND path = $3 AND hash = $4`, accountID, agentID, l.path, l.hash); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM agent_skill_paths WHERE account_id = $1 AND agent_id = $2 AND settled AND noted_at < $3`,
			accountID, agentID, database.Millis(now().AddDate(-1, 0, 0)))
		return err
	})
	if err != nil {
		return fmt.Errorf("note removed skills of agent %s: %w", agentID, err)
	}
	return nil
}

// remove takes leftovers away. One whose folder the agent has replaced by something
// else counts as gone: it must not keep the agent from ever being started again, and
// is removed, as one that is settled, if it comes back.
func (s *Service) remove(ctx context.Context, home Home, gone []leftover) error {
	folders := map[string]bool{} // that may be empty now
	for _, l := range gone {
		is, err := listed(home, l.path)
		if err != nil && !l.settled {
			s.Log.WarnContext(ctx, "a file of an uninstalled skill cannot be reached", "path", l.path, "error", err)
		}
		if err != nil || !is {
			continue
		}
		if l.settled && !same(home, l) {
			continue
		}
		if err := home.RemoveAll(l.path); err != nil {
			return err
		}
		folders[path.Dir(l.path)] = true
	}
	for dir := range folders {
		if err := s.prune(home, dir); err != nil {
			return err
		}
	}
	return nil
}

// listed says whether a plain file lies at a path: what the agent made a folder
// there is its own.
func listed(home Home, name string) (bool, error) {
	entries, err := home.ReadDir(path.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e runtime.Entry) bool { return e.Name == path.Base(name) && !e.Dir }), nil
}

func same(home Home, l leftover) bool {
	data, err := home.ReadFile(l.path, MaxFileBytes)
	return err == nil && hashOf(data) == l.hash
}

// prune removes a folder that is empty, and those above it, up to the skills' own.
func (s *Service) prune(home Home, dir string) error {
	for ; strings.HasPrefix(dir, s.Dir+"/"); dir = path.Dir(dir) {
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
