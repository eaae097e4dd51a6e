package knowledge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// passages returns n different texts of about 500 characters, made of real sentences.
func passages(b *testing.B, n int) []string {
	b.Helper()
	var sentences []string
	for _, text := range manualTexts(b) {
		sentences = append(sentences, strings.SplitAfter(strings.ReplaceAll(text, "\n", " "), ". ")...)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	all := make([]string, n)
	for i := range all {
		var t strings.Builder
		fmt.Fprintf(&t, "Passage %d. ", i)
		for t.Len() < 500 {
			t.WriteString(sentences[rng.IntN(len(sentences))])
			t.WriteString(" ")
		}
		all[i] = strings.TrimSpace(strings.ToValidUTF8(t.String()[:500], ""))
	}
	return all
}

// BenchmarkIngest stores 100 chunks of 500 characters in a scope of 10,000 entries,
// with the built-in model and without HTTP.
func BenchmarkIngest(b *testing.B) {
	env := newTestEnv(b)
	all := passages(b, 10000)
	for at := 0; at < len(all); at += MaxChunks {
		env.ingest(b, IngestRequest{Target: agent("ann"), Chunks: chunks(fmt.Sprint(at), all[at:at+MaxChunks]...)})
	}
	round := 0
	for b.Loop() {
		round++
		added := make([]string, MaxChunks)
		for i := range added {
			added[i] = fmt.Sprintf("Round %d: %s", round, all[(round*MaxChunks+i*7)%len(all)])
		}
		if done := env.ingest(b, IngestRequest{Target: agent("ann"), Chunks: chunks("new", added...)}); done.Stored != MaxChunks {
			b.Fatalf("%d stored", done.Stored)
		}
	}
	b.ReportMetric(float64(MaxChunks*b.N)/b.Elapsed().Seconds(), "chunks/s")
}

// BenchmarkSearch searches a scope of 10,000 entries.
func BenchmarkSearch(b *testing.B) {
	env := newTestEnv(b)
	all := passages(b, 10000)
	for at := 0; at < len(all); at += MaxChunks {
		env.ingest(b, IngestRequest{Target: agent("ann"), Chunks: chunks(fmt.Sprint(at), all[at:at+MaxChunks]...)})
	}
	for b.Loop() {
		if _, err := env.Search(b.Context(), account, SearchRequest{Target: agent("ann"), Query: "how do I restore a backup of the database"}); err != nil {
			b.Fatal(err)
		}
	}
}
