package fulltext

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// normalize returns a text in lower case, with one form of each character of which
// Unicode has several, and without characters that are invisible.
func normalize(text string) string {
	if isASCII(text) {
		return strings.ToLower(text)
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || r == tatweel || r == combiningDot {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKC.String(text))
}

const (
	tatweel      = '\u0640' // lengthens an Arabic word
	combiningDot = '\u0307' // remains of İ in lower case
)

// fold removes from a normalized word what a person who searches for it may leave out or
// write otherwise. Marks are parts of letters in most scripts, so each script has a rule
// of its own.
func fold(word string) string {
	if isASCII(word) {
		return word
	}
	base := rune(0)
	var b strings.Builder
	for _, r := range norm.NFD.String(word) {
		if !unicode.Is(unicode.M, r) {
			base = r
		} else if isOptional(r, base) {
			continue
		}
		switch to, ok := spelling[r]; {
		case ok:
			b.WriteString(to)
		case r > unicode.MaxASCII && unicode.Is(unicode.Nd, r):
			b.WriteByte(digit(r))
		default:
			b.WriteRune(r)
		}
	}
	return norm.NFC.String(b.String())
}

// isOptional reports whether a mark may be missing: accents of European scripts, vowel
// points of Arabic and Hebrew, and the hamza on a letter. Other marks are vowels, tones or
// parts of consonants.
func isOptional(mark, base rune) bool {
	switch {
	case unicode.In(base, unicode.Latin, unicode.Greek, unicode.Cyrillic):
		return true
	case mark >= 0x064b && mark <= 0x065f, mark == 0x0670, mark >= 0x0591 && mark <= 0x05c7:
		return true
	}
	return indicNukta[mark]
}

// indicNukta are dots that writers of Indic languages often leave out.
var indicNukta = map[rune]bool{0x093c: true, 0x09bc: true, 0x0a3c: true, 0x0abc: true, 0x0b3c: true}

// spelling maps letters to the ones that often stand for them.
var spelling = map[rune]string{
	'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'đ': "d", 'ð': "d", 'ł': "l", 'ı': "i", 'þ': "th", 'ς': "σ",
	'ٱ': "ا", 'ى': "ي", 'ی': "ي", 'ک': "ك", 'ة': "ه",
	0x0901: "\u0902", 0x0981: "\u0982", 0x0a01: "\u0a02", 0x0a81: "\u0a82", 0x0b01: "\u0b02", // candrabindu: anusvara
}

// digit returns the ASCII digit for a decimal digit of another script.
func digit(r rune) byte {
	for _, all := range unicode.Nd.R16 {
		if rune(all.Lo) <= r && r <= rune(all.Hi) {
			return '0' + byte((r-rune(all.Lo))%10)
		}
	}
	for _, all := range unicode.Nd.R32 {
		if rune(all.Lo) <= r && r <= rune(all.Hi) {
			return '0' + byte((r-rune(all.Lo))%10)
		}
	}
	return '0'
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] > unicode.MaxASCII {
			return false
		}
	}
	return true
}
