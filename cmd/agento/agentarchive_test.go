package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallArchive is the smallest archive of an agent.
func smallArchive(t *testing.T, config string) string {
	t.Helper()
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	for _, m := range [][2]string{
		{"manifest.json", `{"format":"agento-agent","version":1,"exportedAt":"2026-01-02T03:04:05Z","by":"test","agent":{"name":"Ada","region":"eu","avatarUrl":"","config":` + config + `,"secrets":[]}}`},
		{"documents/000001.jsonl", `{"document":"SOUL.md","version":1,"content":"Be.","deleted":false,"setAside":false,"restoredFrom":0,"at":"2026-01-02T03:04:05Z"}` + "\n"},
		{"end.json", `{"documents":1,"skills":0,"knowledge":0,"sessions":0,"messages":0,"damaged":2}`},
	} {
		if err := w.WriteHeader(&tar.Header{Name: m[0], Typeflag: tar.TypeReg, Size: int64(len(m[1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAgentsExport(t *testing.T) {
	s, archive := newStub(t), smallArchive(t, `{}`)
	broken := false
	var query string
	s.mux.HandleFunc("GET /v1/agents/"+ada+"/export", func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		if broken {
			_, _ = io.WriteString(w, archive[:len(archive)/2])
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, archive)
	})
	dir := t.TempDir()
	t.Chdir(dir)
	name := "agent-" + ada + ".tar.gz"
	r := command(t, "", "agents", "export", ada, "--without", "skills,sessions")
	if r.code != 0 || r.out != name+"\n" || !strings.Contains(r.err, "versions of documents: 1") || !strings.Contains(r.err, "damaged and left out: 2") || query != "without=skills%2Csessions" {
		t.Errorf("%+v, %s", r, query)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if r := command(t, "", "agents", "export", ada); r.code != 4 || !strings.Contains(r.err, "exists already") {
		t.Errorf("a file that exists: %+v", r)
	}
	r = command(t, "", "agents", "export", ada, "-o", filepath.Join(dir, "b.tar.gz"), "--json")
	var written struct {
		File       string
		Importable bool
		Documents  int
	}
	if err := json.Unmarshal([]byte(r.out), &written); err != nil || !strings.HasSuffix(written.File, "b.tar.gz") || written.Documents != 1 || !written.Importable {
		t.Errorf("%+v, %v", r, err)
	}
	if r := command(t, "", "agents", "export", ada, "-o", "-"); r.code != 0 || r.out != archive {
		t.Errorf("to standard output: %d, %d bytes", r.code, len(r.out))
	}
	if r := command(t, "", "agents", "export", ada, "--without", "secrets"); r.code != 2 {
		t.Errorf("%+v", r)
	}
	broken = true
	if r := command(t, "", "agents", "export", ada, "-o", "c.tar.gz"); r.code != 1 {
		t.Errorf("an export that breaks off: %+v", r)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".agento*"))
	if err != nil || len(left) != 2 || len(hidden) != 0 {
		t.Errorf("left: %v %v, %v", left, hidden, err)
	}
}

func TestAgentsImport(t *testing.T) {
	s, archive := newStub(t), smallArchive(t, `{}`)
	var contentType, query string
	s.mux.HandleFunc("POST /v1/agents/import", func(w http.ResponseWriter, r *http.Request) {
		contentType, query = r.Header.Get("Content-Type"), r.URL.RawQuery
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"data":{"id":"`+ada+`","name":"Copy","status":"stopped","needsKey":true,"secrets":["openaiApiKey"],"imported":{"documents":1}}}`)
	})
	s.on("PUT /v1/agents/"+ada+"/secrets", `{"data":{"updated":true}}`)
	s.on("POST /v1/agents/"+ada+"/start", `{"data":{"id":"`+ada+`","status":"running"}}`)
	file := filepath.Join(t.TempDir(), "a.tar.gz")
	if err := os.WriteFile(file, []byte(archive), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "agents", "import", file, "--name", "Copy", "--without", "sessions")
	if r.code != 0 || r.out != ada+"\n" || !strings.Contains(r.err, "agento agents secrets set "+ada) || !strings.Contains(r.err, "had openaiApiKey") || contentType != "application/gzip" || query != "name=Copy&without=sessions" {
		t.Errorf("%+v, %s, %s", r, contentType, query)
	}
	t.Setenv("MY_KEY", "sk-ant-mine")
	r = command(t, archive, "agents", "import", "-", "--secret", "anthropicApiKey=env:MY_KEY", "--start", "--json")
	if r.code != 0 || !strings.Contains(r.out, `"running"`) || strings.Contains(r.out+r.err, "sk-ant-mine") || !strings.Contains(strings.Join(s.asked, "\n"), `"sk-ant-mine"`) {
		t.Errorf("%+v", r)
	}
	s.changes()
	elsewhere := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := os.WriteFile(elsewhere, []byte(smallArchive(t, `{"baseUrl":"https://collector.example/v1"}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{"", "n\n"} {
		if r := command(t, no, "agents", "import", elsewhere, "--secret", "anthropicApiKey=env:MY_KEY"); r.code != 4 || !strings.Contains(r.err, "https://collector.example/v1") || s.changes() != "" {
			t.Errorf("a key for another address: %+v", r)
		}
	}
	if r := command(t, "", "agents", "import", elsewhere, "--secret", "anthropicApiKey=env:MY_KEY", "--yes"); r.code != 0 || !strings.Contains(s.changes(), "sk-ant-mine") {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		args  []string
		stdin string
		code  int
		says  string
	}{
		{[]string{file + "x"}, "", 3, "there is no file"},
		{[]string{"-"}, "not an archive", 2, "is no archive"},
		{[]string{"-", "--secret", "A=-"}, "x", 2, "can be read once"},
		{[]string{file, "--without", "documents"}, "", 2, "--without must name"},
		{[]string{file, "--secret", "anthropicApiKey=sk-ant-mine"}, "", 2, ""},
	} {
		if r := command(t, c.stdin, append([]string{"agents", "import"}, c.args...)...); r.code != c.code || !strings.Contains(r.err, c.says) || r.out != "" {
			t.Errorf("%v: %+v", c.args, r)
		}
	}
}

// TestImportedTextsAreMarked: history and sessions say what was imported.
func TestImportedTextsAreMarked(t *testing.T) {
	s := newStub(t)
	s.on("GET /v1/agents/"+ada+"/chat/messages", `{"data":[{"id":"msg_a_1","role":"user","content":"Hi","timestamp":"2026-01-02T03:04:05Z","imported":true},{"id":"msg_b_2","role":"user","content":"Hello","timestamp":"2026-01-02T03:04:05Z"}],"pagination":{"total":2}}`)
	s.on("GET /v1/agents/"+ada+"/chat/sessions", `{"data":[{"id":"sess_a","name":"old","channel":"api","startedAt":"2026-01-02T03:04:05Z","imported":true}],"pagination":{"total":1}}`)
	if r := command(t, "", "history", ada); r.code != 0 || !strings.Contains(r.out, "ago, imported:\nHi") || strings.Contains(r.out, "imported:\nHello") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "sessions", "list", ada); r.code != 0 || !strings.Contains(r.out, "IMPORTED") || !strings.Contains(r.out, "yes") {
		t.Errorf("%+v", r)
	}
}
