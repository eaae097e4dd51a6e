package knowledge

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/knowledge/embed"
)

// The contract calls two texts duplicates when their cosine is 0.95 or more. A
// model cannot be trusted with that alone: to most models "paid within 14 days"
// and "paid within 30 days" are nearly one text, yet merging them loses a fact.
// So a pair above the threshold is merged only if it also says the same, which
// here means: the same words, numbers and symbols that carry meaning, in the same
// order. What may differ is form: case, accents, spacing, line breaks, markup,
// list markers, quotes, punctuation, thousands separators, numbers up to twelve
// written out, contractions, and a few filler words.
//
// The guard only ever prevents a merge. Where it is too careful two near-copies
// are kept, which costs a row; a wrong merge would cost what somebody wrote.

// said is the same for two texts if they differ in form alone.
func said(text string) string { return strings.Join(facts(text), "\x00") }

// fillers can be added to a sentence without changing what it says.
var fillers = map[string]bool{
	"a": true, "an": true, "the": true, "please": true, "just": true, "simply": true, "really": true, "very": true,
	"quite": true, "also": true, "actually": true, "basically": true, "indeed": true, "moreover": true, "furthermore": true,
	"additionally": true, "therefore": true, "thus": true,
}

var (
	// Tags with attributes stay: a link's address is a fact.
	plainTag   = regexp.MustCompile(`(?i)</?(?:a|b|blockquote|br|code|dd|div|dl|dt|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong|table|tbody|td|th|thead|tr|u|ul)\s*/?>`)
	lineMarker = regexp.MustCompile(`(?m)^[ \t]*(?:[>#*+•◦▪●○■–—-]+[ \t]+)+`)
	thousands  = regexp.MustCompile(`\b[0-9]{1,3}(?:,[0-9]{3})+\b`)
)

// facts returns what a text says, as a list of folded words, numbers and symbols.
func facts(text string) []string {
	text = plainTag.ReplaceAllString(strings.ToValidUTF8(text, "�"), " ")
	text = lineMarker.ReplaceAllString(text, "")
	text = thousands.ReplaceAllStringFunc(text, func(n string) string { return strings.ReplaceAll(n, ",", "") })
	var all []string
	word := func(w string) {
		if w == "" {
			return
		}
		for _, part := range strings.Fields(embed.CanonicalSpelling(embed.Fold(strings.ReplaceAll(w, "’", "'")))) {
			if !fillers[part] {
				all = append(all, part)
			}
		}
	}
	start := -1
	flush := func(end int) {
		if start >= 0 {
			word(text[start:end])
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
		case start >= 0 && joins(before, r, after):
		case start >= 0 && (r == '+' || r == '#') && (unicode.IsLetter(before) || before == r) && !isWord(after): // C++, C#
		default:
			flush(i)
			if s := symbol(before, r, after); s != "" {
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

// joins says whether r makes one word of what stands on its two sides: 2.10, 3-5,
// 10:30, max_size, don't.
func joins(before, r, after rune) bool {
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

// symbol returns what a character outside of words says, or "".
func symbol(before, r, after rune) string {
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
