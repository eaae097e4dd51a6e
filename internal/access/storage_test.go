package access

import (
	"context"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// TestStorageIsCounted when something is stored, replaced and deleted, for each account.
func TestStorageIsCounted(t *testing.T) {
	s := newTestService(t)
	a, b := newAccount(t, s, "a").ID, newAccount(t, s, "b").ID
	exec := func(query string, args ...any) {
		t.Helper()
		err := s.db.Tx(t.Context(), "access.test", func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, query, args...)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	want := func(n int64) {
		t.Helper()
		if got, err := s.StoredBytes(t.Context(), a); err != nil || got != n {
			t.Errorf("%d bytes, %v; want %d", got, err, n)
		}
	}
	want(0)
	exec(`INSERT INTO documents (account_id, agent_id, name, version, is_current, deleted, set_aside, restored_from, actor, created_at, size, hash, content)
		VALUES ($1, 'g', 'SOUL.md', 1, TRUE, FALSE, FALSE, 0, 'k', 0, 3, 'h', 'öx')`, a)
	want(3)
	exec(`UPDATE documents SET content = '12345'`)
	exec(`INSERT INTO sessions (id, account_id, agent_id, owner, peer_id, entry, gateway_key, name, channel, started_at) VALUES ('s', $1, 'g', '', '', 'main', 'k', '', 'api', 0)`, a)
	exec(`INSERT INTO messages (account_id, agent_id, session_id, role, content, at) VALUES ($1, 'g', 's', 'user', '1234567890', 0), ($1, 'g', 's', 'user', '1', 1)`, a)
	want(16)
	sealed := append(make([]byte, vault.TextOverhead), "12345678"...) // of a text with 8 bytes
	exec(`UPDATE documents SET content = $1`, sealed)
	exec(`INSERT INTO messages (account_id, agent_id, session_id, role, content, at) VALUES ($1, 'g', 's', 'user', $2, 2)`, a, sealed)
	want(27)
	exec(`UPDATE messages SET content = $1 WHERE at = 0`, sealed)
	want(25)
	exec(`DELETE FROM messages WHERE at = 2`)
	exec(`UPDATE messages SET content = '1234567890' WHERE at = 0`)
	exec(`UPDATE documents SET content = '12345'`)
	want(16)
	exec(`DELETE FROM messages WHERE content = '1'`)
	exec(`INSERT INTO knowledge_scopes (number, account_id, kind, target_id, last_seq) VALUES (1, $1, 'agent', 'g', 0), (2, $1, 'agent', 'h', 0)`, a)
	exec(`INSERT INTO knowledge_entries (id, account_id, scope, seq, text, source, metadata, created_at, updated_at) VALUES ('e', $1, 1, 1, '1234', 's', '{}', 0, 0)`, a)
	want(21)
	exec(`UPDATE knowledge_entries SET scope = 2, metadata = ''`)
	exec(`INSERT INTO skill_blobs (account_id, hash, data) VALUES ($1, 'h', x'00ff'), ($2, 'h', x'00ff00')`, a, b)
	want(21)
	if err := s.CheckStorage(t.Context(), s.db, a, DefaultStorageBytes-21); err != nil {
		t.Error(err)
	}
	if f := wantFault(t, s.CheckStorage(t.Context(), s.db, a, DefaultStorageBytes-20), fault.PlanLimit); f.Details["limit"] != "storageBytes" {
		t.Error(f)
	}
	wantFault(t, s.CheckStorage(t.Context(), s.db, "acct_none", 1), fault.NotFound)
	for _, table := range []string{"documents", "messages", "knowledge_entries", "skill_blobs"} {
		exec(`DELETE FROM ` + table)
	}
	want(0)
}
