package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"agento.host/agento/client"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/modelproxy"
)

type skillsCommand struct {
	List      skillsList      `cmd:"" help:"Browse the marketplace."`
	Show      skillsShow      `cmd:"" help:"Show a skill with the findings of its scan."`
	Installed skillsInstalled `cmd:"" help:"List the skills of an agent."`
	Install   skillsInstall   `cmd:"" help:"Install a skill on an agent."`
	Uninstall skillsUninstall `cmd:"" help:"Remove a skill from an agent."`
}

type skillsList struct {
	remote
	Search string `help:"Words to look for."`
	Trust  string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
}

// Run browses the marketplace.
func (c skillsList) Run(ctx context.Context, t *terminal) error {
	found, err := c.client().ListSkills(ctx, client.SkillQuery{Search: c.Search, TrustLevel: c.Trust, PageSize: 100})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found.Data)
	}
	rows := make([]map[string]any, len(found.Data))
	for i, s := range found.Data {
		rows[i] = map[string]any{"id": s.ID, "name": s.Name, "version": s.LatestVersion, "category": s.Category}
		if s.SecurityScore != nil {
			rows[i]["score"] = *s.SecurityScore
		}
	}
	return t.table(rows, "id", "name", "version", "category", "score")
}

type skillsShow struct {
	remote
	Skill string `arg:"" help:"Id of the skill."`
}

// Run shows a skill.
func (c skillsShow) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().Skill(ctx, c.Skill, "")
	if err != nil {
		return err
	}
	return t.printJSON(s)
}

type skillsInstalled struct{ agentArg }

// Run lists the skills of an agent.
func (c skillsInstalled) Run(ctx context.Context, t *terminal) error {
	all, err := c.client().AgentSkills(ctx, c.ID)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"skill": s.SkillID, "version": s.InstalledVersion, "trust": s.TrustLevel, "enabled": s.IsEnabled}
	}
	return t.table(rows, "skill", "version", "trust", "enabled")
}

type skillsInstall struct {
	agentArg
	Skill string `arg:"" help:"Id of the skill, @owner/slug of the community registry, or a GitHub address."`
	Trust string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
}

// Run installs a skill.
func (c skillsInstall) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().InstallSkill(ctx, c.ID, client.InstallSkillRequest{SkillID: c.Skill, TrustLevel: c.Trust})
	if err != nil {
		return err
	}
	return t.print(s, "installed "+s.SkillID+" "+s.InstalledVersion)
}

type skillsUninstall struct {
	agentArg
	Skill string `arg:"" help:"Id of the skill."`
}

// Run removes a skill.
func (c skillsUninstall) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().UninstallSkill(ctx, c.ID, c.Skill)
	if err != nil {
		return err
	}
	return t.print(s, "uninstalled "+s.SkillID)
}

type knowledgeCommand struct {
	Add     knowledgeAdd     `cmd:"" help:"Add texts to a knowledge base."`
	Search  knowledgeSearch  `cmd:"" help:"Search a knowledge base."`
	Reembed knowledgeReembed `cmd:"" help:"Embed every entry with another model, on the data directory, also while the server runs. Stop and start it as you like."`
}

// knowledgeOwner says whose knowledge is meant.
type knowledgeOwner struct {
	Agent string `help:"Id of the agent." xor:"owner" required:""`
	Swarm string `help:"Id of the swarm." xor:"owner" required:""`
}

type knowledgeAdd struct {
	remote
	knowledgeOwner
	Source string `help:"Where the text comes from." required:""`
	File   string `arg:"" help:"File with the text; paragraphs become entries. - is standard input." type:"existingfile"`
}

// Run adds a file, a paragraph an entry.
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
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own file
	return string(text), err
}

type knowledgeSearch struct {
	remote
	knowledgeOwner
	Question string `arg:"" help:"What to look for."`
}

// Run searches.
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
	dataFlags
	embedderFlags
	DropOld bool `help:"Delete the vectors of every other model once all entries have new ones."`
}

// Run embeds what the model has not embedded yet.
func (c knowledgeReembed) Run(ctx context.Context, t *terminal) (err error) {
	embedder, err := c.embedder(modelproxy.Guard{})
	if err != nil {
		return err
	}
	db, err := c.database(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rooms := knowledge.New(knowledge.Settings{DB: db, Events: &event.Log{DB: db, Bell: event.NewBell()}, Embedder: embedder, Log: slog.New(slog.DiscardHandler)})
	done, err := rooms.Reembed(ctx, embedder, func(r knowledge.Reembedding) { _, _ = fmt.Fprintf(t.err, "%d of %d\n", r.Done, r.Total) })
	if err != nil {
		return err
	}
	if c.DropOld {
		if err := dropOthers(ctx, rooms, embedder.Name()); err != nil {
			return err
		}
	}
	return t.print(done, fmt.Sprintf("embedded %d entries with %s", done.Done, embedder.Name()))
}

func dropOthers(ctx context.Context, rooms *knowledge.Service, keep string) error {
	models, err := rooms.Models(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.Model == keep {
			continue
		}
		if err := rooms.DropModel(ctx, m.Model); err != nil {
			return err
		}
	}
	return nil
}

type swarmsCommand struct {
	List   swarmsList   `cmd:"" help:"List the swarms."`
	Create swarmsCreate `cmd:"" help:"Create a swarm."`
	Delete swarmsDelete `cmd:"" help:"Delete a swarm; its agents stay."`
}

type swarmsList struct{ remote }

// Run lists the swarms.
func (c swarmsList) Run(ctx context.Context, t *terminal) error {
	all, err := c.client().ListSwarms(ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"id": s.ID, "name": s.Name, "slug": s.Slug, "agents": s.AgentCount}
	}
	return t.table(rows, "id", "name", "slug", "agents")
}

type swarmsCreate struct {
	remote
	Name        string `arg:"" help:"Name of the swarm."`
	Description string `help:"What it is for."`
}

// Run creates a swarm.
func (c swarmsCreate) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().CreateSwarm(ctx, client.CreateSwarmRequest{Name: c.Name, Description: c.Description})
	if err != nil {
		return err
	}
	return t.print(s, s.ID)
}

type swarmsDelete struct {
	remote
	ID string `arg:"" help:"Id of the swarm."`
}

// Run deletes a swarm.
func (c swarmsDelete) Run(ctx context.Context, t *terminal) error {
	d, err := c.client().DeleteSwarm(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}
