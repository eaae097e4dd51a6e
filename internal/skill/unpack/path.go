package unpack

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of a path. They are short enough for every file system, also below a
// long home directory.
const (
	maxPath  = 240 // bytes
	maxDepth = 10  // parts
)

// CheckPath refuses every path that, on any operating system, could mean something
// other than a file below the directory it is unpacked to. Errors: ErrUnsafe.
func CheckPath(p string) error {
	switch {
	case p == "":
		return unsafe("an entry has no name")
	case len(p) > maxPath:
		return unsafe("the path %s… is longer than %d bytes", Quote(p[:40]), maxPath)
	case !utf8.ValidString(p):
		return unsafe("the path %s is not UTF-8", Quote(p))
	case strings.HasPrefix(p, "/"):
		return unsafe("the path %s is absolute", Quote(p))
	}
	parts := strings.Split(p, "/")
	if len(parts) > maxDepth {
		return unsafe("the path %s has more than %d parts", Quote(p), maxDepth)
	}
	for _, part := range parts {
		if problem := checkPart(part); problem != "" {
			return unsafe("the path %s %s", Quote(p), problem)
		}
	}
	return nil
}

// checkPart returns what is wrong with one part of a path; "" if it is allowed.
func checkPart(part string) (problem string) {
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
	if isDevice(base) {
		return "has a name that is a device on Windows"
	}
	return ""
}

// isDevice reports whether an upper-case name is a device on Windows.
func isDevice(base string) bool {
	switch base {
	case "CON", "PRN", "AUX", "NUL":
		return true
	}
	return len(base) == 4 && (strings.HasPrefix(base, "COM") || strings.HasPrefix(base, "LPT")) && base[3] >= '0' && base[3] <= '9'
}

// Fold returns the same string for paths that a file system may treat as one
// path: those that differ in case or in how an accent is composed.
func Fold(p string) string {
	return norm.NFC.String(strings.Map(foldRune, norm.NFKC.String(p)))
}

// foldRune maps all the cases of a letter to its smallest rune. Lower case alone
// is not enough: the Kelvin sign and the letter k would stay different.
func foldRune(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		least = min(least, f)
	}
	return least
}

// Quote quotes untrusted text for a message: at most 120 bytes of it, and without
// characters that are invisible or could disturb a terminal.
func Quote(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return strconv.QuoteToGraphic(s)
}
