package unpack

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a path: short enough for every file system below a long home.
const (
	maxPath  = 240
	maxDepth = 10
)

// Check refuses every path that could mean something else than a file below
// the directory it is unpacked to, on any operating system. Errors: ErrUnsafe.
func Check(p string) error {
	switch {
	case p == "":
		return unsafe("an entry has no name")
	case len(p) > maxPath:
		return unsafe("the path %s… is longer than %d bytes", Show(p[:40]), maxPath)
	case !utf8.ValidString(p):
		return unsafe("the path %s is not UTF-8", Show(p))
	case strings.HasPrefix(p, "/"):
		return unsafe("the path %s is absolute", Show(p))
	}
	parts := strings.Split(p, "/")
	if len(parts) > maxDepth {
		return unsafe("the path %s has more than %d parts", Show(p), maxDepth)
	}
	for _, part := range parts {
		if why := badPart(part); why != "" {
			return unsafe("the path %s %s", Show(p), why)
		}
	}
	return nil
}

func badPart(part string) string {
	switch part {
	case "":
		return "has an empty part"
	case ".", "..":
		return "has a part " + part
	}
	for _, r := range part {
		if strings.ContainsRune(`\:*?"<>|`, r) || !unicode.IsPrint(r) {
			return "has the character " + strconv.QuoteRune(r)
		}
	}
	if strings.TrimSpace(part) != part || strings.HasSuffix(part, ".") {
		return "has a part that begins with a space or ends with a space or dot"
	}
	base, _, _ := strings.Cut(strings.ToUpper(part), ".")
	if device(base) {
		return "has a name that is a device on Windows"
	}
	return ""
}

func device(base string) bool {
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) && base[3] >= '0' && base[3] <= '9'
}

// Fold returns the same string for paths that a file system may take for one:
// those that differ in case or in how an accent is composed.
func Fold(p string) string {
	return norm.NFC.String(strings.Map(foldRune, norm.NFKC.String(p)))
}

// foldRune maps all the cases of a letter to its smallest rune; lower case alone
// would tell the Kelvin sign from a k.
func foldRune(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// Show quotes a stranger's text for a message: short, and with nothing that
// could disturb a terminal or hide.
func Show(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strconv.QuoteToGraphic(s)
}
