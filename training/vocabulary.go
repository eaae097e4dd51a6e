package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/internal/fulltext"
	"agento.host/agento/internal/knowledge/embed"
)

// The number of rows of each type in the model.
const (
	wordRows   = 41000
	phraseRows = 6000
	pieceRows  = 4000
	bucketRows = 8000
)

// minInflectedTexts is the number of texts in which an inflected word must occur to get
// a row in addition to that of its base.
const minInflectedTexts = 40

// buildVocabulary returns the words that occur in the most texts, followed by the most
// frequent phrases of two words that dictionaries contain, and the most useful pieces of
// words. counts are the numbers of texts of the words, and the frequencies of phrases.
func buildVocabulary(pairs map[string][]pair) (words, pieces []string, counts map[string]int) {
	counts, entries := countWords(pairs)
	chosen := make(map[string]bool)
	all := mostFrequent(counts, len(counts), func(w string, n int) bool { return n >= 4 && len(w) <= 32 && isPlain(w) })
	for _, w := range all {
		if len(words) == wordRows {
			break
		}
		if counts[w] < minInflectedTexts && embed.IsForm(w, func(base string) bool { return chosen[base] }) {
			continue
		}
		chosen[w] = true
		words = append(words, w)
	}
	phrases := countPhrases(pairs, entries)
	pieces = buildPieces(counts)
	for _, p := range mostFrequent(phrases, phraseRows, func(_ string, n int) bool { return n >= 6 }) {
		words = append(words, p)
		counts[p] = phrases[p]
	}
	return words, pieces, counts
}

// countWords counts the texts in which each word occurs, and the texts that consist of
// exactly two words.
func countWords(pairs map[string][]pair) (counts, entries map[string]int) {
	counts, entries = make(map[string]int), make(map[string]int)
	for _, group := range pairs {
		for _, p := range group {
			seen := make(map[string]bool)
			for _, text := range []string{p.a, p.b} {
				if strings.HasPrefix(text, foreign) {
					continue
				}
				var first, second string
				n := 0
				embed.EachWord(text, func(_, word string) {
					first, second = second, word
					n++
					if !seen[word] {
						seen[word] = true
						counts[word]++
					}
				})
				if n == 2 && isPlain(first) && isPlain(second) && !fulltext.IsStopword(first) {
					entries[first+" "+second]++
				}
			}
		}
	}
	return counts, entries
}

// countPhrases counts the occurrences of phrases of two words that are an entry of a
// dictionary.
func countPhrases(pairs map[string][]pair, entries map[string]int) map[string]int {
	counts := make(map[string]int)
	for _, group := range pairs {
		for _, p := range group {
			for _, text := range []string{p.a, p.b} {
				if strings.HasPrefix(text, foreign) {
					continue
				}
				previous := ""
				embed.EachWord(text, func(_, word string) {
					if phrase := previous + " " + word; entries[phrase] > 1 {
						counts[phrase]++
					}
					previous = word
				})
			}
		}
	}
	return counts
}

// buildPieces returns the parts of words, weighted by frequency and length.
func buildPieces(counts map[string]int) []string {
	weight := make(map[string]int)
	for w, n := range counts {
		if !isPlain(w) || n < 2 || len(w) > 24 {
			continue
		}
		for from := range len(w) {
			for to := from + 1; to <= min(len(w), from+6); to++ {
				// A longer piece is more specific, so it weighs more than its parts.
				weight[w[from:to]] += int(math.Sqrt(float64(n))*10) * (to - from)
			}
		}
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
		weight[string(c)] = math.MaxInt
	}
	return mostFrequent(weight, pieceRows, func(string, int) bool { return true })
}

// isPlain reports whether a word consists of ASCII letters and digits.
func isPlain(w string) bool {
	for i := range len(w) {
		if c := w[i]; c >= utf8.RuneSelf || ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// mostFrequent returns the n keys with the largest counts among those for which keep
// returns true. Keys with the same count are sorted by name.
func mostFrequent(counts map[string]int, n int, keep func(string, int) bool) []string {
	var all []string
	for w, c := range counts {
		if keep(w, c) {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	return all[:min(n, len(all))]
}

// trainingVocabulary is the vocabulary of the model and, in the rows after it, foreign
// words.
type trainingVocabulary struct {
	vocabulary *embed.Vocabulary
	ownRows    int // rows of vocabulary
	counts     map[string]int
	foreign    map[string]int32
}

// foreignRows is the maximum number of foreign words with rows during the training.
const foreignRows = 150000

func newTrainingVocabulary(words, pieces []string, pairs map[string][]pair, counts map[string]int) *trainingVocabulary {
	v := &trainingVocabulary{
		vocabulary: embed.NewVocabulary(words, pieces, bucketRows), ownRows: len(words) + len(pieces) + bucketRows,
		counts: counts, foreign: make(map[string]int32),
	}
	frequency := make(map[string]int)
	for _, group := range pairs {
		for _, p := range group {
			eachForeign(p.b, func(word string) { frequency[word]++ })
		}
	}
	for i, w := range mostFrequent(frequency, foreignRows, func(_ string, n int) bool { return n > 1 }) {
		v.foreign[w] = int32(v.ownRows + i)
	}
	return v
}

// eachForeign calls f for each word of a foreign text, with its language before it.
func eachForeign(text string, f func(word string)) {
	if rest, ok := strings.CutPrefix(text, foreign); ok {
		language, rest, _ := strings.Cut(rest, " ")
		embed.EachWord(rest, func(_, word string) { f(language + " " + word) })
	}
}

func (v *trainingVocabulary) size() int { return v.ownRows + len(v.foreign) }

// rowsOf returns the rows of a text. It treats a random choice of words as unknown, rare
// words more often, so that pieces and buckets are trained too.
func (v *trainingVocabulary) rowsOf(rng *rand.Rand, text string) []embed.Weighted {
	var rows []int32
	if strings.HasPrefix(text, foreign) {
		eachForeign(text, func(word string) {
			if row, ok := v.foreign[word]; ok {
				rows = append(rows, row)
			}
		})
		return embed.Weigh(rows)
	}
	rows = v.vocabulary.AppendWithout(rows, text, func(word string) bool {
		return rng.Float64() < 0.02+0.3/math.Sqrt(float64(v.counts[word]))
	})
	return embed.Weigh(rows)
}
