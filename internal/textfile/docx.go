package textfile

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// What a document of Word may have. A zip file can say little and hold much.
const (
	maxDocxEntries = 5000
	maxDocxPart    = 64 << 20 // of one part, uncompressed
	maxDocxRatio   = 200      // uncompressed to compressed; text has less than 20
	minDocxRated   = 1 << 20  // smaller parts have any ratio
	maxDocxDepth   = 200      // of elements
	maxDocxText    = 16 << 20
)

// The parts of a document that are read. Others, such as pictures and macros, are not
// opened.
const (
	docxDocument = "word/document.xml"
	docxStyles   = "word/styles.xml"
)

// docxLevels is how many levels headings have: the title, and Word's nine.
const docxLevels = 10

// errDocx is the error of a file that is no document.
var errDocx = errors.New("the file is no Word document (.docx): older .doc files must be saved as .docx first")

// readDocx returns the sections of a document, each with the headings above it.
func readDocx(content []byte) ([]Piece, error) {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, errDocx
	}
	if len(archive.File) > maxDocxEntries {
		return nil, fmt.Errorf("the document has more than %d parts", maxDocxEntries)
	}
	styles := map[string]docxStyle{}
	if part := docxPart(archive, docxStyles); part != nil {
		if err := readPart(part, func(d *xml.Decoder) error { return readDocxStyles(d, styles) }); err != nil {
			return nil, err
		}
	}
	part := docxPart(archive, docxDocument)
	if part == nil {
		return nil, errDocx
	}
	body := docxBody{styles: styles}
	if err := readPart(part, body.read); err != nil {
		return nil, err
	}
	body.endSection()
	if len(body.pieces) == 0 && len(body.titles) > 0 {
		return paragraphs(strings.Join(body.titles, "\n\n")), nil
	}
	return body.pieces, nil
}

// docxPart returns the part with a name, or nil.
func docxPart(archive *zip.Reader, name string) *zip.File {
	at := slices.IndexFunc(archive.File, func(f *zip.File) bool { return strings.EqualFold(strings.TrimPrefix(f.Name, "/"), name) })
	if at < 0 {
		return nil
	}
	return archive.File[at]
}

// errTooLarge is the error of a part that is larger than it may be.
var errTooLarge = fmt.Errorf("the document has a part of more than %d MiB, or one that is compressed more than text can be", maxDocxPart>>20)

// readPart reads a part of a document. What the archive says of its size is not believed.
func readPart(f *zip.File, read func(*xml.Decoder) error) error {
	limit := int64(maxDocxPart)
	if rated := int64(f.CompressedSize64) * maxDocxRatio; rated >= 0 && rated < limit {
		limit = max(rated, minDocxRated)
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("the document cannot be read: %w", err)
	}
	defer func() { _ = r.Close() }()
	bounded := &boundedReader{r: r, left: limit}
	if err := read(xml.NewDecoder(bounded)); err != nil {
		if bounded.left < 0 {
			return errTooLarge
		}
		return fmt.Errorf("the document cannot be read: %w", err)
	}
	return nil
}

// boundedReader fails after some bytes; left is negative then.
type boundedReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// errDeclaration is the error of XML that declares entities or a document type.
var errDeclaration = errors.New("it has a document type declaration, which Word does not write")

// eachElement calls start, text and end for what a decoder reads. A document type is refused,
// so that there are no entities but those of XML.
func eachElement(d *xml.Decoder, start func(xml.StartElement) error, text func(string) error, end func(string) error) error {
	depth := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.Directive:
			return errDeclaration
		case xml.StartElement:
			if depth++; depth > maxDocxDepth {
				return fmt.Errorf("its elements are nested more than %d times", maxDocxDepth)
			}
			err = start(token)
		case xml.CharData:
			err = text(string(token))
		case xml.EndElement:
			depth--
			err = end(token.Name.Local)
		}
		if err != nil {
			return err
		}
	}
}

// attribute returns an attribute of an element, in any name space.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// docxStyle is a style of paragraphs.
type docxStyle struct {
	heading string // its level, "0" for the title; empty: not said
	basedOn string
}

func readDocxStyles(d *xml.Decoder, styles map[string]docxStyle) error {
	id, style := "", docxStyle{}
	return eachElement(d, func(e xml.StartElement) error {
		switch e.Name.Local {
		case "style":
			id, style = attribute(e, "styleId"), docxStyle{}
		case "name":
			name := strings.ToLower(attribute(e, "val"))
			if level, ok := strings.CutPrefix(name, "heading "); ok {
				style.heading = level
			} else if name == "title" {
				style.heading = "0"
			}
		case "basedOn":
			style.basedOn = attribute(e, "val")
		case "outlineLvl":
			if style.heading == "" {
				style.heading = outline(attribute(e, "val"))
			}
		}
		return nil
	}, func(string) error { return nil }, func(name string) error {
		if name == "style" && id != "" {
			styles[id] = style
		}
		return nil
	})
}

// outline returns the level of a heading whose outline level is val; the ninth is text.
func outline(val string) string {
	n, err := strconv.Atoi(val)
	if err != nil || n < 0 || n >= docxLevels-1 {
		return ""
	}
	return strconv.Itoa(n + 1)
}

// docxBody reads the text of a document.
type docxBody struct {
	styles map[string]docxStyle

	pieces   []Piece
	titles   []string // all headings
	headings [docxLevels]string
	section  strings.Builder
	size     int

	paragraph strings.Builder
	level     int // of the paragraph's heading; -1: it is text
	listed    bool
	inText    bool // in an element whose characters are text
	skip      int  // depth in an element that is left out
	cells     int  // of tables that the element is in
	row       []string
}

func (b *docxBody) read(d *xml.Decoder) error {
	return eachElement(d, b.start, b.text, b.end)
}

func (b *docxBody) start(e xml.StartElement) error {
	name := e.Name.Local
	if b.skip > 0 || name == "Fallback" || name == "del" || name == "moveFrom" { // what a choice shows again, and what was deleted
		b.skip++
		return nil
	}
	switch name {
	case "p":
		if b.cells == 0 {
			b.endParagraph() // the one that a box with text is in
		}
		b.level, b.listed = -1, false
	case "pStyle":
		b.level = b.levelOf(attribute(e, "val"))
	case "outlineLvl":
		if level, err := strconv.Atoi(outline(attribute(e, "val"))); err == nil {
			b.level = level
		}
	case "numPr":
		b.listed = true
	case "t":
		b.inText = true
	case "tab":
		return b.write("\t")
	case "br", "cr":
		return b.write("\n")
	case "noBreakHyphen":
		return b.write("-")
	case "tr":
		if b.cells == 0 {
			b.row = nil
		}
	case "tc":
		if b.cells++; b.cells == 1 {
			b.paragraph.Reset()
		}
	}
	return nil
}

// levelOf returns the level of the headings of a style, or -1.
func (b *docxBody) levelOf(id string) int {
	for range len(b.styles) + 1 { // styles can be based on each other in a circle
		style, ok := b.styles[id]
		if !ok {
			return headingLevel(strings.TrimPrefix(strings.ToLower(id), "heading"))
		}
		if style.heading != "" {
			return headingLevel(style.heading)
		}
		if id = style.basedOn; id == "" {
			return -1
		}
	}
	return -1
}

func headingLevel(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= docxLevels {
		return -1
	}
	return n
}

func (b *docxBody) text(s string) error {
	if !b.inText || b.skip > 0 {
		return nil
	}
	return b.write(s)
}

func (b *docxBody) write(s string) error {
	if b.size += len(s); b.size > maxDocxText {
		return fmt.Errorf("it has more than %d MiB of text", maxDocxText>>20)
	}
	b.paragraph.WriteString(s)
	return nil
}

func (b *docxBody) end(name string) error {
	if b.skip > 0 {
		b.skip--
		return nil
	}
	switch name {
	case "t":
		b.inText = false
	case "p":
		if b.cells > 0 {
			return b.write("\n")
		}
		b.endParagraph()
	case "tc":
		if b.cells = max(0, b.cells-1); b.cells == 0 {
			b.row = append(b.row, strings.Join(strings.Fields(b.paragraph.String()), " "))
			b.paragraph.Reset()
		}
	case "tr":
		if b.cells == 0 && strings.Join(b.row, "") != "" {
			b.section.WriteString(strings.Join(b.row, " | ") + "\n")
		}
	case "tbl":
		if b.cells == 0 {
			b.section.WriteString("\n")
		}
	}
	return nil
}

// endParagraph adds a paragraph to the section, or begins a new one with it.
func (b *docxBody) endParagraph() {
	text := strings.TrimSpace(b.paragraph.String())
	b.paragraph.Reset()
	switch {
	case text == "":
	case b.level >= 0:
		b.endSection()
		title := strings.Join(strings.Fields(text), " ")
		b.titles = append(b.titles, title)
		b.headings[b.level] = title
		for level := b.level + 1; level < docxLevels; level++ {
			b.headings[level] = ""
		}
	case b.listed:
		b.section.WriteString("- " + text + "\n")
	default:
		b.section.WriteString(text + "\n\n")
	}
}

// endSection makes pieces of the text since the last heading.
func (b *docxBody) endSection() {
	body := strings.TrimSpace(b.section.String())
	b.section.Reset()
	if body == "" {
		return
	}
	var path []string
	for _, h := range b.headings {
		if h != "" {
			path = append(path, h)
		}
	}
	heading := strings.Join(path, headingSeparator)
	if heading == "" {
		b.pieces = append(b.pieces, paragraphs(body)...)
		return
	}
	b.pieces = append(b.pieces, Piece{Text: heading + "\n\n" + body, Metadata: map[string]any{headingKey: heading}})
}
