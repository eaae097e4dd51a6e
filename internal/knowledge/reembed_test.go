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

// turned is another model: the built-in's vectors, cut and turned round. It fails
// when told to.
type turned struct {
	embed.Embedder
	allowed atomic.Int64 // texts that it embeds before it fails
	delete  func()       // called at each text
}

func (*turned) Name() string   { return "turned" }
func (*turned) Dimension() int { return 128 }

func (e *turned) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	vectors, err := e.Embedder.Embed(ctx, texts)
	if err != nil {
		return nil, err
	}
	for i, v := range vectors {
		if e.allowed.Add(-1) < 0 {
			return nil, errors.New("out of order")
		}
		if e.delete != nil {
			e.delete()
		}
		vectors[i] = append([]float32{}, v[:128]...)
		for j := range vectors[i] {
			vectors[i][j] = v[127-j]
		}
	}
	return vectors, nil
}

func TestReembedWhileServing(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprintf("Shelf %d holds item %d.", i, 1000+i))
	}
	first := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	for range 2 {
		w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: chunks("a", texts...)})
	}
	next := &turned{Embedder: w.Embedder}
	next.allowed.Store(70)
	if _, err := w.Reembed(ctx, next, nil); !fault.Is(err, fault.Upstream) {
		t.Fatal(err)
	}
	// 64 of 100 are done. The service goes on: it stores, deletes and searches.
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("b", "Came in the meantime.")})
	if _, err := w.Remove(ctx, account, "key_1", Remove{Target: agent("ann"), ID: first.Outcomes[80].ID}); err != nil {
		t.Fatal(err)
	}
	next.allowed.Store(1 << 30)
	var last Reembedding
	done, err := w.Reembed(ctx, next, func(r Reembedding) { last = r })
	if err != nil {
		t.Fatal(err)
	}
	if done != last || done.Done != 36+100 || done.Total != done.Done {
		t.Errorf("%+v; it began anew, or stopped early", done)
	}
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("b", "Came after the end.")})

	switched := worldWith(t, w.DB, next)
	if found, err := switched.Search(ctx, account, Search{Target: agent("ann"), Query: "after the end"}); err != nil || !slices.ContainsFunc(found, func(f Found) bool { return f.Text == "Came after the end." && f.Reason == ByText }) {
		t.Error("what is not embedded yet is found by its words:", found, err)
	}
	twice := switched.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("c", "came after the end", "came in the meantime", "shelf 7 holds item 1007", texts[80])})
	if twice.Stored != 1 || twice.Skipped != 3 {
		t.Errorf("%+v", twice)
	}
	// The old service notices what the new one stored.
	if back := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("d", texts[80])}); back.Stored != 0 {
		t.Errorf("%+v", back)
	}
	models, err := w.Models(ctx)
	if err != nil || len(models) != 2 || models[1].Model != "turned" || models[1].Dimension != 128 || models[1].Entries != 202 {
		t.Errorf("%+v %v", models, err)
	}
	wantFault(t, w.DropModel(ctx, w.Embedder.Name()), fault.Conflict)
	if err := switched.DropModel(ctx, w.Embedder.Name()); err != nil {
		t.Fatal(err)
	}
	if found, err := switched.Search(ctx, account, Search{Target: agent("ann"), Query: "meantime"}); err != nil || found[0].Reason != ByBoth {
		t.Error(found, err)
	}
}

func TestReembedSurvivesDeletions(t *testing.T) {
	w := newWorld(t)
	var texts []string
	for i := range 70 {
		texts = append(texts, fmt.Sprintf("Box %d.", i))
	}
	done := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	next := &turned{Embedder: w.Embedder}
	next.allowed.Store(1 << 30)
	at := 0
	next.delete = func() {
		if at += 2; at < 70 {
			if _, err := w.Remove(context.WithoutCancel(t.Context()), account, "key_1", Remove{Target: agent("ann"), ID: done.Outcomes[at].ID}); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := w.Reembed(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	next.delete = nil
	switched := worldWith(t, w.DB, next)
	if again := switched.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", texts...)}); again.Stored != 34 {
		t.Errorf("%+v", again)
	}
}

func TestRunEmbedsWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	next := &turned{Embedder: w.Embedder}
	next.allowed.Store(1 << 30)
	switched := worldWith(t, w.DB, next)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- switched.Run(ctx) }()
	for {
		found, err := switched.Search(t.Context(), account, Search{Target: agent("ann"), Query: "sky"})
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

func TestAFailingEmbedder(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "The sky is blue.")})
	broken := worldWith(t, w.DB, &turned{Embedder: w.Embedder})
	_, err := broken.Ingest(t.Context(), account, "key_1", Ingest{Target: agent("ann"), Chunks: chunks("a", "Grass is green.")})
	wantFault(t, err, fault.Upstream)
	want(t, w.texts(t, agent("ann")), "The sky is blue.")
	found, err := broken.Search(t.Context(), account, Search{Target: agent("ann"), Query: "blue sky"})
	if err != nil || len(found) != 1 || found[0].Reason != ByText {
		t.Error(found, err)
	}
	_, err = broken.Search(t.Context(), account, Search{Target: agent("ann"), Query: "azure"})
	wantFault(t, err, fault.Upstream)
}

// picky is a model that refuses a text, for good.
type picky struct {
	turned
	refused string
}

func (e *picky) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if slices.Contains(texts, e.refused) {
		return nil, errors.New("too long for me")
	}
	return e.turned.Embed(ctx, texts)
}

// A text that the model refuses keeps nobody else's knowledge from being embedded.
func TestReembedGoesOnAfterWhatItCannot(t *testing.T) {
	w := newWorld(t)
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", "Nobody embeds this.")})
	w.mustIngest(t, Ingest{Target: agent("bob"), Chunks: chunks("a", "The sky is blue.")})
	next := &picky{turned{Embedder: w.Embedder}, "Nobody embeds this."}
	next.allowed.Store(1 << 30)
	switched := worldWith(t, w.DB, next)
	done, err := switched.Reembed(t.Context(), next, nil)
	if wantFault(t, err, fault.Upstream); done.Done != 1 || done.Total != 2 {
		t.Errorf("%+v", done)
	}
	found, err := switched.Search(t.Context(), account, Search{Target: agent("bob"), Query: "sky"})
	if err != nil || len(found) != 1 || found[0].Reason != ByBoth {
		t.Error(found, err)
	}
}
