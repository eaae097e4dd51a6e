package reference

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/docs"
)

func TestSamplesOfABodyThatNeedsQuotes(t *testing.T) {
	r := Request{Method: "PATCH", Path: "/v1/things/1?a=b", Body: `{"name":"it's","on":true,"off":null,"list":[false,"true"]}`, Header: "Prefer", Value: "respond-async"}
	for _, s := range r.Samples() {
		for _, want := range map[string][]string{
			"curl":       {`-X PATCH`, `it'\''s`, `-H "Prefer: respond-async"`, `"$AGENTO_URL/v1/things/1?a=b"`},
			"JavaScript": {`method: "PATCH"`, `"it's"`, `"Prefer": "respond-async"`, "`${process.env.AGENTO_URL}/v1/things/1?a=b`"},
			"Python":     {`method="PATCH"`, `"on": True,`, `"off": None,`, "False,\n", `"true"`, `os.environ["AGENTO_URL"] + "/v1/things/1?a=b"`},
			"Go":         {`http.NewRequest("PATCH", os.Getenv("AGENTO_URL")+"/v1/things/1?a=b", body)`, `req.Header.Set("Prefer", "respond-async")`},
		}[s.Language] {
			if !strings.Contains(s.Code, want) {
				t.Errorf("%s lacks %s:\n%s", s.Language, want, s.Code)
			}
		}
	}
}

func TestBreakable(t *testing.T) {
	for name, want := range map[string]string{
		"peerId":                              "peerId",
		"<b>":                                 "&lt;b&gt;",
		"/v1/agents/{id}/chat/turns/{turnId}": "/<wbr>v1/<wbr>agents/<wbr>{id}/<wbr>chat/<wbr>turns/<wbr>{turnId}",
		"aVeryLongNameThatNoScreenHasRoomFor": "a<wbr>Very<wbr>Long<wbr>Name<wbr>That<wbr>No<wbr>Screen<wbr>Has<wbr>Room<wbr>For",
		"A_VERY_LONG_NAME_OF_A_CONFIGURATION_FILE": "A_<wbr>VERY_<wbr>LONG_<wbr>NAME_<wbr>OF_<wbr>A_<wbr>CONFIGURATION_<wbr>FILE",
	} {
		if got := string(breakable(name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestGuides: links lead to other guides of the site, and HTML is left out.
func TestGuides(t *testing.T) {
	g := readGuide("some", []byte("# Some `code`\n\n[a](other.md#x) [b](missing.md) [c](../client) [d](https://example.com) <script>e</script>\n\n## Part\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"), func(name string) bool { return name == "other" })
	for _, want := range []string{`href="/docs/guides/other#x"`, `href="https://example.com"`, `id="part"`, `data-label="y"`} {
		if !strings.Contains(string(g.HTML), want) {
			t.Errorf("the page lacks %s: %s", want, g.HTML)
		}
	}
	for _, not := range []string{"missing", "client", "<script>"} {
		if strings.Contains(string(g.HTML), not) {
			t.Errorf("the page has %s: %s", not, g.HTML)
		}
	}
	if g.title != "Some code" || len(g.Contents()) != 1 || g.Contents()[0] != (link{Address: "#part", Title: "Part"}) {
		t.Errorf("title %q, contents %v", g.title, g.Contents())
	}
}

// TestEveryPageOfDocsIsOnAShelf, but for those that are not for readers of the site.
func TestEveryPageOfDocsIsOnAShelf(t *testing.T) {
	on := map[string]bool{"README": true, "sleep-simulation": true} // the contents; figures of a simulation
	for _, s := range shelves() {
		for _, name := range s.Names {
			on[name] = true
		}
	}
	entries, err := docs.Pages.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ".md"); !on[name] {
			t.Errorf("docs/%s.md is on no shelf: add it to shelves", name)
		}
	}
}

func TestHandler(t *testing.T) {
	serve := Handler(func() Site { return Site{Title: "Test", Groups: []Group{{Name: "Things", Text: "Some `things`."}}} })
	for address, want := range map[string]int{"/docs": 200, "/docs/": 200, "/docs/api/things": 200, "/docs/style.css": 200, "/docs/api/none": 404} {
		out := httptest.NewRecorder()
		serve(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil))
		if out.Code != want || out.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: status %d, want %d", address, out.Code, want)
		}
	}
}
