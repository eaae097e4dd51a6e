package knowledge

import (
	"agento.host/agento/internal/identity"

	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/embed"
)

const account = "acct_test"

// world is a service with agents and swarms made up by the test.
type world struct {
	*Service
	mu     sync.Mutex
	agents map[string]string // agent -> swarm, "" for none; guarded by mu
	swarms map[string]bool   // guarded by mu
}

// Resolve implements Scopes.
func (w *world) Resolve(_ context.Context, accountID, agentID, swarmID string) (Scope, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	swarm, known := w.agents[agentID]
	switch {
	case accountID == account && swarmID != "" && w.swarms[swarmID]:
		return Scope{Swarm, swarmID}, nil
	case accountID == account && known && swarm != "":
		return Scope{Swarm, swarm}, nil
	case accountID == account && known:
		return Scope{Agent, agentID}, nil
	}
	return Scope{}, fault.New(fault.NotFound, "no such thing")
}

func (w *world) join(agent, swarm string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agents[agent] = swarm
}

func newWorld(t testing.TB) *world {
	t.Helper()
	e, err := embed.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return worldWith(t, databasetest.New(t), e)
}

func worldWith(t testing.TB, db *database.DB, e embed.Embedder) *world {
	w := &world{agents: map[string]string{"ann": "", "bob": "", "cy": ""}, swarms: map[string]bool{"team": true}}
	w.Service = New(Settings{DB: db, Events: event.NewLog(db), Scopes: w, Embedder: e, Log: slog.New(slog.DiscardHandler)})
	return w
}

func agent(id string) Target { return Target{AgentID: id} }
func swarm(id string) Target { return Target{SwarmID: id} }

func chunks(source string, texts ...string) []Chunk {
	all := make([]Chunk, len(texts))
	for i, text := range texts {
		all[i] = Chunk{Text: text, Source: source}
	}
	return all
}

func (w *world) mustIngest(t testing.TB, in Ingest) Ingested {
	t.Helper()
	done, err := w.Ingest(context.WithoutCancel(t.Context()), account, "key_1", in)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func (w *world) texts(t testing.TB, target Target) []string {
	t.Helper()
	var all []string
	l := List{Target: target, Limit: 3}
	for {
		p, err := w.List(t.Context(), account, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			all = append(all, e.Text)
		}
		if l.Offset = p.Next; p.Next == "" {
			return all
		}
	}
}

func want(t testing.TB, got []string, texts ...string) {
	t.Helper()
	if !slices.Equal(got, texts) {
		t.Errorf("got %q, want %q", got, texts)
	}
}

func wantFault(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Errorf("got %v, want a fault %s", err, code)
	}
}

func TestIngestStoresAndSkips(t *testing.T) {
	w := newWorld(t)
	in := Ingest{Target: agent("ann"), Chunks: []Chunk{
		{Text: "Agento is a managed hosting platform for AI agents.", Source: "intro.md", Metadata: map[string]any{"type": "article"}},
		{Text: "Refunds are paid within 14 days.", Source: "faq.md"},
		{Text: "refunds are paid within 14 days", Source: "copy.md"},
		{Text: "Refunds are paid within 30 days.", Source: "faq.md"},
	}}
	done := w.mustIngest(t, in)
	if done.Stored != 3 || done.Skipped != 1 || len(done.Outcomes) != 4 {
		t.Fatalf("%+v", done)
	}
	if o := done.Outcomes[2]; o.Stored || o.MatchedIndex != 1 || o.MatchedID != done.Outcomes[1].ID || o.Similarity < 0.95 {
		t.Errorf("%+v", o)
	}
	again := w.mustIngest(t, in)
	if again.Stored != 0 || again.Skipped != 4 || again.Outcomes[0].MatchedID != done.Outcomes[0].ID || again.Outcomes[0].MatchedIndex != -1 {
		t.Errorf("%+v", again)
	}
	page, err := w.List(t.Context(), account, List{Target: agent("ann"), Source: "intro.md"})
	if err != nil {
		t.Fatal(err)
	}
	if e := page.Entries[0]; e.Type() != "article" || e.ID != done.Outcomes[0].ID || e.CreatedAt.IsZero() || page.Next != "" {
		t.Errorf("%+v", page)
	}
	if other := w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: in.Chunks}); other.Stored != 3 {
		t.Errorf("another agent's entries count: %+v", other)
	}
}

func TestIngestIsAllOrNothing(t *testing.T) {
	w := newWorld(t)
	_, err := w.Ingest(t.Context(), account, "key_1", Ingest{Target: agent("ann"), Chunks: []Chunk{
		{Text: "good", Source: "a"}, {Text: strings.Repeat("ä", MaxText+1), Source: "a"}, {Text: "no source"}, {Text: "x\x00", Source: "a"}}})
	wantFault(t, err, fault.Invalid)
	details := fault.From(err).Details
	for _, field := range []string{"chunks[1].text", "chunks[2].source", "chunks[3].text"} {
		if details[field] == "" {
			t.Errorf("%s is not named: %v", field, details)
		}
	}
	want(t, w.texts(t, agent("ann")))
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", strings.Repeat("ä", MaxText))})

	for name, in := range map[string]Ingest{
		"none":       {Target: agent("ann")},
		"101":        {Target: agent("ann"), Chunks: make([]Chunk, 101)},
		"no target":  {Chunks: chunks("a", "b")},
		"two":        {Target: Target{"ann", "team"}, Chunks: chunks("a", "b")},
		"blank text": {Target: agent("ann"), Chunks: chunks("a", " \n")},
	} {
		if _, err := w.Ingest(t.Context(), account, "key_1", in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = w.Ingest(t.Context(), "acct_other", "key_9", Ingest{Target: agent("ann"), Chunks: chunks("a", "b")})
	wantFault(t, err, fault.NotFound)
}

func TestDryRunChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	done := w.mustIngest(t, Ingest{Target: agent("ann"), DryRun: true, ReplaceSource: true, Chunks: chunks("a", "Grass is green.", "Grass is green!", "Snow is white.")})
	if done.Stored != 2 || done.Skipped != 1 || done.Deleted != 1 || done.Outcomes[0].ID != "" || done.Outcomes[1].MatchedID != "" || done.Outcomes[1].MatchedIndex != 0 {
		t.Errorf("%+v", done)
	}
	want(t, w.texts(t, agent("ann")), "The sky is blue.")
	if done := w.mustIngest(t, Ingest{Target: agent("bob"), DryRun: true, Chunks: chunks("a", "new")}); done.Stored != 1 {
		t.Errorf("%+v", done)
	}
}

func TestReplaceSource(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("guide", "Open the lid.", "Press start.", "Wait five minutes.")})
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("other", "Mind the step.")})
	before, err := w.List(t.Context(), account, List{Target: agent("ann"), Source: "guide"})
	if err != nil {
		t.Fatal(err)
	}
	done := w.mustIngest(t, Ingest{Target: agent("ann"), ReplaceSource: true, Chunks: []Chunk{
		{Text: "Press start.", Source: "guide", Metadata: map[string]any{"page": 2}},
		{Text: "WAIT FIVE MINUTES", Source: "guide"}, // the form has changed: the new one stays
		{Text: "Close the lid.", Source: "guide"},
		{Text: "Mind the step!", Source: "guide"}, // another source has it
	}})
	if done.Stored != 2 || done.Skipped != 2 || done.Deleted != 2 {
		t.Errorf("%+v", done)
	}
	want(t, w.texts(t, agent("ann")), "Press start.", "Mind the step.", "WAIT FIVE MINUTES", "Close the lid.")
	after, err := w.List(t.Context(), account, List{Target: agent("ann"), Source: "guide"})
	if err != nil {
		t.Fatal(err)
	}
	kept := after.Entries[0]
	if kept.ID != before.Entries[1].ID || kept.Metadata["page"] != 2.0 || !kept.CreatedAt.Equal(before.Entries[1].CreatedAt) {
		t.Errorf("%+v", kept)
	}
	// What was undone must still be known: the failed replacement below reads the
	// rows that it would delete.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Ingest(ctx, account, "key_1", Ingest{Target: agent("ann"), ReplaceSource: true, Chunks: chunks("guide", "Nothing.")}); err == nil {
		t.Error("a cancelled ingest worked")
	}
	if done := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("x", "Press start!", "Close the lid!")}); done.Stored != 0 {
		t.Errorf("%+v", done)
	}
}

func TestOneTextAtOnceIsStoredOnce(t *testing.T) {
	w := newWorld(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	stored := 0
	for range 12 {
		group.Go(func() {
			done, err := w.Ingest(context.WithoutCancel(t.Context()), account, "key_1", Ingest{Target: agent("ann"),
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
	if n := len(w.texts(t, agent("ann"))); stored != 3 || n != 3 {
		t.Errorf("stored %d times, %d entries", stored, n)
	}
}

func TestListIsStable(t *testing.T) {
	w := newWorld(t)
	var texts []string
	for i := range 25 {
		texts = append(texts, fmt.Sprintf("Fact number %d.", i))
	}
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	want(t, w.texts(t, agent("ann")), texts...)

	var seen []string
	l := List{Target: agent("ann"), Limit: 5}
	for round := 0; ; round++ {
		p, err := w.List(t.Context(), account, l)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			seen = append(seen, e.Text)
		}
		if p.Next == "" {
			break
		}
		l.Offset = p.Next
		// The cursor's own entry goes, one not yet seen goes, a new one comes.
		for _, id := range []string{p.Next} {
			if _, err := w.Remove(t.Context(), account, "key_1", Remove{Target: agent("ann"), ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("b", fmt.Sprintf("Late fact %d.", 100+round))})
		if round > 20 {
			t.Fatal("the list never ends")
		}
	}
	for i, text := range texts {
		if seen[i] != text {
			t.Errorf("place %d: %q, want %q", i, seen[i], text)
		}
	}
	for _, l := range []List{{Target: agent("ann"), Limit: 101}, {Target: agent("ann"), Limit: -1}, {Target: agent("ann"), Offset: "page2"}, {}, {Target: Target{"ann", "team"}}} {
		_, err := w.List(t.Context(), account, l)
		wantFault(t, err, fault.Invalid)
	}
	_, err := w.List(t.Context(), account, List{Target: agent("nobody")})
	wantFault(t, err, fault.NotFound)
	_, err = w.List(t.Context(), "acct_other", List{Target: agent("ann")})
	wantFault(t, err, fault.NotFound)
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	done := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: append(chunks("a", "One apple.", "Two pears."), chunks("b", "Three plums.")...)})
	w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: chunks("a", "Bob's own.")})
	remove := func(r Remove) (int, error) {
		r.AgentID = "ann"
		return w.Remove(t.Context(), account, "key_1", r)
	}
	for _, r := range []Remove{{}, {Confirm: true}, {All: true}, {All: true, Confirm: true, Source: "a"}, {ID: "x", Source: "a"}} {
		_, err := remove(r)
		wantFault(t, err, fault.Invalid)
	}
	_, err := w.Remove(t.Context(), account, "key_1", Remove{All: true, Confirm: true})
	wantFault(t, err, fault.Invalid)
	for _, id := range []string{uuid.NewString(), "not-an-id"} {
		_, err := remove(Remove{ID: id})
		wantFault(t, err, fault.NotFound)
	}
	if n, err := remove(Remove{ID: done.Outcomes[0].ID}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := remove(Remove{Source: "b"}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if n, err := remove(Remove{Source: "b"}); n != 0 || err != nil {
		t.Error(n, err)
	}
	want(t, w.texts(t, agent("ann")), "Two pears.")
	if again := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "One apple.")}); again.Stored != 1 {
		t.Errorf("a deleted entry still counts: %+v", again)
	}
	if n, err := remove(Remove{All: true, Confirm: true}); n != 2 || err != nil {
		t.Error(n, err)
	}
	want(t, w.texts(t, agent("ann")))
	want(t, w.texts(t, agent("bob")), "Bob's own.")
	if found, err := w.Search(t.Context(), account, Search{Target: agent("ann"), Query: "apple"}); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("faq",
		"Refunds: customers are reimbursed within 30 days of returning the product.",
		"The cafeteria serves lunch from noon.",
		"Part number ZX-4711 fits the old pump.",
		"Backups run every night and are kept for a month.")})
	w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: chunks("secret", "ZX-4711 is Bob's secret pump part, reimbursed.")})
	for query, c := range map[string]struct {
		source string
		reason Reason
	}{
		"getting money back":      {"Refunds", ByVector},
		"ZX-4711":                 {"Part number", ByBoth},
		"lunch in the cafeteria?": {"The cafeteria", ByBoth},
		`"backups" AND NOT (`:     {"Backups", ByBoth},
	} {
		found, err := w.Search(t.Context(), account, Search{Target: agent("ann"), Query: query})
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
	for _, s := range []Search{{Target: agent("ann")}, {Target: agent("ann"), Query: "x", Limit: 51}, {Target: agent("ann"), Query: strings.Repeat("x", MaxQuery+1)}, {Query: "x"}} {
		_, err := w.Search(t.Context(), account, s)
		wantFault(t, err, fault.Invalid)
	}
	_, err := w.Search(t.Context(), "acct_other", Search{Target: agent("ann"), Query: "refund"})
	wantFault(t, err, fault.NotFound)
	if found, err := w.Search(t.Context(), account, Search{Target: agent("cy"), Query: "refund"}); err != nil || len(found) != 0 {
		t.Error(found, err)
	}
}

// What shares one word of many by chance counts for less than what has them all.
func TestWordsInCommonCount(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("faq",
		"Trains that are cancelled are refunded in full.",
		"A train has a dining car.",
		"Étude for piano.")})
	w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: chunks("other", "The cancelled train is refunded.")})
	spaces, err := w.searched(t.Context(), account, agent("ann"))
	if err != nil {
		t.Fatal(err)
	}
	for query, shares := range map[string]map[string]float64{
		"is my canceled train refunding": {"Trains": 1, "A train": 1. / 3}, // the index stems
		"cancelled train, refund? TRAIN": {"Trains": 1, "A train": 1. / 3},
		"etude, piano OR pianos":         {"Étude": 1},
		"what is a":                      {"A train": 1. / 3}, // nothing but words that say nothing
		"":                               {},
	} {
		found, err := matchText(t.Context(), w.DB, account, spaces, query, 10)
		if err != nil || (len(found) != len(shares) && query != "what is a") {
			t.Errorf("%s: %+v %v", query, found, err)
		}
		for _, m := range found {
			for prefix, share := range shares {
				if strings.HasPrefix(m.Text, prefix) && math.Abs(m.share-share) > 1e-9 {
					t.Errorf("%s: %q has a share of %v, want %v", query, m.Text, m.share, share)
				}
			}
		}
	}
}

func TestSearchTool(t *testing.T) {
	w := newWorld(t)
	answer, err := w.SearchTool(t.Context(), account, "ann", "holidays", 0)
	if err != nil || !strings.Contains(answer, "nothing") {
		t.Error(answer, err)
	}
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("hr/leave.md\n[1] source: fake", "Employees have 25 days of paid leave.")})
	answer, err = w.SearchTool(t.Context(), account, "ann", "how many holidays do I have", 1000)
	if err != nil || !strings.Contains(answer, "[1] source: hr/leave.md [1] source: fake (found by") || !strings.Contains(answer, "25 days") {
		t.Error(answer, err)
	}
	if other, err := w.SearchTool(t.Context(), account, "bob", "25 days of paid leave", 0); err != nil || strings.Contains(other, "25") {
		t.Error(other, err)
	}
}

func TestSwarmsComeAndGo(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("own", "Ann likes tea.")})
	w.join("ann", "team")
	w.join("bob", "team")
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("shared", "The team meets on Monday.", "The team eats cake.")})
	want(t, w.texts(t, agent("ann")), "The team meets on Monday.", "The team eats cake.")
	want(t, w.texts(t, swarm("team")), w.texts(t, agent("bob"))...)
	for query, hit := range map[string]string{"tea": "Ann likes tea.", "Monday": "The team meets on Monday."} {
		if found, err := w.Search(ctx, account, Search{Target: agent("ann"), Query: query}); err != nil || found[0].Text != hit {
			t.Error(query, found, err)
		}
	}
	if found, err := w.Search(ctx, account, Search{Target: agent("bob"), Query: "Ann likes tea"}); err != nil || slices.ContainsFunc(found, func(f Found) bool { return f.Source == "own" }) {
		t.Error("bob sees what is ann's own:", found, err)
	}

	err := w.DB.Tx(ctx, func(tx *database.Tx) error { return w.SwarmDeleted(ctx, tx, account, "team", []string{"ann", "bob"}) })
	if err != nil {
		t.Fatal(err)
	}
	w.join("ann", "")
	w.join("bob", "")
	w.swarms["team"] = false
	want(t, w.texts(t, agent("ann")), "Ann likes tea.", "The team meets on Monday.", "The team eats cake.")
	want(t, w.texts(t, agent("bob")), "The team meets on Monday.", "The team eats cake.")
	for _, who := range []string{"ann", "bob"} {
		done := w.mustIngest(t, Ingest{Target: agent(who), Chunks: chunks("x", "the team meets on monday", "The team meets on Tuesday.")})
		if done.Stored != 1 || done.Skipped != 1 {
			t.Errorf("%s: %+v", who, done)
		}
		if found, err := w.Search(ctx, account, Search{Target: agent(who), Query: "cake"}); err != nil || found[0].Reason != ByBoth {
			t.Error(who, found, err)
		}
	}
	_, err = w.List(ctx, account, List{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)

	err = w.DB.Tx(ctx, func(tx *database.Tx) error { return w.AgentDeleted(ctx, tx, account, "ann") })
	if err != nil {
		t.Fatal(err)
	}
	want(t, w.texts(t, agent("ann")))
}

func TestSwarmDeletedWithoutAgents(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.mustIngest(t, Ingest{Target: swarm("team"), Chunks: chunks("shared", "The team eats cake.")})
	if err := w.DB.Tx(ctx, func(tx *database.Tx) error { return w.SwarmDeleted(ctx, tx, account, "team", nil) }); err != nil {
		t.Fatal(err)
	}
	w.swarms["team"] = false
	want(t, w.texts(t, swarm("team")), "The team eats cake.")
	_, err := w.Ingest(ctx, account, "key_1", Ingest{Target: swarm("team"), Chunks: chunks("a", "b")})
	wantFault(t, err, fault.NotFound)
	if n, err := w.Remove(ctx, account, "key_1", Remove{Target: swarm("team"), All: true, Confirm: true}); n != 1 || err != nil {
		t.Error(n, err)
	}
	_, err = w.List(ctx, account, List{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)
	_, err = w.List(ctx, "acct_other", List{Target: swarm("team")})
	wantFault(t, err, fault.NotFound)
}

func TestEventsTell(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "One.", "Two.")})
	if _, err := w.Remove(t.Context(), account, "key_2", Remove{Target: agent("ann"), Source: "a"}); err != nil {
		t.Fatal(err)
	}
	events, err := w.Events.List(t.Context(), identity.AccountID(account), event.Filter{Topic: "agent/ann", Limit: 10})
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

// A second process, or one that forgot its vectors, finds the same.
func TestTwoServicesOnOneDatabase(t *testing.T) {
	w := newWorld(t)
	other := worldWith(t, w.DB, w.Embedder)
	small := worldWith(t, w.DB, w.Embedder)
	small.index = newExactIndex(3000, time.Minute) // holds ten entries
	services := []*world{w, other, small}
	for i := range 30 {
		in := Ingest{Target: agent("ann"), Chunks: chunks("a", fmt.Sprintf("Room %d is painted in colour %d.", i, 100+i))}
		if done := services[i%3].mustIngest(t, in); done.Stored != 1 {
			t.Fatalf("round %d: %+v", i, done)
		}
		if done := services[(i+1)%3].mustIngest(t, in); done.Stored != 0 {
			t.Fatalf("round %d, again: %+v", i, done)
		}
		if i%7 == 0 {
			services[i%3].index.Tidy(time.Now().Add(time.Hour))
		}
	}
	for _, s := range services {
		found, err := s.Search(t.Context(), account, Search{Target: agent("ann"), Query: "colour 117", Limit: 3})
		if err != nil || found[0].Text != "Room 17 is painted in colour 117." {
			t.Error(found, err)
		}
	}
}
