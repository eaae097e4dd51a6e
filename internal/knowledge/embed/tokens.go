package embed

import (
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Vocabulary turns text into the numbers of a model's rows: first the words,
// then the pieces that unknown words are cut into, then the buckets to which
// unknown words are hashed, so that even a name the model never saw matches itself.
type Vocabulary struct {
	words   map[string]int32
	pieces  map[string]int32
	buckets int
	longest int // piece, in bytes
}

// NewVocabulary numbers the words, the pieces and the buckets, in that order.
func NewVocabulary(words, pieces []string, buckets int) *Vocabulary {
	v := &Vocabulary{words: make(map[string]int32, len(words)), pieces: make(map[string]int32, len(pieces)), buckets: buckets}
	for i, w := range words {
		v.words[w] = int32(i)
	}
	for i, p := range pieces {
		v.pieces[p] = int32(len(words) + i)
		v.longest = max(v.longest, len(p))
	}
	return v
}

// Size is the number of rows.
func (v *Vocabulary) Size() int { return len(v.words) + len(v.pieces) + v.buckets }

// Known says whether a word has a row of its own.
func (v *Vocabulary) Known(word string) bool {
	_, ok := v.words[word]
	return ok
}

// Append adds the rows of a text to rows. A text without words, such as one of
// symbols, has the buckets of what stands between its spaces.
func (v *Vocabulary) Append(rows []int32, text string) []int32 {
	start := len(rows)
	EachWord(text, func(raw, word string) {
		rows = v.appendWord(rows, raw, word)
	})
	if len(rows) == start && v.buckets > 0 {
		for _, symbol := range strings.Fields(text) {
			rows = append(rows, v.bucket(symbol))
		}
	}
	return rows
}

func (v *Vocabulary) appendWord(rows []int32, raw, word string) []int32 {
	if i, ok := v.words[word]; ok {
		return append(rows, i)
	}
	if parts := camel(raw); len(parts) > 1 {
		for _, p := range parts {
			p = Fold(p)
			if i, ok := v.words[p]; ok {
				rows = append(rows, i)
			} else {
				rows = v.AppendUnknown(rows, p)
			}
		}
		return append(rows, v.bucket(word))
	}
	return v.AppendUnknown(rows, word)
}

// AppendUnknown adds the rows of a word as if the model did not know it: its
// pieces, longest first from the left, its bucket, and that of its beginning,
// which the inflected forms of a word share.
func (v *Vocabulary) AppendUnknown(rows []int32, word string) []int32 {
	if v.buckets == 0 {
		return v.appendPieces(rows, word)
	}
	rows = append(v.appendPieces(rows, word), v.bucket(word))
	if utf8.RuneCountInString(word) > 6 {
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
