package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"agento.host/agento/client"
)

// embeddings is a fake embedding service that requires an API key.
type embeddings struct {
	*httptest.Server
	key atomic.Pointer[string] // the Authorization header that it requires
}

func newEmbeddings(t *testing.T) *embeddings {
	t.Helper()
	e := &embeddings{}
	e.require("")
	e.Server = httptest.NewServer(http.HandlerFunc(e.answer))
	t.Cleanup(e.Close)
	return e
}

func (e *embeddings) require(authorization string) { e.key.Store(&authorization) }

func (e *embeddings) answer(w http.ResponseWriter, r *http.Request) {
	if strings.Join(r.Header.Values("Authorization"), ",") != *e.key.Load() {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in struct {
		Input []string `json:"input"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	rows := make([]string, len(in.Input))
	for i, text := range in.Input {
		rows[i] = fmt.Sprintf(`{"index":%d,"embedding":[%d,1,1]}`, i, len(text))
	}
	_, _ = fmt.Fprintf(w, `{"data":[%s]}`, strings.Join(rows, ","))
}

// setSecret sets a secret of the installation while the server runs.
func (in *installation) setSecret(name, value string) {
	in.t.Helper()
	cmd := in.program("installation", "secrets", "set", name)
	cmd.Stdin = strings.NewReader(value + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		in.t.Fatalf("agento installation secrets set %s: %v\n%s", name, err, out)
	}
}

func TestEmbedderKeyChangesWithoutRestart(t *testing.T) {
	service := newEmbeddings(t)
	t.Setenv("AGENTO_EMBEDDER", "openai")
	t.Setenv("AGENTO_EMBEDDER_URL", service.URL)
	t.Setenv("AGENTO_EMBEDDER_MODEL", "test-model")
	t.Setenv("AGENTO_EMBEDDER_SIZE", "3")
	in := newInstallation(t, "acme")
	in.start()
	c := in.client("acme")
	home, err := c.CreateSwarm(t.Context(), client.CreateSwarmRequest{Name: "Readers"})
	if err != nil {
		t.Fatal(err)
	}
	ingest := func(text string) error {
		_, err := c.IngestKnowledge(t.Context(), client.KnowledgeIngest{SwarmID: home.ID, Chunks: []client.KnowledgeChunk{{Text: text, Source: "test"}}}, client.IngestOptions{})
		return err
	}

	if err := ingest("Stored without a key."); err != nil {
		t.Fatal(err)
	}
	for day, key := range []string{"placeholder-one", "placeholder-two"} {
		service.require("Bearer " + key)
		if err := ingest("Refused, since the service has another key."); !client.IsCode(err, "upstream_error") || strings.Contains(err.Error(), "placeholder-") {
			t.Fatalf("with a wrong key: %v", err)
		}
		in.setSecret("EMBEDDER_API_KEY", key)
		if err := ingest(fmt.Sprintf("Stored with the key of day %d.", day)); err != nil {
			t.Fatal(err)
		}
	}

	if out := in.run("knowledge", "reembed", "--embedder-model=other-model"); !strings.Contains(out, "embedded 3 entries") {
		t.Errorf("reembed printed %q", out)
	}
	in.run("installation", "secrets", "delete", "--yes", "EMBEDDER_API_KEY")
	service.require("")
	if err := ingest("Stored without a key again."); err != nil {
		t.Fatal(err)
	}
	in.setSecret("EMBEDDER_API_KEY", "placeholder-three")
	checkNotStored(t, in.data, "placeholder-") // includes the WAL of the running server
	in.stop()
	checkNotStored(t, in.data, "placeholder-")
	if strings.Contains(in.logs.String(), "placeholder-") {
		t.Error("the server's log contains a key")
	}
}

// checkNotStored fails the test if a file in the directory contains the value in plain text.
func checkNotStored(t *testing.T, folder, value string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), value) {
			t.Errorf("%s contains the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
