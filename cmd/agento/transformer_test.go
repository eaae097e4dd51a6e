package main

import (
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/knowledge/embed/transformer/transformertest"
)

func TestReembedWithTransformer(t *testing.T) {
	dir := transformertest.New(1, 2, 32, 4, 64, transformertest.Words()).Write(t, nil)
	in := newInstallation(t, "acme")
	in.start()
	c := in.client("acme")
	home, err := c.CreateSwarm(t.Context(), client.CreateSwarmRequest{Name: "Readers"})
	if err != nil {
		t.Fatal(err)
	}
	ingest := func(text string) int {
		t.Helper()
		out, err := c.IngestKnowledge(t.Context(), client.KnowledgeIngest{SwarmID: home.ID, Chunks: []client.KnowledgeChunk{{Text: text, Source: "test"}}}, client.IngestOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return out.Stored
	}
	ingest("Refunds are paid within 14 days.")
	if out := in.run("knowledge", "reembed", "--embedder=transformer", "--embedder-dir", dir); !strings.Contains(out, "embedded 1 entry with transformer/tiny-bert/32/") {
		t.Errorf("reembed printed %q", out)
	}
	in.stop()

	t.Setenv("AGENTO_EMBEDDER", "transformer")
	t.Setenv("AGENTO_EMBEDDER_DIR", dir)
	in.start()
	c = in.client("acme")
	if ingest("Refunds  are paid within 14 days.") != 0 || ingest("The new hotel is in the city.") != 1 {
		t.Error("deduplication does not use the vectors of the transformer")
	}
	in.stop()
}

func TestReembedNamesMissingTransformerDirectory(t *testing.T) {
	in := newInstallation(t)
	none := filepath.Join(in.data, "none")
	out, err := in.program("knowledge", "reembed", "--embedder=transformer", "--embedder-dir", none).CombinedOutput()
	if err == nil || !strings.Contains(string(out), none) {
		t.Errorf("%v\n%s", err, out)
	}
}
