package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// pages are the templates, parsed for one server, because their addresses begin with the
// path of its public URL.
type pages struct {
	assets    assets
	templates map[string]*template.Template
}

// newPages panics if a template is wrong, which every test finds.
func newPages(s *Server) pages {
	p := pages{assets: readAssets(), templates: map[string]*template.Template{}}
	base := template.Must(template.New("base.html").Funcs(s.funcs(p.assets)).Funcs(contentFuncs()).ParseFS(templateFiles, "templates/base.html", "templates/parts.html"))
	files, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // they are embedded
	}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "base" || name == "parts" {
			continue
		}
		p.templates[name] = template.Must(template.Must(base.Clone()).ParseFS(templateFiles, "templates/"+f.Name()))
	}
	return p
}

func (p pages) execute(w io.Writer, name string, data any) error {
	t, ok := p.templates[name]
	if !ok {
		return fmt.Errorf("there is no template %s.html", name)
	}
	return t.ExecuteTemplate(w, "base.html", data)
}

// asset is a file that a browser may keep for ever, because its name has its digest.
type asset struct {
	name, contentType string
	plain, compressed []byte
}

type assets struct {
	byName map[string]asset // by the name in the directory
	byPath map[string]asset // by the name with the digest
}

var readAssets = sync.OnceValue(func() assets {
	a := assets{byName: map[string]asset{}, byPath: map[string]asset{}}
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // they are embedded
	}
	for _, f := range files {
		content, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			panic(err) // as above
		}
		digest, ext := sha256.Sum256(content), filepath.Ext(f.Name())
		one := asset{
			name: strings.TrimSuffix(f.Name(), ext) + "." + hex.EncodeToString(digest[:6]) + ext, contentType: contentType(ext),
			plain: content, compressed: compress(content),
		}
		a.byName[f.Name()], a.byPath[one.name] = one, one
	}
	return a
})

func contentType(ext string) string {
	switch ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(ext)
}

func compress(content []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		panic(err) // the level exists
	}
	_, _ = w.Write(content) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	one, ok := a.byPath[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", one.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	content := one.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		content = one.compressed
	}
	_, _ = w.Write(content) // fails if the browser has gone
}
