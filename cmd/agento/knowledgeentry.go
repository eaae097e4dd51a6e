package main

import (
	"context"
	"fmt"
	"path/filepath"

	"agento.host/agento/client"
)

type knowledgeBases struct{ remote }

// Run lists the knowledge bases of the account.
func (c knowledgeBases) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	all, err := api.KnowledgeBases(ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, b := range all {
		rows[i] = map[string]any{"entries": b.Entries, "bytes": b.Bytes}
		switch {
		case b.AgentID != nil:
			rows[i]["agent"] = *b.AgentID
		case b.SwarmID != nil:
			rows[i]["swarm"] = *b.SwarmID
		}
	}
	return t.table(rows, "agent", "swarm", "entries", "bytes")
}

type knowledgeSources struct{ knowledgeOwner }

// Run lists the sources of a knowledge base.
func (c knowledgeSources) Run(ctx context.Context, t *terminal) error {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	all := []client.KnowledgeSource{}
	for q := (client.KnowledgeQuery{Limit: maxPage}); ; {
		page, err := api.KnowledgeSources(ctx, target, q)
		if err != nil {
			return err
		}
		all = append(all, page.Data...)
		if !page.Pagination.HasMore || page.Pagination.NextOffset == nil {
			break
		}
		q.Offset = *page.Pagination.NextOffset
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"source": s.Source, "entries": s.Entries}
	}
	return t.table(rows, "source", "entries")
}

type knowledgeShow struct {
	knowledgeOwner
	ID string `arg:"" help:"Id of the entry."`
}

// Run shows an entry.
func (c knowledgeShow) Run(ctx context.Context, t *terminal) error {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	e, err := api.KnowledgeEntry(ctx, target, c.ID)
	if err != nil {
		return err
	}
	return describeEntry(t, e)
}

func describeEntry(t *terminal, e client.KnowledgeDetails) error {
	fields := []field{{"id", e.ID}}
	for _, s := range e.Sources {
		fields = append(fields, field{"source", s.Source})
	}
	return t.describe(e, append(fields, field{"stored", e.CreatedAt.Time}, field{"changed", e.UpdatedAt.Time}, field{"text", e.Text})...)
}

type knowledgeEdit struct {
	knowledgeOwner
	ID     string `arg:"" help:"Id of the entry."`
	Text   string `help:"File with its new text; - is standard input." type:"path"`
	Source string `help:"Its new first source."`
}

// Run changes an entry.
func (c knowledgeEdit) Run(ctx context.Context, t *terminal) error {
	var in client.KnowledgeChange
	if c.Text != "" {
		text, err := (&inputs{in: t.in}).file(c.Text)
		if err != nil {
			return err
		}
		in.Text = &text
	}
	if c.Source != "" {
		in.Source = &c.Source
	}
	if in.Text == nil && in.Source == nil {
		return usageError("say what to change: --text, --source")
	}
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	e, err := api.EditKnowledge(ctx, target, c.ID, in)
	if err != nil {
		return err
	}
	return describeEntry(t, e)
}

type knowledgeUpload struct {
	knowledgeOwner
	Path    string `arg:"" help:"File: txt, md, html, pdf, docx, csv, json." type:"path"`
	Source  string `help:"Source of the entries. Default: the name of the file."`
	Replace bool   `help:"Replace what the knowledge base has of the same source."`
	DryRun  bool   `help:"Change nothing, and say what would be stored."`
}

// Run sends a file.
func (c knowledgeUpload) Run(ctx context.Context, t *terminal) error {
	content, err := readImport(t, importFile{path: c.Path})
	if err != nil {
		return err
	}
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	done, err := api.IngestFile(ctx, target, content, client.FileIngest{FileName: filepath.Base(c.Path), Source: c.Source, ReplaceSource: c.Replace, DryRun: c.DryRun})
	if err != nil {
		return err
	}
	result := importResult{Stored: done.Stored, Skipped: done.Skipped, DryRun: c.DryRun}
	if done.Deleted != nil {
		result.Deleted = *done.Deleted
	}
	if !t.json && c.DryRun {
		for _, chunk := range done.Chunks {
			if chunk.Status == "skipped" && chunk.Text != nil && chunk.MatchedSource != nil {
				t.progress("chunk %d is in %s already (%s)", chunk.Index+1, escapeLine(*chunk.MatchedSource), valueOf(chunk.Reason))
			}
		}
	}
	return t.print(done, fmt.Sprintf("%s: %s", escapeLine(done.Source), result.words()))
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
