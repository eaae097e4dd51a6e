package quality

import (
	"math"
	"strings"

	"agento.host/agento/internal/fulltext"
	"agento.host/agento/internal/knowledge/embed"
)

// bm25 is the baseline, and not a part of agento: the textbook ranking by common words
// (k1 = 1.2, b = 0.75), without the s of plurals. It knows nothing about meaning.
type bm25 struct {
	postings map[string]map[int]float64 // word -> text -> frequency
	lengths  []float64
	mean     float64
}

func newBM25(texts []string) *bm25 {
	b := &bm25{postings: make(map[string]map[int]float64), lengths: make([]float64, len(texts))}
	for i, text := range texts {
		embed.EachWord(text, func(_, word string) {
			word = singular(word)
			if b.postings[word] == nil {
				b.postings[word] = make(map[int]float64)
			}
			b.postings[word][i]++
			b.lengths[i]++
		})
		b.mean += b.lengths[i] / float64(len(texts))
	}
	return b
}

// scores returns the score of each text.
func (b *bm25) scores(query string) []float64 {
	scores := make([]float64, len(b.lengths))
	n := float64(len(b.lengths))
	counted := make(map[string]bool)
	embed.EachWord(query, func(_, word string) {
		if fulltext.IsStopword(word) || counted[word] {
			return
		}
		counted[word] = true
		texts := b.postings[singular(word)]
		idf := math.Log(1 + (n-float64(len(texts))+0.5)/(float64(len(texts))+0.5))
		for i, tf := range texts {
			scores[i] += idf * tf * 2.2 / (tf + 1.2*(0.25+0.75*b.lengths[i]/b.mean))
		}
	})
	return scores
}

func singular(word string) string {
	if len(word) > 3 && strings.HasSuffix(word, "s") && !strings.HasSuffix(word, "ss") {
		return word[:len(word)-1]
	}
	return word
}
