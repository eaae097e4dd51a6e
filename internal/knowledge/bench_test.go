package knowledge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// passages makes n different texts of about 500 characters out of real sentences.
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

// BenchmarkIngest stores 100 chunks of 500 characters into a base of 10,000, with
// the built-in model, without HTTP.
func BenchmarkIngest(b *testing.B) {
	w := newWorld(b)
	all := passages(b, 10000)
	for at := 0; at < len(all); at += MaxChunks {
		w.mustIngest(b, Ingest{Target: agent("ann"), Chunks: chunks(fmt.Sprint(at), all[at:at+MaxChunks]...)})
	}
	round := 0
	for b.Loop() {
		round++
		fresh := make([]string, MaxChunks)
		for i := range fresh {
			fresh[i] = fmt.Sprintf("Round %d: %s", round, all[(round*MaxChunks+i*7)%len(all)])
		}
		if done := w.mustIngest(b, Ingest{Target: agent("ann"), Chunks: chunks("new", fresh...)}); done.Stored != MaxChunks {
			b.Fatalf("%d stored", done.Stored)
		}
	}
	b.ReportMetric(float64(MaxChunks*b.N)/b.Elapsed().Seconds(), "chunks/s")
}

// BenchmarkSearch searches a base of 10,000.
func BenchmarkSearch(b *testing.B) {
	w := newWorld(b)
	all := passages(b, 10000)
	for at := 0; at < len(all); at += MaxChunks {
		w.mustIngest(b, Ingest{Target: agent("ann"), Chunks: chunks(fmt.Sprint(at), all[at:at+MaxChunks]...)})
	}
	for b.Loop() {
		if _, err := w.Search(b.Context(), account, Search{Target: agent("ann"), Query: "how do I restore a backup of the database"}); err != nil {
			b.Fatal(err)
		}
	}
}
