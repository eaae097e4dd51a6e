package embed

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Vocabulary turns text into the numbers of a model's rows: first the words and the
// phrases of two words, then the pieces that unknown words are cut into, then the
// buckets to which unknown words are hashed, so that even a name the model never saw
// matches itself.
type Vocabulary struct {
	words   map[string]int32
	bases   map[int32]int32 // of inflected words
	pieces  map[string]int32
	buckets int
	longest int // piece, in bytes
}

// NewVocabulary numbers the words, the pieces and the buckets, in that order. The
// words come the most common first; a phrase is two of them with a space.
func NewVocabulary(words, pieces []string, buckets int) *Vocabulary {
	v := &Vocabulary{
		words: make(map[string]int32, len(words)), bases: make(map[int32]int32),
		pieces: make(map[string]int32, len(pieces)), buckets: buckets,
	}
	for i, w := range words {
		v.words[w] = int32(i)
		// What looks like the base of a more common word is none: speed is not spe, inflected.
		if base, ok := v.base(w); ok {
			v.bases[int32(i)] = base
		}
	}
	for i, p := range pieces {
		v.pieces[p] = int32(len(words) + i)
		v.longest = max(v.longest, len(p))
	}
	return v
}

// Size is the number of rows.
func (v *Vocabulary) Size() int { return len(v.words) + len(v.pieces) + v.buckets }

// Known says whether a word, or a phrase, has a row of its own.
func (v *Vocabulary) Known(word string) bool {
	_, ok := v.words[word]
	return ok
}

// Append adds the rows of a text to rows. A text without words, such as one of
// symbols, has the buckets of what stands between its spaces.
func (v *Vocabulary) Append(rows []int32, text string) []int32 {
	return v.AppendWithout(rows, text, func(string) bool { return false })
}

// AppendWithout is Append, but words for which unknown returns true are treated as if
// the vocabulary did not have them.
func (v *Vocabulary) AppendWithout(rows []int32, text string, unknown func(word string) bool) []int32 {
	start := len(rows)
	var phrase []byte // the last word and a space
	EachWord(text, func(raw, word string) {
		if v.Known(word) && unknown(word) {
			rows = v.appendUnknown(rows, word)
		} else {
			rows = v.appendWord(rows, raw, word)
		}
		last := len(phrase)
		phrase = append(phrase, word...)
		if i, ok := v.words[string(phrase)]; ok && last > 0 {
			rows = append(rows, i)
		}
		phrase = append(append(phrase[:0], word...), ' ')
	})
	if len(rows) == start && v.buckets > 0 {
		for _, symbol := range strings.Fields(text) {
			rows = append(rows, v.bucket(symbol))
		}
	}
	return rows
}

// appendWord adds an inflected word as itself and as its base: what is learned of one
// form holds for the others.
func (v *Vocabulary) appendWord(rows []int32, raw, word string) []int32 {
	if i, ok := v.words[word]; ok {
		rows = append(rows, i)
		if base, ok := v.bases[i]; ok {
			rows = append(rows, base)
		}
		return rows
	}
	if parts := camel(raw); len(parts) > 1 {
		for _, p := range parts {
			p = Fold(p)
			if i, ok := v.words[p]; ok {
				rows = append(rows, i)
			} else {
				rows = v.appendUnknown(rows, p)
			}
		}
		return append(rows, v.bucket(word))
	}
	return v.appendUnknown(rows, word)
}

// base returns the row of the word of which this one looks like a form.
func (v *Vocabulary) base(word string) (row int32, ok bool) {
	ok = IsForm(word, func(base string) bool {
		i, known := v.words[base]
		row = i
		return known
	})
	return row, ok
}

// IsForm says whether an English word looks like a form of another one: a plural, a
// third person, a past or a participle. known is asked for the likely bases, the
// likeliest first, until it returns true.
func IsForm(word string, known func(base string) bool) bool {
	is := func(base string) bool {
		return len(base) > 2 && strings.ContainsAny(base, "aeiouy") && known(base)
	}
	for _, s := range inflections {
		stem, ok := strings.CutSuffix(word, s.suffix)
		if !ok {
			continue
		}
		for _, ending := range s.endings {
			if is(stem + ending) {
				return true
			}
		}
		n := len(stem)
		return s.doubles && n > 3 && stem[n-1] == stem[n-2] && is(stem[:n-1]) // stopped, stopping
	}
	return false
}

// inflections are the suffixes of English forms, and what stands in their place in
// the base, the likeliest first.
var inflections = []struct {
	suffix  string
	endings []string
	doubles bool
}{
	{"ss", nil, false}, {"ies", []string{"y", "ie"}, false}, {"es", []string{"e", ""}, false}, {"s", []string{""}, false},
	{"ied", []string{"y"}, false}, {"ed", []string{"e", ""}, true}, {"ing", []string{"", "e"}, true},
}

// appendUnknown adds the rows of a word as if the model did not know it: its base,
// or its pieces, longest first from the left; its bucket; and without a base that of its
// beginning, which other words of its family share.
func (v *Vocabulary) appendUnknown(rows []int32, word string) []int32 {
	base, hasBase := v.base(word)
	switch {
	case hasBase:
		rows = append(rows, base)
	default:
		rows = v.appendPieces(rows, word)
	}
	if v.buckets == 0 {
		return rows
	}
	rows = append(rows, v.bucket(word))
	if !hasBase && utf8.RuneCountInString(word) > 6 {
		end := 0
		for range 5 {
			_, size := utf8.DecodeRuneInString(word[end:])
			end += size
		}
		rows = append(rows, v.bucket(word[:end]+"-"))
	}
	return rows
}

func (v *Vocabulary) appendPieces(rows []int32, word string) []int32 {
	start := len(rows)
	for at := 0; at < len(word); {
		end := min(len(word), at+v.longest)
		for ; end > at; end-- {
			if i, ok := v.pieces[word[at:end]]; ok {
				rows = append(rows, i)
				break
			}
		}
		if end == at { // not even this character: the word is of another script
			return rows[:start]
		}
		at = end
	}
	return rows
}

func (v *Vocabulary) bucket(word string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word))
	return int32(len(v.words)+len(v.pieces)) + int32(h.Sum32()%uint32(v.buckets))
}

// camel cuts maxAgents into max and Agents, and HTTPServer into HTTP and Server.
func camel(word string) []string {
	var parts []string
	runes, start := []rune(word), 0
	for i := 1; i < len(runes); i++ {
		up := unicode.IsUpper(runes[i])
		switch {
		case up && unicode.IsLower(runes[i-1]),
			up && i+1 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsUpper(runes[i-1]),
			unicode.IsDigit(runes[i]) != unicode.IsDigit(runes[i-1]):
			parts = append(parts, string(runes[start:i]))
			start = i
		}
	}
	return append(parts, string(runes[start:]))
}

// Weighted is a row and how much of it a text has.
type Weighted struct {
	Row    int32
	Weight float32
}

// Weigh returns each row of a text once, in ascending order. A word that comes
// n times counts as √n: said again, it says less.
func Weigh(rows []int32) []Weighted {
	slices.Sort(rows)
	var all []Weighted
	for i := 0; i < len(rows); {
		j := i
		for j < len(rows) && rows[j] == rows[i] {
			j++
		}
		all = append(all, Weighted{rows[i], float32(math.Sqrt(float64(j - i)))})
		i = j
	}
	return all
}
