package textfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ledongthuc/pdf"
)

// pdfTimeout is how long the text of a document may take to read. A document that is made
// for it keeps a reader busy for ever. Source: a page of a usual document takes 0.15 s of
// CPU time, because the library reads the widths of a font for each character again.
const pdfTimeout = 10 * time.Minute

// readPDF returns the pages of a document.
func readPDF(ctx context.Context, content []byte) ([]Piece, error) {
	type result struct {
		pieces []Piece
		err    error
	}
	read := make(chan result, 1)
	go func() { // a document that takes too long is left behind
		pieces, err := pdfPages(content)
		read <- result{pieces, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-read:
		return r.pieces, r.err
	case <-time.After(pdfTimeout):
		return nil, fmt.Errorf("the PDF was not read within %s", pdfTimeout)
	}
}

// pdfPages reads the text of each page. The library panics where a document is not what it
// expects.
func pdfPages(content []byte) (pieces []Piece, err error) {
	defer func() {
		if p := recover(); p != nil {
			pieces, err = nil, fmt.Errorf("the PDF cannot be read: %v", p)
		}
	}()
	document, err := pdf.NewReader(bytes.NewReader(content), int64(len(content)))
	if errors.Is(err, pdf.ErrInvalidPassword) {
		return nil, errors.New("the PDF has a password: save a copy without it")
	}
	if err != nil {
		return nil, fmt.Errorf("the PDF cannot be read: %w", err)
	}
	for number := 1; number <= document.NumPage(); number++ {
		page := document.Page(number)
		if page.V.IsNull() {
			continue
		}
		text := layout(page.Content().Text)
		if text == "" { // a font without widths: nothing is known of where its characters are
			if text, err = rows(page); err != nil {
				return nil, fmt.Errorf("page %d of the PDF cannot be read: %w", number, err)
			}
		}
		if text != "" {
			pieces = append(pieces, Piece{Text: text, Metadata: map[string]any{"page": number}})
		}
	}
	if len(pieces) == 0 {
		return nil, errors.New("the PDF has no text, only pictures: read it with a program for text recognition first")
	}
	return pieces, nil
}

// Parts of a font's size. A gap between two characters is a space, one between two lines a
// new paragraph. Sources: a space of the usual fonts has 0.25, justified lines have 0.2 and
// more; lines are at most 1.5 apart.
const (
	spaceGap     = 0.15
	sameLine     = 0.3
	paragraphGap = 1.7
)

// ligatures are characters that stand for several.
var ligatures = strings.NewReplacer("ﬀ", "ff", "ﬁ", "fi", "ﬂ", "fl", "ﬃ", "ffi", "ﬄ", "ffl", "ﬅ", "st", "ﬆ", "st")

// layout returns the text of characters. Documents often have no spaces and no lines, only
// characters at places. Characters without a width are not shown, and left out.
func layout(characters []pdf.Text) string {
	var b strings.Builder
	var last pdf.Text
	for _, c := range characters {
		if c.W <= 0 || c.S == "" {
			continue
		}
		down := (last.Y - c.Y) / max(c.FontSize, 1)
		switch {
		case b.Len() == 0:
		case down > paragraphGap || down < -paragraphGap:
			b.WriteString("\n\n")
		case down > sameLine || down < -sameLine:
			b.WriteString("\n")
		case c.X-last.X-last.W > spaceGap*c.FontSize || c.X < last.X-c.FontSize:
			b.WriteString(" ")
		}
		b.WriteString(c.S)
		last = c
	}
	return tidy(b.String())
}

// hyphenated is a word that is parted at the end of a line.
var hyphenated = regexp.MustCompile(`(\p{Ll})-\n(\p{Ll})`)

func tidy(text string) string {
	lines := strings.Split(ligatures.Replace(text), "\n")
	for i, l := range lines {
		lines[i] = strings.Join(strings.Fields(l), " ")
	}
	return strings.TrimSpace(hyphenated.ReplaceAllString(strings.Join(lines, "\n"), "$1$2"))
}

// rows returns the text of a page line by line, as its strings have it.
func rows(page pdf.Page) (string, error) {
	found, err := page.GetTextByRow()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, row := range found {
		for _, word := range row.Content {
			b.WriteString(word.S)
		}
		b.WriteString("\n")
	}
	return tidy(b.String()), nil
}
