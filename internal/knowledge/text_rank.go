package knowledge

import (
	"cmp"
	"math"
	"slices"
	"unicode/utf8"

	"agento.host/agento/internal/fulltext"
	"agento.host/agento/internal/knowledge/embed"
)

// The terms of a query that are looked up.
const (
	maxQueryUnits = 64
	maxQueryParts = 128
)

// The factors of BM25.
const (
	bm25Saturation = 1.2
	bm25Length     = 0.75
)

// What an entry has of a unit of the query, where 1 is the unit as it was written.
const (
	otherForm    = 0.97 // it is another form, or differs in accents
	onlyParts    = 0.7  // all parts of the word, but not the word
	minCovered   = 0.4  // the share of a word's letters from which they count
	singleWeight = 0.3  // of a character or cluster, beside the pairs that it is in
)

// longRun is how many letters two words share only if they have to do with each other.
const longRun = 6

// minTextShare is the least share of a query that an entry must have to be found by its text,
// if it has no word of it. Without it a search would find every entry that has three letters
// of a word.
const minTextShare = 0.08

// textUnit is something that a query looks for: a word, or a part of a text in a script
// whose words are not known.
type textUnit struct {
	word   *fulltext.Word // nil: a part
	part   fulltext.Part
	count  int     // of entries that have it, at most maxCounted
	weight float64 // how much it says
}

// textMatch is an entry that shares words with a query.
type textMatch struct {
	Entry
	share float64 // of the query's units, by their weight, that the entry has; from 0 to 1
	score float64
}

// queryUnits returns the units of a query without stop words or, if there are no others,
// with them.
func queryUnits(query string) []textUnit {
	terms := fulltext.Analyze(query)
	var all, content []textUnit
	seen := map[string]bool{}
	add := func(u textUnit, stop bool) {
		if seen[u.key()] || len(seen) == maxQueryUnits {
			return
		}
		seen[u.key()] = true
		all = append(all, u)
		if !stop {
			content = append(content, u)
		}
	}
	for i, w := range terms.Words {
		add(textUnit{word: &terms.Words[i]}, embed.IsStopword(w.Text))
	}
	for _, p := range terms.Parts {
		add(textUnit{part: p}, false)
	}
	if len(content) > 0 {
		return content
	}
	return all
}

func (u *textUnit) key() string {
	if u.word != nil {
		return u.word.Text
	}
	return " " + u.part.Term
}

func (u *textUnit) table() textTable {
	if u.word != nil {
		return wordTable
	}
	return partTable
}

func (u *textUnit) term() string {
	if u.word != nil {
		return u.word.Term
	}
	return u.part.Term
}

// setRarity sets the weight of a unit that n of total entries have.
func (u *textUnit) setRarity(n, total int) {
	u.count = n
	u.weight = math.Log(1 + (float64(total-n)+0.5)/(float64(n)+0.5))
	if u.part.Single {
		u.weight *= singleWeight
	}
}

// termsOf returns the terms of units that are in the index of words and in that of parts.
func termsOf(units []textUnit) (words, parts []string) {
	for _, u := range units {
		if u.word == nil {
			parts = append(parts, u.part.Term)
			continue
		}
		words = append(words, u.word.Term)
		parts = append(parts, u.word.Parts...)
	}
	slices.Sort(words)
	return slices.Compact(words), parts[:min(len(parts), maxQueryParts)]
}

// textTerms are the terms of an entry, with how often each occurs.
type textTerms struct {
	written, words, parts map[string]int
	length                float64
}

func newTextTerms(text string) textTerms {
	terms := fulltext.Analyze(text)
	t := textTerms{map[string]int{}, map[string]int{}, map[string]int{}, float64(len(terms.Words) + len(terms.Parts))}
	for _, w := range terms.Words {
		t.written[w.Text]++
		t.words[w.Term]++
		for _, p := range w.Parts {
			t.parts[p]++
		}
	}
	for _, p := range terms.Parts {
		t.parts[p.Term]++
	}
	return t
}

// has returns how much of a unit an entry has, from 0 to 1, and how often. whole reports
// whether it has the word or part as a whole.
func (t textTerms) has(u textUnit) (credit float64, times int, whole bool) {
	if u.word == nil {
		n := t.parts[u.part.Term]
		return min(1, float64(n)), n, n > 0 && !u.part.Single
	}
	if n := t.words[u.word.Term]; n > 0 {
		if t.written[u.word.Text] > 0 {
			return 1, n, true
		}
		return otherForm, n, true
	}
	share := t.covers(u.word)
	if share < minCovered {
		return 0, 0, false
	}
	if u.count > 0 { // the word itself is what is meant
		share *= share
	}
	return onlyParts * share, 1, false
}

// covers returns the share of a word's letters that words of the entry have, in the same
// order. Letters count in runs that begin the word or a word of the entry, or are long:
// otherwise two words with one ending would look alike.
func (t textTerms) covers(w *fulltext.Word) float64 {
	if len(w.Parts) == 0 {
		return 0
	}
	inner, edges := w.Inner(), w.Edges()
	if len(inner) == 0 {
		return min(1, float64(t.parts[edges[0]]+t.parts[edges[1]]))
	}
	n := utf8.RuneCountInString(inner[0])
	letters := len(inner) + n - 1
	covered := 0
	through := 0 // letters before it are counted
	for i := 0; i < len(inner); i++ {
		if t.parts[inner[i]] == 0 {
			continue
		}
		end := i + 1
		for end < len(inner) && t.parts[inner[end]] > 0 {
			end++
		}
		start := i
		if run := end - i + n - 1; i > 0 && run < longRun {
			for start < end && t.parts[fulltext.Beginning(inner[start])] == 0 {
				start++
			}
		}
		if start < end {
			covered += end + n - 1 - max(start, through)
			through = end + n - 1
		}
		i = end
	}
	return float64(covered) / float64(letters)
}

// rankByText returns the candidates, each once, that have enough of the units, best first.
func rankByText(units []textUnit, candidates []Entry) []textMatch {
	seen := map[int64]bool{}
	var all []textMatch
	var terms []textTerms
	var length float64
	for _, e := range candidates {
		if seen[e.number] {
			continue
		}
		seen[e.number] = true
		t := newTextTerms(e.Text)
		all, terms = append(all, textMatch{Entry: e}), append(terms, t)
		length += t.length
	}
	average := length / float64(max(1, len(all)))
	var total float64
	for _, u := range units {
		total += u.weight
	}
	ranked := all[:0]
	for i, m := range all {
		anyWord := false
		norm := bm25Saturation * (1 - bm25Length + bm25Length*terms[i].length/average)
		for _, u := range units {
			credit, times, whole := terms[i].has(u)
			n := float64(times)
			m.share += credit * u.weight / total
			m.score += credit * u.weight * n * (bm25Saturation + 1) / (n + norm)
			anyWord = anyWord || whole && u.word != nil
		}
		if anyWord || m.share >= minTextShare {
			ranked = append(ranked, m)
		}
	}
	slices.SortStableFunc(ranked, func(a, b textMatch) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.number, b.number))
	})
	return ranked
}
