package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"agento.host/agento/client"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/vault"
)

type knowledgeCommand struct {
	Add     knowledgeAdd     `cmd:"" help:"Add texts to a knowledge base."`
	Search  knowledgeSearch  `cmd:"" help:"Search a knowledge base."`
	Reembed knowledgeReembed `cmd:"" help:"Embed every entry with another model. The server may be running, and the command can be interrupted and repeated."`
}

// knowledgeOwner names the agent or swarm that the knowledge belongs to.
type knowledgeOwner struct {
	Agent string `help:"Id of the agent." xor:"owner" required:""`
	Swarm string `help:"Id of the swarm." xor:"owner" required:""`
}

type knowledgeAdd struct {
	remote
	knowledgeOwner
	Source string `help:"Source of the text." required:""`
	File   string `arg:"" help:"File with the text. Each paragraph becomes an entry. - is standard input." type:"existingfile"`
}

// Run adds a file, with one entry per paragraph.
func (c knowledgeAdd) Run(ctx context.Context, t *terminal) error {
	text, err := readAll(c.File)
	if err != nil {
		return err
	}
	var total client.KnowledgeIngested
	for _, part := range paragraphs(text) {
		in := client.KnowledgeIngest{AgentID: c.Agent, SwarmID: c.Swarm}
		for _, p := range part {
			in.Chunks = append(in.Chunks, client.KnowledgeChunk{Text: p, Source: c.Source})
		}
		done, err := c.client().IngestKnowledge(ctx, in, client.IngestOptions{})
		if err != nil {
			return err
		}
		total.Stored, total.Skipped, total.Total = total.Stored+done.Stored, total.Skipped+done.Skipped, total.Total+done.Total
	}
	return t.print(total, fmt.Sprintf("stored %d, skipped %d", total.Stored, total.Skipped))
}

func readAll(path string) (string, error) {
	if path == "-" {
		text, err := io.ReadAll(os.Stdin)
		return string(text), err
	}
	text, err := os.ReadFile(path)
	return string(text), err
}

type knowledgeSearch struct {
	remote
	knowledgeOwner
	Question string `arg:"" help:"Question."`
}

// Run prints the entries that answer the question.
func (c knowledgeSearch) Run(ctx context.Context, t *terminal) error {
	found, err := c.client().SearchKnowledge(ctx, client.KnowledgeTarget{AgentID: c.Agent, SwarmID: c.Swarm}, c.Question, 0)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found)
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(t.out, "%.2f %-6s %s\n  %s\n", f.Score, f.Reason, f.Source, f.Text); err != nil {
			return err
		}
	}
	return nil
}

type knowledgeReembed struct {
	vaultFlags
	embedderFlags
	DropOld bool `help:"Delete the vectors of all other models when every entry has a new one."`
}

// Run embeds the entries that have no vector of the model yet.
func (c knowledgeReembed) Run(ctx context.Context, t *terminal) error {
	in := admin.Reembed{
		Embedder: c.Embedder, URL: c.EmbedderURL, Model: c.EmbedderModel, Size: c.EmbedderSize, Batch: c.EmbedderBatch, Dir: c.EmbedderDir, DropOld: c.DropOld,
	}
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		done, err := api.Reembed(ctx, in, func(p admin.Reembedded) { _, _ = fmt.Fprintf(t.err, "%d of %d\n", p.Done, p.Total) })
		if err != nil {
			return err
		}
		return t.print(done, fmt.Sprintf("embedded %d entries with %s", done.Done, done.Embedder))
	})
}

// reembed returns what embeds the knowledge in a database.
func reembed(db *database.DB, events *event.Log, secrets *vault.Installation) func(context.Context, admin.Reembed, func(admin.Reembedded)) (admin.Reembedded, error) {
	return func(ctx context.Context, in admin.Reembed, progress func(admin.Reembedded)) (admin.Reembedded, error) {
		flags := embedderFlags{Embedder: in.Embedder, EmbedderURL: in.URL, EmbedderModel: in.Model, EmbedderSize: in.Size, EmbedderBatch: in.Batch, EmbedderDir: in.Dir}
		proxy, err := netguard.ProxyFromEnvironment()
		if err != nil {
			return admin.Reembedded{}, err
		}
		embedder, err := flags.embedder(newDependencies(), netguard.Guard{Proxy: proxy}, secrets)
		if err != nil {
			return admin.Reembedded{}, err
		}
		result := func(r knowledge.ReembedProgress) admin.Reembedded {
			return admin.Reembedded{Embedder: embedder.Name(), Done: r.Done, Total: r.Total}
		}
		base := knowledge.New(knowledge.Settings{DB: db, Events: events, Embedder: embedder, Log: slog.New(slog.DiscardHandler)})
		done, err := base.Reembed(ctx, embedder, func(r knowledge.ReembedProgress) { progress(result(r)) })
		if err == nil && in.DropOld {
			err = dropOtherModels(ctx, base, embedder.Name())
		}
		return result(done), err
	}
}

func dropOtherModels(ctx context.Context, base *knowledge.Service, keep string) error {
	models, err := base.Models(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.Model == keep {
			continue
		}
		if err := base.DropModel(ctx, m.Model); err != nil {
			return err
		}
	}
	return nil
}
