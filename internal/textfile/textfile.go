// Package textfile reads the texts of files, in pieces that a knowledge base takes: the
// sections of Markdown, HTML and Word documents, the pages of PDF, the rows of tables, and paragraphs.
package textfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Format is a format of files.
type Format string

// The formats.
const (
	Text     Format = "text"
	Markdown Format = "markdown"
	HTML     Format = "html"
	PDF      Format = "pdf"
	DOCX     Format = "docx"
	CSV      Format = "csv"
	JSON     Format = "json" // also with an object a line
)

// extensions has the formats of the names of files.
var extensions = map[string]Format{
	".txt": Text, ".text": Text, ".rst": Text, ".adoc": Text, ".org": Text,
	".md": Markdown, ".markdown": Markdown, ".mdx": Markdown,
	".html": HTML, ".htm": HTML, ".xhtml": HTML,
	".pdf": PDF, ".docx": DOCX,
	".csv": CSV, ".tsv": CSV,
	".json": JSON, ".jsonl": JSON, ".ndjson": JSON,
}

// FormatOf returns the format of a file by its name, or an empty one.
func FormatOf(name string) Format { return extensions[strings.ToLower(path.Ext(name))] }

// Piece is a piece of a file.
type Piece struct {
	Text string
	// Source is what the piece itself names as its source; usually nothing.
	Source string
	// Metadata says where in the file the piece is, or what kind it is.
	Metadata map[string]any
}

// ErrNoText is the error of a file without any text.
var ErrNoText = errors.New("the file has no text")

// Read returns the pieces of a file, each of at most limit characters.
// Errors: ErrNoText; that of ctx; others say what is wrong with the file.
func Read(ctx context.Context, content []byte, format Format, limit int) ([]Piece, error) {
	var pieces []Piece
	var err error
	switch format {
	case PDF:
		pieces, err = readPDF(ctx, content)
	case HTML:
		pieces, err = readHTML(content)
	case DOCX:
		pieces, err = readDocx(content)
	default:
		var text string
		if text, err = decode(content); err == nil {
			pieces, err = readText(text, format)
		}
	}
	if err != nil {
		return nil, err
	}
	split := splitPieces(pieces, limit)
	if len(split) == 0 {
		return nil, ErrNoText
	}
	return split, nil
}

func readText(text string, format Format) ([]Piece, error) {
	switch format {
	case Markdown:
		return readMarkdown(text), nil
	case CSV:
		return readCSV(text)
	case JSON:
		return readJSON(text)
	case Text:
		return paragraphs(text), nil
	}
	return nil, fmt.Errorf("there is no format %q", format)
}

// decode returns the content as text, without a byte order mark.
func decode(content []byte) (string, error) {
	if bytes.HasPrefix(content, []byte{0xff, 0xfe}) || bytes.HasPrefix(content, []byte{0xfe, 0xff}) {
		return decodeUTF16(content)
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(content) {
		return "", errors.New("the file is not UTF-8: convert it first, such as with iconv -f LATIN1 -t UTF-8")
	}
	if bytes.IndexByte(content, 0) >= 0 {
		return "", errors.New("the file is binary")
	}
	return strings.ReplaceAll(string(content), "\r\n", "\n"), nil
}

// paragraphs returns the parts of a text between blank lines.
func paragraphs(text string) []Piece {
	var pieces []Piece
	var part strings.Builder
	end := func() {
		if p := strings.TrimSpace(part.String()); p != "" {
			pieces = append(pieces, Piece{Text: p})
		}
		part.Reset()
	}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			end()
			continue
		}
		part.WriteString(line)
	}
	end()
	return pieces
}

// splitPieces splits pieces that are too long at a paragraph, a line or a word. Each part
// of a section begins with the section's heading.
func splitPieces(pieces []Piece, limit int) []Piece {
	var split []Piece
	for _, p := range pieces {
		prefix := ""
		if heading, ok := p.Metadata[headingKey].(string); ok && utf8.RuneCountInString(heading) < limit/4 {
			prefix = heading + "\n\n"
		}
		rest := strings.TrimSpace(strings.TrimPrefix(p.Text, prefix))
		room := limit - utf8.RuneCountInString(prefix)
		for part := 1; rest != ""; part++ {
			head := prefixOf(rest, room)
			whole := len(head) == len(rest) && part == 1
			piece := Piece{Text: prefix + strings.TrimSpace(head), Source: p.Source, Metadata: p.Metadata}
			if !whole {
				piece.Metadata = withMetadata(p.Metadata, "part", part)
			}
			split = append(split, piece)
			rest = strings.TrimSpace(rest[len(head):])
		}
	}
	return split
}

func withMetadata(m map[string]any, key string, value any) map[string]any {
	added := make(map[string]any, len(m)+1)
	for k, v := range m {
		added[k] = v
	}
	added[key] = value
	return added
}

// prefixOf returns at most limit characters of s, up to the last paragraph, line or word
// that fits.
func prefixOf(s string, limit int) string {
	n := 0
	for i := range s {
		if n == limit {
			for _, end := range []string{"\n\n", "\n", " "} {
				if at := strings.LastIndex(s[:i], end); at > i/2 {
					return s[:at+len(end)]
				}
			}
			return s[:i]
		}
		n++
	}
	return s
}

// Formats returns the names of all formats.
func Formats() []string {
	all := []string{string(Text), string(Markdown), string(HTML), string(PDF), string(DOCX), string(CSV), string(JSON)}
	slices.Sort(all)
	return all
}
