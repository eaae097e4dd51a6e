//go:build !race

package api_test

import (
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"testing"
)

// TestReference reads every page of the reference: each route is on one, every link has a
// target, nothing is inline, and the only scripts and styles are the server's own files.
func TestReference(t *testing.T) {
	env := newEnv(t, options{})
	anonymous := &caller{env: env}
	pages := map[string]string{}
	for next := []string{"/docs"}; len(next) > 0; next = next[1:] {
		if pages[next[0]] != "" {
			continue
		}
		page := anonymous.do("GET", next[0], nil).expect(200)
		pages[next[0]] = page.body
		if strings.HasPrefix(next[0], "/openapi") {
			continue
		}
		if policy := page.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy: %s", next[0], policy)
		}
		if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
			continue
		}
		for _, inline := range []string{"<script>", "<style", " style=", " onclick=", "javascript:"} {
			if strings.Contains(page.body, inline) {
				t.Errorf("%s contains %s", next[0], inline)
			}
		}
		for _, m := range reference.FindAllStringSubmatch(page.body, -1) {
			if address, _, _ := strings.Cut(m[1], "#"); strings.HasPrefix(address, "/") {
				next = append(next, address)
			}
		}
	}
	for address, page := range pages {
		for _, m := range reference.FindAllStringSubmatch(page, -1) {
			to, anchor, ok := strings.Cut(html.UnescapeString(m[1]), "#")
			if to == "" {
				to = address
			}
			if target := pages[to]; ok && strings.HasPrefix(to, "/") && !strings.Contains(target, ` id="`+anchor+`"`) {
				t.Errorf("%s links to %s, which is not there", address, m[1])
			}
		}
	}
	for _, e := range env.Server.Examples() {
		found := false
		for _, page := range pages {
			found = found || strings.Contains(page, ` id="`+e.ID+`"`)
		}
		if !found {
			t.Errorf("no page shows %s", e.ID)
		}
	}
	var index []struct{ T, A string }
	if err := json.Unmarshal([]byte(anonymous.do("GET", "/docs/search.json", nil).expect(200).body), &index); err != nil || len(index) < 200 {
		t.Errorf("the search knows %d places: %v", len(index), err)
	}
	for _, entry := range index {
		to, anchor, _ := strings.Cut(entry.A, "#")
		if !strings.Contains(pages[to], ` id="`+anchor+`"`) {
			t.Errorf("the search leads to %s, which is not there", entry.A)
		}
	}
	anonymous.do("GET", "/docs/none", nil).expect(404)
}

// reference finds the addresses that a page refers to.
var reference = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
