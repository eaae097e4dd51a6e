package knowledge

import (
	"fmt"
	"testing"
)

// Another process drops the vectors of the model that a server uses, as `agento
// knowledge reembed --drop-old` does beside one that was not restarted yet. The server
// makes them again, and must not go on without them.
func TestVectorsThatWereDroppedUnderASearchComeBack(t *testing.T) {
	w := newWorld(t)
	var texts []string
	for i := range 20 {
		texts = append(texts, fmt.Sprintf("Shelf %d holds item %d.", i, 1000+i))
	}
	w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	search := func() Found {
		t.Helper()
		found, err := w.Search(t.Context(), account, Search{Target: agent("ann"), Query: "which shelf holds item 1007"})
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	if f := search(); f.Reason != ByBoth {
		t.Errorf("%+v", f)
	}
	next := &turned{Embedder: w.Embedder}
	next.allowed.Store(1 << 30)
	other := worldWith(t, w.DB, next)
	if _, err := other.Reembed(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if err := other.DropModel(t.Context(), w.Embedder.Name()); err != nil {
		t.Fatal(err)
	}
	if f := search(); f.Reason != ByText {
		t.Errorf("%+v", f)
	}
	if _, err := w.Reembed(t.Context(), w.Embedder, nil); err != nil {
		t.Fatal(err)
	}
	if f := search(); f.Reason != ByBoth || f.Text != texts[7] {
		t.Errorf("%+v", f)
	}
	if again := w.mustIngest(t, Ingest{Target: agent("ann"), Chunks: chunks("b", texts...)}); again.Stored != 0 {
		t.Errorf("%d duplicates were stored", again.Stored)
	}
}
