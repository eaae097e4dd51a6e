package knowledge

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The API contract calls two texts duplicates when their cosine similarity is 0.95 or
// more. A model alone does not decide that reliably: to most models "paid within 14
// days" and "paid within 30 days" are almost the same text, yet merging them loses a
// fact. A pair above the threshold is therefore merged only if both texts also make
// the same claim: they are equal after the few rules below. What a rule does not name
// stays as it is, because in some script or notation it is a fact: case (mW, MW), marks
// (ハス, バス), superscripts (10², 102), signs and separators.
//
// This check only ever prevents a merge. Where it is too strict, two near-copies are
// kept, which costs one row; a wrong merge would lose a text that somebody stored.

// claimRule takes one difference in form away from a text. The rules are applied in order.
type claimRule struct {
	name  string // of the difference, for the users of the API
	apply func(string) string
}

var claimRules = []claimRule{
	{"full-width or half-width forms", foldWidth},
	{"Unicode composition", norm.NFC.String},
	{"plain tags", stripPlainTags},
	{"list markers", stripListMarkers},
	{"typographic quotes, apostrophes or ellipses", foldTypography},
	{"dashes between blanks", foldDashes},
	{"white space", foldBlanks},
	{"the full stop at the end", trimFullStop},
	{"the case of a sentence's first letter", lowerSentences},
}

// normalizedClaim returns a string that is equal for two texts if they differ only in
// form.
func normalizedClaim(text string) string {
	for _, r := range claimRules {
		text = r.apply(text)
	}
	return text
}

// skipReason says why two texts make the same claim.
func skipReason(a, b string) string {
	if a == b {
		return "identical text"
	}
	var needed []claimRule
	x, y := a, b
	for _, r := range claimRules {
		nextX, nextY := r.apply(x), r.apply(y)
		if nextX != x || nextY != y {
			needed = append(needed, r)
		}
		x, y = nextX, nextY
	}
	for i := len(needed) - 1; i >= 0; i-- {
		without := slices.Delete(slices.Clone(needed), i, i+1)
		x, y := a, b
		for _, r := range without {
			x, y = r.apply(x), r.apply(y)
		}
		if x == y {
			needed = without
		}
	}
	names := make([]string, len(needed))
	for i, r := range needed {
		names[i] = r.name
	}
	return "differs only in " + strings.Join(names, "; ")
}

func foldWidth(text string) string {
	if isASCII(text) {
		return text
	}
	return variants.width.Replace(text)
}

func foldTypography(text string) string {
	if isASCII(text) {
		return text
	}
	return variants.typography.Replace(text)
}

// isASCII reports whether a text can have no variants but white space.
func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// plainTag matches tags without attributes. Tags with attributes stay, because the
// address of a link is a fact.
var plainTag = regexp.MustCompile(`(?i)<(/?)(a|b|blockquote|br|code|dd|div|dl|dt|em|h[1-6]|hr|i|li|ol|p|pre|small|span|strong|table|tbody|td|th|thead|tr|u|ul)\s*/?>`)

// inlineTags are the plain tags that do not end a line.
var inlineTags = map[string]bool{"a": true, "b": true, "code": true, "em": true, "i": true, "small": true, "span": true, "strong": true, "u": true}

// stripPlainTags removes tags in pairs, and br and hr. A tag without its other half, or one
// that stands like a word between two blanks, is what the text is about ("Close the <b> tag")
// and stays.
func stripPlainTags(text string) string {
	if !strings.Contains(text, "<") {
		return text
	}
	all := plainTag.FindAllStringSubmatchIndex(text, -1)
	strip := make([]bool, len(all))
	var open []int // indexes in all
	name := func(i int) string { return strings.ToLower(text[all[i][4]:all[i][5]]) }
	for i, m := range all {
		switch {
		case name(i) == "br" || name(i) == "hr":
			strip[i] = m[0] == 0 || text[m[0]-1] != ' ' || m[1] == len(text) || text[m[1]] != ' '
		case text[m[1]-2] == '/':
		case m[2] == m[3]:
			open = append(open, i)
		default:
			for j := len(open) - 1; j >= 0; j-- {
				if name(open[j]) == name(i) {
					strip[open[j]], strip[i] = true, true
					open = open[:j]
					break
				}
			}
		}
	}
	var b strings.Builder
	end := 0
	for i, m := range all {
		if !strip[i] {
			continue
		}
		b.WriteString(text[end:m[0]])
		if end = m[1]; !inlineTags[name(i)] {
			b.WriteByte('\n')
		}
	}
	b.WriteString(text[end:])
	return b.String()
}

// listMarker matches a marker before a letter. Before anything else it can be a sign:
// "- 5 °C".
var listMarker = regexp.MustCompile(`(?m)^[ \t]*(?:[-*+•]|#{1,6})[ \t]+(\pL)`)

func stripListMarkers(text string) string {
	if !strings.ContainsAny(text, "-*+•#") {
		return text
	}
	return listMarker.ReplaceAllString(text, "$1")
}

// foldDashes writes every dash between two blanks as a hyphen. A dash that can be the sign
// of a number stays.
func foldDashes(text string) string {
	if isASCII(text) {
		return text
	}
	runes := []rune(text)
	for i, r := range runes {
		if variants.dash[r] == 0 || i < 2 || i+2 >= len(runes) || !unicode.IsSpace(runes[i-1]) || !unicode.IsSpace(runes[i+1]) {
			continue
		}
		if !unicode.IsNumber(runes[i+2]) || unicode.IsNumber(runes[i-2]) {
			runes[i] = variants.dash[r]
		}
	}
	return string(runes)
}

// foldBlanks removes white space at both ends and writes a run of it between two words as
// one blank. Beside digits and signs it stays: "10 20" is not the two lines "10" and "20".
func foldBlanks(text string) string {
	text = strings.TrimFunc(text, unicode.IsSpace)
	var b strings.Builder
	written := 0
	start := -1 // of the run
	before := ' '
	for i, r := range text {
		if unicode.IsSpace(r) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 && text[start:i] != " " && endsWord(before) && endsWord(r) {
			b.WriteString(text[written:start])
			b.WriteByte(' ')
			written = i
		}
		start, before = -1, r
	}
	b.WriteString(text[written:])
	return b.String()
}

// endsWord reports whether r is the first or last character of a word or stands beside words
// in any sentence.
func endsWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.Is(unicode.M, r) || strings.ContainsRune(`"'`, r) || unicode.Is(unicode.Terminal_Punctuation, r)
}

// trimFullStop removes the full stop at the end of a text, in any script. A dot after
// anything but a word stays: "ls .", "cd ..".
func trimFullStop(text string) string {
	last, size := utf8.DecodeLastRuneInString(text)
	if !variants.stop[last] {
		return text
	}
	rest := text[:len(text)-size]
	before, _ := utf8.DecodeLastRuneInString(rest)
	switch {
	case variants.stop[before]:
		return text
	case last != '.':
		if trimmed := strings.TrimRightFunc(rest, unicode.IsSpace); trimmed != "" {
			return trimmed
		}
	case unicode.IsLetter(before), unicode.IsNumber(before), unicode.Is(unicode.M, before), unicode.In(before, unicode.Pe, unicode.Pf), strings.ContainsRune("\"'%`", before), unicode.In(before, unicode.Sc, unicode.So):
		return rest
	}
	return text
}

// lowerSentences writes the first letter of every sentence in lower case. A word with
// other capitals, or of one or two letters, stays, because it can be a unit or a formula: MW, Mg.
func lowerSentences(text string) string {
	var b strings.Builder
	written := 0
	for start := 0; start >= 0; start = nextSentence(text, start) {
		at := start
		if at < len(text) && strings.IndexByte(`"'(`, text[at]) >= 0 {
			at++
		}
		upper, size := utf8.DecodeRuneInString(text[at:])
		lower := unicode.ToLower(upper)
		if !unicode.IsUpper(upper) || unicode.ToUpper(lower) != upper || !beginsLower(text[at+size:]) {
			continue
		}
		b.WriteString(text[written:at])
		b.WriteRune(lower)
		written = at + size
	}
	b.WriteString(text[written:])
	return b.String()
}

// nextSentence returns the index of the next sentence after an index, or -1. A full stop
// ends one only after a word of four letters, since it can belong to an abbreviation.
func nextSentence(text string, from int) int {
	for {
		i := strings.IndexAny(text[from:], ".!?")
		if i < 0 {
			return -1
		}
		i += from
		from = i + 1
		end := from
		if end < len(text) && strings.IndexByte(`"')`, text[end]) >= 0 {
			end++
		}
		if end < len(text) && text[end] == ' ' && (text[i] != '.' || endsLower(text[:i])) {
			return end + 1
		}
	}
}

// endsLower reports whether a text ends with four lower-case letters.
func endsLower(text string) bool {
	for range 4 {
		r, size := utf8.DecodeLastRuneInString(text)
		if !unicode.IsLower(r) {
			return false
		}
		text = text[:len(text)-size]
	}
	return true
}

// beginsLower reports whether a text begins with the rest of a word, of two letters or more
// and without a capital.
func beginsLower(text string) bool {
	n := 0
	for _, r := range text {
		switch {
		case unicode.IsLower(r), unicode.Is(unicode.M, r):
			n++
		case r == '\'':
		default:
			return n >= 2 && !unicode.IsLetter(r) && !unicode.IsNumber(r)
		}
	}
	return n >= 2
}
