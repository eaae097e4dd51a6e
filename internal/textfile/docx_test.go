package textfile_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"agento.host/agento/internal/textfile"
)

const wordSpace = ` xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"`

// word returns a document of Word with a body, and styles.
func word(t *testing.T, body string) string {
	t.Helper()
	return zipOf(t, map[string]string{
		"[Content_Types].xml": "<Types/>",
		"word/document.xml":   `<?xml version="1.0" encoding="UTF-8" standalone="yes"?><w:document` + wordSpace + `><w:body>` + body + `</w:body></w:document>`,
		"word/styles.xml": `<?xml version="1.0"?><w:styles` + wordSpace + `>
			<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
			<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="My chapter"/><w:basedOn w:val="Level"/></w:style>
			<w:style w:type="paragraph" w:styleId="Level"><w:name w:val="Level"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
			<w:style w:type="paragraph" w:styleId="Circle"><w:name w:val="x"/><w:basedOn w:val="Round"/></w:style>
			<w:style w:type="paragraph" w:styleId="Round"><w:name w:val="y"/><w:basedOn w:val="Circle"/></w:style>
			<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/></w:style></w:styles>`,
	})
}

func zipOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// par returns a paragraph of a style.
func par(style, text string) string {
	return `<w:p><w:pPr><w:pStyle w:val="` + style + `"/></w:pPr><w:r><w:t xml:space="preserve">` + text + `</w:t></w:r></w:p>`
}

func TestReadDocx(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"by heading, in any language, by the style it is based on": {
			par("", "Before.") + par("Title", "Handbook") + par("berschrift1", "Refunds") + par("", "Five ") + par("Mine", "Fees") + par("", "None.") + par("berschrift1", "Other") + par("Circle", "End &amp; all."),
			[]string{"Before.", "Handbook › Refunds\n\nFive", "Handbook › Refunds › Fees\n\nNone.", "Handbook › Other\n\nEnd & all."},
		},
		"a style that is not described": {par("Heading2", "A") + par("", "b"), []string{"A\n\nb"}},
		"runs, breaks and tabs":         {`<w:p><w:r><w:t>un</w:t></w:r><w:r><w:t>ited</w:t><w:tab/><w:t>a</w:t><w:br/><w:t>b</w:t></w:r></w:p>`, []string{"united\ta\nb"}},
		"what was deleted, and what is shown again": {
			`<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><mc:AlternateContent xmlns:mc="m"><mc:Choice><w:r><w:t> once</w:t></w:r></mc:Choice><mc:Fallback><w:r><w:t> twice</w:t></w:r></mc:Fallback></mc:AlternateContent></w:p>`,
			[]string{"kept once"},
		},
		"lists and tables": {
			par("berschrift1", "T") + `<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>one</w:t></w:r></w:p><w:tbl><w:tr><w:tc>` + par("", "Name") + `</w:tc><w:tc>` + par("", "Price") + `</w:tc></w:tr><w:tr><w:tc>` + par("", "Tea") + par("", "green") + `</w:tc><w:tc>` + par("", "3") + `</w:tc></w:tr></w:tbl>` + par("", "End."),
			[]string{"T\n\n- one\nName | Price\nTea green | 3\n\nEnd."},
		},
		"only headings":          {par("berschrift1", "One") + par("berschrift1", "Two"), []string{"One", "Two"}},
		"instructions of fields": {`<w:p><w:r><w:instrText>HYPERLINK "x"</w:instrText></w:r><w:r><w:t>link</w:t></w:r></w:p>`, []string{"link"}},
	} {
		if got := texts(t, word(t, c.body), textfile.DOCX); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s\n got %q\nwant %q", name, got, c.want)
		}
	}
}

// TestReadDocxRefuses has files that are made to hurt.
func TestReadDocxRefuses(t *testing.T) {
	document := func(xml string) string { return zipOf(t, map[string]string{"word/document.xml": xml}) }
	lol := `<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><d>&b;</d>`
	many := map[string]string{}
	for i := range 5001 {
		many[fmt.Sprint(i)] = ""
	}
	lying := []byte(word(t, par("", strings.Repeat("bomb ", 10<<20))))
	for name, c := range map[string]struct{ content, want string }{
		"no zip":             {"hello", "no Word document"},
		"another zip":        {zipOf(t, map[string]string{"a": "b"}), "no Word document"},
		"entities":           {document(lol), "document type declaration"},
		"an unknown entity":  {document(`<d><t>&nope;</t></d>`), "cannot be read"},
		"an external entity": {document(`<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>`), "document type declaration"},
		"many parts":         {zipOf(t, many), "parts"},
		"a bomb":             {string(lying), "compressed more"},
		"nested elements":    {document(strings.Repeat("<a>", 5000) + strings.Repeat("</a>", 5000)), "nested"},
		"broken XML":         {document("<w:p"), "cannot be read"},
		"nothing":            {word(t, ""), "no text"},
		"a cut file":         {word(t, par("", "x"))[:300], "no Word document"},
	} {
		_, err := textfile.Read(t.Context(), []byte(c.content), textfile.DOCX, limit)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadDocx reads any XML as the document of a file.
func FuzzReadDocx(f *testing.F) {
	f.Add(`<w:p><w:t>a</w:t></w:p></w:tc></w:tbl><w:tc><w:p><w:del></w:p>`)
	f.Fuzz(func(t *testing.T, body string) {
		_, _ = textfile.Read(t.Context(), []byte(word(t, body)), textfile.DOCX, limit)
	})
}
