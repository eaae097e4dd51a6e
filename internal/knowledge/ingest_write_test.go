package knowledge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/knowledge/embed"
)

// newObservedEnv is newTestEnv with a function that is called after each transaction, while
// the next one still waits.
func newObservedEnv(t *testing.T, observe func(env *testEnv, kind string)) *testEnv {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agento.db")
	if _, err := database.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	var env *testEnv
	db, err := database.Open(t.Context(), database.Settings{Path: path, Observe: func(kind string, _ time.Duration) { observe(env, kind) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	e, err := embed.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	env = newTestEnvWith(t, Settings{DB: db, Embedder: e})
	return env
}

// unusualTexts are as hard for the full-text index as texts can be.
func unusualTexts(n int) []string {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	texts := make([]string, n)
	for i := range texts {
		var b strings.Builder
		for b.Len() < MaxText-8 {
			for range 6 {
				b.WriteByte(byte('a' + rng.IntN(26)))
			}
			b.WriteByte(' ')
		}
		texts[i] = b.String()
	}
	return texts
}

// numbered returns short texts of which no two are alike.
func numbered(prefix string, round int) []string {
	texts := make([]string, MaxChunks)
	for i := range texts {
		texts[i] = fmt.Sprintf("%s %d: number %d.", prefix, round, i)
	}
	return texts
}

func TestEmptyAgent(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", unusualTexts(maxWrittenEntries+1)...)})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("a", "Bob's.")})
	if err := env.EmptyAgent(t.Context(), account, "ann"); err != nil {
		t.Error(err)
	}
	wantTexts(t, env.texts(t, agent("ann")))
	wantTexts(t, env.texts(t, agent("bob")), "Bob's.")
}

// TestIngestGoesOnWhenTheScopeChanges between two of its transactions: each chunk is stored
// once, and the result says so.
func TestIngestGoesOnWhenTheScopeChanges(t *testing.T) {
	var changes sync.WaitGroup
	var ingests atomic.Int64
	env := newObservedEnv(t, func(env *testEnv, kind string) {
		if kind != "knowledge.ingest" || ingests.Add(1) != 3 { // the first is of the other scope
			return
		}
		waiting := make(chan struct{})
		changes.Go(func() {
			close(waiting)
			err := env.db.Tx(context.Background(), "knowledge.test", func(ctx context.Context, tx *database.Tx) error {
				return moveScope(ctx, tx, account, AgentScope("bob"), AgentScope("ann"))
			})
			if err != nil {
				t.Error(err)
			}
		})
		<-waiting
		time.Sleep(20 * time.Millisecond) // so that it is the next in the queue; otherwise the test shows less
	})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("b", "Of another.")})
	texts := unusualTexts(40)
	texts = append(texts, texts[3])
	done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	changes.Wait()
	if last := done.Outcomes[40]; done.Stored != 40 || done.Skipped != 1 || last.Stored || last.MatchedIndex != 3 || last.MatchedID != done.Outcomes[3].ID {
		t.Errorf("%d stored, %d skipped, the last as %+v", done.Stored, done.Skipped, last)
	}
	got := env.texts(t, agent("ann"))
	want := append([]string{"Of another."}, texts[:40]...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
}
