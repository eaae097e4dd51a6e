package scan

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of the work of a scan.
const (
	maxPiece   = 8 << 10  // bytes of a line that are matched at once
	overlap    = 512      // bytes that two pieces share, so that nothing hides where a line is cut
	maxExcerpt = 160      // characters
	maxBlobs   = 64       // encoded blobs that are decoded in a file
	maxWork    = 12 << 20 // bytes matched against expressions in a whole skill, at most about 1.5 s; 100 KB of normal text needs 1 MiB
	maxDecoded = 64 << 10 // bytes of a decoded blob that are scanned
)

// scanner collects findings: the first maxPerRule of each rule and severity, since
// neither the score nor the report needs more.
type scanner struct {
	list       []Finding
	count      map[ruleSeverity]int
	matched    map[ruleFile]bool
	reach      []Reach
	classified int // bytes searched for the kind of their reach so far
	work       int // bytes matched against expressions so far
}

type (
	ruleSeverity struct {
		rule     string
		severity Severity
	}
	ruleFile struct{ rule, file string }
)

func newScanner() *scanner {
	return &scanner{count: map[ruleSeverity]int{}, matched: map[ruleFile]bool{}}
}

func (s *scanner) add(rule string, sev Severity, file string, line int, message, text string) {
	s.matched[ruleFile{rule, file}] = true
	if s.count[ruleSeverity{rule, sev}]++; s.count[ruleSeverity{rule, sev}] > maxPerRule {
		return
	}
	s.list = append(s.list, Finding{Rule: rule, Severity: sev, File: file, Line: line, Message: message, Excerpt: excerpt(text)})
}

func (s *scanner) scanFile(name string, data []byte) {
	s.scanName(name)
	if kind, sev := binaryKind(data); kind != "" {
		s.add("binary", sev, name, 0, "The file is "+kind+", which cannot be reviewed as text.", "")
		if !utf8.Valid(data) {
			s.scanBinary(name, data)
			return
		}
	}
	text := strings.ToValidUTF8(string(data), "\uFFFD")
	s.scanHidden(name, text)
	text = normalise(text)
	s.scanText(name, text, 0, "")
	s.scanBlobs(name, text)
	s.scanWhole(name, strings.ToLower(text))
}

// scanBinary searches a file that is not text for commands: a shell also runs them in a
// file that begins like an image. Findings below medium are ignored, since a harmless
// image may contain them too, such as an address.
func (s *scanner) scanBinary(name string, data []byte) {
	text := normalise(strings.ToValidUTF8(string(data), "\uFFFD"))
	inside := newScanner()
	inside.work = s.work
	inside.scanText(name, text, 0, "In binary data: ")
	inside.scanCombinations(name, strings.ToLower(text))
	s.work = inside.work
	for _, f := range inside.list {
		if f.Severity.weight() >= Medium.weight() {
			s.add(f.Rule, f.Severity, f.File, f.Line, f.Message, f.Excerpt)
		}
	}
}

// scanText matches every rule against the lines of a text. For text that was decoded from
// a blob, at is the line of the blob in the file; otherwise it is 0. Each message begins
// with prefix.
func (s *scanner) scanText(name, text string, at int, prefix string) {
	text = joinContinued(text)
	rules := candidates(strings.ToLower(text))
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
			s.scanLine(rules, name, number, piece, prefix)
		}
	}
}

func (s *scanner) scanLine(rules []*rule, name string, number int, line, prefix string) {
	lower := strings.ToLower(line)
	for _, r := range rules {
		if s.work > maxWork {
			return
		}
		if !r.hasHint(lower) {
			continue
		}
		s.work += len(line)
		where := r.find(line)
		if where == nil {
			continue
		}
		s.add(r.id, r.severity, name, number, prefix+r.message, around(line, where[0]))
	}
}

// joinContinued joins each line that ends in a backslash with the next one, so that
// splitting a command does not hide it from the rules. The number of lines stays the same.
func joinContinued(text string) string {
	if !strings.Contains(text, "\\\n") {
		return text
	}
	lines := strings.Split(text, "\n")
	for i := len(lines) - 2; i >= 0; i-- {
		if rest, ok := strings.CutSuffix(lines[i], "\\"); ok && len(lines[i])+len(lines[i+1]) <= maxPiece {
			lines[i], lines[i+1] = rest+" "+lines[i+1], ""
		}
	}
	return strings.Join(lines, "\n")
}

// normalise removes invisible characters, so that one in the middle of a word does not
// hide the word from the rules.
func normalise(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return -1
		case r == '\u00A0' || r == '\t':
			return ' '
		case isInvisible(r), r == 0:
			return -1
		}
		return r
	}, text)
}

// pieces cuts a line into pieces of at most maxPiece bytes that overlap.
func pieces(line string) []string {
	if len(line) <= maxPiece {
		return []string{line}
	}
	var out []string
	for start := 0; ; start += maxPiece - overlap {
		if start+maxPiece >= len(line) {
			return append(out, line[start:])
		}
		out = append(out, line[start:start+maxPiece])
	}
}

var blobPattern = literal(`[A-Za-z0-9+/_-]{64,}={0,2}`)

// scanBlobs reports long encoded text and scans what it decodes to, one level deep.
func (s *scanner) scanBlobs(name, text string) {
	left := maxBlobs
	for i, line := range strings.Split(text, "\n") {
		if len(line) < 64 {
			continue
		}
		for _, at := range blobPattern.get().FindAllStringIndex(line, -1) {
			if left == 0 {
				s.add("encoded-blob", High, name, i+1, "The file has too many encoded blobs to scan all of them.", "")
				return
			}
			left--
			s.scanBlob(name, i+1, line[at[0]:at[1]], strings.Contains(line[max(0, at[0]-64):at[0]], "data:image/"))
		}
	}
}

func (s *scanner) scanBlob(name string, line int, encoded string, image bool) {
	data := decode(encoded)
	switch kind, sev := binaryKind(data); {
	case data == nil:
		return
	case sev == Critical:
		s.add("encoded-blob", Critical, name, line, "Encoded text contains "+kind+".", encoded)
		return
	case kind == "":
		inside := newScanner()
		inside.work = s.work
		inside.scanText(name, normalise(string(data)), line, "In encoded text: ")
		s.work = inside.work
		for _, f := range inside.list {
			s.add(f.Rule, f.Severity, f.File, f.Line, f.Message, f.Excerpt)
		}
		if slices.ContainsFunc(inside.list, func(f Finding) bool { return f.Severity.weight() >= Medium.weight() }) {
			s.add("encoded-blob", High, name, line, "Encoded text contains something dangerous.", encoded)
			return
		}
	}
	if len(encoded) >= 200 && !image {
		s.add("encoded-blob", Medium, name, line, fmt.Sprintf("%d characters of encoded text, which a person cannot review.", len(encoded)), encoded)
	}
}

// decode decodes base64 in either alphabet, or hexadecimal; nil if s is neither.
func decode(s string) []byte {
	if out, err := hex.DecodeString(s[:min(len(s)&^1, 2*maxDecoded)]); err == nil {
		return out
	}
	s = strings.TrimRight(s, "=")
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	s = s[:min(len(s), base64.RawStdEncoding.EncodedLen(maxDecoded))]
	if len(s)%4 == 1 {
		s = s[:len(s)-1]
	}
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return out
}

// around returns a line from 40 bytes before a match on.
func around(line string, at int) string {
	from := max(0, at-40)
	for from > 0 && !utf8.RuneStart(line[from]) {
		from--
	}
	return strings.TrimSpace(line[from:])
}

// excerpt returns a short form of a text that is safe to show: one line of at most
// maxExcerpt characters, with invisible ones written as <U+XXXX>.
func excerpt(s string) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > maxExcerpt {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case r == utf8.RuneError || r < ' ' || r == 0x7f || isInvisible(r) || isBidi(r):
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// signatures are the first bytes of files that are not text, most dangerous first.
var signatures = []struct {
	start    string
	kind     string
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

// binaryKind returns the kind of data that is not text and its severity; "" for text.
func binaryKind(data []byte) (kind string, sev Severity) {
	text := isText(data)
	for _, m := range signatures {
		if bytes.HasPrefix(data, []byte(m.start)) && (!text || m.start == "%PDF-") {
			return m.kind, m.severity
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

// isText reports whether data is UTF-8 text, as every text of a skill must be: it has no
// NUL and at most 1 % of its bytes are invalid.
func isText(data []byte) bool {
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
