package fulltext

import (
	"strings"
	"unicode"
	"unicode/utf8"

	porterstemmer "github.com/blevesearch/go-porterstemmer"
)

// stem returns the part of a folded word that its forms share: for words in ASCII by the
// rules of Porter, which are for English, and for Arabic words without their article,
// particles and endings. Parts find the forms of other languages.
func stem(word string) string {
	r, _ := utf8.DecodeRuneInString(word)
	switch {
	case isASCII(word):
		if len(word) < 3 {
			return word
		}
		return string(porterstemmer.StemWithoutLowerCasing([]rune(word)))
	case unicode.Is(unicode.Arabic, r):
		return stemArabic(word)
	}
	return word
}

// The rules of the stemmer light10 (Larkey, Ballesteros and Connell, 2002).
var (
	arabicArticles = []string{"وال", "بال", "كال", "فال", "ال", "لل"}
	arabicEndings  = []string{"ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي", "ا"}
)

func stemArabic(word string) string {
	length := utf8.RuneCountInString
	if rest, ok := strings.CutPrefix(word, "و"); ok && length(rest) >= 4 {
		word = rest
	}
	for _, article := range arabicArticles {
		if rest, ok := strings.CutPrefix(word, article); ok && length(rest) >= 2 {
			word = rest
			break
		}
	}
	for _, ending := range arabicEndings {
		if rest, ok := strings.CutSuffix(word, ending); ok && length(rest) >= 2 {
			word = rest
		}
	}
	return word
}
