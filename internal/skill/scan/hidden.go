package scan

import (
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// invisible says whether a rune takes no space and changes nothing that is seen.
func invisible(r rune) bool {
	switch {
	case r >= 0x200B && r <= 0x200F, r >= 0x2060 && r <= 0x2064, r >= 0x206A && r <= 0x206F:
		return true
	case r == 0xFEFF, r == 0x00AD, r == 0x034F, r == 0x061C, r == 0x115F, r == 0x1160, r == 0x17B4, r == 0x17B5, r == 0x180E, r == 0x3164, r == 0xFFA0:
		return true
	case r >= 0xFFF9 && r <= 0xFFFB, tag(r), selector(r):
		return true
	}
	return false
}

func tag(r rune) bool { return r >= 0xE0000 && r <= 0xE007F }

// selector: variation selectors. The two used with emoji are common in honest text.
func selector(r rune) bool { return r >= 0xFE00 && r <= 0xFE0D || r >= 0xE0100 && r <= 0xE01EF }

// bidi says whether a rune reorders text, so that what is read is not what is there.
func bidi(r rune) bool { return r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 }

// hidden reports characters that a reader does not see but a model or shell does.
func (fs *findings) hidden(name, text string) {
	text = strings.TrimPrefix(text, "\uFEFF")
	for i, line := range strings.Split(text, "\n") {
		fs.hiddenIn(name, i+1, line)
	}
}

func (fs *findings) hiddenIn(name string, number int, line string) {
	var tags, bidis, blanks, controls, mixed bool
	last := rune(-1)
	var w word
	for i, r := range line {
		switch {
		case tag(r) || r >= 0xE0100 && r <= 0xE01EF:
			tags = true
		case bidi(r):
			bidis = true
		case r == 0x200D && joins(last, line[i+utf8.RuneLen(r):]), r == 0x200C && last >= 0x600 && last < 0xE00:
			// part of an emoji, or of a Persian or Indic word
		case invisible(r):
			blanks = true
		case r < ' ' && r != '\t' && r != '\r', r == 0x7f, r >= 0x80 && r < 0xA0:
			controls = true
		}
		mixed = w.next(r) || mixed
		last = r
	}
	for _, f := range []struct {
		found    bool
		severity Severity
		message  string
	}{
		{tags, Critical, "Characters that no reader sees spell out text that a model reads."},
		{bidis, High, "Characters that reorder text make it read differently from what it is."},
		{blanks, Medium, "Characters without width hide in the text."},
		{controls, Medium, "Control characters hide in the text."},
		{mixed, Medium, "A word mixes letters of alphabets that look alike."},
	} {
		if f.found {
			fs.add("hidden-characters", f.severity, name, number, f.message, line)
		}
	}
}

// joins says whether a joiner stands between two parts of an emoji or inside a
// word of a script that joins its letters.
func joins(before rune, after string) bool {
	next, _ := utf8.DecodeRuneInString(after)
	return pictorial(before) && pictorial(next) || before >= 0x600 && before < 0xE00 && unicode.IsLetter(next)
}

func pictorial(r rune) bool {
	return r >= 0x2190 && r < 0x2C00 || r >= 0x1F000 && r < 0x1FB00 || r == 0xFE0F
}

// word watches one word for letters of alphabets that are easily mistaken.
type word struct{ latin, other int }

func (w *word) next(r rune) (mixed bool) {
	switch {
	case unicode.Is(unicode.Latin, r):
		w.latin++
	case unicode.Is(unicode.Cyrillic, r) || unicode.Is(unicode.Greek, r) && r < 0x1F00 && r != 'µ' && r != 'Ω':
		w.other++
	case !unicode.IsLetter(r) && !unicode.IsMark(r) && !invisible(r):
		*w = word{}
	}
	// one Greek letter beside Latin ones is mathematics; a lone Cyrillic one in a long word is not
	return w.latin >= 3 && w.other > 0
}

// name looks at the path alone.
func (fs *findings) name(name string) {
	base := path.Base(name)
	lower := strings.ToLower(base)
	switch ext := path.Ext(lower); ext {
	case ".exe", ".dll", ".scr", ".msi", ".com", ".so", ".dylib", ".node", ".jar", ".apk", ".pyc", ".deb", ".rpm", ".dmg", ".pkg":
		fs.add("binary", High, name, 0, fmt.Sprintf("A skill has no need of a %s file.", ext), "")
	}
	for part := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(part, ".") {
			fs.add("hidden-file", Low, name, 0, "Its name hides it from a plain listing.", "")
			return
		}
	}
}
