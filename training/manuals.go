package main

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"html"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// section is a heading and the paragraphs below it.
type section struct {
	Page       string // the title of the page
	Heading    string
	Paragraphs []string
}

// readManual returns the sections of every page of an unpacked package.
func readManual(root string) ([]section, error) {
	var all []section
	seen := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isEnglish(strings.TrimPrefix(path, root)) {
			return err
		}
		format := pageFormat(path)
		if format == "" {
			return nil
		}
		text, err := readPage(path)
		if err != nil {
			return err
		}
		var found []section
		if format == "pod" {
			found = podSections(text)
		} else {
			found = markupSections(text)
		}
		for _, s := range found {
			s.Paragraphs = slices.DeleteFunc(s.Paragraphs, func(p string) bool {
				known := seen[p]
				seen[p] = true
				return known || !isProse(p)
			})
			if len(s.Paragraphs) > 0 {
				all = append(all, s)
			}
		}
		return nil
	})
	return all, err
}

var (
	languageDir   = regexp.MustCompile(`(?:^|[-_])(?:a[fnrsz]|b[egnrs]|c[asy]|d[ae]|e[lostu]|f[airu]|g[aldu]|h[eiruy]|i[adst]|j[av]|k[akmno]|l[tv]|m[gklnrst]|n[blns]|o[cr]|p[alst]|r[ouw]|s[iklqrtvw]|t[aeghlrt]|u[kgz]|vi|zh|en_GB)(?:[-_@][A-Za-z]+)?$`)
	ignoredPages  = regexp.MustCompile(`(?i)/(_sources|_modules|_static|licen[cs]es?|changelog[^/]*|copyright|news[^/]*|genindex[^/]*|py-modindex[^/]*|search\.html|bookindex\.html|release-[^/]*|whatsnew|contents\.js)(/|$|\.)`)
	spaces        = regexp.MustCompile(`\s+`)
	functionWords = regexp.MustCompile(`(?i)\b(the|of|to|and|a|an|in|is|are|you|that|it|for|be|this|with|or|can|as|on|by|if|not|will|which|from)\b`)
	blockTags     = regexp.MustCompile(`^/?(p|para|simpara|li|dd|dt|td|th|tr|div|br|item|note|listitem|entry|section|sect[1-5]|chapter|blockquote|table|ul|ol|dl|body|desc|synopsis|figure|caption|term|variablelist|itemizedlist|steps|terms|list|cite|info)$`)
	skipTags      = regexp.MustCompile(`^(script|style|nav|pre|programlisting|screen|head|footer|header|code-block|svg|math|button|select|form|indexterm|bookinfo|articleinfo|info|links|credit|legalnotice|refmeta|noscript|synopsis|literallayout)$`)
	titleTags     = regexp.MustCompile(`^(h[1-6]|title|refname)$`)
	headingAnchor = regexp.MustCompile(`\s*[¶§#]\s*$`)
	headingNumber = regexp.MustCompile(`^\s*(?:(?:chapter|appendix|section|part)\s+)?[0-9IVXA-Z]{0,4}(?:\.[0-9]+)*\.?\s+`)
)

// isEnglish reports whether no directory of a path names another language.
func isEnglish(path string) bool {
	for _, part := range strings.Split(filepath.Dir(path), "/") {
		if languageDir.MatchString(part) {
			return false
		}
	}
	return true
}

// pageFormat returns "markup", "pod" or, if the file is not a page, "".
func pageFormat(path string) string {
	if ignoredPages.MatchString(path) {
		return ""
	}
	name := strings.TrimSuffix(strings.TrimSuffix(path, ".gz"), ".bz2")
	name = strings.TrimSuffix(name, ".en") // Apache's index.html.en
	switch filepath.Ext(name) {
	case ".html", ".htm", ".xhtml", ".page", ".docbook":
		return "markup"
	case ".xml":
		if strings.Contains(path, "/help/") {
			return "markup"
		}
	case ".pod":
		return "pod"
	}
	return ""
}

func readPage(path string) (string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	var r io.Reader = f
	switch {
	case strings.HasSuffix(path, ".gz"):
		if r, err = gzip.NewReader(f); err != nil {
			return "", err
		}
	case strings.HasSuffix(path, ".bz2"):
		r = bzip2.NewReader(f)
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	return strings.ToValidUTF8(b.String(), " "), err
}

// isProse reports whether a paragraph consists of English sentences, unlike code, menus
// and indexes.
func isProse(p string) bool {
	words := len(strings.Fields(p))
	return words >= 6 && len(functionWords.FindAllStringIndex(p, -1))*7 >= words
}

// markupSections parses HTML, DocBook and Mallard: titles start sections, block
// elements end paragraphs, code and navigation are skipped.
func markupSections(text string) []section {
	var b pageBuilder
	skipping := ""
	for text != "" {
		start := strings.IndexByte(text, '<')
		if start < 0 {
			b.text(text, skipping)
			break
		}
		b.text(text[:start], skipping)
		text = text[start:]
		if strings.HasPrefix(text, "<!--") {
			end := strings.Index(text, "-->")
			if end < 0 {
				break
			}
			text = text[end+3:]
			continue
		}
		end := strings.IndexByte(text, '>')
		if end < 0 {
			break
		}
		tag := text[1:end]
		text = text[end+1:]
		name := strings.ToLower(strings.TrimRight(strings.SplitN(strings.TrimLeft(tag, " "), " ", 2)[0], "/\n\t"))
		if i := strings.IndexAny(name, "\n\t"); i >= 0 {
			name = name[:i]
		}
		switch {
		case skipping != "":
			if name == "/"+skipping {
				skipping = ""
			} else if skipping == "head" || skipping == "info" {
				b.pageTitle(name)
			}
		case skipTags.MatchString(name) && !strings.HasSuffix(tag, "/"):
			b.paragraph()
			skipping = name
		case titleTags.MatchString(name):
			b.paragraph()
			b.inTitle = true
		case titleTags.MatchString(strings.TrimPrefix(name, "/")):
			b.title()
		case blockTags.MatchString(name):
			b.paragraph()
		}
	}
	b.paragraph()
	return b.sections
}

// pageBuilder collects the sections of a page.
type pageBuilder struct {
	sections []section
	buf      strings.Builder
	inTitle  bool
	inHead   bool
	page     string
}

func (b *pageBuilder) text(s, skipping string) {
	if skipping == "" || (b.inHead && (skipping == "head" || skipping == "info")) {
		b.buf.WriteString(s)
	}
}

// pageTitle handles a tag inside a head or info element, which holds the page's title.
func (b *pageBuilder) pageTitle(name string) {
	switch name {
	case "title":
		b.buf.Reset()
		b.inHead = true
	case "/title":
		if b.page == "" {
			b.page = clean(b.buf.String())
		}
		b.inHead = false
		b.buf.Reset()
	}
}

// title ends a heading and starts its section.
func (b *pageBuilder) title() {
	heading := headingAnchor.ReplaceAllString(clean(b.buf.String()), "")
	heading = strings.TrimSpace(headingNumber.ReplaceAllString(heading, ""))
	b.buf.Reset()
	b.inTitle = false
	if heading != "" {
		if b.page == "" {
			b.page = heading
		}
		b.sections = append(b.sections, section{Page: b.page, Heading: heading})
	}
}

// paragraph ends a paragraph.
func (b *pageBuilder) paragraph() {
	if b.inTitle {
		b.buf.WriteByte(' ')
		return
	}
	p := clean(b.buf.String())
	b.buf.Reset()
	if p == "" {
		return
	}
	if len(b.sections) == 0 {
		b.sections = append(b.sections, section{Page: b.page, Heading: b.page})
	}
	last := &b.sections[len(b.sections)-1]
	last.Paragraphs = append(last.Paragraphs, p)
}

// clean decodes HTML entities and collapses white space.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\u00a0' || (r >= 0xe000 && r < 0xf900) { // no-break space; characters of icon fonts
			return ' '
		}
		return r
	}, html.UnescapeString(s))
	return strings.TrimSpace(spaces.ReplaceAllString(s, " "))
}

var podCode = regexp.MustCompile(`[A-Z]<+\s?([^<>]*?)\s?>+`)

func podSections(text string) []section {
	var b pageBuilder
	for _, block := range strings.Split(text, "\n\n") {
		switch {
		case strings.HasPrefix(block, "=head"):
			_, heading, _ := strings.Cut(block, " ")
			b.buf.WriteString(podCode.ReplaceAllString(heading, "$1"))
			b.title()
		case strings.HasPrefix(block, "=") || strings.HasPrefix(block, " ") || strings.HasPrefix(block, "\t"):
		default:
			b.buf.WriteString(podCode.ReplaceAllString(block, "$1"))
			b.paragraph()
		}
	}
	return b.sections
}
