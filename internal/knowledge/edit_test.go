package knowledge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func (env *testEnv) edit(t *testing.T, in EditRequest) Details {
	t.Helper()
	in.Target = agent("ann")
	d, err := env.Edit(t.Context(), actor, in)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (env *testEnv) searchFirst(t *testing.T, query string) string {
	t.Helper()
	found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: query})
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0].Text
}

func TestEditKeepsWhatIsNotChanged(t *testing.T) {
	env := newTestEnv(t)
	id := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: []Chunk{{Text: "Refunds take five days.", Source: "a.md", Metadata: map[string]any{"type": "faq"}}}}).Outcomes[0].ID
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b.md", "Refunds take five days.", "The shop is in Berlin.")})
	text := "Elephants need nine days."
	d := env.edit(t, EditRequest{ID: id, Text: &text})
	if d.ID != id || d.Text != text || d.Source != "a.md" || d.Metadata["type"] != "faq" || len(d.Further) != 1 || d.Further[0].Source != "b.md" {
		t.Errorf("%+v", d)
	}
	if got := env.texts(t, agent("ann")); !slices.Equal(got, []string{text, "The shop is in Berlin."}) {
		t.Errorf("the list is %q", got)
	}
	env.wantSource(t, agent("ann"), "b.md", text, "The shop is in Berlin.")
	if got := env.searchFirst(t, "elephants"); got != text {
		t.Errorf("the new text is not found: %q", got)
	}
	if got := env.searchFirst(t, "refunds"); got == "Refunds take five days." {
		t.Error("the old text is found")
	}
	source := "b.md" // which the entry has already
	if d := env.edit(t, EditRequest{ID: id, Source: &source, Metadata: &map[string]any{}}); d.Source != "b.md" || len(d.Further) != 0 || d.Metadata != nil || d.Text != text {
		t.Errorf("%+v", d)
	}
	// The new text is a duplicate from now on, the old one is not.
	r := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("c.md", text, "Refunds take five days.")})
	if r.Stored != 1 || r.Outcomes[0].MatchedID != id || r.Outcomes[0].MatchedText != text || r.Outcomes[0].MatchedSource != "b.md" {
		t.Errorf("%+v", r)
	}
}

func TestEditRefuses(t *testing.T) {
	env := newTestEnv(t)
	r := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a.md", "Refunds take five days.", "The shop is in Berlin.")})
	other, long, blank := "the shop is in Berlin", strings.Repeat("x", MaxText+1), " "
	for name, c := range map[string]struct {
		in   EditRequest
		want fault.Code
	}{
		"another entry's text": {EditRequest{ID: r.Outcomes[0].ID, Text: &other}, fault.Conflict},
		"a long text":          {EditRequest{ID: r.Outcomes[0].ID, Text: &long}, fault.Invalid},
		"a blank source":       {EditRequest{ID: r.Outcomes[0].ID, Source: &blank}, fault.Invalid},
		"nothing":              {EditRequest{ID: r.Outcomes[0].ID}, fault.Invalid},
		"no entry":             {EditRequest{ID: "x", Text: &other}, fault.NotFound},
	} {
		c.in.Target = agent("ann")
		if _, err := env.Edit(t.Context(), actor, c.in); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := env.Edit(t.Context(), actor, EditRequest{Target: agent("bob"), ID: r.Outcomes[0].ID, Text: &other}); !fault.Is(err, fault.NotFound) {
		t.Errorf("the entry of another base: %v", err)
	}
	if _, err := env.Get(t.Context(), account, agent("bob"), r.Outcomes[0].ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the entry of another base: %v", err)
	}
	// Its own text in another form is no duplicate.
	same := "refunds take five days"
	env.edit(t, EditRequest{ID: r.Outcomes[0].ID, Text: &same})
}

// TestBasesCountWhatIsStored compares the counts of bases with their entries after each
// kind of change.
func TestBasesCountWhatIsStored(t *testing.T) {
	env := newTestEnv(t)
	check := func(after string) {
		t.Helper()
		bases, err := env.Bases(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, b := range bases {
			texts := env.texts(t, b.Target)
			if b.Entries != len(texts) || b.Bytes < int64(len(strings.Join(texts, ""))) {
				t.Errorf("after %s: %+v has %q", after, b, texts)
			}
			total += int(b.Bytes)
		}
		if stored := env.storedBytes(t); len(bases) > 0 && total > stored {
			t.Errorf("after %s: the bases have %d bytes, the account %d", after, total, stored)
		}
	}
	r := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a.md", "Refunds take five days.", "The shop is in Berlin.")})
	env.ingest(t, IngestRequest{Target: swarm("team"), Chunks: chunks("t.md", "We are a team.")})
	check("an ingest")
	text := "Refunds take nine days, and more on holidays."
	env.edit(t, EditRequest{ID: r.Outcomes[0].ID, Text: &text})
	check("an edit")
	if _, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), ID: r.Outcomes[1].ID}); err != nil {
		t.Fatal(err)
	}
	check("a deletion")
	env.records.setSwarm("ann", "team")
	if err := env.PassOn(t.Context(), account, "team", []identity.AgentID{"ann"}); err != nil {
		t.Fatal(err)
	}
	env.records.setSwarm("ann", "")
	check("the end of a swarm")
	if bases, err := env.Bases(t.Context(), account); err != nil || len(bases) != 1 || bases[0].AgentID != "ann" || bases[0].Entries != 2 {
		t.Errorf("%+v, %v", bases, err)
	}
}

func TestSourcesAreCounted(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b.md", "Refunds take five days.", "The shop is in Berlin.")})
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a.md", "Refunds take five days.")})
	all, more, err := env.Sources(t.Context(), account, SourceRequest{Target: agent("ann")})
	if err != nil || more || fmt.Sprint(all) != "[{a.md 1} {b.md 2}]" {
		t.Errorf("%v, %v, %v", all, more, err)
	}
	all, more, err = env.Sources(t.Context(), account, SourceRequest{Target: agent("ann"), Limit: 1})
	if err != nil || !more || fmt.Sprint(all) != "[{a.md 1}]" {
		t.Errorf("%v, %v, %v", all, more, err)
	}
	all, more, err = env.Sources(t.Context(), account, SourceRequest{Target: agent("ann"), Limit: 1, After: "a.md"})
	if err != nil || more || fmt.Sprint(all) != "[{b.md 2}]" {
		t.Errorf("%v, %v, %v", all, more, err)
	}
}

// TestFilesHaveMoreChunksThanRequests: a dry run says of a file what its ingest does.
func TestFilesHaveMoreChunksThanRequests(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("old.md", "Order 7 was sent to customer 7007.")})
	var texts []string
	for i := range 230 {
		texts = append(texts, fmt.Sprintf("Order %d was sent to customer %d.", i%220, i%220*1001)) // the last ten repeat the first
	}
	in := IngestRequest{Target: agent("ann"), Chunks: chunks("orders.md", texts...), DryRun: true, Explain: true}
	dry, err := env.IngestFile(t.Context(), actor, in)
	if err != nil {
		t.Fatal(err)
	}
	in.DryRun = false
	done, err := env.IngestFile(t.Context(), actor, in)
	if err != nil {
		t.Fatal(err)
	}
	if dry.Stored != 219 || dry.Skipped != 11 || done.Stored != dry.Stored || done.Skipped != dry.Skipped {
		t.Errorf("dry run: %d stored, %d skipped; ingest: %d stored, %d skipped", dry.Stored, dry.Skipped, done.Stored, done.Skipped)
	}
	for i, o := range dry.Outcomes {
		if o.Stored != done.Outcomes[i].Stored {
			t.Errorf("chunk %d: %+v, %+v", i, o, done.Outcomes[i])
		}
		if !o.Stored && (o.Reason == "" || o.MatchedText == "" || o.MatchedID == "" && o.MatchedIndex != i-220) {
			t.Errorf("chunk %d: %+v", i, o)
		}
	}
	if _, err := env.IngestFile(t.Context(), actor, IngestRequest{Target: agent("ann"), Chunks: make([]Chunk, MaxFileChunks+1)}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a large file: %v", err)
	}
}
