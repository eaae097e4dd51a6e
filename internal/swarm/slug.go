package swarm

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// maxSlug is the longest slug of a name, without the number that may follow it.
const maxSlug = 60

// slugOf returns the slug of a name: lower-case ASCII letters, digits and single
// hyphens. It removes accents and transliterates German, Cyrillic, Greek and Korean
// letters. If the name has no such letters, the slug is swarm- and four digits of its
// hash.
func slugOf(name string) string {
	if slug := transliterate(name); slug != "" {
		return slug
	}
	sum := sha256.Sum256([]byte(name))
	return "swarm-" + hex.EncodeToString(sum[:2])
}

// numberedSlug returns the nth slug of a name: growth, growth-2, growth-3.
func numberedSlug(base string, n int) string {
	if n == 1 {
		return base
	}
	return base + "-" + strconv.Itoa(n)
}

func transliterate(name string) string {
	var b slugBuilder
	for _, r := range norm.NFC.String(strings.ToLower(name)) {
		if ascii, ok := letters[r]; ok {
			b.writeText(ascii)
			continue
		}
		for _, part := range norm.NFKD.String(string(r)) {
			b.writeRune(unicode.ToLower(part))
		}
	}
	return b.String()
}

// slugBuilder joins words with single hyphens, up to maxSlug.
type slugBuilder struct {
	strings.Builder
	gap  bool // a hyphen comes before the next word
	full bool
}

func (b *slugBuilder) writeRune(r rune) {
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		b.writeText(string(r))
	case unicode.Is(unicode.Mn, r), r == '\'', r == '’', r == 'ʼ':
		// An accent, or an apostrophe: Bob's is one word.
	default:
		if ascii, ok := lookUpLetter(r); ok {
			b.writeText(ascii)
		} else {
			b.gap = true
		}
	}
}

func (b *slugBuilder) writeText(ascii string) {
	b.full = b.full || b.Len()+len("-")+len(ascii) > maxSlug
	if ascii == "" || b.full {
		return
	}
	if b.gap && b.Len() > 0 {
		b.WriteByte('-')
	}
	b.gap = false
	b.WriteString(ascii)
}

func lookUpLetter(r rune) (string, bool) {
	if ascii, ok := letters[r]; ok {
		return ascii, true
	}
	for first, forms := range jamo {
		if i := int(r - first); i >= 0 && i < len(forms) {
			return strings.TrimSuffix(forms[i], "-"), true
		}
	}
	return "", false
}

// letters are the lower-case letters whose accents are not simply removed, and those of
// other alphabets.
var letters = parseLetters(
	"ä ae ö oe ü ue ß ss æ ae œ oe ø o đ d ð d þ th ł l ħ h ı i ŋ n ŧ t ə e",
	"а a б b в v г g д d е e ё yo ж zh з z и i й y к k л l м m н n о o п p р r с s т t у u ф f х kh ц ts ч ch ш sh щ shch ъ - ы y ь - э e ю yu я ya",
	"і i ї yi є ye ґ g ў u ђ dj ј j љ lj њ nj ћ c џ dz ѓ g ќ k ѕ dz ә a ғ g қ k ң n ө o ұ u ү u һ h",
	"α a β v γ g δ d ε e ζ z η i θ th ι i κ k λ l μ m ν n ξ x ο o π p ρ r σ s ς s τ t υ y φ f χ ch ψ ps ω o",
)

// parseLetters parses pairs of a letter and its ASCII form; - is an empty form.
func parseLetters(lines ...string) map[rune]string {
	m := map[rune]string{}
	words := strings.Fields(strings.Join(lines, " "))
	for i := 0; i+1 < len(words); i += 2 {
		m[[]rune(words[i])[0]] = strings.TrimSuffix(words[i+1], "-")
	}
	return m
}

// jamo are the ASCII forms of the parts of Korean syllables: first consonants, vowels
// and last consonants, by the code point of the first of each.
var jamo = map[rune][]string{
	0x1100: strings.Fields("g kk n d tt r m b pp s ss - j jj ch k t p h"),
	0x1161: strings.Fields("a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i"),
	0x11A8: strings.Fields("k k k n n n t l k m l l l p l m p p t t ng t t k t p t"),
}
