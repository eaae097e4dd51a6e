package scan

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// isInvisible reports whether a rune has no width and changes nothing that is visible.
func isInvisible(r rune) bool {
	switch {
	case r >= 0x200B && r <= 0x200F, r >= 0x2060 && r <= 0x2064, r >= 0x206A && r <= 0x206F:
		return true
	case r == 0xFEFF, r == 0x00AD, r == 0x034F, r == 0x061C, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x180E, r == 0x3164, r == 0xFFA0:
		return true
	case r >= 0xFFF9 && r <= 0xFFFB, isTag(r), isVariationSelector(r):
		return true
	}
	return false
}

// isTag reports whether a rune is one of the tag characters, an invisible copy of ASCII.
func isTag(r rune) bool { return r >= 0xE0000 && r <= 0xE007F }

// isVariationSelector reports whether a rune is a variation selector. It leaves out the
// two that are used with emoji and are common in normal text.
func isVariationSelector(r rune) bool {
	return r >= 0xFE00 && r <= 0xFE0D || r >= 0xE0100 && r <= 0xE01EF
}

// isBidi reports whether a rune reorders the text after it, so that a reader sees a
// different text.
func isBidi(r rune) bool { return r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 }

// scanHidden reports characters that a reader does not see but a model or shell does.
func (s *scanner) scanHidden(name, text string) {
	text = strings.TrimPrefix(text, "\uFEFF")
	for i, line := range strings.Split(text, "\n") {
		s.scanHiddenLine(name, i+1, line)
	}
}

func (s *scanner) scanHiddenLine(name string, number int, line string) {
	var tags, bidi, invisible, control, mixed bool
	last := rune(-1)
	var w wordAlphabets
	for i, r := range line {
		switch {
		case isTag(r) || r >= 0xE0100 && r <= 0xE01EF:
			tags = true
		case isBidi(r):
			bidi = true
		case r == 0x200D && isJoiner(last, line[i+utf8.RuneLen(r):]), r == 0x200C && last >= 0x600 && last < 0xE00:
			// part of an emoji, or of a Persian or Indic word
		case isInvisible(r):
			invisible = true
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f, r >= 0x80 && r < 0xA0:
			control = true
		}
		mixed = w.add(r) || mixed
		last = r
	}
	for _, f := range []struct {
		found    bool
		severity Severity
		message  string
	}{
		{tags, Critical, "Invisible characters form text that a model reads."},
		{bidi, High, "Characters that reorder text make a reader see a different text."},
		{invisible, Medium, "The text contains characters without width."},
		{control, Medium, "The text contains control characters."},
		{mixed, Medium, "A word mixes letters of alphabets that look alike."},
	} {
		if f.found {
			s.add("hidden-characters", f.severity, name, number, f.message, line)
		}
	}
}

// isJoiner reports whether a zero-width joiner is between two parts of an emoji or
// inside a word of a script that joins its letters.
func isJoiner(before rune, after string) bool {
	next, _ := utf8.DecodeRuneInString(after)
	return isPictograph(before) && isPictograph(next) || before >= 0x600 && before < 0xE00 && unicode.IsLetter(next)
}

func isPictograph(r rune) bool {
	return r >= 0x2190 && r < 0x2C00 || r >= 0x1F000 && r < 0x1FB00 || r == 0xFE0F
}

// wordAlphabets counts the Latin letters, and the Cyrillic and Greek ones that look like
// them, of the current word.
type wordAlphabets struct{ latin, other int }

// add counts the next rune and reports whether the word mixes alphabets.
func (w *wordAlphabets) add(r rune) (mixed bool) {
	switch {
	case unicode.Is(unicode.Latin, r):
		w.latin++
	case unicode.Is(unicode.Cyrillic, r) || unicode.Is(unicode.Greek, r) && r < 0x1F00 && r != 'µ' && r != 'Ω':
		w.other++
	case !unicode.IsLetter(r) && !unicode.IsMark(r) && !isInvisible(r):
		*w = wordAlphabets{}
	}
	// One Greek letter beside one or two Latin ones is mathematics. In a longer word, one
	// foreign letter is suspicious.
	return w.latin >= 3 && w.other > 0
}

// scanName reports dangerous file names.
func (s *scanner) scanName(name string) {
	base := path.Base(name)
	lower := strings.ToLower(base)
	switch ext := path.Ext(lower); ext {
	case ".exe", ".dll", ".scr", ".msi", ".com", ".so", ".dylib", ".node", ".jar", ".apk", ".pyc", ".deb", ".rpm", ".dmg", ".pkg":
		s.add("binary", High, name, 0, fmt.Sprintf("A skill does not need a %s file.", ext), "")
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			s.add("hidden-file", Low, name, 0, "The file is hidden: its path has a part that begins with a dot.", "")
			return
		}
	}
}
