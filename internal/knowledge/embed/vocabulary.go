package embed

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Vocabulary maps a text to row numbers of a model. The first rows are words and
// phrases of two words. Then come the pieces into which unknown words are split, and
// then the buckets to which unknown words are hashed, so that a name that the model
// has never seen still matches itself.
type Vocabulary struct {
	words        map[string]int32
	bases        map[int32]int32 // row of an inflected word -> row of its base
	pieces       map[string]int32
	buckets      int
	longestPiece int // bytes
}

// NewVocabulary numbers the words, the pieces and the buckets, in that order. Words
// are sorted by frequency, the most common first. A phrase is two words joined by a
// space.
func NewVocabulary(words, pieces []string, buckets int) *Vocabulary {
	v := &Vocabulary{
		words: make(map[string]int32, len(words)), bases: make(map[int32]int32),
		pieces: make(map[string]int32, len(pieces)), buckets: buckets,
	}
	for i, w := range words {
		v.words[w] = int32(i)
		// Only a more common word can be the base: "speed" is not a form of "spe".
		if base, ok := v.base(w); ok {
			v.bases[int32(i)] = base
		}
	}
	for i, p := range pieces {
		v.pieces[p] = int32(len(words) + i)
		v.longestPiece = max(v.longestPiece, len(p))
	}
	return v
}

// Append appends the rows of a text to rows. A text without words, such as one of
// symbols only, gets the bucket of each of its space-separated parts.
func (v *Vocabulary) Append(rows []int32, text string) []int32 {
	return v.AppendWithout(rows, text, func(string) bool { return false })
}

// AppendWithout is like Append, but treats words for which unknown returns true as
// if the vocabulary did not contain them.
func (v *Vocabulary) AppendWithout(rows []int32, text string, unknown func(word string) bool) []int32 {
	start := len(rows)
	var phrase []byte // the previous word and a space
	EachWord(text, func(raw, word string) {
		if _, known := v.words[word]; known && unknown(word) {
			rows = v.appendUnknown(rows, word)
		} else {
			rows = v.appendWord(rows, raw, word)
		}
		previous := len(phrase)
		phrase = append(phrase, word...)
		if i, ok := v.words[string(phrase)]; ok && previous > 0 {
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

// appendWord appends the row of a word and, if it is inflected, of its base: what
// the model learned about one form then applies to the others.
func (v *Vocabulary) appendWord(rows []int32, raw, word string) []int32 {
	if i, ok := v.words[word]; ok {
		rows = append(rows, i)
		if base, ok := v.bases[i]; ok {
			rows = append(rows, base)
		}
		return rows
	}
	if parts := splitIdentifier(raw); len(parts) > 1 {
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

// base returns the row of the word of which the given word seems to be a form.
func (v *Vocabulary) base(word string) (row int32, ok bool) {
	ok = IsForm(word, func(base string) bool {
		i, known := v.words[base]
		row = i
		return known
	})
	return row, ok
}

// IsForm reports whether an English word seems to be a form of another one: a
// plural, a third person, a past tense or a participle. It calls known with the
// possible bases, the likeliest first, until known returns true.
func IsForm(word string, known func(base string) bool) bool {
	isBase := func(base string) bool {
		return len(base) > 2 && strings.ContainsAny(base, "aeiouy") && known(base)
	}
	for _, s := range inflections {
		stem, ok := strings.CutSuffix(word, s.suffix)
		if !ok {
			continue
		}
		for _, ending := range s.endings {
			if isBase(stem + ending) {
				return true
			}
		}
		n := len(stem)
		return s.doubles && n > 3 && stem[n-1] == stem[n-2] && isBase(stem[:n-1]) // stopped, stopping
	}
	return false
}

// inflections are the suffixes of English word forms, each with the endings that
// may replace it in the base, the likeliest first.
var inflections = []struct {
	suffix  string
	endings []string
	doubles bool // the last consonant of the base may be doubled
}{
	{"ss", nil, false}, {"ies", []string{"y", "ie"}, false}, {"es", []string{"e", ""}, false}, {"s", []string{""}, false},
	{"ied", []string{"y"}, false}, {"ed", []string{"e", ""}, true}, {"ing", []string{"", "e"}, true},
}

// appendUnknown appends the rows of a word that the model does not know: its base
// or, without one, its pieces (the longest first, from the left); its bucket; and,
// without a base, the bucket of its first letters, which related words share.
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
	for from := 0; from < len(word); {
		end := min(len(word), from+v.longestPiece)
		for ; end > from; end-- {
			if i, ok := v.pieces[word[from:end]]; ok {
				rows = append(rows, i)
				break
			}
		}
		if end == from { // no piece has this character: the word is in another script
			return rows[:start]
		}
		from = end
	}
	return rows
}

func (v *Vocabulary) bucket(word string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word))
	return int32(len(v.words)+len(v.pieces)) + int32(h.Sum32()%uint32(v.buckets))
}

// splitIdentifier splits maxAgents into max and Agents, and HTTPServer into HTTP
// and Server.
func splitIdentifier(word string) []string {
	var parts []string
	runes, start := []rune(word), 0
	for i := 1; i < len(runes); i++ {
		upper := unicode.IsUpper(runes[i])
		switch {
		case upper && unicode.IsLower(runes[i-1]),
			upper && i+1 < len(runes) && unicode.IsLower(runes[i+1]) && unicode.IsUpper(runes[i-1]),
			unicode.IsDigit(runes[i]) != unicode.IsDigit(runes[i-1]):
			parts = append(parts, string(runes[start:i]))
			start = i
		}
	}
	return append(parts, string(runes[start:]))
}

// Weighted is a row and its weight in a text.
type Weighted struct {
	Row    int32
	Weight float32
}

// Weigh returns each row of a text once, in ascending order. A row that occurs n
// times has the weight √n: repetition adds less each time. It sorts rows.
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
