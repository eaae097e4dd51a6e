package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/vault"
)

type knowledgeCommand struct {
	Import  knowledgeImport  `cmd:"" help:"Import files and folders into a knowledge base."`
	List    knowledgeList    `cmd:"" help:"List the entries of a knowledge base."`
	Search  knowledgeSearch  `cmd:"" help:"Search a knowledge base."`
	Upload  knowledgeUpload  `cmd:"" help:"Send a file to the server, which reads it and stores its pieces."`
	Bases   knowledgeBases   `cmd:"" help:"List the knowledge bases of the account with what they have."`
	Sources knowledgeSources `cmd:"" help:"List the sources of a knowledge base."`
	Show    knowledgeShow    `cmd:"" help:"Show an entry with all of its sources."`
	Edit    knowledgeEdit    `cmd:"" help:"Change an entry."`
	Export  knowledgeExport  `cmd:"" help:"Write the entries of a knowledge base as JSON, which import reads."`
	Delete  knowledgeDelete  `cmd:"" help:"Delete entries of a knowledge base."`
	Reembed knowledgeReembed `cmd:"" help:"Embed every entry with another model. The server may be running, and the command can be interrupted and repeated."`
}

// knowledgeOwner names the agent or swarm that the knowledge belongs to.
type knowledgeOwner struct {
	remote
	Agent string `help:"Agent: its name, id or unique beginning of one." xor:"owner" required:""`
	Swarm string `help:"Swarm: its name, slug, id or unique beginning of one." xor:"owner" required:""`
}

func (o knowledgeOwner) target(ctx context.Context) (api *client.Client, target client.KnowledgeTarget, err error) {
	if api, err = o.client(ctx); err != nil {
		return nil, target, err
	}
	if o.Agent != "" {
		target.AgentID, err = findAgent(ctx, api, o.Agent)
	} else {
		target.SwarmID, err = findSwarm(ctx, api, o.Swarm)
	}
	return api, target, err
}

type knowledgeList struct {
	knowledgeOwner
	Source string `help:"Only entries of this source."`
	Limit  int    `help:"How many entries." default:"50"`
}

// Run lists entries.
func (c knowledgeList) Run(ctx context.Context, t *terminal) error {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	entries := []client.KnowledgeEntry{}
	for e, err := range allKnowledge(ctx, api, target, c.Source, c.Limit) {
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	if t.json {
		return t.printJSON(entries)
	}
	rows := make([]map[string]any, len(entries))
	for i, e := range entries {
		rows[i] = map[string]any{"id": e.ID, "source": e.Source, "text": e.Text}
	}
	return t.table(rows, "id", "source", "text")
}

// allKnowledge yields at most limit entries, page by page; 0 means all.
func allKnowledge(ctx context.Context, api *client.Client, target client.KnowledgeTarget, source string, limit int) iter.Seq2[client.KnowledgeEntry, error] {
	return func(yield func(client.KnowledgeEntry, error) bool) {
		q := client.KnowledgeQuery{Source: source, Limit: maxPage}
		for n := 0; ; {
			page, err := api.Knowledge(ctx, target, q)
			if err != nil {
				yield(client.KnowledgeEntry{}, err)
				return
			}
			for _, e := range page.Data {
				if n++; limit > 0 && n > limit || !yield(e, nil) {
					return
				}
			}
			if !page.Pagination.HasMore || page.Pagination.NextOffset == nil {
				return
			}
			q.Offset = *page.Pagination.NextOffset
		}
	}
}

type knowledgeSearch struct {
	knowledgeOwner
	Question string `arg:"" help:"Question."`
	Limit    int    `help:"How many entries. Default: the server's."`
}

// Run prints the entries that answer the question.
func (c knowledgeSearch) Run(ctx context.Context, t *terminal) error {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	found, err := api.SearchKnowledge(ctx, target, c.Question, c.Limit)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found)
	}
	for _, f := range found {
		text := strings.ReplaceAll(escapeText(f.Text), "\n", "\n  ")
		if _, err := fmt.Fprintf(t.out, "%.2f %-6s %s\n  %s\n", f.Score, f.Reason, escapeLine(f.Source), text); err != nil {
			return err
		}
	}
	return nil
}

type knowledgeExport struct {
	knowledgeOwner
	Source string `help:"Only entries of this source."`
	Output string `help:"File to write, which must not exist. Default: standard output." short:"o" type:"path"`
}

// exportedEntry is an entry as export writes it and import reads it.
type exportedEntry struct {
	Source   string         `json:"source"`
	Text     string         `json:"text"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// Run writes the entries as a list in JSON.
func (c knowledgeExport) Run(ctx context.Context, t *terminal) (err error) {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	entries := []exportedEntry{}
	for e, err := range allKnowledge(ctx, api, target, c.Source, 0) {
		if err != nil {
			return err
		}
		entries = append(entries, exportedEntry{e.Source, e.Text, e.Metadata})
	}
	if c.Output == "" {
		return t.printJSON(entries)
	}
	f, err := os.OpenFile(c.Output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return refusedError("%s exists: choose another --output, or remove it", c.Output)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(writeJSON(f, entries), f.Close()); err != nil {
		return errors.Join(err, os.Remove(c.Output))
	}
	return t.print(map[string]any{"entries": len(entries), "file": c.Output}, fmt.Sprintf("wrote %s to %s", count(len(entries), "entry", "entries"), c.Output))
}

type knowledgeDelete struct {
	knowledgeOwner
	confirmation
	Source string `help:"Delete the entries of this source." xor:"what" required:""`
	ID     string `help:"Delete this entry." xor:"what" name:"id" required:""`
	All    bool   `help:"Delete all entries." xor:"what" required:""`
}

// Run deletes entries.
func (c knowledgeDelete) Run(ctx context.Context, t *terminal) error {
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Delete the entry %s?", c.ID)
	switch {
	case c.All:
		question = "Delete all entries of this knowledge base?"
	case c.Source != "":
		question = fmt.Sprintf("Delete all entries of the source %q?", c.Source)
	}
	if err := c.ask(t, question); err != nil {
		return err
	}
	d, err := api.DeleteKnowledge(ctx, target, client.KnowledgeDeletion{Source: c.Source, ID: c.ID, All: c.All})
	if err != nil {
		return err
	}
	return t.print(d, fmt.Sprintf("deleted %d", d.Count))
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
		done, err := api.Reembed(ctx, in, func(p admin.Reembedded) { t.progress("%d of %d", p.Done, p.Total) })
		if err != nil {
			return err
		}
		return t.print(done, fmt.Sprintf("embedded %s with %s", count(done.Done, "entry", "entries"), done.Embedder))
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
