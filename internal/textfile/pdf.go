package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ledongthuc/pdf"
)

// pdfTimeout is how long the text of a document may take to read. A document that is made
// for it keeps a reader busy for ever.
const pdfTimeout = 2 * time.Minute

// readPDF returns the pages of a document.
func readPDF(content []byte) ([]Piece, error) {
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
		rows, err := page.GetTextByRow()
		if err != nil {
			return nil, fmt.Errorf("page %d of the PDF cannot be read: %w", number, err)
		}
		if text := pageText(rows); text != "" {
			pieces = append(pieces, Piece{Text: text, Metadata: map[string]any{"page": number}})
		}
	}
	if len(pieces) == 0 {
		return nil, errors.New("the PDF has no text, only pictures: read it with a program for text recognition first")
	}
	return pieces, nil
}

func pageText(rows pdf.Rows) string {
	var lines []string
	for _, row := range rows {
		var line strings.Builder
		for _, word := range row.Content {
			line.WriteString(word.S)
		}
		if l := strings.Join(strings.Fields(line.String()), " "); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}
