package embed

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
)

// Fold removes differences that do not change a word: case, accents and width.
func Fold(word string) string {
	for i := range len(word) {
		if word[i] >= utf8.RuneSelf {
			return strings.Map(func(r rune) rune {
				if unicode.Is(unicode.Mn, r) {
					return -1
				}
				return unicode.ToLower(r)
			}, norm.NFKD.String(word))
		}
	}
	return strings.ToLower(word)
}

var (
	htmlTag       = regexp.MustCompile(`(?i)</?(?:a|abbr|b|blockquote|body|br|code|dd|div|dl|dt|em|h[1-6]|head|hr|html|i|img|li|ol|p|pre|s|small|span|strong|sub|sup|table|tbody|td|th|thead|tr|u|ul)(?:\s[^<>]*)?/?>`)
	groupedNumber = regexp.MustCompile(`\b[0-9]{1,3}(?:,[0-9]{3})+\b`)
)

// stripMarkup removes HTML tags, and the commas inside numbers.
func stripMarkup(text string) string {
	if strings.Contains(text, "<") {
		text = htmlTag.ReplaceAllString(text, " ")
	}
	if strings.Contains(text, ",") {
		text = groupedNumber.ReplaceAllStringFunc(text, func(n string) string { return strings.ReplaceAll(n, ",", "") })
	}
	return text
}

// compose returns a text with the one form of each character of which Unicode has several:
// composed, and neither half nor full width. Scripts without spaces need it, whose characters
// count as words.
func compose(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return r >= 0xff00 && r <= 0xffef }) {
		text = width.Fold.String(text)
	}
	return norm.NFC.String(text)
}

// canonical maps words to the spelling that stands for them.
var canonical = map[string]string{
	"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
	"ten": "10", "eleven": "11", "twelve": "12", "cannot": "can not", "won't": "will not", "can't": "can not", "shan't": "shall not",
}

// contractions are the endings that an apostrophe joins to a word, and the words
// that they stand for.
var contractions = []struct{ ending, words string }{
	{"n't", " not"}, {"'re", " are"}, {"'ll", " will"}, {"'ve", " have"}, {"'m", " am"}, {"'s", ""}, {"'d", ""},
}

// CanonicalSpelling returns a folded word in the one spelling that stands for all
// its variants, as words separated by spaces: "can't" and "cannot" are both "can
// not", and "five" is "5".
func CanonicalSpelling(word string) string {
	if s, ok := canonical[word]; ok {
		return s
	}
	if !strings.Contains(word, "'") {
		return word
	}
	for _, c := range contractions {
		if base, ok := strings.CutSuffix(word, c.ending); ok && base != "" {
			return strings.ReplaceAll(base, "'", "") + c.words
		}
	}
	return strings.ReplaceAll(word, "'", "")
}

// EachWord calls f for every word of a text, with the word as written and with its
// folded canonical spelling. In scripts that are written without spaces, every
// character and every two consecutive characters count as a word.
func EachWord(text string, f func(raw, word string)) {
	text = compose(stripMarkup(text))
	start := -1
	var previous rune // if it is of a script without spaces
	flush := func(end int) {
		if start < 0 {
			return
		}
		raw := text[start:end]
		start = -1
		folded := Fold(strings.ReplaceAll(raw, "’", "'"))
		word := CanonicalSpelling(folded)
		if word == folded {
			f(raw, word)
			return
		}
		for _, w := range strings.Fields(word) {
			f(w, w)
		}
	}
	for i, r := range text {
		if hasNoSpaces(r) {
			flush(i)
			f(string(r), string(r))
			if previous != 0 {
				f(string(previous)+string(r), string(previous)+string(r))
			}
			previous = r
			continue
		}
		previous = 0
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.Is(unicode.Mn, r):
			if start < 0 {
				start = i
			}
		case (r == '\'' || r == '’') && start >= 0 && letterFollows(text[i+utf8.RuneLen(r):]):
		case r == '&' && start < 0 && strings.HasPrefix(text[i+1:], " "):
			f("and", "and")
		default:
			flush(i)
		}
	}
	flush(len(text))
}

func letterFollows(rest string) bool {
	r, _ := utf8.DecodeRuneInString(rest)
	return unicode.IsLetter(r)
}

// hasNoSpaces reports whether r is of a script that is written without spaces.
func hasNoSpaces(r rune) bool {
	return r > 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}
