package knowledge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/embed"
)

// reversedEmbedder is another model: it returns the first 128 dimensions of the
// built-in model in reverse order. It fails after a number of texts.
type reversedEmbedder struct {
	embed.Embedder
	allowed atomic.Int64 // how many texts it embeds before it fails
	onText  func()       // called for each text, if not nil
}

// newReversedEmbedder returns one that fails after allowed texts.
func newReversedEmbedder(e embed.Embedder, allowed int64) *reversedEmbedder {
	r := &reversedEmbedder{Embedder: e}
	r.allowed.Store(allowed)
	return r
}

// unlimited is more texts than any test embeds.
const unlimited = 1 << 30

func (*reversedEmbedder) Name() string   { return "reversed" }
func (*reversedEmbedder) Dimension() int { return 128 }

func (e *reversedEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors, err := e.Embedder.Embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	for i, v := range vectors {
		if e.allowed.Add(-1) < 0 {
			return nil, errors.New("broken")
		}
		if e.onText != nil {
			e.onText()
		}
		vectors[i] = append([]float32{}, v[:128]...)
		for j := range vectors[i] {
			vectors[i][j] = v[127-j]
		}
	}
	return vectors, nil
}

func TestReembedWhileServiceIsInUse(t *testing.T) {
	env := newTestEnv(t)
	ctx := t.Context()
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprintf("Shelf %d holds item %d.", i, 1000+i))
	}
	first := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	for range 2 {
		env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("a", texts...)})
	}
	next := newReversedEmbedder(env.embedder, 70)
	if _, err := env.Reembed(ctx, next, nil); !fault.Is(err, fault.Upstream) {
		t.Fatal(err)
	}
	// 64 of 100 entries are embedded. The service continues to store, delete and search.
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b", "Came in the meantime.")})
	if _, err := env.Delete(ctx, actor, DeleteRequest{Target: agent("ann"), ID: first.Outcomes[80].ID}); err != nil {
		t.Fatal(err)
	}
	next.allowed.Store(unlimited)
	var last ReembedProgress
	done, err := env.Reembed(ctx, next, func(r ReembedProgress) { last = r })
	if err != nil {
		t.Fatal(err)
	}
	if done != last || done.Done != 36+100 || done.Total != done.Done {
		t.Errorf("got %+v; Reembed started again or stopped early", done)
	}
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b", "Came after the end.")})

	switched := env.reopen(t, next)
	if found, err := switched.Search(ctx, account, SearchRequest{Target: agent("ann"), Query: "after the end"}); err != nil || !slices.ContainsFunc(found, func(f SearchResult) bool { return f.Text == "Came after the end." && f.Reason == ByText }) {
		t.Error("an entry without a vector is not found by its words:", found, err)
	}
	again := switched.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("c", "came after the end", "came in the meantime", "shelf 7 holds item 1007", texts[80])})
	if again.Stored != 1 || again.Skipped != 3 {
		t.Errorf("%+v", again)
	}
	// The old service sees what the new one stored.
	if back := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("d", texts[80])}); back.Stored != 0 {
		t.Errorf("%+v", back)
	}
	models, err := env.Models(ctx)
	if err != nil || len(models) != 2 || models[1].Model != "reversed" || models[1].Dimension != 128 || models[1].Entries != 202 {
		t.Errorf("%+v %v", models, err)
	}
	wantFault(t, env.DropModel(ctx, env.embedder.Name()), fault.Conflict)
	if err := switched.DropModel(ctx, env.embedder.Name()); err != nil {
		t.Fatal(err)
	}
	if found, err := switched.Search(ctx, account, SearchRequest{Target: agent("ann"), Query: "meantime"}); err != nil || found[0].Reason != ByBoth {
		t.Error(found, err)
	}
}

func TestReembedWhileEntriesAreDeleted(t *testing.T) {
	env := newTestEnv(t)
	var texts []string
	for i := range 70 {
		texts = append(texts, fmt.Sprintf("Box %d.", i))
	}
	stored := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	next := newReversedEmbedder(env.embedder, unlimited)
	n := 0
	next.onText = func() {
		if n += 2; n < 70 {
			if _, err := env.Delete(context.WithoutCancel(t.Context()), actor, DeleteRequest{Target: agent("ann"), ID: stored.Outcomes[n].ID}); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := env.Reembed(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	next.onText = nil
	switched := env.reopen(t, next)
	if again := switched.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)}); again.Stored != 34 {
		t.Errorf("%+v", again)
	}
}

func TestRunEmbedsMissingVectors(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	next := newReversedEmbedder(env.embedder, unlimited)
	switched := env.reopen(t, next)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- switched.Run(ctx) }()
	for {
		found, err := switched.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "sky"})
		if err != nil {
			t.Fatal(err)
		}
		if found[0].Reason == ByBoth {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEmbedderFailure(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	broken := env.reopen(t, newReversedEmbedder(env.embedder, 0))
	_, err := broken.Ingest(t.Context(), actor, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "Grass is green.")})
	wantFault(t, err, fault.Upstream)
	wantTexts(t, env.texts(t, agent("ann")), "The sky is blue.")
	found, err := broken.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "blue sky"})
	if err != nil || len(found) != 1 || found[0].Reason != ByText {
		t.Error(found, err)
	}
	_, err = broken.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "azure"})
	wantFault(t, err, fault.Upstream)
}

// refusingEmbedder always fails for one text.
type refusingEmbedder struct {
	*reversedEmbedder
	refused string
}

func (e *refusingEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if slices.Contains(texts, e.refused) {
		return nil, errors.New("the text is too long")
	}
	return e.reversedEmbedder.Embed(ctx, texts)
}

// TestReembedContinuesAfterAFailedScope: a text that the model refuses does not stop
// other scopes from being embedded.
func TestReembedContinuesAfterAFailedScope(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", "The model refuses this.")})
	env.ingest(t, IngestRequest{Target: agent("bob"), Chunks: chunks("a", "The sky is blue.")})
	next := &refusingEmbedder{newReversedEmbedder(env.embedder, unlimited), "The model refuses this."}
	switched := env.reopen(t, next)
	done, err := switched.Reembed(t.Context(), next, nil)
	if wantFault(t, err, fault.Upstream); done.Done != 1 || done.Total != 2 {
		t.Errorf("%+v", done)
	}
	found, err := switched.Search(t.Context(), account, SearchRequest{Target: agent("bob"), Query: "sky"})
	if err != nil || len(found) != 1 || found[0].Reason != ByBoth {
		t.Error(found, err)
	}
}
