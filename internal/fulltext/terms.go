package fulltext

import (
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Word is a word of a script that is written with blanks.
type Word struct {
	Text   string // as written, normalized
	Folded string // without what the writer of a query may leave out
	Term   string // what the index has of it

	run int // letters of a part; 0: the word has no parts
}

// Part is a part of a text in a script whose words the index does not know.
type Part struct {
	Term   string
	Single bool // one character or cluster of a word of several: says less than a pair
}

// Terms are the terms of a text, in order.
type Terms struct {
	Words []Word
	Parts []Part // beside those of the words
}

// The marks of the parts that begin or end a word. They are private characters, which
// are parts of no word.
const (
	wordBegin = "\ue000"
	wordEnd   = "\ue001"
)

// maxPartLetters is how many letters of a word have parts. Longer ones are no words.
const maxPartLetters = 64

// Analyze returns the terms of a text.
func Analyze(text string) Terms {
	var t Terms
	for kind, run := range runs(normalize(text)) {
		switch kind {
		case spaced:
			t.Words = append(t.Words, newWord(run))
		case ideographic:
			t.addParts(characters(run))
		case clustered:
			t.addParts(clusters(run))
		}
	}
	return t
}

// writing is how a script writes words.
type writing int

const (
	none        writing = iota // not part of a word
	spaced                     // words are separated by blanks
	ideographic                // a character means something
	clustered                  // no blanks; a letter and its marks are a cluster
)

// runs yields the runs of characters with the same writing.
func runs(text string) iter.Seq2[writing, string] {
	return func(yield func(writing, string) bool) {
		start, current := 0, none
		for i, r := range text {
			w := writingOf(r, current)
			if w == current {
				continue
			}
			if current != none && !yield(current, text[start:i]) {
				return
			}
			start, current = i, w
		}
		if current != none {
			yield(current, text[start:])
		}
	}
}

// writingOf returns the writing of a character after one of another writing.
func writingOf(r rune, before writing) writing {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return spaced
		}
		return none
	case unicode.Is(unicode.M, r):
		return before
	case r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo, unicode.Yi), r == 'ー':
		return ideographic
	case r >= 0x0e00 && unicode.IsLetter(r) && unicode.In(r, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Javanese, unicode.Balinese,
		unicode.Tai_Le, unicode.New_Tai_Lue, unicode.Tai_Tham, unicode.Tai_Viet):
		return clustered
	case unicode.IsLetter(r), unicode.IsNumber(r):
		return spaced
	}
	return none
}

func newWord(text string) Word {
	folded := fold(text)
	w := Word{Text: text, Term: stem(folded), Folded: folded}
	if n := partLetters(folded); utf8.RuneCountInString(folded) >= n-1 && !IsStopword(folded) {
		w.run = n
	}
	return w
}

// Runs yields the runs of letters in a word that are its parts.
func (w Word) Runs() iter.Seq[string] {
	return func(yield func(string) bool) {
		if w.run == 0 {
			return
		}
		start, letters := 0, 0
		for end, r := range w.Folded {
			if letters++; letters < w.run {
				continue
			}
			if !yield(w.Folded[start:end+utf8.RuneLen(r)]) || letters == maxPartLetters {
				return
			}
			_, size := utf8.DecodeRuneInString(w.Folded[start:])
			start += size
		}
	}
}

// Short reports whether a word has one letter less than a run. It is a part of a compound
// only at its beginning or end.
func (w Word) Short() bool { return w.run > 0 && utf8.RuneCountInString(w.Folded) == w.run-1 }

// Lookups returns the parts of the texts in which the word is a part of another one.
func (w Word) Lookups() []string {
	if w.Short() {
		return []string{wordBegin + w.Folded, w.Folded + wordEnd}
	}
	return slices.Collect(w.Runs())
}

// IsCompoundOf reports whether a word begins or ends with a folded word that is Short.
func (w Word) IsCompoundOf(short string) bool {
	return w.isLong() && (strings.HasPrefix(w.Folded, short) || strings.HasSuffix(w.Folded, short))
}

// isLong reports whether a word has enough letters to be a compound of short ones.
func (w Word) isLong() bool {
	return w.run > 0 && utf8.RuneCountInString(w.Folded) >= 2*(w.run-1)
}

// edges returns the parts by which a short word is found in a compound.
func (w Word) edges() []string {
	if !w.isLong() {
		return nil
	}
	letters := []rune(w.Folded)
	return []string{wordBegin + string(letters[:w.run-1]), string(letters[len(letters)-w.run+1:]) + wordEnd}
}

// partLetters returns how many letters the parts of a word have, 0 for none. Scripts that
// leave vowels out or write them as marks need fewer than alphabets. Numbers have no parts.
func partLetters(word string) int {
	for _, r := range word {
		if unicode.IsLetter(r) {
			if unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian, unicode.Georgian) {
				return 4
			}
			return 3
		}
	}
	return 0
}

// unit is a character or a cluster.
type unit struct {
	text string
	part bool // also without the next
	word bool // it is likely a word
}

func (t *Terms) addParts(units []unit) {
	for i, u := range units {
		if u.part || len(units) == 1 {
			t.Parts = append(t.Parts, Part{Term: u.text, Single: !u.word && len(units) > 1})
		}
		if i > 0 {
			t.Parts = append(t.Parts, Part{Term: units[i-1].text + u.text})
		}
	}
}

// characters splits a run into characters. A kana alone says nothing. An ideograph between
// kana is likely a word, and so is a Korean syllable before one that can be a particle.
func characters(run string) []unit {
	all := split(run, false)
	isHan := func(i int) bool { return i >= 0 && i < len(all) && isOf(unicode.Han, all[i].text) }
	isHangul := func(i int) bool { return i >= 0 && i < len(all) && isOf(unicode.Hangul, all[i].text) }
	for i := range all {
		all[i].part = isHan(i) || isHangul(i)
		all[i].word = isHan(i) && !isHan(i-1) && !isHan(i+1) || isHangul(i) && !isHangul(i-1) && !isHangul(i+2)
	}
	return all
}

func isOf(script *unicode.RangeTable, text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return unicode.Is(script, r)
}

// clusters splits a run into clusters. A letter without marks says nothing.
func clusters(run string) []unit {
	all := split(run, true)
	for i, u := range all {
		all[i].part = utf8.RuneCountInString(u.text) > 1
	}
	return all
}

// split splits a run before every letter, unless a sign stacks it under the one before.
func split(run string, stacks bool) []unit {
	var all []unit
	start := 0
	var before rune
	for i, r := range run {
		if i > 0 && !unicode.Is(unicode.M, r) && (!stacks || !stackers[before]) {
			all = append(all, unit{text: run[start:i]})
			start = i
		}
		before = r
	}
	return append(all, unit{text: run[start:]})
}

// stackers are the signs that stack the next consonant under the one before: of Khmer,
// Burmese, Tai Tham, Balinese and Javanese.
var stackers = map[rune]bool{0x17d2: true, 0x1039: true, 0x1a60: true, 0x1b44: true, 0xa9c0: true}
