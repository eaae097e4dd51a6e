//go:build !race

package knowledge

import (
	"context"
	"testing"

	"agento.host/agento/internal/identity"
)

// TestTransactionsAreShort: at the limits of every route of knowledge, a transaction changes
// so few entries that it holds the write lock for some milliseconds.
func TestTransactionsAreShort(t *testing.T) {
	var entries, bytes, transactions int
	env := newObservedEnv(t, func(env *testEnv, kind string) {
		var n, size int
		if err := env.db.QueryRowContext(context.Background(), `SELECT count(*), coalesce(sum(octet_length(text)), 0) FROM knowledge_entries`).Scan(&n, &size); err != nil {
			t.Error(err)
		}
		changed, written := max(n-entries, entries-n), size-bytes
		if changed > maxWrittenEntries || kind == "knowledge.ingest" && written > maxWrittenBytes+4*MaxText {
			t.Errorf("%s changed %d entries and wrote %d bytes of text", kind, changed, written)
		}
		entries, bytes, transactions = n, size, transactions+1
	})
	if done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", unusualTexts(MaxChunks)...)}); done.Stored != MaxChunks {
		t.Fatalf("%d stored", done.Stored)
	}
	for round := range 2 {
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", numbered("a", round)...)})
		env.ingest(t, IngestRequest{Target: swarm("team"), Chunks: chunks("t", numbered("t", round)...)})
	}
	if err := env.PassOn(t.Context(), account, "team", []identity.AgentID{"bob", "cy"}); err != nil {
		t.Fatal(err)
	}
	if entries != 7*MaxChunks {
		t.Errorf("%d entries after a swarm's were passed on", entries)
	}
	for _, id := range []identity.AgentID{"bob", "cy"} {
		if err := env.EmptyAgent(t.Context(), account, id); err != nil {
			t.Fatal(err)
		}
	}
	done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "The only one."), ReplaceSource: true})
	if done.Stored != 1 || done.Deleted != 3*MaxChunks || entries != 1 {
		t.Errorf("%d stored, %d deleted, %d left", done.Stored, done.Deleted, entries)
	}
	for round := range 2 {
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b", numbered("b", round)...)})
	}
	before := transactions
	if err := env.EmptyAgent(t.Context(), account, "dan"); err != nil || transactions != before {
		t.Errorf("of an agent without knowledge: %v", err)
	}
	n, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), Source: "b"})
	if err != nil || n != 2*MaxChunks || entries != 1 || transactions-before < 4 {
		t.Errorf("%d deleted in %d transactions, %d left, %v", n, transactions-before, entries, err)
	}
}
