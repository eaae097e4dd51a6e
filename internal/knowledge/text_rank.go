package knowledge

import (
	"cmp"
	"math"
	"slices"
	"unicode/utf8"

	"agento.host/agento/internal/fulltext"
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
	otherForm    = 0.97 // it is another form of the word
	otherMarks   = 0.8  // it differs in accents or points
	onlyParts    = 0.7  // all parts of the word, but not the word
	minCovered   = 0.4  // the share of a word's letters from which they count
	singleWeight = 0.3  // of a character or cluster, beside the pairs that it is in
)

// longRun is how many letters two words share only if they have to do with each other.
const longRun = 6

// minTextShare is the least share of a query that an entry must have to be found by its text,
// if it has no word of it and parts count onlyParts; it is more where they count less. Without it a search would find every entry that has three letters
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
		add(textUnit{word: &terms.Words[i]}, fulltext.IsStopword(w.Text))
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
// The parts of a word that enough entries have are not looked up.
func termsOf(units []textUnit, enough int) (words, parts []string) {
	for _, u := range units {
		if u.word == nil {
			parts = append(parts, u.part.Term)
			continue
		}
		words = append(words, u.word.Term)
		if u.count < enough {
			parts = append(parts, u.word.Lookups()...)
		}
	}
	slices.Sort(words)
	return slices.Compact(words), parts[:min(len(parts), maxQueryParts)]
}

// wantedTerms are the terms by which the units of a query are found.
type wantedTerms struct {
	written, words, parts map[string]bool
	short                 []string // words that can only begin or end a compound
}

func wantedBy(units []textUnit) wantedTerms {
	all := wantedTerms{map[string]bool{}, map[string]bool{}, map[string]bool{}, nil}
	for _, u := range units {
		if u.word == nil {
			all.parts[u.part.Term] = true
			continue
		}
		all.written[u.word.Text], all.words[u.word.Term] = true, true
		if u.word.Short() {
			all.short = append(all.short, u.word.Folded)
		}
		for run := range u.word.Runs() {
			all.parts[run] = true
		}
	}
	return all
}

// foundTerms are the wanted terms that an entry has, and how often.
type foundTerms struct {
	written, words, parts map[string]int
	begins                map[string]bool // runs of letters that begin a word
	short                 map[string]bool // words that begin or end one
	marked                map[string]bool // folded words that are written otherwise
	length                float64         // of the entry, in terms
}

func (w wantedTerms) find(text string) foundTerms {
	terms := fulltext.Analyze(text)
	f := foundTerms{map[string]int{}, map[string]int{}, map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]bool{}, float64(len(terms.Words) + len(terms.Parts))}
	for _, word := range terms.Words {
		if w.written[word.Text] {
			f.written[word.Text]++
		}
		if w.words[word.Term] {
			f.words[word.Term]++
			if !w.written[word.Text] {
				f.marked[word.Folded] = true
			}
		}
		first := true
		for run := range word.Runs() {
			if w.parts[run] {
				f.parts[run]++
				f.begins[run] = f.begins[run] || first
			}
			first = false
		}
		for _, s := range w.short {
			if word.IsCompoundOf(s) {
				f.short[s] = true
			}
		}
	}
	for _, p := range terms.Parts {
		if w.parts[p.Term] {
			f.parts[p.Term]++
		}
	}
	return f
}

// has returns how much of a unit an entry has, from 0 to 1, and how often. whole reports
// whether it has the unit as a whole word.
func (f foundTerms) has(u textUnit, partCredit float64) (credit float64, times int, whole bool) {
	if u.word == nil {
		n := f.parts[u.part.Term]
		return min(1, float64(n)), n, false
	}
	if n := f.words[u.word.Term]; n > 0 {
		switch {
		case f.written[u.word.Text] > 0:
			return 1, n, true
		case f.marked[u.word.Folded]:
			return otherMarks, n, true
		}
		return otherForm, n, true
	}
	share := f.covers(u.word)
	if share < minCovered {
		return 0, 0, false
	}
	if u.count > 0 { // the word itself is what is meant
		share *= share
	}
	return partCredit * share, 1, false
}

// covers returns the share of a word's letters that words of the entry have, in the same
// order. Letters count in runs that begin the word or a word of the entry, or are long:
// otherwise two words with one ending would look alike.
func (f foundTerms) covers(w *fulltext.Word) float64 {
	if f.short[w.Folded] {
		return 1
	}
	runs := slices.Collect(w.Runs())
	if len(runs) == 0 {
		return 0
	}
	n := utf8.RuneCountInString(runs[0])
	covered := 0
	through := 0 // letters before it are counted
	for i := 0; i < len(runs); i++ {
		end := i
		for end < len(runs) && f.parts[runs[end]] > 0 {
			end++
		}
		start := i
		if i > 0 && end-i+n-1 < longRun {
			for start < end && !f.begins[runs[start]] {
				start++
			}
		}
		if start < end {
			covered += end + n - 1 - max(start, through)
			through = end + n - 1
		}
		i = end
	}
	return float64(covered) / float64(len(runs)+n-1)
}

// rankByText returns the candidates, each once, that have enough of the units, best first.
func rankByText(units []textUnit, candidates []Entry, partCredit float64) []textMatch {
	wanted := wantedBy(units)
	seen := map[int64]bool{}
	var all []textMatch
	var found []foundTerms
	var length, total float64
	for _, e := range candidates {
		if seen[e.number] {
			continue
		}
		seen[e.number] = true
		f := wanted.find(e.Text)
		all, found = append(all, textMatch{Entry: e}), append(found, f)
		length += f.length
	}
	for _, u := range units {
		total += u.weight
	}
	average := length / float64(max(1, len(all)))
	ranked := all[:0]
	for i, m := range all {
		anyWord := false
		norm := bm25Saturation * (1 - bm25Length + bm25Length*found[i].length/average)
		for _, u := range units {
			credit, times, whole := found[i].has(u, partCredit)
			n := float64(times)
			m.share += credit * u.weight / total
			m.score += credit * u.weight * n * (bm25Saturation + 1) / (n + norm)
			anyWord = anyWord || whole
		}
		if anyWord || m.share >= minTextShare*onlyParts/partCredit {
			ranked = append(ranked, m)
		}
	}
	slices.SortStableFunc(ranked, func(a, b textMatch) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.number, b.number))
	})
	return ranked
}
