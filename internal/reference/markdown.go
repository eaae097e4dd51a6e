package reference

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"html/template"
	"path"
	"strings"

	"github.com/alecthomas/chroma/v2"
	chromahtml "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/lexers"
	"github.com/alecthomas/chroma/v2/styles"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown renders the pages of docs/ and the texts of the API. HTML in them is left out.
var markdown = goldmark.New(
	goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))), // the policy of pages allows no style
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(code{}, 100))),
)

// inline renders a text that is part of a line or of a cell.
func inline(source string) template.HTML {
	var out bytes.Buffer
	if err := markdown.Convert([]byte(source), &out); err != nil {
		panic(fmt.Sprintf("render %q: %v", source, err)) // a mistake in a text, which every test finds
	}
	rendered := strings.TrimSpace(out.String())
	if strings.Count(rendered, "<p>") == 1 && strings.HasPrefix(rendered, "<p>") {
		rendered = strings.TrimSuffix(strings.TrimPrefix(rendered, "<p>"), "</p>")
	}
	return template.HTML(rendered) //nolint:gosec // made by goldmark from texts of this program
}

// code renders blocks and words of code.
type code struct{}

// RegisterFuncs implements renderer.NodeRenderer.
func (code) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	block := func(language func(ast.Node, []byte) string) renderer.NodeRendererFunc {
		return func(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
			if !entering {
				return ast.WalkContinue, nil
			}
			var lines strings.Builder
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				lines.Write(line.Value(source))
			}
			_, err := w.WriteString(string(highlight(language(n, source), strings.TrimRight(lines.String(), "\n"))))
			return ast.WalkSkipChildren, err
		}
	}
	r.Register(ast.KindFencedCodeBlock, block(func(n ast.Node, source []byte) string {
		return string(n.(*ast.FencedCodeBlock).Language(source))
	}))
	r.Register(ast.KindCodeBlock, block(func(ast.Node, []byte) string { return "text" }))
	r.Register(ast.KindCodeSpan, func(w util.BufWriter, source []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		var span strings.Builder
		for c := n.FirstChild(); c != nil; c = c.NextSibling() {
			span.Write(c.(*ast.Text).Segment.Value(source))
		}
		_, err := w.WriteString("<code>" + string(breakable(span.String())) + "</code>")
		return ast.WalkSkipChildren, err
	})
}

// unbroken is the length of names that fit on a line of every screen.
const unbroken = 28

// breakable returns a name, a path or a line of code as HTML. A long one breaks between its
// words: a browser would break it anywhere, or nowhere.
func breakable(name string) template.HTML {
	if len(name) <= unbroken {
		return template.HTML(html.EscapeString(name)) //nolint:gosec // escaped
	}
	var b strings.Builder
	last, isPath := rune(0), strings.Contains(name, "/")
	for i, r := range name {
		isLower := last >= 'a' && last <= 'z'
		if i > 0 && (strings.ContainsRune("/?&", last) || !isPath && (strings.ContainsRune("_.:=", last) || isLower && r >= 'A' && r <= 'Z')) {
			b.WriteString("<wbr>")
		}
		b.WriteString(html.EscapeString(string(r)))
		last = r
	}
	return template.HTML(b.String()) //nolint:gosec // escaped above
}

// highlight returns a block of code as HTML, with classes of its tokens.
func highlight(language, source string) template.HTML {
	language = cmp.Or(language, "text")
	lexer := lexers.Get(language)
	if lexer == nil {
		lexer = lexers.Fallback
	}
	tokens, err := chroma.Coalesce(lexer).Tokenise(nil, source)
	if err != nil {
		tokens = chroma.Literator(chroma.Token{Type: chroma.Text, Value: source})
	}
	var out bytes.Buffer
	formatter := chromahtml.New(chromahtml.WithClasses(true), chromahtml.PreventSurroundingPre(true))
	if err := formatter.Format(&out, styles.Fallback, tokens); err != nil {
		return template.HTML("<pre>" + html.EscapeString(source) + "</pre>") //nolint:gosec // escaped
	}
	return template.HTML(`<pre class="code"><code>` + out.String() + "</code></pre>") //nolint:gosec // made by chroma, which escapes
}

// guide is a page of docs/.
type guide struct {
	name, title string
	HTML        template.HTML
	sections    []section
}

// section is a heading of a guide with the text below it.
type section struct {
	level               int
	anchor, title, text string
}

// Contents returns the links to the headings below the title.
func (g guide) Contents() []link {
	var all []link
	for _, s := range g.sections {
		if s.level == 2 {
			all = append(all, link{Address: "#" + s.anchor, Title: s.title})
		}
	}
	return all
}

// readGuide renders a page of docs/. Its links lead to other guides on the site; others than
// to guides and to the web are left out.
func readGuide(name string, source []byte, known func(name string) bool) guide {
	g := guide{name: name}
	doc := markdown.Parser().Parse(text.NewReader(source))
	var drop []*ast.Link
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // the function returns no error
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			g.addHeading(n, source)
		case *extast.Table:
			labelCells(n, source)
		case *ast.Link:
			if to, ok := guideLink(string(n.Destination), known); ok {
				n.Destination = []byte(to)
			} else {
				drop = append(drop, n)
			}
		case *ast.Text:
			if len(g.sections) > 0 {
				s := &g.sections[len(g.sections)-1]
				s.text += string(n.Segment.Value(source)) + " "
			}
		}
		return ast.WalkContinue, nil
	})
	for _, link := range drop {
		for c := link.FirstChild(); c != nil; c = link.FirstChild() {
			link.Parent().InsertBefore(link.Parent(), link, c)
		}
		link.Parent().RemoveChild(link.Parent(), link)
	}
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, source, doc); err != nil {
		panic(fmt.Sprintf("render docs/%s.md: %v", name, err)) // a mistake in the page, which every test finds
	}
	rendered := strings.ReplaceAll(strings.ReplaceAll(out.String(), "<table>", `<div class="table"><table>`), "</table>", "</table></div>")
	g.HTML = template.HTML(rendered) //nolint:gosec // made by goldmark from the pages of this program
	return g
}

// labelCells gives each cell of a table the name of its column, which small screens show in
// place of the columns.
func labelCells(table *extast.Table, source []byte) {
	var labels [][]byte
	for row := table.FirstChild(); row != nil; row = row.NextSibling() {
		i := 0
		for cell := row.FirstChild(); cell != nil; cell = cell.NextSibling() {
			if row.Kind() == extast.KindTableHeader {
				labels = append(labels, []byte(plain(cell, source)))
			} else if i < len(labels) {
				cell.SetAttributeString("data-label", labels[i])
			}
			i++
		}
	}
}

// plain returns the text of a node and of those in it.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(c ast.Node, entering bool) (ast.WalkStatus, error) { // the function returns no error
		if t, ok := c.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

func (g *guide) addHeading(n *ast.Heading, source []byte) {
	title := plain(n, source)
	id, _ := n.AttributeString("id")
	anchor, _ := id.([]byte)
	if n.Level == 1 && g.title == "" {
		g.title = title
	}
	g.sections = append(g.sections, section{level: n.Level, anchor: string(anchor), title: title})
}

// guideLink returns where a link of a page of docs/ leads to on the site.
func guideLink(to string, known func(string) bool) (string, bool) {
	if strings.HasPrefix(to, "https://") || strings.HasPrefix(to, "#") || strings.HasPrefix(to, "/docs/") || strings.HasPrefix(to, "/openapi") {
		return to, true
	}
	page, fragment, hasFragment := strings.Cut(to, "#")
	name, isPage := strings.CutSuffix(page, ".md")
	if !isPage || name != path.Base(name) || !known(name) {
		return "", false
	}
	if hasFragment {
		fragment = "#" + fragment
	}
	return "/docs/guides/" + name + fragment, true
}
