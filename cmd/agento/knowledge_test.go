package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ingests makes the server store every chunk, and returns what it was sent.
func (s *stub) ingests() *[]string {
	var all []string
	s.mux.HandleFunc("POST /v1/knowledge/ingest", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			AgentID       string
			ReplaceSource bool
			Chunks        []struct{ Text, Source string }
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.AgentID != ada {
			s.t.Errorf("%+v, %v", in, err)
		}
		for _, c := range in.Chunks {
			all = append(all, c.Source+": "+c.Text)
		}
		_, _ = fmt.Fprintf(w, `{"data":{"stored":%d,"skipped":0,"total":%d}}`, len(in.Chunks), len(in.Chunks))
	})
	return &all
}

// writeFiles writes files below a new directory and makes it the current one.
func writeFiles(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestKnowledgeImport(t *testing.T) {
	s := newStub(t).withAgents()
	sent := s.ingests()
	s.on("DELETE /v1/knowledge", `{"data":{"deleted":true,"count":2}}`)
	writeFiles(t, map[string]string{
		"docs/guide.md": "# Guide\nIntro.\n## Fees\nNone.\n", "docs/sub/faq.csv": "q,a\nWhy?,So.\n", "docs/.git/config.md": "hidden",
		"docs/photo.png": "\x89PNG", "docs/.hidden.md": "hidden", "notes.txt": "one\n\ntwo\n", "empty.md": "\n", "bad.txt": "\xff\xfa",
	})
	if err := os.Symlink("/etc/passwd", "docs/link.txt"); err != nil {
		t.Fatal(err)
	}
	got := command(t, "", "knowledge", "import", "docs", "notes.txt", "--agent", "ada")
	want := []string{"docs/guide.md: Guide\n\nIntro.", "docs/guide.md: Guide › Fees\n\nNone.", "docs/sub/faq.csv: Why?\nSo.", "notes.txt: one", "notes.txt: two"}
	if got.code != 0 || got.out != "stored 5, skipped 0\n" || fmt.Sprintf("%q", *sent) != fmt.Sprintf("%q", want) {
		t.Errorf("%+v\n%q", got, *sent)
	}
	if !strings.Contains(got.err, "2/3 docs/sub/faq.csv: stored 1") || !strings.Contains(got.err, "1 files in docs have no known format") {
		t.Errorf("progress %q", got.err)
	}
	// One bad file does not stop the others; an empty one deletes what it had.
	*sent = nil
	s.changes()
	got = command(t, "", "--json", "knowledge", "import", "bad.txt", "empty.md", "notes.txt", "--agent", "ada", "--replace")
	if got.code != exitFailed || len(*sent) != 2 || !strings.Contains(got.out, `"failed": 1`) || !strings.Contains(got.out, "not UTF-8") || !strings.Contains(got.out, `"deleted": 2`) {
		t.Errorf("%+v\n%q", got, *sent)
	}
	if asked := s.changes(); !strings.Contains(asked, `DELETE /v1/knowledge?agentId=`+ada+`&source=empty.md`) || !strings.Contains(asked, `"replaceSource":true`) {
		t.Errorf("%s", asked)
	}
	if got := command(t, "", "knowledge", "import", "notes.txt", "--agent", "ada", "--dry-run"); !strings.Contains(got.out, "dry run") || !strings.Contains(s.changes(), "dryRun=true") {
		t.Errorf("%+v", got)
	}
	// Standard input needs a name; a path outside does not tell where it is.
	*sent = nil
	if got := command(t, "text", "knowledge", "import", "-", "--agent", "ada"); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
	if got := command(t, "# A\nb\n", "knowledge", "import", "-", "--agent", "ada", "--source", "mail", "--format", "markdown"); got.code != 0 || (*sent)[0] != "mail: A\n\nb" {
		t.Errorf("%+v %q", got, *sent)
	}
	*sent = nil
	absolute, err := filepath.Abs("docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	if got := command(t, "", "knowledge", "import", absolute, "--agent", "ada"); got.code != 0 || !strings.HasPrefix((*sent)[0], "guide.md: ") {
		t.Errorf("%+v %q", got, *sent)
	}
	for args, code := range map[string]int{
		"knowledge import none --agent ada":                                exitNotFound,
		"knowledge import docs":                                            exitUsage,
		"knowledge import docs --agent ada --swarm x":                      exitUsage,
		"knowledge import notes.txt docs --source a --replace --agent ada": exitUsage,
	} {
		if got := command(t, "", strings.Fields(args)...); got.code != code {
			t.Errorf("agento %s: %+v", args, got)
		}
	}
}

// TestKnowledgeImportInSeveralRequests: only the first of a file replaces its source.
func TestKnowledgeImportInSeveralRequests(t *testing.T) {
	s := newStub(t).withAgents()
	sent := s.ingests()
	writeFiles(t, map[string]string{"long.txt": strings.Repeat("a paragraph\n\n", 250)})
	if got := command(t, "", "knowledge", "import", "long.txt", "--agent", "ada", "--replace"); got.code != 0 || len(*sent) != 250 {
		t.Errorf("%+v, %d", got, len(*sent))
	}
	asked := strings.Split(s.changes(), "\n")
	if len(asked) != 3 || !strings.Contains(asked[0], "replaceSource") || strings.Contains(asked[1]+asked[2], "replaceSource") {
		t.Errorf("%d requests", len(asked))
	}
}

func TestKnowledgeExportCanBeImported(t *testing.T) {
	s := newStub(t).withAgents()
	s.mux.HandleFunc("GET /v1/knowledge", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("offset") == "" {
			_, _ = w.Write([]byte(`{"data":[{"id":"1","source":"a.md","text":"one","metadata":{"type":"faq"}}],"pagination":{"hasMore":true,"nextOffset":"next"}}`))
			return
		}
		_, _ = w.Write([]byte(`{"data":[{"id":"2","source":"b.md","text":"two"}],"pagination":{"hasMore":false}}`))
	})
	sent := s.ingests()
	writeFiles(t, nil)
	if got := command(t, "", "knowledge", "export", "--agent", "ada", "-o", "kb.json"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	if got := command(t, "", "knowledge", "export", "--agent", "ada", "-o", "kb.json"); got.code != exitRefused {
		t.Errorf("a file is overwritten: %+v", got)
	}
	if got := command(t, "", "knowledge", "import", "kb.json", "--agent", "ada"); got.code != 0 || fmt.Sprint(*sent) != "[a.md: one b.md: two]" {
		t.Errorf("%+v %q", got, *sent)
	}
}
