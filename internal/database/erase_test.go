package database_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// change runs statements on a database file that nobody has open.
func change(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatal(s, err)
		}
	}
}

// found returns how often a text is in the files of a database.
func found(t *testing.T, path, text string) (n int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(data, []byte(text))
	}
	return n
}

// TestErasedContentIsInNoFile stores texts of two owners of all lengths in random order,
// so that the trees of SQLite are balanced many times, and erases one of them.
func TestErasedContentIsInNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	defer func() { _ = db.Close() }()
	random := rand.New(rand.NewPCG(10, 2)) // one of the seeds for which a balanced page keeps a text
	for range 60 {
		tx(t, db, func(ctx context.Context, tx *database.Tx) error {
			for range 50 {
				owner := "stays"
				if random.IntN(20) == 0 { // few, or the index merges its segments by itself
					owner = "doomed"
				}
				text := strings.Repeat(owner+"content ", 1+random.IntN(random.IntN(300)+1))
				key := fmt.Sprintf("%08x", random.Uint32())
				for _, query := range []string{
					`INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at) VALUES ($1, $2, $3, $4, 1)`,
					`INSERT INTO documents (name, agent_id, account_id, content, version, is_current, deleted, set_aside, restored_from, actor, created_at, size, hash)
					 VALUES ($1, $2, $3, $4, 1, 1, 0, 0, 0, '', 1, 1, '')`,
					`INSERT INTO knowledge_entries (id, source, account_id, text, scope, seq, metadata, created_at, updated_at) VALUES ($3, $1, $2, $4, 1, abs(random()), '', 1, 1)`,
				} {
					if _, err := tx.ExecContext(ctx, query, key, owner, key, text); err != nil {
						return err
					}
				}
			}
			return nil
		}, `INSERT OR IGNORE INTO knowledge_scopes (number, account_id, kind, target_id, last_seq) VALUES (1, 'a', 'agent', 'x', 0)`)
	}
	if found(t, path, "doomedcontent") == 0 {
		t.Fatal("the text is stored in another way")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- db.Run(ctx) }()
	tx(t, db, func(_ context.Context, tx *database.Tx) error { tx.Erase(); return nil },
		`DELETE FROM secrets WHERE owner_id = 'doomed'`, `DELETE FROM documents WHERE agent_id = 'doomed'`, `DELETE FROM knowledge_entries WHERE account_id = 'doomed'`,
		`DELETE FROM account_storage WHERE account_id = 'doomed'`, `DELETE FROM knowledge_sizes WHERE account_id = 'doomed'`) // they have the id
	left := func() (texts, pages int) {
		pages, err := database.One(t.Context(), db, database.Scalar[int], `PRAGMA freelist_count`)
		if err != nil {
			t.Fatal(err)
		}
		return found(t, path, "doomed"), pages
	}
	texts, pages := left()
	for deadline := time.Now().Add(20 * time.Second); (texts > 0 || pages > 0) && time.Now().Before(deadline); texts, pages = left() {
		time.Sleep(20 * time.Millisecond) // no event says that a file has changed
	}
	if texts > 0 || pages > 0 {
		t.Errorf("the text is still found %d times, and %d free pages are kept", texts, pages)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if found(t, path, "stayscontent") == 0 {
		t.Error("the text of the other owner is gone")
	}
	checkIntegrity(t, db)
	n, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM knowledge_text WHERE knowledge_text MATCH 'stayscont'`)
	if err != nil || n == 0 {
		t.Errorf("the index finds %d, %v", n, err)
	}
}

// TestCloseErasesTheRest: a command that deletes runs no loop.
func TestCloseErasesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	other := databasetest.Open(t, path) // so that closing alone truncates no WAL
	defer func() { _ = other.Close() }()
	tx(t, db, nil, `INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at) VALUES ('a', 'o', 'n', 'doomedcontent', 1)`)
	tx(t, db, func(_ context.Context, tx *database.Tx) error { tx.Erase(); return nil }, `DELETE FROM secrets`)
	if found(t, path, "doomedcontent") == 0 {
		t.Fatal("the text is not in the WAL")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n := found(t, path, "doomedcontent"); n > 0 {
		t.Errorf("the text is still found %d times", n)
	}
}

// tx runs statements and f in a transaction.
func tx(t *testing.T, db *database.DB, f func(context.Context, *database.Tx) error, statements ...string) {
	t.Helper()
	err := db.Tx(t.Context(), "database.test", func(ctx context.Context, tx *database.Tx) error {
		for _, s := range statements {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		if f == nil {
			return nil
		}
		return f(ctx, tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkIntegrity(t *testing.T, db *database.DB) {
	t.Helper()
	for _, query := range []string{`PRAGMA integrity_check`, `PRAGMA foreign_key_check`} {
		problems, err := database.All(t.Context(), db, func(r database.Row) (string, error) {
			var text string
			err := r.Scan(&text)
			return text, err
		}, query)
		if err != nil || len(problems) > 0 && problems[0] != "ok" {
			t.Errorf("%s: %q, %v", query, problems, err)
		}
	}
	tx(t, db, nil, `INSERT INTO knowledge_text (knowledge_text) VALUES ('integrity-check')`)
	tx(t, db, nil, `INSERT INTO knowledge_parts (knowledge_parts) VALUES ('integrity-check')`)
}
