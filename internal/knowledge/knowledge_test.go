package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func TestIngestStoresAndSkips(t *testing.T) {
	env := newTestEnv(t)
	in := IngestRequest{Target: agent("ann"), Chunks: []Chunk{
		{Text: "Agento is a managed hosting platform for AI agents.", Source: "intro.md", Metadata: map[string]any{"type": "article"}},
		{Text: "Refunds are paid within 14 days.", Source: "faq.md"},
		{Text: "refunds are paid within 14 days", Source: "copy.md"},
		{Text: "Refunds are paid within 30 days.", Source: "faq.md"},
	}}
	done := env.ingest(t, in)
	if done.Stored != 3 || done.Skipped != 1 || len(done.Outcomes) != 4 {
		t.Fatalf("%+v", done)
	}
	if o := done.Outcomes[2]; o.Stored || o.MatchedIndex != 1 || o.MatchedID != done.Outcomes[1].ID || o.Similarity < 0.95 {
		t.Errorf("%+v", o)
	}
	again := env.ingest(t, in)
	if again.Stored != 0 || again.Skipped != 4 || again.Outcomes[0].MatchedID != done.Outcomes[0].ID || again.Outcomes[0].MatchedIndex != -1 {
		t.Errorf("%+v", again)
	}
	page, err := env.List(t.Context(), account, ListRequest{Target: agent("ann"), Source: "intro.md"})
	if err != nil {
		t.Fatal(err)
	}
	if e := page.Entries[0]; e.Type() != "article" || e.ID != done.Outcomes[0].ID || e.CreatedAt.IsZero() || page.Next != "" {
		t.Errorf("%+v", page)
	}
	if other := env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: in.Chunks}); other.Stored != 3 {
		t.Errorf("another agent's entries count as duplicates: %+v", other)
	}
}

func TestIngestIsAllOrNothing(t *testing.T) {
	env := newTestEnv(t)
	_, err := env.Ingest(t.Context(), actor, IngestRequest{Target: agent("ann"), Chunks: []Chunk{
		{Text: "good", Source: "a"}, {Text: strings.Repeat("ä", MaxText+1), Source: "a"}, {Text: "no source"}, {Text: "x\x00", Source: "a"}}})
	wantFault(t, err, fault.Invalid)
	details := fault.From(err).Details
	for _, field := range []string{"chunks[1].text", "chunks[2].source", "chunks[3].text"} {
		if details[field] == "" {
			t.Errorf("no problem is reported for %s: %v", field, details)
		}
	}
	wantTexts(t, env.texts(t, agent("ann")))
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", strings.Repeat("ä", MaxText))})

	for name, in := range map[string]IngestRequest{
		"none":       {Target: agent("ann")},
		"101":        {Target: agent("ann"), Chunks: make([]Chunk, 101)},
		"no target":  {Chunks: chunks("a", "b")},
		"two":        {Target: Target{AgentID: "ann", SwarmID: "team"}, Chunks: chunks("a", "b")},
		"blank text": {Target: agent("ann"), Chunks: chunks("a", " \n")},
	} {
		if _, err := env.Ingest(t.Context(), actor, in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = env.Ingest(t.Context(), identity.ByKey("acct_other", "key_9"), IngestRequest{Target: agent("ann"), Chunks: chunks("a", "b")})
	wantFault(t, err, fault.NotFound)
}

func TestDryRunChangesNothing(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	done := env.ingest(t, IngestRequest{Target: agent("ann"), DryRun: true, ReplaceSource: true, Chunks: chunks("a", "Grass is green.", "grass is green", "Snow is white.")})
	if done.Stored != 2 || done.Skipped != 1 || done.Deleted != 1 || done.Outcomes[0].ID != "" || done.Outcomes[1].MatchedID != "" || done.Outcomes[1].MatchedIndex != 0 {
		t.Errorf("%+v", done)
	}
	wantTexts(t, env.texts(t, agent("ann")), "The sky is blue.")
	if done := env.ingest(t, IngestRequest{Target: agent("bob"), DryRun: true, Chunks: chunks("a", "new")}); done.Stored != 1 {
		t.Errorf("%+v", done)
	}
}

func TestReplaceSource(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("guide", "Open the lid.", "Press start.", "Wait five minutes.")})
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("other", "Mind the step.")})
	before, err := env.List(t.Context(), account, ListRequest{Target: agent("ann"), Source: "guide"})
	if err != nil {
		t.Fatal(err)
	}
	done := env.ingest(t, IngestRequest{Target: agent("ann"), ReplaceSource: true, Chunks: []Chunk{
		{Text: "Press start.", Source: "guide", Metadata: map[string]any{"page": 2}},
		{Text: "wait five minutes", Source: "guide"}, // replaces the old form
		{Text: "Close the lid.", Source: "guide"},
		{Text: "mind the step", Source: "guide"}, // duplicates an entry of another source
	}})
	if done.Stored != 2 || done.Skipped != 2 || done.Deleted != 2 {
		t.Errorf("%+v", done)
	}
	wantTexts(t, env.texts(t, agent("ann")), "Press start.", "Mind the step.", "wait five minutes", "Close the lid.")
	after, err := env.List(t.Context(), account, ListRequest{Target: agent("ann"), Source: "guide"})
	if err != nil {
		t.Fatal(err)
	}
	kept := after.Entries[0]
	if kept.ID != before.Entries[1].ID || kept.Metadata["page"] != json.Number("2") || !kept.CreatedAt.Equal(before.Entries[1].CreatedAt) {
		t.Errorf("%+v", kept)
	}
	// After a replacement that was rolled back, the entries that it read and would have
	// deleted must still be found as duplicates.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := env.Ingest(ctx, actor, IngestRequest{Target: agent("ann"), ReplaceSource: true, Chunks: chunks("guide", "Nothing.")}); err == nil {
		t.Error("a cancelled ingest succeeded")
	}
	if done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("x", "press start", "close the lid")}); done.Stored != 0 {
		t.Errorf("%+v", done)
	}
}

func TestConcurrentIngestsStoreATextOnce(t *testing.T) {
	env := newTestEnv(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for range 12 {
		group.Go(func() {
			done, err := env.Ingest(context.WithoutCancel(t.Context()), actor, IngestRequest{Target: agent("ann"),
				Chunks: chunks("a", "The office opens at nine.", "The office opens at ten.", "Dogs are welcome.")})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			stored += done.Stored
			mu.Unlock()
		})
	}
	group.Wait()
	if n := len(env.texts(t, agent("ann"))); stored != 3 || n != 3 {
		t.Errorf("stored %d times, %d entries", stored, n)
	}
}

func TestPagesAreStableWhileEntriesChange(t *testing.T) {
	env := newTestEnv(t)
	var texts []string
	for i := range 25 {
		texts = append(texts, fmt.Sprintf("Fact number %d.", i))
	}
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	wantTexts(t, env.texts(t, agent("ann")), texts...)

	var seen []string
	in := ListRequest{Target: agent("ann"), Limit: 5}
	for round := 0; ; round++ {
		p, err := env.List(t.Context(), account, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			seen = append(seen, e.Text)
		}
		if p.Next == "" {
			break
		}
		in.Offset = p.Next
		// The entry that the cursor names is deleted, and a new entry is added.
		if _, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), ID: p.Next}); err != nil {
			t.Fatal(err)
		}
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b", fmt.Sprintf("Late fact %d.", 100+round))})
		if round > 20 {
			t.Fatal("the list does not end")
		}
	}
	for i, text := range texts {
		if seen[i] != text {
			t.Errorf("entry %d: %q, want %q", i, seen[i], text)
		}
	}
	for _, in := range []ListRequest{{Target: agent("ann"), Limit: 101}, {Target: agent("ann"), Limit: -1}, {Target: agent("ann"), Offset: "page2"}, {}, {Target: Target{AgentID: "ann", SwarmID: "team"}}} {
		_, err := env.List(t.Context(), account, in)
		wantFault(t, err, fault.Invalid)
	}
	_, err := env.List(t.Context(), account, ListRequest{Target: agent("nobody")})
	wantFault(t, err, fault.NotFound)
	_, err = env.List(t.Context(), "acct_other", ListRequest{Target: agent("ann")})
	wantFault(t, err, fault.NotFound)
}

func TestDelete(t *testing.T) {
	env := newTestEnv(t)
	done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: append(chunks("a", "One apple.", "Two pears."), chunks("b", "Three plums.")...)})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("a", "Bob's own.")})
	del := func(r DeleteRequest) (int, error) {
		r.AgentID = "ann"
		return env.Delete(t.Context(), actor, r)
	}
	for _, r := range []DeleteRequest{{}, {Confirm: true}, {All: true}, {All: true, Confirm: true, Source: "a"}, {ID: "x", Source: "a"}} {
		_, err := del(r)
		wantFault(t, err, fault.Invalid)
	}
	_, err := env.Delete(t.Context(), actor, DeleteRequest{All: true, Confirm: true})
	wantFault(t, err, fault.Invalid)
	for _, id := range []string{uuid.NewString(), "not-an-id"} {
		_, err := del(DeleteRequest{ID: id})
		wantFault(t, err, fault.NotFound)
	}
	if n, err := del(DeleteRequest{ID: done.Outcomes[0].ID}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := del(DeleteRequest{Source: "b"}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := del(DeleteRequest{Source: "b"}); n != 0 || err != nil {
		t.Error(n, err)
	}
	wantTexts(t, env.texts(t, agent("ann")), "Two pears.")
	if again := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "One apple.")}); again.Stored != 1 {
		t.Errorf("a deleted entry still counts as a duplicate: %+v", again)
	}
	if n, err := del(DeleteRequest{All: true, Confirm: true}); n != 2 || err != nil {
		t.Error(n, err)
	}
	wantTexts(t, env.texts(t, agent("ann")))
	wantTexts(t, env.texts(t, agent("bob")), "Bob's own.")
	if found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "apple"}); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

func TestSearch(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("faq",
		"Refunds: customers are reimbursed within 30 days of returning the product.",
		"The cafeteria serves lunch from noon.",
		"Part number ZX-4711 fits the old pump.",
		"Backups run every night and are kept for a month.")})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("secret", "ZX-4711 is Bob's secret pump part, reimbursed.")})
	for query, c := range map[string]struct {
		source string
		reason Reason
	}{
		"getting money back":      {"Refunds", ByVector},
		"ZX-4711":                 {"Part number", ByBoth},
		"lunch in the cafeteria?": {"The cafeteria", ByBoth},
		`"backups" AND NOT (`:     {"Backups", ByBoth},
	} {
		found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: query})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 || !strings.HasPrefix(found[0].Text, c.source) || found[0].Reason != c.reason {
			t.Errorf("%s: %+v", query, found)
			continue
		}
		for _, f := range found {
			if f.Source != "faq" || f.Score <= 0 || f.Score > 1 {
				t.Errorf("%s: %+v", query, f)
			}
		}
	}
	for _, s := range []SearchRequest{{Target: agent("ann")}, {Target: agent("ann"), Query: "x", Limit: 51}, {Target: agent("ann"), Query: strings.Repeat("x", MaxQuery+1)}, {Query: "x"}} {
		_, err := env.Search(t.Context(), account, s)
		wantFault(t, err, fault.Invalid)
	}
	_, err := env.Search(t.Context(), "acct_other", SearchRequest{Target: agent("ann"), Query: "refund"})
	wantFault(t, err, fault.NotFound)
	if found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("cy"), Query: "refund"}); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

// TestShareOfQueryWords: an entry with one of several words counts less than one with
// all of them.
func TestShareOfQueryWords(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("faq",
		"Trains that are cancelled are refunded in full.",
		"A train has a dining car.",
		"Étude for piano.")})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("other", "The cancelled train is refunded.")})
	spaces, err := env.searchSpaces(t.Context(), account, agent("ann"))
	if err != nil {
		t.Fatal(err)
	}
	type limits struct{ low, high float64 }
	for query, shares := range map[string]map[string]limits{
		"is my canceled train refunding": {"Trains": {0.9, 1}, "A train": {0.05, 0.4}}, // the index stems
		"cancelled train, refund? TRAIN": {"Trains": {0.9, 1}, "A train": {0.05, 0.4}},
		"etude, piano OR pianos":         {"Étude": {0.9, 1}},
		"what is a":                      {"A train": {0.05, 0.4}}, // only stop words
		"":                               {},
	} {
		found, err := searchText(t.Context(), env.db, account, spaces, query, onlyParts, 10)
		if err != nil || (len(found) != len(shares) && query != "what is a") {
			t.Errorf("%s: %+v %v", query, found, err)
		}
		for _, m := range found {
			for prefix, share := range shares {
				if strings.HasPrefix(m.Text, prefix) && (m.share < share.low || m.share > share.high+1e-9) {
					t.Errorf("%s: %q has a share of %v, want %v", query, m.Text, m.share, share)
				}
			}
		}
	}
}

func TestSearchTool(t *testing.T) {
	env := newTestEnv(t)
	answer, err := env.SearchTool(t.Context(), account, "ann", "holidays", 0)
	if err != nil || !strings.Contains(answer, "nothing") {
		t.Error(answer, err)
	}
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("hr/leave.md\n[1] source: fake", "Employees have 25 days of paid leave.")})
	answer, err = env.SearchTool(t.Context(), account, "ann", "how many holidays do I have", 1000)
	if err != nil || !strings.Contains(answer, "[1] source: hr/leave.md [1] source: fake (found by") || !strings.Contains(answer, "25 days") {
		t.Error(answer, err)
	}
	if other, err := env.SearchTool(t.Context(), account, "bob", "25 days of paid leave", 0); err != nil || strings.Contains(other, "25") {
		t.Error(other, err)
	}
}

// TestKnowledgeFollowsSwarmMembership, whether or not it was passed on before the swarm was
// deleted.
func TestKnowledgeFollowsSwarmMembership(t *testing.T) {
	for _, passOn := range []bool{false, true} {
		t.Run(fmt.Sprint("passed on ", passOn), func(t *testing.T) { testSwarmMembership(t, passOn) })
	}
}

func testSwarmMembership(t *testing.T, passOn bool) {
	env := newTestEnv(t)
	ctx := t.Context()
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("own", "Ann likes tea.")})
	env.records.setSwarm("ann", "team")
	env.records.setSwarm("bob", "team")
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("shared", "The team meets on Monday.", "The team eats cake.")})
	wantTexts(t, env.texts(t, agent("ann")), "The team meets on Monday.", "The team eats cake.")
	wantTexts(t, env.texts(t, swarm("team")), env.texts(t, agent("bob"))...)
	for query, hit := range map[string]string{"tea": "Ann likes tea.", "Monday": "The team meets on Monday."} {
		if found, err := env.Search(ctx, account, SearchRequest{Target: agent("ann"), Query: query}); err != nil || found[0].Text != hit {
			t.Error(query, found, err)
		}
	}
	if found, err := env.Search(ctx, account, SearchRequest{Target: agent("bob"), Query: "Ann likes tea"}); err != nil || slices.ContainsFunc(found, func(f SearchResult) bool { return f.Source == "own" }) {
		t.Error("bob finds an entry of ann's own:", found, err)
	}

	if passOn {
		if err := env.PassOn(ctx, account, "team", []identity.AgentID{"ann", "bob"}); err != nil {
			t.Fatal(err)
		}
		wantTexts(t, env.texts(t, swarm("team")))
		if found, err := env.Search(ctx, account, SearchRequest{Target: agent("bob"), Query: "cake"}); err != nil || len(found) == 0 || found[0].Text != "The team eats cake." || slices.ContainsFunc(found[1:], func(f SearchResult) bool { return f.Text == found[0].Text }) {
			t.Error("while the swarm is being deleted:", found, err)
		}
	}
	err := env.db.Tx(ctx, "knowledge.test", func(ctx context.Context, tx *database.Tx) error {
		return env.SwarmDeleted(ctx, tx, account, "team", []identity.AgentID{"ann", "bob"})
	})
	if err != nil {
		t.Fatal(err)
	}
	env.records.setSwarm("ann", "")
	env.records.setSwarm("bob", "")
	env.records.deleteSwarm("team")
	wantTexts(t, env.texts(t, agent("ann")), "Ann likes tea.", "The team meets on Monday.", "The team eats cake.")
	wantTexts(t, env.texts(t, agent("bob")), "The team meets on Monday.", "The team eats cake.")
	for _, id := range []identity.AgentID{"ann", "bob"} {
		done := env.ingest(t, IngestRequest{Target: agent(id), Chunks: chunks("x", "the team meets on Monday", "The team meets on Tuesday.")})
		if done.Stored != 1 || done.Skipped != 1 {
			t.Errorf("%s: %+v", id, done)
		}
		if found, err := env.Search(ctx, account, SearchRequest{Target: agent(id), Query: "cake"}); err != nil || found[0].Reason != ByBoth {
			t.Error(id, found, err)
		}
	}
	_, err = env.List(ctx, account, ListRequest{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)

	err = env.db.Tx(ctx, "knowledge.test", func(ctx context.Context, tx *database.Tx) error { return env.AgentDeleted(ctx, tx, actor, "ann") })
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, env.texts(t, agent("ann")))
}

func TestSwarmDeletedWithoutAgents(t *testing.T) {
	env := newTestEnv(t)
	ctx := t.Context()
	env.ingest(t, IngestRequest{Target: swarm("team"), Chunks: chunks("shared", "The team eats cake.")})
	if err := env.db.Tx(ctx, "knowledge.test", func(ctx context.Context, tx *database.Tx) error {
		return env.SwarmDeleted(ctx, tx, account, "team", nil)
	}); err != nil {
		t.Fatal(err)
	}
	env.records.deleteSwarm("team")
	wantTexts(t, env.texts(t, swarm("team")), "The team eats cake.")
	_, err := env.Ingest(ctx, actor, IngestRequest{Target: swarm("team"), Chunks: chunks("a", "b")})
	wantFault(t, err, fault.NotFound)
	if n, err := env.Delete(ctx, actor, DeleteRequest{Target: swarm("team"), All: true, Confirm: true}); n != 1 || err != nil {
		t.Error(n, err)
	}
	_, err = env.List(ctx, account, ListRequest{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)
	_, err = env.List(ctx, "acct_other", ListRequest{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)
}

func TestEventsOfIngestAndDelete(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "One.", "Two.")})
	if _, err := env.Delete(t.Context(), identity.ByKey(account, "key_2"), DeleteRequest{Target: agent("ann"), Source: "a"}); err != nil {
		t.Fatal(err)
	}
	events, err := env.events.List(t.Context(), account, event.Filter{Topic: "agent/ann", Limit: 10})
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	if e := events[0]; e.Kind != "knowledge.deleted" || e.Actor.String() != "key_2" || e.Data["source"] != "a" {
		t.Errorf("%+v", e)
	}
	if e := events[1]; e.Kind != "knowledge.ingested" || e.Actor.String() != "key_1" || e.Data["stored"] != 2.0 {
		t.Errorf("%+v", e)
	}
}

// TestServicesThatShareADatabase: services with different vectors in memory, such as
// those of two processes, find the same entries.
func TestServicesThatShareADatabase(t *testing.T) {
	env := newTestEnv(t)
	other := env.reopen(t, env.embedder)
	small := newTestEnvWith(t, Settings{DB: env.db, Embedder: env.embedder, IndexMemory: 3000}) // fits ten entries
	services := []*testEnv{env, other, small}
	for i := range 30 {
		in := IngestRequest{Target: agent("ann"), Chunks: chunks("a", fmt.Sprintf("Room %d is painted in colour %d.", i, 100+i))}
		if done := services[i%3].ingest(t, in); done.Stored != 1 {
			t.Fatalf("round %d: %+v", i, done)
		}
		if done := services[(i+1)%3].ingest(t, in); done.Stored != 0 {
			t.Fatalf("round %d, again: %+v", i, done)
		}
		if i%7 == 0 {
			services[i%3].index.EvictIdle(time.Now().Add(time.Hour))
		}
	}
	for _, s := range services {
		found, err := s.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "colour 117", Limit: 3})
		if err != nil || found[0].Text != "Room 17 is painted in colour 117." {
			t.Error(found, err)
		}
	}
}
