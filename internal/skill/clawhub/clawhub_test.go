package clawhub_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/skilltest"
	"agento.host/agento/internal/vault"
)

func newClient(t *testing.T, r *skilltest.Registry) *clawhub.Client {
	t.Helper()
	c, err := clawhub.New(clawhub.Settings{Settings: fetch.Settings{BaseURL: r.URL, Timeout: 300 * time.Millisecond, Token: func(context.Context) (vault.Secret, error) { return vault.NewSecret("reg-token"), nil }}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func weatherSkill(t *testing.T) skilltest.Version {
	return skilltest.Version{Owner: "ann", Slug: "weather", Name: "Weather", Version: "1.2.0",
		Archive: skilltest.Zip(t, map[string][]byte{"weather/skill.md": skilltest.SkillMD("weather", "Look."), "weather/a/b.txt": []byte("b"), "weather/.clawhub/x": nil})}
}

func TestFetchAndSearch(t *testing.T) {
	r := skilltest.NewRegistry(t)
	v := weatherSkill(t)
	r.Publish(v)
	v.Version = "1.3.0"
	r.Publish(v)
	c := newClient(t, r)
	for _, x := range []struct{ ref, version, want string }{{"weather", "", "1.3.0"}, {"@ann/weather", "1.2.0", "1.2.0"}} {
		ref, err := clawhub.ParseRef(x.ref)
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Fetch(t.Context(), ref, x.version)
		if err != nil {
			t.Fatal(err)
		}
		if p.Version != x.want || p.Name != "Weather" || len(p.SHA256) != 64 || len(p.Findings) != 0 {
			t.Errorf("%s: %+v", x.ref, p)
		}
		if len(p.Files) != 2 || p.Files["SKILL.md"] == nil || string(p.Files["a/b.txt"]) != "b" {
			t.Errorf("%s: files %v", x.ref, p.Files)
		}
	}
	found, err := c.Search(t.Context(), "weat", 10)
	if err != nil || len(found) != 2 || found[0].Ref.String() != "@ann/weather" {
		t.Errorf("search: %+v, %v", found, err)
	}
}

// TestFetchFailsWithFaultAndNoFiles: every failure of the registry is a fault.
func TestFetchFailsWithFaultAndNoFiles(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	on := func(path string, handle http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, path) {
				handle(w, r)
				return true
			}
			return false
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
	}
	sends := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for junk := bytes.Repeat([]byte("PK"), 16<<10); r.Context().Err() == nil; {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	}
	truncated := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write([]byte("PK\x03\x04"))
	}
	for name, c := range map[string]struct {
		change    func(*skilltest.Version)
		intercept func(http.ResponseWriter, *http.Request) bool
		want      fault.Code
	}{
		"wrong hash": {change: func(v *skilltest.Version) { v.Checksum = strings.Repeat("0", 64) }, want: fault.Upstream},
		"traversal": {change: func(v *skilltest.Version) {
			v.Archive = skilltest.Zip(t, map[string][]byte{"SKILL.md": nil, "../../x": nil})
		}, want: fault.Invalid},
		"absolute": {change: func(v *skilltest.Version) { v.Archive = skilltest.Zip(t, map[string][]byte{"/etc/x": nil}) }, want: fault.Invalid},
		"link":     {change: func(v *skilltest.Version) { v.Archive = skilltest.ZipWithLink(t, "/etc/passwd") }, want: fault.Invalid},
		"bomb": {change: func(v *skilltest.Version) {
			v.Archive = skilltest.Zip(t, map[string][]byte{"SKILL.md": make([]byte, 1<<20)})
		}, want: fault.Invalid},
		"many bombs": {change: func(v *skilltest.Version) {
			v.Archive = skilltest.Zip(t, map[string][]byte{"SKILL.md": make([]byte, 40<<20)})
		}, want: fault.Invalid},
		"no zip":            {change: func(v *skilltest.Version) { v.Archive = []byte("hello") }, want: fault.Upstream},
		"cut zip":           {change: func(v *skilltest.Version) { v.Archive = v.Archive[:len(v.Archive)/2] }, want: fault.Upstream},
		"malware":           {change: func(v *skilltest.Version) { v.Malware = true }, want: fault.Forbidden},
		"blocked":           {change: func(v *skilltest.Version) { v.Verdict = "blocked" }, want: fault.Forbidden},
		"truncated":         {intercept: on("/download", truncated), want: fault.Upstream},
		"slow archive":      {intercept: on("/download", slow), want: fault.UpstreamTimeout},
		"slow detail":       {intercept: on("/weather", slow), want: fault.UpstreamTimeout},
		"endless":           {intercept: on("/download", endless), want: fault.Upstream},
		"endless detail":    {intercept: on("/weather", endless), want: fault.Upstream},
		"500 archive":       {intercept: on("/download", status(500)), want: fault.Upstream},
		"500 detail":        {intercept: on("/weather", status(500)), want: fault.Upstream},
		"500 verdict":       {intercept: on("/security-verdicts", status(500)), want: fault.Upstream},
		"429":               {intercept: on("/install", status(429)), want: fault.Upstream},
		"403":               {intercept: on("/download", status(403)), want: fault.Forbidden},
		"gone":              {intercept: on("/download", status(410)), want: fault.NotFound},
		"no such skill":     {intercept: on("/weather", status(404)), want: fault.NotFound},
		"null skill":        {intercept: on("/weather", sends(`{"skill":null}`)), want: fault.NotFound},
		"HTML":              {intercept: on("/weather", sends("<html>")), want: fault.Upstream},
		"another's verdict": {intercept: on("/security-verdicts", sends(`{"items":[{"ok":true,"decision":"pass","slug":"other"}]}`)), want: fault.Upstream},
		"no verdicts":       {intercept: on("/security-verdicts", sends(`{"items":[]}`)), want: fault.Upstream},
		"ambiguous":         {intercept: on("/install", sends(`{"ok":false,"reason":"ambiguous_slug"}`)), want: fault.Conflict},
		"not installable":   {intercept: on("/install", sends(`{"ok":false,"reason":"hidden"}`)), want: fault.Forbidden},
		"no version":        {intercept: on("/install", sends(`{"ok":true,"installKind":"archive","archive":{"downloadUrl":"/x"}}`)), want: fault.Upstream},
		"evil version":      {intercept: on("/install", sends(`{"ok":true,"installKind":"archive","archive":{"version":"../1","downloadUrl":"/x"}}`)), want: fault.Upstream},
		"http elsewhere":    {intercept: on("/install", sends(`{"ok":true,"installKind":"archive","archive":{"version":"1.0.0","downloadUrl":"http://192.0.2.1/x"}}`)), want: fault.Upstream},
		"file address":      {intercept: on("/install", sends(`{"ok":true,"installKind":"archive","archive":{"version":"1.0.0","downloadUrl":"file:///etc/passwd"}}`)), want: fault.Upstream},
		"floating source":   {intercept: on("/install", sends(`{"ok":true,"installKind":"github","github":{"repo":"a/b","commit":"main"}}`)), want: fault.Upstream},
		"loop": {intercept: on("/download", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}), want: fault.Upstream},
	} {
		t.Run(name, func(t *testing.T) {
			r := skilltest.NewRegistry(t)
			v := weatherSkill(t)
			if c.change != nil {
				c.change(&v)
			}
			r.Publish(v)
			r.Intercept(c.intercept)
			p, err := newClient(t, r).Fetch(t.Context(), clawhub.Ref{Slug: "weather"}, "")
			if !fault.Is(err, c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if p.Files != nil {
				t.Errorf("files were returned: %v", p.Files)
			}
			if err != nil && strings.Contains(err.Error(), "reg-token") {
				t.Error("the error contains the token")
			}
		})
	}
	t.Run("down", func(t *testing.T) {
		c, err := clawhub.New(clawhub.Settings{Settings: fetch.Settings{BaseURL: "http://127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Search(t.Context(), "x", 1); !fault.Is(err, fault.Upstream) {
			t.Errorf("error %v", err)
		}
	})
}

func TestFetchReportsFindingsOfTheRegistry(t *testing.T) {
	for name, change := range map[string]func(*skilltest.Version){
		"registry-verdict": func(v *skilltest.Version) { v.Suspicious = true },
		"no-checksum":      func(v *skilltest.Version) { v.Checksum = "none" },
	} {
		r := skilltest.NewRegistry(t)
		v := weatherSkill(t)
		change(&v)
		r.Publish(v)
		p, err := newClient(t, r).Fetch(t.Context(), clawhub.Ref{Slug: "weather"}, "")
		if err != nil || len(p.Findings) != 1 || p.Findings[0].Rule != name {
			t.Errorf("%s: %+v, %v", name, p.Findings, err)
		}
	}
	r := skilltest.NewRegistry(t)
	v := weatherSkill(t)
	v.Checksum = "none"
	r.Publish(v)
	strict, err := clawhub.New(clawhub.Settings{Settings: fetch.Settings{BaseURL: r.URL}, RequireChecksum: true})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := strict.Fetch(t.Context(), clawhub.Ref{Slug: "weather"}, ""); !fault.Is(err, fault.Upstream) || p.Files != nil {
		t.Errorf("an archive without the required checksum: %v", err)
	}
}

func TestParseRefRefusesInvalidNames(t *testing.T) {
	for _, bad := range []string{"", "@", "a/b/c", "@a/", "../x", "a b", "@/x", "-a", "ä", strings.Repeat("a", 200)} {
		if ref, err := clawhub.ParseRef(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v, %v", bad, ref, err)
		}
	}
}

func FuzzUnzip(f *testing.F) {
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := clawhub.Unzip(data)
		if err != nil && (files != nil || !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.Upstream)) {
			t.Fatalf("%d files, %v", len(files), err)
		}
	})
}
