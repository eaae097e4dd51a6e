package knowledge

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/knowledge/embed"
)

// The API contract calls two texts duplicates when their cosine similarity is 0.95 or
// more. A model alone does not decide that reliably: to most models "paid within 14
// days" and "paid within 30 days" are almost the same text, yet merging them loses a
// fact. A pair above the threshold is therefore merged only if both texts also make
// the same claim: the same words, numbers and symbols that carry meaning, in the same
// order. They may differ in form: case, accents, spacing, line breaks, markup, list
// markers, quotes, punctuation, thousands separators, numbers up to twelve written
// out, contractions, and a few filler words.
//
// This check only ever prevents a merge. Where it is too strict, two near-copies are
// kept, which costs one row; a wrong merge would lose a text that somebody stored.

// normalizedClaim returns a string that is equal for two texts if they differ only in
// form.
func normalizedClaim(text string) string { return strings.Join(extractFacts(text), "\x00") }

// fillerWords can be added to a sentence without changing its claim.
var fillerWords = map[string]bool{
	"a": true, "an": true, "the": true, "please": true, "just": true, "simply": true, "really": true, "very": true,
	"quite": true, "also": true, "actually": true, "basically": true, "indeed": true, "moreover": true, "furthermore": true,
	"additionally": true, "therefore": true, "thus": true,
}

var (
	// plainTag matches tags without attributes. Tags with attributes stay, because the
	// address of a link is a fact.
	plainTag   = regexp.MustCompile(`(?i)</?(?:a|b|blockquote|br|code|dd|div|dl|dt|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong|table|tbody|td|th|thead|tr|u|ul)\s*/?>`)
	lineMarker = regexp.MustCompile(`(?m)^[ \t]*(?:[>#*+•◦▪●○■–—-]+[ \t]+)+`)
	thousands  = regexp.MustCompile(`\b[0-9]{1,3}(?:,[0-9]{3})+\b`)
)

// extractFacts returns the folded words, numbers and symbols that make up the claim of
// a text, in order.
func extractFacts(text string) []string {
	text = plainTag.ReplaceAllString(strings.ToValidUTF8(text, "�"), " ")
	text = lineMarker.ReplaceAllString(text, "")
	text = thousands.ReplaceAllStringFunc(text, func(n string) string { return strings.ReplaceAll(n, ",", "") })
	var all []string
	addWord := func(w string) {
		if w == "" {
			return
		}
		for _, part := range strings.Fields(embed.CanonicalSpelling(embed.Fold(strings.ReplaceAll(w, "’", "'")))) {
			if !fillerWords[part] {
				all = append(all, part)
			}
		}
	}
	start := -1
	flush := func(end int) {
		if start >= 0 {
			addWord(text[start:end])
			start = -1
		}
	}
	before := ' '
	for i, r := range text {
		after, _ := utf8.DecodeRuneInString(text[i+utf8.RuneLen(r):])
		switch {
		case isWord(r):
			if start < 0 {
				start = i
			}
		case start >= 0 && joinsWord(before, r, after):
		case start >= 0 && (r == '+' || r == '#') && (unicode.IsLetter(before) || before == r) && !isWord(after): // C++, C#
		default:
			flush(i)
			if s := symbolFact(before, r, after); s != "" {
				all = append(all, s)
			}
		}
		before = r
	}
	flush(len(text))
	return all
}

func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r)
}

// joinsWord reports whether r joins the characters on its two sides into one word:
// 2.10, 10:30, max_size, don't.
func joinsWord(before, r, after rune) bool {
	switch r {
	case '\'', '’':
		return unicode.IsLetter(before) && unicode.IsLetter(after)
	case '_':
		return isWord(before) && isWord(after)
	default:
		return unicode.IsDigit(before) && unicode.IsDigit(after) && !isDash(r) && !unicode.IsSpace(r)
	}
}

func isDash(r rune) bool { return r == '-' || r == '–' || r == '—' || r == '−' }

// symbolFact returns the meaning of a character outside of words, or "" if it has none.
func symbolFact(before, r, after rune) string {
	switch {
	case isDash(r):
		if unicode.IsDigit(after) && unicode.IsDigit(before) {
			return "to" // a range, whichever dash it is written with
		}
		if (unicode.IsDigit(after) || after == '.') && !isWord(before) {
			return "minus"
		}
		return ""
	case r == '&':
		return "and"
	case r == '!' && after == '=':
		return "!"
	case r == '%' || r == '@' || r == '§' || r == '\\':
		return string(r)
	case r == '/' || r == '*':
		if before == ' ' && after == ' ' {
			return string(r)
		}
		return ""
	case strings.ContainsRune("|~`´^¨•◦▪●○■→⇒", r) || r == '\ufe0f':
		return ""
	case unicode.IsSymbol(r):
		return string(r)
	}
	return ""
}
