package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/internal/knowledge/embed"
)

// How the rows of the model are shared out.
const (
	wordRows   = 41000
	phraseRows = 6000
	pieceRows  = 4000
	bucketRows = 8000
)

// inflectedTexts is in how many texts a form of a word must stand to have a row beside
// that of its base.
const inflectedTexts = 40

// buildVocabulary takes the words in most texts, then the commonest of the phrases of two
// words that dictionaries have, and as pieces what the words, the rare ones above all, are
// made of. Words and phrases come in one list, the words first.
func buildVocabulary(pairs map[string][]pair) (words, pieces []string, counts map[string]int) {
	counts, entries := countWords(pairs)
	chosen := make(map[string]bool)
	all := commonest(counts, len(counts), func(w string, n int) bool { return n >= 4 && len(w) <= 32 && plain(w) })
	for _, w := range all {
		if len(words) == wordRows {
			break
		}
		if counts[w] < inflectedTexts && embed.IsForm(w, func(base string) bool { return chosen[base] }) {
			continue
		}
		chosen[w] = true
		words = append(words, w)
	}
	phrases := countPhrases(pairs, entries)
	pieces = buildPieces(counts)
	for _, p := range commonest(phrases, phraseRows, func(_ string, n int) bool { return n >= 6 }) {
		words = append(words, p)
		counts[p] = phrases[p]
	}
	return words, pieces, counts
}

// countWords counts the texts that have each word, and the texts that are
// nothing but two words.
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
				if n == 2 && plain(first) && plain(second) && !embed.Stopword(first) {
					entries[first+" "+second]++
				}
			}
		}
	}
	return counts, entries
}

// countPhrases counts how often two words stand together that are an entry somewhere.
func countPhrases(pairs map[string][]pair, entries map[string]int) map[string]int {
	counts := make(map[string]int)
	for _, group := range pairs {
		for _, p := range group {
			for _, text := range []string{p.a, p.b} {
				if strings.HasPrefix(text, foreign) {
					continue
				}
				last := ""
				embed.EachWord(text, func(_, word string) {
					if phrase := last + " " + word; entries[phrase] > 1 {
						counts[phrase]++
					}
					last = word
				})
			}
		}
	}
	return counts
}

func buildPieces(counts map[string]int) []string {
	weight := make(map[string]int)
	for w, n := range counts {
		if !plain(w) || n < 2 || len(w) > 24 {
			continue
		}
		for from := range len(w) {
			for to := from + 1; to <= min(len(w), from+6); to++ {
				// A longer piece says more: weigh it up against its own parts.
				weight[w[from:to]] += int(math.Sqrt(float64(n))*10) * (to - from)
			}
		}
	}
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
		weight[string(c)] = math.MaxInt
	}
	return commonest(weight, pieceRows, func(string, int) bool { return true })
}

// plain: made of Latin letters and digits.
func plain(w string) bool {
	for i := range len(w) {
		if c := w[i]; c >= utf8.RuneSelf || ((c < 'a' || c > 'z') && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// commonest returns the n keys with the largest counts, in a settled order.
func commonest(counts map[string]int, n int, keep func(string, int) bool) []string {
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

// learning is a vocabulary with, after its own rows, rows for foreign words.
type learning struct {
	*embed.Vocabulary
	counts  map[string]int
	foreign map[string]int32
}

// foreignRows is how many foreign words have rows while the model learns.
const foreignRows = 150000

func newLearning(v *embed.Vocabulary, pairs map[string][]pair, counts map[string]int) *learning {
	l := &learning{Vocabulary: v, counts: counts, foreign: make(map[string]int32)}
	seen := make(map[string]int)
	for _, group := range pairs {
		for _, p := range group {
			eachForeign(p.b, func(word string) { seen[word]++ })
		}
	}
	for i, w := range commonest(seen, foreignRows, func(_ string, n int) bool { return n > 1 }) {
		l.foreign[w] = int32(v.Size() + i)
	}
	return l
}

func eachForeign(text string, f func(word string)) {
	if rest, ok := strings.CutPrefix(text, foreign); ok {
		language, rest, _ := strings.Cut(rest, " ")
		embed.EachWord(rest, func(_, word string) { f(language + " " + word) })
	}
}

func (l *learning) size() int { return l.Size() + len(l.foreign) }

// rowsOf sometimes cuts a word up as if it were unknown, the rarer the more
// often, so that pieces and buckets learn too.
func (l *learning) rowsOf(rng *rand.Rand, text string) []embed.Weighted {
	var rows []int32
	if strings.HasPrefix(text, foreign) {
		eachForeign(text, func(word string) {
			if row, ok := l.foreign[word]; ok {
				rows = append(rows, row)
			}
		})
		return embed.Weigh(rows)
	}
	rows = l.AppendWithout(rows, text, func(word string) bool {
		return rng.Float64() < 0.02+0.3/math.Sqrt(float64(l.counts[word]))
	})
	return embed.Weigh(rows)
}
