package dashboard

import (
	"errors"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/client"
)

// funcs are the functions of templates.
func (s *Server) funcs(a assets) template.FuncMap {
	return template.FuncMap{
		// path returns the address of a page: path "/agents/%s/logs" .ID
		"path": func(format string, args ...string) string { return s.outside.path(path(format, args...)) },
		// asset returns the address of a file of assets.
		"asset": func(name string) (string, error) {
			one, ok := a.byName[name]
			if !ok {
				return "", fmt.Errorf("there is no asset %s", name)
			}
			return s.outside.path("/assets/" + one.name), nil
		},
		// docs returns the address of a guide: docs "agents#configuration"
		"docs": func(guide string) string { return s.outside.base + "/docs/guides/" + guide },
		"dict": dict,
		// query returns a parameter of an address, without the question mark.
		"query":  func(name, value string) template.URL { return template.URL(encodeQuery(name, value)) }, //nolint:gosec // it is escaped
		"list":   func(items ...any) []any { return items },
		"moment": moment,
		"bytes":  bytesText,
		"money":  money,
		"number": number,
		"state":  stateOf,
		"row":    rowState,
		"deref":  deref,
		"join":   strings.Join,
		"lower":  strings.ToLower,
		// Of keys and chat widgets.
		"keyState":    keyState,
		"rate":        rateText,
		"widgetState": widgetState,
		"count":       count,
		"metadata":    metadataText,
		"cut":         func(text string, n int) string { short, _ := cutText(text, n); return short },
	}
}

// dict returns a map of pairs, for partial templates.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errors.New("dict needs pairs")
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// moment returns a time as an element, in UTC; app.js shows it in the zone of the viewer.
// The time may be nil or zero, which is "never". A style is "ago", "date" or empty.
func moment(at any, style ...string) template.HTML {
	var t time.Time
	switch at := at.(type) {
	case time.Time:
		t = at
	case client.Time:
		t = at.Time
	case *client.Time:
		if at != nil {
			t = at.Time
		}
	}
	if t.IsZero() {
		return `<span class="soft">never</span>`
	}
	as := ""
	if len(style) > 0 {
		as = ` data-as="` + template.HTMLEscapeString(style[0]) + `"`
	}
	t = t.UTC()
	//nolint:gosec // it has digits, and a style that is escaped
	return template.HTML(`<time datetime="` + t.Format(time.RFC3339Nano) + `"` + as + `>` + t.Format("2006-01-02 15:04") + ` UTC</time>`)
}

// bytesText returns a size as people read it.
func bytesText(size any) string {
	var n int64
	switch size := size.(type) {
	case int64:
		n = size
	case int:
		n = int64(size)
	case *int64:
		if size != nil {
			n = *size
		}
	}
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	large, name := float64(n), "B"
	for _, next := range []string{"KB", "MB", "GB", "TB", "PB"} {
		if large < unit {
			break
		}
		large, name = large/unit, next
	}
	return strconv.FormatFloat(large, 'f', decimals(large), 64) + " " + name
}

func decimals(n float64) int {
	if n < 10 {
		return 1
	}
	return 0
}

// money returns millionths of a US dollar. Nil is a price that is not known.
func money(micros any) string {
	var m int64
	switch v := micros.(type) {
	case int64:
		m = v
	case *int64:
		if v == nil {
			return "unknown"
		}
		m = *v
	}
	dollars := float64(m) / 1e6
	if m != 0 && math.Abs(dollars) < 0.01 {
		return "$" + strconv.FormatFloat(dollars, 'f', 4, 64)
	}
	return "$" + strconv.FormatFloat(dollars, 'f', 2, 64)
}

// number returns a count with its thousands apart.
func number(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

// deref returns what a pointer of the API's answers points to; nil for nil.
func deref(p any) any {
	switch p := p.(type) {
	case *string:
		if p != nil {
			return *p
		}
	case *int64:
		if p != nil {
			return *p
		}
	}
	return nil
}
