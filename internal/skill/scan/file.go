package scan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of one file's work.
const (
	window    = 8 << 10  // longest piece of a line matched at once
	overlap   = 512      // so that nothing hides on the seam between two pieces
	excerpt   = 160      // characters
	maxBlobs  = 64       // encoded blobs decoded in a file
	maxWork   = 12 << 20 // bytes given to expressions for a whole skill, about 1.5 s at worst; 100 KB of honest text needs 1 MiB
	decodedTo = 64 << 10
)

// findings collects what rules notice, the first perRule of each rule and
// severity: neither the score nor the report needs more.
type findings struct {
	list  []Finding
	count map[counted]int
	in    map[place]bool
	work  int // bytes given to expressions so far
}

type (
	counted struct {
		rule     string
		severity Severity
	}
	place struct{ rule, file string }
)

func newFindings() *findings {
	return &findings{count: map[counted]int{}, in: map[place]bool{}}
}

func (fs *findings) add(rule string, sev Severity, file string, line int, message, text string) {
	fs.in[place{rule, file}] = true
	if fs.count[counted{rule, sev}]++; fs.count[counted{rule, sev}] > perRule {
		return
	}
	fs.list = append(fs.list, Finding{Rule: rule, Severity: sev, File: file, Line: line, Message: message, Excerpt: excerptOf(text)})
}

func (fs *findings) file(name string, data []byte) {
	fs.name(name)
	if what, sev := binary(data); what != "" {
		fs.add("binary", sev, name, 0, "It is "+what+", which cannot be reviewed as text.", "")
		if !utf8.Valid(data) {
			fs.disguised(name, data)
			return
		}
	}
	text := strings.ToValidUTF8(string(data), "\uFFFD")
	fs.hidden(name, text)
	text = normalise(text)
	fs.text(name, text, 0, "")
	fs.blobs(name, text)
	fs.combined(name, strings.ToLower(text))
}

// disguised looks for commands in what is no text: a shell runs them also in a file
// that begins like an image. What an honest image holds too, such as an address,
// does not count.
func (fs *findings) disguised(name string, data []byte) {
	text := normalise(strings.ToValidUTF8(string(data), "\uFFFD"))
	inside := newFindings()
	inside.work = fs.work
	inside.text(name, text, 0, "Inside what is no text: ")
	inside.together(name, strings.ToLower(text))
	fs.work = inside.work
	for _, f := range inside.list {
		if f.Severity.weight() >= Medium.weight() {
			fs.add(f.Rule, f.Severity, f.File, f.Line, f.Message, f.Excerpt)
		}
	}
}

// text runs every rule over the lines of a text. at is the line of the file
// where the text was found, for text that was decoded from a blob.
func (fs *findings) text(name, text string, at int, inside string) {
	text = joinContinued(text)
	rules := wanted(strings.ToLower(text))
	if len(rules) == 0 {
		return
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		number := i + 1
		if at > 0 {
			number = at
		}
		for _, piece := range pieces(line) {
			fs.line(rules, name, number, piece, inside)
		}
	}
}

func (fs *findings) line(rules []*rule, name string, number int, line, inside string) {
	lower := strings.ToLower(line)
	for _, r := range rules {
		if fs.work > maxWork {
			return
		}
		if !r.hinted(lower) {
			continue
		}
		fs.work += len(line)
		where := r.find(line)
		if where == nil {
			continue
		}
		message := r.message
		if inside != "" {
			message = inside + message
		}
		fs.add(r.id, r.severity, name, number, message, around(line, where[0]))
	}
}

// joinContinued joins a line that ends in a backslash to the next and keeps the
// number of lines, so that a command cannot be split to escape a rule.
func joinContinued(text string) string {
	if !strings.Contains(text, "\\\n") {
		return text
	}
	lines := strings.Split(text, "\n")
	for i := len(lines) - 2; i >= 0; i-- {
		if rest, ok := strings.CutSuffix(lines[i], "\\"); ok && len(lines[i])+len(lines[i+1]) <= window {
			lines[i], lines[i+1] = rest+" "+lines[i+1], ""
		}
	}
	return strings.Join(lines, "\n")
}

// normalise takes out what a reader does not see, so that a hidden character in
// the middle of a word does not hide it from the rules.
func normalise(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r == '\u00A0' || r == '\t':
			return ' '
		case invisible(r), r == 0:
			return -1
		}
		return r
	}, text)
}

func pieces(line string) []string {
	if len(line) <= window {
		return []string{line}
	}
	var out []string
	for start := 0; ; start += window - overlap {
		if start+window >= len(line) {
			return append(out, line[start:])
		}
		out = append(out, line[start:start+window])
	}
}

var blob = regexp.MustCompile(`[A-Za-z0-9+/_-]{64,}={0,2}`)

// blobs reports long encoded text and looks inside it, one level deep.
func (fs *findings) blobs(name, text string) {
	left := maxBlobs
	for i, line := range strings.Split(text, "\n") {
		if len(line) < 64 {
			continue
		}
		for _, at := range blob.FindAllStringIndex(line, -1) {
			if left == 0 {
				fs.add("encoded-blob", High, name, i+1, "There are too many encoded blobs to look into all of them.", "")
				return
			}
			left--
			fs.blob(name, i+1, line[at[0]:at[1]], strings.Contains(line[max(0, at[0]-64):at[0]], "data:image/"))
		}
	}
}

func (fs *findings) blob(name string, line int, encoded string, image bool) {
	inside := decode(encoded)
	switch what, sev := binary(inside); {
	case inside == nil:
		return
	case sev == Critical:
		fs.add("encoded-blob", Critical, name, line, "Encoded text hides "+what+".", encoded)
		return
	case what == "":
		hidden := newFindings()
		hidden.work = fs.work
		hidden.text(name, normalise(string(inside)), line, "Inside encoded text: ")
		fs.work = hidden.work
		for _, f := range hidden.list {
			fs.add(f.Rule, f.Severity, f.File, f.Line, f.Message, f.Excerpt)
		}
		if slices.ContainsFunc(hidden.list, func(f Finding) bool { return f.Severity.weight() >= Medium.weight() }) {
			fs.add("encoded-blob", High, name, line, "Encoded text hides something the scanner objects to.", encoded)
			return
		}
	}
	if len(encoded) >= 200 && !image {
		fs.add("encoded-blob", Medium, name, line, fmt.Sprintf("%d characters of encoded text, which nobody can read.", len(encoded)), encoded)
	}
}

// decode reads base64 in either alphabet, or hexadecimal; nil if it is neither.
func decode(s string) []byte {
	if out, err := hex.DecodeString(s[:min(len(s)&^1, 2*decodedTo)]); err == nil {
		return out
	}
	s = strings.TrimRight(s, "=")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	s = s[:min(len(s), base64.RawStdEncoding.EncodedLen(decodedTo))]
	if len(s)%4 == 1 {
		s = s[:len(s)-1]
	}
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return out
}

// around returns the part of a line near a match.
func around(line string, at int) string {
	from := max(0, at-40)
	for from > 0 && !utf8.RuneStart(line[from]) {
		from--
	}
	return strings.TrimSpace(line[from:])
}

// excerptOf makes a text fit to be shown: short, one line, the invisible spelled out.
func excerptOf(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > excerpt {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case r == utf8.RuneError || r < ' ' || r == 0x7f || invisible(r) || bidi(r):
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// magic numbers of what is no text, most dangerous first.
var magic = []struct {
	start    string
	what     string
	severity Severity
}{
	{"\x7fELF", "a Linux program", Critical},
	{"MZ", "a Windows program", Critical},
	{"\xfe\xed\xfa\xce", "a macOS program", Critical},
	{"\xfe\xed\xfa\xcf", "a macOS program", Critical},
	{"\xce\xfa\xed\xfe", "a macOS program", Critical},
	{"\xcf\xfa\xed\xfe", "a macOS program", Critical},
	{"\xca\xfe\xba\xbe", "a macOS or Java program", Critical},
	{"\x00asm", "a WebAssembly program", Critical},
	{"!<arch>", "a code library", Critical},
	{"dex\n", "an Android program", Critical},
	{"PK\x03\x04", "an archive", High},
	{"\x1f\x8b", "an archive", High},
	{"BZh", "an archive", High},
	{"\xfd7zXZ", "an archive", High},
	{"7z\xbc\xaf", "an archive", High},
	{"Rar!", "an archive", High},
	{"\x28\xb5\x2f\xfd", "an archive", High},
	{"\x89PNG\r\n", "an image", Info},
	{"\xff\xd8\xff", "an image", Info},
	{"GIF8", "an image", Info},
	{"wOF2", "a font", Info},
	{"%PDF-", "a PDF document", Low},
}

// binary says what data is if it is no text, else "".
func binary(data []byte) (what string, sev Severity) {
	text := looksLikeText(data)
	for _, m := range magic {
		if bytes.HasPrefix(data, []byte(m.start)) && (!text || m.start == "%PDF-") {
			return m.what, m.severity
		}
	}
	if bytes.HasPrefix(data, []byte("RIFF")) && len(data) > 12 && string(data[8:12]) == "WEBP" {
		return "an image", Info
	}
	if !text {
		return "binary data of an unknown kind", Medium
	}
	return "", ""
}

// looksLikeText says whether data is UTF-8, as every text of a skill must be:
// no NUL, and hardly any invalid byte.
func looksLikeText(data []byte) bool {
	if bytes.IndexByte(data, 0) >= 0 {
		return false
	}
	if utf8.Valid(data) {
		return true
	}
	bad := 0
	for rest := data; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			bad++
		}
		rest = rest[n:]
	}
	return bad*100 <= len(data)
}
