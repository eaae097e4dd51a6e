package textfile

import (
	"bytes"
	"fmt"
	"strings"

	htmltomarkdown "github.com/JohannesKaufmann/html-to-markdown/v2"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"
	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding/unicode"
)

// headingKey is the metadata that has the headings above a piece.
const headingKey = "heading"

// headingSeparator stands between the headings above a piece.
const headingSeparator = " › "

// readMarkdown returns the sections of a document, each with the headings above it.
// Headings in blocks of code are none.
func readMarkdown(source string) []Piece {
	source = withoutFrontMatter(source)
	content := []byte(source)
	var headings [7]string // by level
	var pieces []Piece
	begin := 0 // of the section's text
	end := func(at int) {
		var path []string
		for _, h := range headings {
			if h != "" {
				path = append(path, h)
			}
		}
		body := strings.TrimSpace(source[begin:max(begin, at)])
		if body == "" {
			return
		}
		heading := strings.Join(path, headingSeparator)
		if heading == "" {
			pieces = append(pieces, paragraphs(body)...)
			return
		}
		pieces = append(pieces, Piece{Text: heading + "\n\n" + body, Metadata: map[string]any{headingKey: heading}})
	}
	document := goldmark.New().Parser().Parse(text.NewReader(content))
	for node := document.FirstChild(); node != nil; node = node.NextSibling() {
		heading, ok := node.(*ast.Heading)
		if !ok || heading.Lines().Len() == 0 {
			continue
		}
		first, last := heading.Lines().At(0), heading.Lines().At(heading.Lines().Len()-1)
		end(lineStart(source, first.Start))
		begin = headingEnd(source, last.Stop, first.Start)
		title := strings.TrimSpace(string(heading.Lines().Value(content)))
		headings[heading.Level] = strings.Join(strings.Fields(title), " ")
		for level := heading.Level + 1; level < len(headings); level++ {
			headings[level] = ""
		}
	}
	end(len(source))
	if len(pieces) == 0 {
		return paragraphs(source) // only headings
	}
	return pieces
}

// lineStart returns where the line begins that at is in.
func lineStart(source string, at int) int { return strings.LastIndexByte(source[:at], '\n') + 1 }

// headingEnd returns where the text after a heading begins. A heading that is underlined
// has one line more than its node.
func headingEnd(source string, stop, start int) int {
	next := len(source)
	if at := strings.IndexByte(source[max(0, stop-1):], '\n'); at >= 0 {
		next = max(0, stop-1) + at + 1
	}
	if strings.HasPrefix(strings.TrimLeft(source[lineStart(source, start):start], " "), "#") {
		return next
	}
	line, _, _ := strings.Cut(source[next:], "\n")
	if underline := strings.TrimSpace(line); underline != "" && strings.Trim(underline, "=") == "" || strings.Trim(underline, "-") == "" {
		return min(len(source), next+len(line)+1)
	}
	return next
}

// withoutFrontMatter cuts the YAML at the beginning of a document.
func withoutFrontMatter(source string) string {
	rest, ok := strings.CutPrefix(source, "---\n")
	if !ok {
		return source
	}
	if _, after, ok := strings.Cut(rest, "\n---\n"); ok {
		return after
	}
	return source
}

// readHTML returns the sections of a page, whose scripts and styles are left out.
func readHTML(content []byte) ([]Piece, error) {
	r, err := charset.NewReader(bytes.NewReader(content), "text/html")
	if err != nil {
		return nil, fmt.Errorf("the encoding of the page is not known: %w", err)
	}
	markdown, err := htmltomarkdown.ConvertReader(r)
	if err != nil {
		return nil, fmt.Errorf("the page is no HTML: %w", err)
	}
	return readMarkdown(string(markdown)), nil
}

func decodeUTF16(content []byte) (string, error) {
	text, err := unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder().Bytes(content)
	if err != nil {
		return "", fmt.Errorf("the file is no UTF-16: %w", err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n"), nil
}
