package skill

import (
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/unpack"
)

func TestParseFrontmatter(t *testing.T) {
	for name, c := range map[string]struct {
		yaml string
		want Frontmatter
	}{
		"plain":        {"name: a\ndescription: b", Frontmatter{Name: "a", Description: "b"}},
		"colon":        {"name: a\ndescription: Use it: always", Frontmatter{Name: "a", Description: "Use it: always"}},
		"folded":       {"name: a\ndescription: >\n  two\n  lines", Frontmatter{Name: "a", Description: "two lines"}},
		"hidden":       {"name: a\ndescription: b\ndisable-model-invocation: true", Frontmatter{Name: "a", Description: "b", Hidden: true}},
		"JSON":         {`name: a` + "\ndescription: b\nmetadata: {\"openclaw\": {\"os\": [\"linux\"], \"requires\": {\"env\": [\"X_KEY\"], \"bins\": [\"jq\"]}}}", Frontmatter{Name: "a", Description: "b", NeedsEnv: []string{"X_KEY"}, NeedsBins: []string{"jq"}, OnlyOS: []string{"linux"}}},
		"block":        {"name: a\ndescription: b\nmetadata:\n  {\n    \"openclaw\": { \"requires\": { \"bins\": [\"jq\"], }, },\n  }", Frontmatter{Name: "a", Description: "b", NeedsBins: []string{"jq"}}},
		"string":       {"name: a\ndescription: b\nmetadata: '{\"clawdbot\":{\"requires\":{\"env\":\"A, B\"}}}'", Frontmatter{Name: "a", Description: "b", NeedsEnv: []string{"A", "B"}}},
		"always":       {"name: a\ndescription: b\nmetadata: {openclaw: {always: true, requires: {env: [X]}}}", Frontmatter{Name: "a", Description: "b"}},
		"quoted start": {"name: a\ndescription: \"Quoted\" start then more", Frontmatter{Name: "a", Description: `"Quoted" start then more`}},
		"reserved":     {"name: a\ndescription: @home", Frontmatter{Name: "a", Description: "@home"}},
		"list":         {"name: a\ndescription: [x, y]", Frontmatter{Name: "a", Description: `["x","y"]`}},
		"numbers":      {"name: 123\ndescription: 4.5", Frontmatter{Name: "123", Description: "4.5"}},
		"date":         {"name: true\ndescription: 2026-01-02", Frontmatter{Name: "true", Description: "2026-01-02"}},
		"null":         {"name: a\ndescription: ~", Frontmatter{Name: "a", Description: "~"}},
		"hidden text":  {"name: a\ndescription: b\ndisable-model-invocation: \"true\"", Frontmatter{Name: "a", Description: "b", Hidden: true}},
		"hidden yes":   {"name: a\ndescription: b\ndisable-model-invocation: Yes", Frontmatter{Name: "a", Description: "b", Hidden: true}},
		"hidden maybe": {"name: a\ndescription: b\ndisable-model-invocation: maybe", Frontmatter{Name: "a", Description: "b"}},
		"other fields": {"name: a\ndescription: b\nlicense: {x: [1, 2]}\nallowed-tools: Bash(git:*), Read", Frontmatter{Name: "a", Description: "b"}},
		"summary":      {"name: a\ndescription: b\nsummary: c: d", Frontmatter{Name: "a", Description: "b"}},
		"always text":  {"name: a\ndescription: b\nmetadata: {openclaw: {always: \"yes\", requires: {env: [X]}}}", Frontmatter{Name: "a", Description: "b", NeedsEnv: []string{"X"}}},
		"odd":          {"name: a\ndescription: b\nmetadata: [1, 2]", Frontmatter{Name: "a", Description: "b"}},
		"odd openclaw": {"name: a\ndescription: b\nmetadata: {openclaw: 7}", Frontmatter{Name: "a", Description: "b"}},
	} {
		for _, eol := range []string{"\n", "\r\n"} {
			text := "\uFEFF" + strings.ReplaceAll("---\n"+c.yaml+"\n---\nbody", "\n", eol)
			got, err := ParseFrontmatter([]byte(text))
			if err != nil || got.Name != c.want.Name || got.Description != c.want.Description || got.Hidden != c.want.Hidden ||
				!slices.Equal(got.NeedsEnv, c.want.NeedsEnv) || !slices.Equal(got.NeedsBins, c.want.NeedsBins) || !slices.Equal(got.OnlyOS, c.want.OnlyOS) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	for name, text := range map[string]string{
		"empty": "", "none": "# hello", "open": "---\nname: a\ndescription: b\n", "no name": "---\ndescription: b\n---", "name with colon": "---\nname: a: b\ndescription: c\n---", "no description": "---\nname: a\n---",
		"list": "---\n- a\n---", "twice": "---\nname: a\nname: b\ndescription: c\n---", "tab": "---\n\tname: a\n---", "long": "---\n" + strings.Repeat("x: y\n", 9000) + "---",
		"long name": "---\nname: " + strings.Repeat("a", 65) + "\ndescription: b\n---", "control": "---\nname: \"a\\u0007\"\ndescription: b\n---",
		"alias bomb": "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c]\nname: *d\n---",
	} {
		if f, err := ParseFrontmatter([]byte(text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// TestFrontmatterErrorsNameTheCause: of several problems all are named, each with its line.
func TestFrontmatterErrorsNameTheCause(t *testing.T) {
	for text, want := range map[string]string{
		"name: a\nname: b\ndescription: c": `line 2: mapping key "name" already defined at line 1`,
		"name: a\ndescription: b\nx: y: z": "line 3: mapping values are not allowed in this context; a value with a colon needs quotation marks",
		"- a":                              "not a list of fields",
	} {
		_, err := ParseFrontmatter([]byte("---\n" + text + "\n---"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFrontmatterDeclaresToolsAndHosts(t *testing.T) {
	f, err := ParseFrontmatter([]byte("---\nname: a\ndescription: b\ntools: [web_fetch, exec]\nhosts:\n  - API.Example.com\n  - '*.example.org:8443'\n" +
		"  - https://api.example.com/v1\n  - 203.0.113.7:443\n  - '[2001:db8::1]:443'\n  - localhost\n  - '*'\n  - ftp://example.com\n  - example.com:0\n---\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"web_fetch", "exec"}; !slices.Equal(f.Declared.Tools, want) {
		t.Errorf("tools %q, want %q", f.Declared.Tools, want)
	}
	if want := []string{"api.example.com", "*.example.org:8443", "203.0.113.7:443", "[2001:db8::1]:443"}; !slices.Equal(f.Declared.Hosts, want) {
		t.Errorf("hosts %q, want %q", f.Declared.Hosts, want)
	}
	if found := f.findings(); len(found) != 1 || !strings.HasSuffix(found[0].Message, "localhost, *, ftp://example.com, example.com:0") {
		t.Errorf("findings %+v", found)
	}
	m := Manifest{Version: "1.0.0"}
	m.setDefaults(f)
	if err := m.validate(); err != nil || !slices.Equal(m.Declared().Hosts, f.Declared.Hosts) || !slices.Equal(m.Tools, f.Declared.Tools) {
		t.Errorf("manifest %+v, %v", m, err)
	}
	m.Hosts = []string{"not a host"}
	if err := m.validate(); !fault.Is(err, fault.Invalid) {
		t.Errorf("a manifest with an invalid host: %v", err)
	}
}

func TestVersionsAreSemantic(t *testing.T) {
	for _, v := range []string{"1.2.3", "0.0.0", "1.0.0-rc.1", "1.0.0+build.5", "0.0.0-git-0123456789ab"} {
		if !validVersion(v) {
			t.Errorf("%s is refused", v)
		}
	}
	for _, v := range []string{"", "-", "+", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3 ", "1.2.3-01", strings.Repeat("1", 65)} {
		if validVersion(v) {
			t.Errorf("%q is accepted", v)
		}
	}
	if !newer("1.10.0", "1.9.0") || newer("1.0.0-rc.1", "1.0.0") || newer("1.0.0+b", "1.0.0") {
		t.Error("the order of versions is wrong")
	}
}

func FuzzFrontmatter(f *testing.F) {
	f.Add([]byte("---\nname: a\ndescription: b: c\nmetadata: {\"openclaw\": {\"requires\": {\"bins\": [\"x\"]}}}\n---\nbody"))
	f.Add([]byte("---\nname: *a\n---"))
	f.Add([]byte("\xef\xbb\xbf---\r\nname: 'x'\r\ndescription: |\r\n  y\r\n---"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseFrontmatter(data)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if got.Name == "" || got.Description == "" || strings.ContainsAny(got.Name+got.Description, "\n\r\x00") {
			t.Fatalf("%+v", got)
		}
		_ = got.findings()
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte("id: a\nname: A\nversion: 1.0.0\ntags: [x]\n"))
	f.Add([]byte(`{"id":"a","name":"A","version":"1.0.0"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, strict := range []bool{true, false} {
			m, err := parseManifest(data, strict)
			if err == nil {
				m.setDefaults(Frontmatter{Name: "x", Description: "y"})
				err = m.validate()
			}
			if err != nil && !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			if err == nil && (!idPattern.MatchString(m.ID) || !validVersion(m.Version)) {
				t.Fatalf("%+v", m)
			}
		}
	})
}

func FuzzSlugify(f *testing.F) {
	f.Add("Web Search: für alle!")
	f.Fuzz(func(t *testing.T, s string) {
		slug := slugify(s)
		if slug != "" && (!idPattern.MatchString(slug) || unpack.CheckPath(slug) != nil && slug != "con" && slug != "nul" && slug != "aux" && slug != "prn" && len(slug) != 4) {
			t.Fatalf("the slug of %q is %q", s, slug)
		}
	})
}
