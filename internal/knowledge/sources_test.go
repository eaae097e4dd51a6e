package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// bySource lists the entries of a source.
func (env *testEnv) bySource(t *testing.T, target Target, source string) []Entry {
	t.Helper()
	var all []Entry
	in := ListRequest{Target: target, Source: source, Limit: 2}
	for {
		p, err := env.List(t.Context(), account, in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Entries...)
		if in.Offset = p.Next; p.Next == "" {
			return all
		}
	}
}

func (env *testEnv) wantSource(t *testing.T, target Target, source string, texts ...string) {
	t.Helper()
	var got []string
	for _, e := range env.bySource(t, target, source) {
		if e.Source != source {
			t.Errorf("%q lists %+v", source, e)
		}
		got = append(got, e.Text)
	}
	if !slices.Equal(got, texts) {
		t.Errorf("%s has %q, want %q", source, got, texts)
	}
}

func (env *testEnv) deleteSource(t *testing.T, source string) int {
	t.Helper()
	n, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// storedBytes is what the account has stored.
func (env *testEnv) storedBytes(t *testing.T) int {
	t.Helper()
	n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT coalesce(sum(bytes), 0) FROM account_storage`)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestATextBelongsToAllItsSources, each with its own metadata, until the last loses it.
func TestATextBelongsToAllItsSources(t *testing.T) {
	env := newTestEnv(t)
	first := env.ingest(t, IngestRequest{Target: agent("ann"), Explain: true, Chunks: []Chunk{
		{Text: "The office is open from 9 to 17.", Source: "a.md", Metadata: map[string]any{"page": 1}},
		{Text: "Dogs are welcome.", Source: "a.md"},
		{Text: "dogs are welcome", Source: "c.md"}, // in the same request
		{Text: "Cats sleep.", Source: "b.md"},
	}})
	if o := first.Outcomes[2]; first.Stored != 3 || o.MatchedIndex != 1 || o.Reason != "differs only in the full stop at the end; the case of a sentence's first letter" {
		t.Errorf("%+v", first)
	}
	for range 2 {
		done := env.ingest(t, IngestRequest{Target: agent("ann"), Explain: true, Chunks: []Chunk{
			{Text: "The office is open from 9 to 17.", Source: "b.md", Metadata: map[string]any{"page": 2}},
		}})
		if o := done.Outcomes[0]; done.Stored != 0 || done.Skipped != 1 || o.MatchedID != first.Outcomes[0].ID || o.Reason != "identical text" {
			t.Errorf("%+v", done)
		}
	}
	if done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b.md", "Cats sleep.")}); done.Outcomes[0].Reason != "" {
		t.Errorf("%+v", done)
	}
	wantTexts(t, env.texts(t, agent("ann")), "The office is open from 9 to 17.", "Dogs are welcome.", "Cats sleep.")
	env.wantSource(t, agent("ann"), "b.md", "The office is open from 9 to 17.", "Cats sleep.")
	env.wantSource(t, agent("ann"), "c.md", "Dogs are welcome.")
	if e := env.bySource(t, agent("ann"), "b.md")[0]; e.ID != first.Outcomes[0].ID || e.Metadata["page"] != json.Number("2") {
		t.Errorf("%+v", e)
	}

	if n := env.deleteSource(t, "a.md"); n != 2 {
		t.Errorf("%d deleted", n)
	}
	env.wantSource(t, agent("ann"), "a.md")
	env.wantSource(t, agent("ann"), "b.md", "The office is open from 9 to 17.", "Cats sleep.")
	if e := env.bySource(t, agent("ann"), "b.md")[0]; e.ID != first.Outcomes[0].ID || e.Metadata["page"] != json.Number("2") {
		t.Errorf("%+v", e)
	}
	found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "when is the office open"})
	if err != nil || len(found) == 0 || found[0].Source != "b.md" || found[0].Reason != ByBoth {
		t.Error(found, err)
	}
	if n := env.deleteSource(t, "b.md"); n != 2 {
		t.Errorf("%d deleted", n)
	}
	wantTexts(t, env.texts(t, agent("ann")), "Dogs are welcome.")
	if n := env.deleteSource(t, "c.md"); n != 1 || env.storedBytes(t) != 0 {
		t.Errorf("%d deleted, %d bytes left", n, env.storedBytes(t))
	}
	wantTexts(t, env.texts(t, agent("ann")))
}

// TestAFurtherSourceIsDeleted before the first one, or the entry with all of them.
func TestAFurtherSourceIsDeleted(t *testing.T) {
	env := newTestEnv(t)
	id := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "Dogs are welcome.")}).Outcomes[0].ID
	for _, source := range []string{"b", "c"} {
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks(source, "Dogs are welcome.")})
	}
	if n := env.deleteSource(t, "b"); n != 1 {
		t.Error(n)
	}
	env.wantSource(t, agent("ann"), "a", "Dogs are welcome.")
	env.wantSource(t, agent("ann"), "b")
	env.wantSource(t, agent("ann"), "c", "Dogs are welcome.")
	if n, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), ID: id}); n != 1 || err != nil {
		t.Error(n, err)
	}
	env.wantSource(t, agent("ann"), "c")
	if n := env.storedBytes(t); n != 0 {
		t.Errorf("%d bytes left", n)
	}
}

// TestReplaceSourceOfSharedTexts changes what the named sources have and nothing of the
// others.
func TestReplaceSourceOfSharedTexts(t *testing.T) {
	env := newTestEnv(t)
	replace := func(all ...Chunk) IngestResult {
		return env.ingest(t, IngestRequest{Target: agent("ann"), ReplaceSource: true, Chunks: all})
	}
	for _, source := range []string{"a", "b"} {
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks(source, "Dogs are welcome.", "Cats sleep.", "Birds sing.")})
	}
	// Of b, one text stays, one comes in another form, and one goes.
	done := replace(Chunk{Text: "Dogs are welcome.", Source: "b", Metadata: map[string]any{"page": 1}}, Chunk{Text: "cats sleep", Source: "b", Metadata: map[string]any{"page": 2}})
	if done.Stored != 0 || done.Skipped != 2 || done.Deleted != 1 {
		t.Errorf("%+v", done)
	}
	env.wantSource(t, agent("ann"), "a", "Dogs are welcome.", "Cats sleep.", "Birds sing.")
	env.wantSource(t, agent("ann"), "b", "Dogs are welcome.", "Cats sleep.")
	for i, e := range env.bySource(t, agent("ann"), "b") {
		if e.Metadata["page"] != json.Number(fmt.Sprint(i+1)) {
			t.Errorf("%+v", e)
		}
	}
	if e := env.bySource(t, agent("ann"), "a")[0]; e.Metadata != nil {
		t.Errorf("%+v", e)
	}
	// Of a, all go: those of b stay.
	if done := replace(chunks("a", "Fish swim.")...); done.Stored != 1 || done.Deleted != 3 {
		t.Errorf("%+v", done)
	}
	env.wantSource(t, agent("ann"), "a", "Fish swim.")
	env.wantSource(t, agent("ann"), "b", "Dogs are welcome.", "Cats sleep.")
	// Both are replaced, and neither has what it shared.
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "Dogs are welcome.", "Cats sleep.")})
	if done := replace(append(chunks("a", "Cats sleep."), chunks("b", "Bees fly.")...)...); done.Stored != 1 || done.Deleted != 4 {
		t.Errorf("%+v", done)
	}
	wantTexts(t, env.texts(t, agent("ann")), "Cats sleep.", "Bees fly.")
	env.wantSource(t, agent("ann"), "a", "Cats sleep.")
	env.wantSource(t, agent("ann"), "b", "Bees fly.")
}

// TestSourcesOfAnEntryAreLimited: a text of more sources is stored again, and no source loses
// it.
func TestSourcesOfAnEntryAreLimited(t *testing.T) {
	env := newTestEnv(t)
	var all []Chunk
	for i := range MaxChunks {
		all = append(all, Chunk{Text: "Dogs are welcome.", Source: fmt.Sprint(i)})
	}
	for range 2 {
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: all})
		if texts := env.texts(t, agent("ann")); len(texts) != MaxChunks/maxSources {
			t.Errorf("%d entries", len(texts))
		}
	}
	if done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("more", "Dogs are welcome.")}); done.Stored != 1 {
		t.Errorf("%+v", done)
	}
	for i := range MaxChunks {
		env.wantSource(t, agent("ann"), fmt.Sprint(i), "Dogs are welcome.")
		if n := env.deleteSource(t, fmt.Sprint(i)); n != 1 {
			t.Errorf("%d deleted", n)
		}
	}
	env.wantSource(t, agent("ann"), "more", "Dogs are welcome.")
}

// TestSourcesFollowTheSwarm: entries that are passed on or copied keep all their sources.
func TestSourcesFollowTheSwarm(t *testing.T) {
	for _, passOn := range []bool{false, true} {
		env := newTestEnv(t)
		for _, source := range []string{"a", "b"} {
			env.ingest(t, IngestRequest{Target: swarm("team"), Chunks: chunks(source, "The team eats cake.", "The team drinks tea.")})
		}
		members := []identity.AgentID{"ann", "bob"}
		if passOn {
			if err := env.PassOn(t.Context(), account, "team", members); err != nil {
				t.Fatal(err)
			}
		}
		err := env.db.Tx(t.Context(), "knowledge.test", func(ctx context.Context, tx *database.Tx) error {
			return env.SwarmDeleted(ctx, tx, account, "team", members)
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range members {
			env.wantSource(t, agent(id), "b", "The team eats cake.", "The team drinks tea.")
		}
		env.deleteSource(t, "a")
		env.wantSource(t, agent("ann"), "b", "The team eats cake.", "The team drinks tea.")
		env.wantSource(t, agent("bob"), "a", "The team eats cake.", "The team drinks tea.")
	}
}

// TestManySharedEntriesPassOn a few at a time.
func TestManySharedEntriesPassOn(t *testing.T) {
	var before, largest int
	env := newObservedEnv(t, func(env *testEnv, kind string) {
		n, err := database.One(context.Background(), env.db, database.Scalar[int], `SELECT count(*) FROM knowledge_sources`)
		if err != nil {
			t.Error(err)
		}
		if kind == "knowledge.pass_on" || kind == "knowledge.ingest" || kind == "knowledge.delete" {
			largest = max(largest, n-before, before-n)
		}
		before = n
	})
	texts := numbered("t", 0)
	for source := range 10 {
		env.ingest(t, IngestRequest{Target: swarm("team"), Chunks: chunks(fmt.Sprint(source), texts...)})
	}
	if err := env.PassOn(t.Context(), account, "team", []identity.AgentID{"ann", "bob"}); err != nil {
		t.Fatal(err)
	}
	if n := env.deleteSource(t, "3"); n != MaxChunks {
		t.Errorf("%d deleted", n)
	}
	env.wantSource(t, agent("bob"), "9", texts...)
	if largest > maxWrittenEntries {
		t.Errorf("a transaction wrote the sources of %d entries", largest)
	}
}

// TestQuotaCountsFurtherSources, whose metadata can be long.
func TestQuotaCountsFurtherSources(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "Dogs are welcome.")})
	env.quota = quotaFunc(func(more int64) error {
		if more != int64(len("b")+len(`{"page":1}`)) {
			t.Errorf("%d bytes more", more)
		}
		return fault.New(fault.PlanLimit, "full")
	})
	in := IngestRequest{Target: agent("ann"), Chunks: []Chunk{{Text: "Dogs are welcome.", Source: "b", Metadata: map[string]any{"page": 1}}}}
	_, err := env.Ingest(t.Context(), actor, in)
	wantFault(t, err, fault.PlanLimit)
	env.wantSource(t, agent("ann"), "b")
	env.quota = nil
	env.ingest(t, in)
	if n := env.storedBytes(t); n != len("Dogs are welcome.")+len("b")+len(`{"page":1}`) {
		t.Errorf("%d bytes", n)
	}
}

// quotaFunc implements Quota.
type quotaFunc func(more int64) error

func (f quotaFunc) CheckStorage(_ context.Context, _ database.Reader, _ identity.AccountID, more int64) error {
	return f(more)
}
