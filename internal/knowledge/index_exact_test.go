package knowledge

import (
	"fmt"
	"testing"
)

// TestVectorsDroppedByAnotherProcessAreMadeAgain: "agento knowledge reembed --drop-old"
// deletes the vectors of the model that a server still uses if it was not restarted yet.
// The server embeds the entries again and must then use the new vectors.
func TestVectorsDroppedByAnotherProcessAreMadeAgain(t *testing.T) {
	env := newTestEnv(t)
	var texts []string
	for i := range 20 {
		texts = append(texts, fmt.Sprintf("Shelf %d holds item %d.", i, 1000+i))
	}
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("a", texts...)})
	search := func() SearchResult {
		t.Helper()
		found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: "which shelf holds item 1007"})
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		return found[0]
	}
	if f := search(); f.Reason != ByBoth {
		t.Errorf("%+v", f)
	}
	next := newReversedEmbedder(env.embedder, unlimited)
	other := env.reopen(t, next)
	if _, err := other.Reembed(t.Context(), next, nil); err != nil {
		t.Fatal(err)
	}
	if err := other.DropModel(t.Context(), env.embedder.Name()); err != nil {
		t.Fatal(err)
	}
	if f := search(); f.Reason != ByText {
		t.Errorf("%+v", f)
	}
	if _, err := env.Reembed(t.Context(), env.embedder, nil); err != nil {
		t.Fatal(err)
	}
	if f := search(); f.Reason != ByBoth || f.Text != texts[7] {
		t.Errorf("%+v", f)
	}
	if again := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("b", texts...)}); again.Stored != 0 {
		t.Errorf("%d duplicates were stored", again.Stored)
	}
}
