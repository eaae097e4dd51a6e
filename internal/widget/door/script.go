package door

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the script
	"encoding/base64"
	"html/template"
	"net/http"
	"regexp"
	"strings"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/widget"
)

const (
	// ScriptPattern is the route of the script that websites include.
	ScriptPattern = "GET /widget.js"
	// FramePattern is the route of a page that shows a widget and nothing else.
	FramePattern = "GET /widget/frame/{key}"
)

//go:embed widget.js
var source string

// script is what browsers get: the source without its comments, and without the blanks that a
// program does not need.
var script = []byte(compact(source))

var comment = regexp.MustCompile(`\s*/\*[^*]*\*/`)

// compact makes the source of the script shorter. It knows no JavaScript: the source has blanks around
// operators, and no such text in quotes. The test of the script in a browser is also that of compact.
func compact(source string) string {
	var b strings.Builder
	for line := range strings.Lines(comment.ReplaceAllString(source, "")) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	pairs := []string{"{ ", "{", " }", "}"}
	for _, operator := range []string{"=>", "&&", "||", "?", ":", "=", "+=", "==", "+", "<", ">", "-"} {
		pairs = append(pairs, " "+operator+" ", operator)
	}
	return strings.NewReplacer(pairs...).Replace(b.String())
}

// scriptTag names the version of the script.
var scriptTag = `"` + digest(script) + `"`

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// ServeScript serves the script. Browsers ask again after five minutes, so that an update of agento
// reaches every website soon.
func ServeScript(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("Cache-Control", "public, max-age=300, stale-while-revalidate=86400")
	h.Set("ETag", scriptTag)
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "widget.js", time.Time{}, bytes.NewReader(script))
	return nil
}

var frame = template.Must(template.New("frame").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<body>
<noscript>This chat needs JavaScript.</noscript>
<script src="../../widget.js" data-widget="{{.Key}}" data-layout="page"></script>
`))

// ServeFrame returns the handler of a page that shows a widget and nothing else: for an iframe, or
// as a link. Browsers show it in frames of the widget's origins only.
func ServeFrame(widgets *widget.Service) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := widgets.Find(r.Context(), r.PathValue("key"))
		if fault.Is(err, fault.Unauthorized) {
			err = fault.New(fault.NotFound, "There is no chat widget with this key, or it is not enabled.")
		}
		if err != nil {
			return err
		}
		title := v.Theme.Title
		if title == "" {
			title = v.Name
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "+ancestors(v.Origins))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "strict-origin")
		return frame.Execute(w, map[string]string{"Title": title, "Key": v.Key})
	}
}

// ancestors returns the origins as sources of a Content-Security-Policy.
func ancestors(origins []string) string {
	if len(origins) == 0 {
		return "'none'"
	}
	return strings.Join(origins, " ")
}
