package api_test

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/client"
)

// TestKnowledgeFiles: a dry run says what an ingest would do and changes nothing; the ingest
// does it; what is wrong with a file is said.
func TestKnowledgeFiles(t *testing.T) {
	env := newEnv(t, options{})
	owner := env.newAccount("acme", "")
	c, target := owner.client(), client.KnowledgeTarget{AgentID: owner.newAgent("A")}
	ingest := func(name, content string, in client.FileIngest) client.KnowledgeFile {
		t.Helper()
		in.FileName = name
		done, err := c.IngestFile(t.Context(), target, []byte(content), in)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	first := ingest("faq.csv", "question,answer\nHow long?,Three days\nWhere?,Berlin\n", client.FileIngest{})
	if first.Stored != 2 || first.Format != "csv" || first.Source != "faq.csv" || first.Chunks[0].ID == nil || first.Chunks[0].Text != nil {
		t.Errorf("%+v", first)
	}
	again := "# Other\n\nNew.\n\n# FAQ\n\nx\n"
	dry := ingest("more.md", "How long?\nThree days.\n\n"+again, client.FileIngest{DryRun: true})
	if dry.Stored != 2 || dry.Skipped != 1 || !dry.DryRun || *dry.Chunks[0].MatchedText != "How long?\nThree days" || *dry.Chunks[0].MatchedSource != "faq.csv" || *dry.Chunks[1].Text != "Other\n\nNew." || dry.Chunks[1].Metadata["heading"] != "Other" {
		t.Errorf("%+v", dry)
	}
	if list, err := c.Knowledge(t.Context(), target, client.KnowledgeQuery{}); err != nil || len(list.Data) != 2 {
		t.Errorf("after a dry run: %+v, %v", list, err)
	}
	ingest("more.md", again, client.FileIngest{})
	replaced := ingest("more.md", "# Other\n\nNew.\n", client.FileIngest{ReplaceSource: true})
	if replaced.Skipped != 1 || replaced.Deleted == nil || *replaced.Deleted != 1 {
		t.Errorf("%+v", replaced)
	}
	sources, err := c.KnowledgeSources(t.Context(), target, client.KnowledgeQuery{})
	if err != nil || len(sources.Data) != 2 || sources.Data[1] != (client.KnowledgeSource{Source: "more.md", Entries: 1}) {
		t.Errorf("%+v, %v", sources, err)
	}
	for name, want := range map[string]string{
		"a.exe": "known extension", "a.doc": "older Word document", "a.docx": "no Word document", "a.pdf": "PDF", "empty.md": "no text",
	} {
		content := "MZ"
		if name == "empty.md" {
			content = " \n"
		}
		_, err := c.IngestFile(t.Context(), target, []byte(content), client.FileIngest{FileName: name})
		if !client.IsCode(err, "invalid_request") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEditKnowledge: an entry is read, changed and refused as the text of another one.
func TestEditKnowledge(t *testing.T) {
	env := newEnv(t, options{})
	owner := env.newAccount("acme", "")
	c, target := owner.client(), client.KnowledgeTarget{AgentID: owner.newAgent("A")}
	done, err := c.IngestKnowledge(context.Background(), client.KnowledgeIngest{AgentID: target.AgentID, Chunks: []client.KnowledgeChunk{{Text: "Five days.", Source: "a"}, {Text: "In Berlin.", Source: "b"}}}, client.IngestOptions{Explain: true})
	if err != nil {
		t.Fatal(err)
	}
	id, text := *done.Details[0].ID, "Nine days."
	d, err := c.EditKnowledge(t.Context(), target, id, client.KnowledgeChange{Text: &text})
	if err != nil || d.ID != id || d.Text != text || len(d.Sources) != 1 || d.Sources[0].Source != "a" {
		t.Errorf("%+v, %v", d, err)
	}
	if got, err := c.KnowledgeEntry(t.Context(), target, id); err != nil || got.Text != text {
		t.Errorf("%+v, %v", got, err)
	}
	text = "In Berlin"
	if _, err := c.EditKnowledge(t.Context(), target, id, client.KnowledgeChange{Text: &text}); !client.IsCode(err, "conflict") || !strings.Contains(err.Error(), "from b") {
		t.Error(err)
	}
	bases, err := c.KnowledgeBases(t.Context())
	if err != nil || len(bases) != 1 || bases[0].Entries != 2 || *bases[0].AgentID != target.AgentID {
		t.Errorf("%+v, %v", bases, err)
	}
}
