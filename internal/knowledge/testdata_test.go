package knowledge

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// textPair is two texts and how they differ: in a form that does not count (format), in one
// that does (style), or in kind fact, paraphrase or unrelated.
type textPair struct{ Kind, A, B string }

// duplicatePairs returns the texts that a deduplication must merge (format) and those that
// it must not merge (all others).
func duplicatePairs(t *testing.T) []textPair {
	return readJSONLines[textPair](t, "testdata/duplicates.jsonl")
}

// manualTexts returns sections of manuals, from the evaluation set of the training
// program.
func manualTexts(tb testing.TB) []string {
	var all []string
	for _, section := range readJSONLines[struct{ Text string }](tb, "../../training/quality/testdata/manuals.jsonl") {
		all = append(all, section.Text)
	}
	return all
}

func readJSONLines[T any](tb testing.TB, path string) []T {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	var all []T
	for line := range bytes.Lines(data) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			tb.Fatalf("read %s: %v", path, err)
		}
		all = append(all, v)
	}
	return all
}

// TestCosineTable logs how many pairs the built-in model alone calls duplicates.
// TestDuplicateTable shows what is merged.
func TestCosineTable(t *testing.T) {
	e, err := embed.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	above, all := map[string]int{}, map[string]int{}
	for _, p := range duplicatePairs(t) {
		v, err := e.Embed(t.Context(), []string{p.A, p.B})
		if err != nil {
			t.Fatal(err)
		}
		cosine := float64(index.Dot(v[0], v[1]))
		all[p.Kind]++
		if cosine >= duplicateCosine {
			above[p.Kind]++
		}
		if (p.Kind == "format") != (cosine >= duplicateCosine) {
			t.Logf("%s: cosine %.3f of %q and %q", p.Kind, cosine, p.A, p.B)
		}
	}
	t.Logf("cosine of %.2f or more: %v of %v", duplicateCosine, above, all)
}
