package textfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"agento.host/agento/internal/textfile"
)

const limit = 4000

func texts(t *testing.T, content string, format textfile.Format) []string {
	t.Helper()
	pieces, err := textfile.Read(t.Context(), []byte(content), format, limit)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	all := make([]string, len(pieces))
	for i, p := range pieces {
		all[i] = p.Text
	}
	return all
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		format  textfile.Format
		want    []string
	}{
		"markdown by heading": {
			"---\ntitle: x\n---\nBefore.\n\n# Guide\nIntro.\n\n## Refunds ##\nFive days.\n\n```\n# no heading\n```\n\n### Fees\n\nNone.\n\nSetext\n------\nUnder.\n\n# Other\n- a\n- b\n",
			textfile.Markdown,
			[]string{
				"Before.", "Guide\n\nIntro.", "Guide › Refunds\n\nFive days.\n\n```\n# no heading\n```", "Guide › Refunds › Fees\n\nNone.", "Guide › Setext\n\nUnder.", "Other\n\n- a\n- b",
			},
		},
		"markdown with CR LF, and with only headings": {"# One\r\n\r\n# Two\r\n", textfile.Markdown, []string{"# One", "# Two"}},
		"headings without a text between them":        {"# A\n## B\ntext\n", textfile.Markdown, []string{"A › B\n\ntext"}},
		"html": {
			"<html><head><title>t</title><style>p{}</style><script>alert(1)</script></head><body><h1>Shop</h1><p>We sell <b>tea</b>.</p><h2>Hours</h2><p>9&ndash;17</p></body></html>",
			textfile.HTML,
			[]string{"Shop\n\nWe sell **tea**.", "Shop › Hours\n\n9–17"},
		},
		"html in Latin-1":                {"<html><head><meta charset=\"iso-8859-1\"></head><body><p>Gr\xfc\xdfe</p></body></html>", textfile.HTML, []string{"Grüße"}},
		"faq in CSV":                     {"\xef\xbb\xbfQuestion,Answer\nHow long?,Three days\nWhere?,\"Berlin, Mitte\"\n\n", textfile.CSV, []string{"How long?\nThree days", "Where?\nBerlin, Mitte"}},
		"other columns, with semicolons": {"Name;Price;Note\nTea;3;\nCake;4;\"sweet; soft\"\n", textfile.CSV, []string{"Name: Tea\nPrice: 3", "Name: Cake\nPrice: 4\nNote: sweet; soft"}},
		"faq in JSON":                    {`[{"question":"How long?","answer":"Three days"},{"name":"Tea","price":3}]`, textfile.JSON, []string{"How long?\nThree days", "name: Tea\nprice: 3"}},
		"a list in an object":            {`{"version":1,"faq":[{"q":"Why?","a":"Because."}]}`, textfile.JSON, []string{"Why?\nBecause."}},
		"an object a line":               {"{\"text\":\"one\"}\n{\"text\":\"two\"}\n", textfile.JSON, []string{"one", "two"}},
		"paragraphs":                     {"one\nline\n\n \n\ntwo\n", textfile.Text, []string{"one\nline", "two"}},
		"UTF-16":                         {"\xff\xfeh\x00i\x00", textfile.Text, []string{"hi"}},
	} {
		if got := texts(t, c.content, c.format); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s\n got %q\nwant %q", name, got, c.want)
		}
	}
}

// TestReadKeepsWhatIsKnownOfAPiece: where it is, what kind it is, and the source of an
// exported entry.
func TestReadKeepsWhatIsKnownOfAPiece(t *testing.T) {
	for content, want := range map[string]string{
		`[{"text":"x","source":"a.md","metadata":{"type":"faq"}}]`: `{x a.md map[type:faq]}`,
	} {
		pieces, err := textfile.Read(t.Context(), []byte(content), textfile.JSON, limit)
		if err != nil || len(pieces) != 1 || fmt.Sprint(pieces[0]) != want {
			t.Errorf("%v, %v", pieces, err)
		}
	}
	pieces, err := textfile.Read(t.Context(), []byte("q,a\n\nWhy?,So.\n"), textfile.CSV, limit)
	if err != nil || len(pieces) != 1 || pieces[0].Metadata["type"] != "faq" {
		t.Errorf("%v, %v", pieces, err)
	}
}

func TestReadSplitsLongPieces(t *testing.T) {
	long := strings.Repeat("wörter sind lang. ", 600)
	text := "# Head\n\n" + long + "\n\n" + strings.Repeat("x", 9000)
	pieces, err := textfile.Read(t.Context(), []byte(text), textfile.Markdown, limit)
	if err != nil || len(pieces) < 5 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	var all strings.Builder
	for i, p := range pieces {
		body, ok := strings.CutPrefix(p.Text, "Head\n\n")
		if n := utf8.RuneCountInString(p.Text); n > limit || !utf8.ValidString(p.Text) || !ok || p.Metadata["part"] != i+1 {
			t.Errorf("piece %d: %d characters, %v", i, n, p.Metadata)
		}
		all.WriteString(body)
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
	if squeeze(all.String()) != squeeze(strings.TrimPrefix(text, "# Head")) {
		t.Error("text was lost")
	}
}

func TestReadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		format  textfile.Format
		want    string
	}{
		"nothing":           {" \n", textfile.Text, "no text"},
		"an empty table":    {"a,b\n", textfile.CSV, "no text"},
		"Latin-1":           {"Gr\xfc\xdfe", textfile.Text, "not UTF-8"},
		"a binary":          {"a\x00b", textfile.Text, "binary"},
		"no JSON":           {"{", textfile.JSON, "no JSON"},
		"no PDF":            {"hello", textfile.PDF, "PDF cannot be read"},
		"a PDF that is cut": {string(document("hello")[:200]), textfile.PDF, "PDF cannot be read"},
		"a scanned PDF":     {string(document("")), textfile.PDF, "only pictures"},
	} {
		_, err := textfile.Read(t.Context(), []byte(c.content), c.format, limit)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := textfile.Read(t.Context(), nil, textfile.Markdown, limit); !errors.Is(err, textfile.ErrNoText) {
		t.Error(err)
	}
}

func TestPDFByPage(t *testing.T) {
	pieces, err := textfile.Read(t.Context(), document("Refunds take five days.", "The shop is in Berlin."), textfile.PDF, limit)
	if err != nil || len(pieces) != 2 {
		t.Fatalf("%v, %v", pieces, err)
	}
	for i, want := range []string{"Refunds take five days.", "The shop is in Berlin."} {
		if pieces[i].Text != want || pieces[i].Metadata["page"] != i+1 {
			t.Errorf("page %d: %+v", i+1, pieces[i])
		}
	}
}

// TestPDFWithoutSpaces: many programs write no spaces and no lines, only characters at
// places.
func TestPDFWithoutSpaces(t *testing.T) {
	placed := "/F2 10 Tf 72 720 Td [(T) 0 (ea) -300 (costs) -300 (no) -300 (money,) -300 (un-)] TJ 0 -12 Td (less) Tj 0 -30 Td (Next) Tj"
	pieces, err := textfile.Read(t.Context(), documentOf(placed), textfile.PDF, limit)
	if err != nil || len(pieces) != 1 || pieces[0].Text != "Tea costs no money, unless\n\nNext" {
		t.Errorf("%+v, %v", pieces, err)
	}
}

// document returns a PDF with a page for each text.
func document(pages ...string) []byte {
	streams := make([]string, len(pages))
	for i, text := range pages {
		if text != "" {
			streams[i] = "/F1 12 Tf 72 720 Td (" + text + ") Tj"
		}
	}
	return documentOf(streams...)
}

// documentOf returns a PDF with a page for each text object. The font F1 has no widths; in
// F2 each character has half its size.
func documentOf(pages ...string) []byte {
	var b bytes.Buffer
	var offsets []int
	object := func(format string, args ...any) {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n"+format+"\nendobj\n", append([]any{len(offsets)}, args...)...)
	}
	b.WriteString("%PDF-1.4\n")
	var kids strings.Builder
	for i := range pages {
		fmt.Fprintf(&kids, "%d 0 R ", 5+2*i)
	}
	object("<< /Type /Catalog /Pages 2 0 R >>")
	object("<< /Type /Pages /Kids [%s] /Count %d >>", kids.String(), len(pages))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding /FirstChar 32 /LastChar 126 /Widths [%s] >>", strings.Repeat("500 ", 95))
	for i, stream := range pages {
		object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents %d 0 R >>", 6+2*i)
		if stream != "" {
			stream = "BT " + stream + " ET"
		}
		object("<< /Length %d >>\nstream\n%s\nendstream", len(stream), stream)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, at := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", at)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, start)
	return b.Bytes()
}
