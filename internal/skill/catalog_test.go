package skill_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/scan"
)

func newCatalog(t *testing.T, dir string) *skill.Catalog {
	t.Helper()
	c, err := skill.NewCatalog(t.Context(), skill.CatalogSettings{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBuiltInSkillsAreComplete: each has a full manifest, no dangerous content and a short
// text that names the tools it needs.
func TestBuiltInSkillsAreComplete(t *testing.T) {
	tools := []string{"read", "write", "edit", "ls", "exec", "process", "web_fetch", "platform__knowledge_search"}
	all := newCatalog(t, "").All()
	if len(all) < 8 {
		t.Errorf("only %d skills", len(all))
	}
	for _, p := range all {
		f, err := skill.ParseFrontmatter(p.Files["SKILL.md"])
		if err != nil {
			t.Error(err)
		}
		if f.Name != p.ID || len(f.Description) > 200 || f.Hidden || len(f.NeedsEnv) > 0 {
			t.Errorf("%s: frontmatter %+v with a description of %d characters", p.ID, f, len(f.Description))
		}
		for _, x := range p.Report.Findings {
			if x.Severity != scan.Info && x.Severity != scan.Low {
				t.Errorf("%s: %+v", p.ID, x)
			}
		}
		if p.Report.Score != scan.MaxScore || p.Author == "" || len(p.Tags) == 0 || len(p.UseCases) < 3 || len(p.EnhancedDescription) < 200 || len(p.Tools) == 0 {
			t.Errorf("%s: score %d, manifest %+v", p.ID, p.Report.Score, p.Manifest)
		}
		for _, tool := range p.Tools {
			if !slices.Contains(tools, tool) {
				t.Errorf("%s needs the tool %s, which no agent has", p.ID, tool)
			}
			if !bytes.Contains(p.Files["SKILL.md"], []byte(strings.TrimSuffix(tool, "s"))) && tool != "read" && tool != "write" && tool != "edit" && tool != "exec" {
				t.Errorf("the SKILL.md of %s does not mention the tool %s", p.ID, tool)
			}
		}
		if len(p.Files["SKILL.md"]) > 8000 {
			t.Errorf("%s: SKILL.md has %d bytes, which use too much of a model's context", p.ID, len(p.Files["SKILL.md"]))
		}
		if p.Files["manifest.yaml"] != nil {
			t.Errorf("%s: the manifest is one of the files for the agent", p.ID)
		}
	}
}

func writeSkill(t *testing.T, dir, folder, id, version string) {
	t.Helper()
	at := filepath.Join(dir, folder)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"SKILL.md":      "---\nname: " + id + "\ndescription: About " + id + ".\n---\nDo it.\n",
		"manifest.yaml": "id: " + id + "\nname: " + id + "\nversion: " + version + "\nauthor: Ops\n",
	} {
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOperatorSkillsAreLoadedOrReported(t *testing.T) {
	dir := t.TempDir()
	writeSkill(t, dir, "a-invoices", "invoices", "1.0.0")
	writeSkill(t, dir, "b-twice", "invoices", "2.0.0")
	writeSkill(t, dir, "c-own-search", "web-search", "9.0.0")
	writeSkill(t, dir, "d-bad", "bad", "one")
	writeSkill(t, dir, "e-unknown", "unknown", "1.0.0")
	writeSkill(t, dir, "f-link", "link", "1.0.0")
	writeSkill(t, dir, ".hidden", "hidden", "1.0.0")
	writeSkill(t, dir, "a-invoices/.git", "history", "1.0.0") // files of version control are no part of a skill
	if err := os.WriteFile(filepath.Join(dir, "e-unknown", "manifest.yaml"), []byte("id: unknown\nversion: 1.0.0\nvresion: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "f-link", "x")); err != nil {
		t.Fatal(err)
	}
	c := newCatalog(t, dir)
	if p, ok := c.Find("invoices"); !ok || p.Version != "1.0.0" || p.Source != "operator" {
		t.Errorf("invoices: %+v", p.Manifest)
	}
	if p, _ := c.Find("invoices"); len(p.Files) != 1 {
		t.Errorf("files of invoices: %v", slices.Sorted(maps.Keys(p.Files)))
	}
	if p, _ := c.Find("web-search"); p.Version != "9.0.0" {
		t.Errorf("the operator's own web-search: %s", p.Version)
	}
	folders := []string{}
	for _, p := range c.Problems() {
		folders = append(folders, p.Folder)
		if p.Message == "" {
			t.Errorf("no message for %s", p.Folder)
		}
	}
	if !slices.Equal(folders, []string{"b-twice", "d-bad", "e-unknown", "f-link"}) {
		t.Errorf("problems: %+v", c.Problems())
	}
	if _, err := skill.NewCatalog(t.Context(), skill.CatalogSettings{Dir: filepath.Join(dir, "none"), Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a directory that does not exist is no error")
	}
}

func TestCatalogFollowsOperatorDirectory(t *testing.T) {
	dir := t.TempDir()
	c := newCatalog(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	version := func() string { p, _ := c.Find("invoices"); return p.Version }
	waitForVersion := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); version() != want; {
			if time.Now().After(deadline) {
				t.Fatalf("version %q, want %q", version(), want)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	writeSkill(t, dir, "invoices", "invoices", "1.0.0")
	waitForVersion("1.0.0")
	writeSkill(t, dir, "invoices", "invoices", "1.1.0")
	waitForVersion("1.1.0")
	if err := os.RemoveAll(filepath.Join(dir, "invoices")); err != nil {
		t.Fatal(err)
	}
	waitForVersion("")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// runNode runs a helper script of a skill as an agent does. node is installed: it comes
// with npm, which the agent runtime needs.
func runNode(t *testing.T, dir, id, script string, args ...string) string {
	t.Helper()
	p, ok := newCatalog(t, "").Find(id)
	if !ok {
		t.Fatalf("no skill %s", id)
	}
	at := filepath.Join(dir, filepath.Base(script))
	if err := os.WriteFile(at, p.Files[script], 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", append([]string{at}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "failed: " + string(out)
	}
	return string(out)
}

func TestCSVHelperOfCSVAnalysis(t *testing.T) {
	dir := t.TempDir()
	data := "\uFEFFdate;region;amount;note\r\n2026-01-03;EU;\"1.234,50\";\"a;b\"\r\n2026-01-09;US;10,10;\"say \"\"hi\"\"\nthere\"\r\n2026-02-01;EU;0,40;\r\n2026-02-01;EU;n/a;x;y\r\n"
	if err := os.WriteFile(filepath.Join(dir, "s.csv"), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"profile", "s.csv", "--decimal", ","}, []string{"rows: 4   columns: 4   separator: ;", "| amount | mixed (1 text) | 0 | 4 | 0.4 | 1234.5 | 415 |", "warning: 1 rows do not have 4 fields, the first is row 5"}},
		{[]string{"head", "s.csv", "--rows", "2"}, []string{`| 2026-01-09 | US | 10,10 | say "hi" there |`}},
		{[]string{"query", "s.csv", "--decimal", ",", "--by", "date:month,region", "--agg", "count,sum:amount", "--sort", "-sum:amount"}, []string{"skipped for sum:amount: 1", "| 2026-01 | EU | 1 | 1234.5 |\n| 2026-01 | US | 1 | 10.1 |\n| 2026-02 | EU | 2 | 0.4 |"}},
		{[]string{"query", "s.csv", "--where", "region = EU", "--where", "date >= 2026-02-01", "--select", "date"}, []string{"matching: 2"}},
		{[]string{"dupes", "s.csv", "--by", "date,region"}, []string{"| 2026-02-01 | EU | 2 | 4 5 |"}},
		{[]string{"query", "s.csv", "--by", "nope"}, []string{"failed: error: there is no column nope; the columns are: date, region, amount, note"}},
		{[]string{"query", "s.csv", "--out", "s.csv"}, []string{"failed: error: EEXIST"}},
		{[]string{"constructor", "s.csv"}, []string{"failed: error: usage"}},
	} {
		got := runNode(t, dir, "csv-analysis", "scripts/csv.mjs", c.args...)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%v: want %q in\n%s", c.args, want, got)
			}
		}
	}
}

func TestReportsHelperOfScheduledReports(t *testing.T) {
	dir := t.TempDir()
	definitions := filepath.Join(dir, "reports", "definitions")
	if err := os.MkdirAll(definitions, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"weekly": "---\nname: weekly\nevery: week # note\non: monday\nat: \"08:30\"\ntimezone: Europe/Berlin\n---\n",
		"end":    "---\nevery: month\non: last\n---\n",
		"bad":    "---\nevery: year\n---\n",
	} {
		if err := os.WriteFile(filepath.Join(definitions, name+".md"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ command, at, want string }{
		{"list", "2026-03-01T10:00:00Z", "weekly: every week on monday, last never, next 2026-03-02 08:30 Europe/Berlin"},
		{"due", "2026-03-02T07:29:00Z", "nothing is due; next: weekly at 2026-03-02 08:30 Europe/Berlin"},
		{"due", "2026-03-02T07:30:01Z", "due: weekly"},
		{"done weekly", "2026-03-02T07:31:00Z", "next: 2026-03-09 08:30 Europe/Berlin"},
		{"due", "2026-03-02T07:40:00Z", "nothing is due"},
		{"due", "2026-03-30T06:29:00Z", "due: weekly (since 2026-03-23 08:30 Europe/Berlin)"}, // clocks changed on the 29th
		{"due", "2026-04-01T07:40:00Z", "due: end (since 2026-03-31 08:00 UTC)"},
		{"due", "2026-04-01T07:40:00Z", "broken: bad: every must be day, weekday, week or month"},
		{"done none", "2026-04-01T07:40:00Z", "failed: error: there is no report none"},
	} {
		args := append(strings.Fields(c.command), "--now", c.at)
		if got := runNode(t, dir, "scheduled-reports", "scripts/reports.mjs", args...); !strings.Contains(got, c.want) {
			t.Errorf("%s at %s: want %q in\n%s", c.command, c.at, c.want, got)
		}
	}
}
