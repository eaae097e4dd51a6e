package reference

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"agento.host/agento/docs"
)

//go:embed page.html style.css script.js
var files embed.FS

// contentSecurityPolicy allows what is served beside the pages, and nothing in them.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// start is the guide at /docs.
const start = "quickstart"

// shelves are the guides of the site, in their order.
func shelves() []struct {
	Title string
	Names []string
} {
	return []struct {
		Title string
		Names []string
	}{
		{"Start", []string{start, "authentication", "streams", "paging", "errors", "idempotency", "limits", "widgets"}},
		{"Guides", []string{"dashboard", "agents", "chat", "channels", "secrets", "workspace", "knowledge", "skills", "swarms", "logs", "network", "accounts", "people", "usage", "openai", "mcp", "cli"}},
		{"Operate", []string{"operations", "servers", "sleep", "checkpoints", "sleep-simulation", "security", "oidc", "backup", "upgrade", "move", "openclaw", "changes"}},
	}
}

// file is what is served at one address.
type file struct {
	contentType string
	content     []byte
}

// Handler serves the pages of a site below /docs. It renders each when it is first
// requested.
func Handler(site func() Site) http.HandlerFunc {
	files := sync.OnceValue(func() map[string]func() file { return render(site()) })
	return func(w http.ResponseWriter, r *http.Request) {
		read, ok := files()[strings.TrimSuffix(r.URL.Path, "/")]
		status := http.StatusOK
		if !ok {
			read, status = files()["/docs/missing"], http.StatusNotFound
		}
		f, h := read(), w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // an update of the server changes them
		w.WriteHeader(status)
		_, _ = w.Write(f.content) // fails if the client has disconnected
	}
}

// page is what the template shows.
type page struct {
	Site             Site
	Address, Title   string
	Shelves          []shelf
	Guide            *guide
	Group            *Group
	Missing, IsStart bool
}

type shelf struct {
	Title string
	Links []link
}

type link struct {
	Address, Title string

	name string // of a guide
}

// render returns the files of the site by address.
func render(site Site) map[string]func() file {
	listed, guides := readGuides()
	files := map[string]func() file{}
	show := func(address string, make func() page) {
		files[address] = sync.OnceValue(func() file {
			p := make()
			p.Site, p.Address, p.Shelves = site, address, listed
			var out bytes.Buffer
			if err := pageTemplate.Execute(&out, p); err != nil {
				panic(fmt.Sprintf("render %s: %v", address, err)) // a mistake in the template, which every test finds
			}
			return file{"text/html; charset=utf-8", out.Bytes()}
		})
	}
	for name, read := range guides {
		show("/docs/guides/"+name, func() page { g := read(); return page{Title: g.title, Guide: &g} })
	}
	show("/docs", func() page { g := guides[start](); return page{Title: g.title, Guide: &g, IsStart: true} })
	for i := range site.Groups {
		show(site.Groups[i].Address(), func() page { return page{Title: site.Groups[i].Name, Group: &site.Groups[i]} })
	}
	show("/docs/missing", func() page { return page{Title: "Not found", Missing: true} })
	files["/docs/style.css"] = func() file { return readFile("style.css", "text/css; charset=utf-8") }
	files["/docs/script.js"] = func() file { return readFile("script.js", "text/javascript; charset=utf-8") }
	files["/docs/search.json"] = sync.OnceValue(func() file { return file{"application/json", searchIndex(site, listed, guides)} })
	pictures, err := fs.Glob(docs.Pictures, "*/*.webp")
	if err != nil {
		panic(err) // the pattern is right
	}
	for _, name := range pictures {
		files["/docs/guides/"+name] = func() file { return readPicture(name) }
	}
	return files
}

func readPicture(name string) file {
	content, err := docs.Pictures.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return file{"image/webp", content}
}

func readFile(name, contentType string) file {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return file{contentType, content}
}

// readGuides returns the guides as the contents list them, and by name what renders each.
func readGuides() ([]shelf, map[string]func() guide) {
	known := map[string]bool{}
	for _, s := range shelves() {
		for _, name := range s.Names {
			known[name] = true
		}
	}
	guides := map[string]func() guide{}
	var listed []shelf
	for _, s := range shelves() {
		now := shelf{Title: s.Title}
		for _, name := range s.Names {
			source, err := docs.Pages.ReadFile(name + ".md")
			if err != nil {
				panic(err) // the page is missing, which every test finds
			}
			guides[name] = sync.OnceValue(func() guide { return readGuide(name, source, func(name string) bool { return known[name] }) })
			first, _, _ := strings.Cut(string(source), "\n")
			l := link{Address: "/docs/guides/" + name, Title: strings.TrimPrefix(first, "# "), name: name}
			if name == start {
				l.Address = "/docs"
			}
			now.Links = append(now.Links, l)
		}
		listed = append(listed, now)
	}
	return listed, guides
}

// found is an entry of the search index.
type found struct {
	Title   string `json:"t"`
	Place   string `json:"p"`
	Address string `json:"a"`
	Text    string `json:"x"` // what is searched beside the title
}

// maxFoundText is how much of a section is searched, in bytes.
const maxFoundText = 600

func searchIndex(site Site, listed []shelf, guides map[string]func() guide) []byte {
	var index []found
	for _, g := range site.Groups {
		for _, o := range g.Operations {
			index = append(index, found{Title: o.Summary, Place: o.Method + " " + o.Path, Address: g.Address() + "#" + o.ID, Text: o.ID + " " + o.Text + " " + names(o.Parameters) + names(o.Body)})
		}
	}
	for _, s := range listed {
		for _, l := range s.Links {
			for _, section := range guides[l.name]().sections {
				index = append(index, found{Title: section.title, Place: l.Title, Address: l.Address + "#" + section.anchor, Text: section.text[:min(len(section.text), maxFoundText)]})
			}
		}
	}
	text, err := json.Marshal(index)
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return text
}

func names(fields []Field) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f.Name + " " + names(f.Fields))
	}
	return b.String()
}

var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"inline": inline, "breakable": breakable, "highlight": highlight, "lower": strings.ToLower,
}).ParseFS(files, "page.html"))
