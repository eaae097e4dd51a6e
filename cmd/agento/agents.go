package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"agento.host/agento/client"
)

type agentsCommand struct {
	List         agentsList         `cmd:"" help:"List the agents."`
	Create       agentsCreate       `cmd:"" help:"Create an agent and wait until it runs."`
	Get          agentsGet          `cmd:"" help:"Show an agent."`
	Update       agentsUpdate       `cmd:"" help:"Change the name, the config or the swarm of an agent."`
	Start        agentsStart        `cmd:"" help:"Start an agent."`
	Stop         agentsStop         `cmd:"" help:"Stop an agent."`
	Restart      agentsRestart      `cmd:"" help:"Restart an agent with a new gateway."`
	Delete       agentsDelete       `cmd:"" help:"Delete an agent with all its data."`
	Export       agentsExport       `cmd:"" help:"Write an agent with its documents, skills, knowledge and sessions into a file."`
	Import       agentsImport       `cmd:"" help:"Make an agent of such a file."`
	Secrets      agentsSecrets      `cmd:"" help:"Set, delete and list an agent's secrets."`
	Approve      agentsApprove      `cmd:"" help:"List an agent's edits of its documents that wait for approval, or approve one."`
	Status       agentsStatus       `cmd:"" help:"Show the current state of an agent's gateway."`
	Network      agentsNetwork      `cmd:"" help:"Show where an agent may connect to, and where it has connected to."`
	Starters     agentsStarters     `cmd:"" help:"List the ready-made agents that a new one can begin as."`
	CheckKey     agentsCheckKey     `cmd:"" help:"Ask a model provider whether it accepts a key."`
	RotateTokens agentsRotateTokens `cmd:"" help:"Replace the tokens of an agent's gateway, which may be awake."`
}

type agentsList struct {
	remote
	Status string `help:"Only agents of this status." enum:",provisioning,starting,running,stopping,stopped,error" default:""`
	Swarm  string `help:"Only agents of this swarm: its name, slug or id."`
	Search string `help:"Only agents whose name contains this."`
	Model  string `help:"Only agents that call this model."`
	Sort   string `help:"name, created, status, model, cost, lastMessage or memory; after a hyphen the reverse. Default: the newest first."`
}

// Run lists the agents.
func (c agentsList) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	q := client.AgentQuery{Status: client.AgentStatus(c.Status), Search: c.Search, Model: c.Model, Sort: c.Sort}
	if c.Swarm != "" {
		if q.SwarmID, err = findSwarm(ctx, api, c.Swarm); err != nil {
			return err
		}
	}
	agents, err := api.ListAgents(ctx, q)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(agents.Data)
	}
	if len(agents.Data) == 0 {
		return t.print(nil, "There is no such agent. Create one with agento agents create NAME.")
	}
	states, err := statesOf(ctx, api, agents.Data)
	if err != nil {
		return err
	}
	rows := make([]map[string]any, len(agents.Data))
	for i, a := range agents.Data {
		rows[i] = map[string]any{"id": a.ID, "name": a.Name, "state": states[i]}
	}
	return t.table(rows, "id", "name", "state")
}

type agentsGet struct{ agentArg }

// Run shows an agent.
func (c agentsGet) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	a, err := api.Agent(ctx, id)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(a)
	}
	state, err := stateOf(ctx, api, a)
	if err != nil {
		return err
	}
	fields := []field{{"name", a.Name}, {"id", a.ID}, {"state", state}, {"region", a.Region}}
	if a.Swarm != nil {
		fields = append(fields, field{"swarm", a.Swarm.Name})
	}
	fields = append(fields, field{"created", formatTime(a.CreatedAt.Time)}, field{"started", optionalTime(a.StartedAt)}, field{"stopped", optionalTime(a.StoppedAt)})
	for _, name := range slices.Sorted(maps.Keys(a.Config)) {
		value, err := json.Marshal(a.Config[name])
		if err != nil {
			return err
		}
		fields = append(fields, field{"config " + name, strings.Trim(string(value), `"`)})
	}
	if a.NeedsRestart {
		fields = append(fields, field{"restart", "needed for the latest changes: agento agents restart " + a.ID})
	}
	if a.NeedsKey {
		fields = append(fields, field{"key", "missing for the model that it calls: agento agents secrets set " + a.ID})
	}
	return t.describe(a, fields...)
}

// optionalTime returns a time of the API for a table.
func optionalTime(at *client.Time) any {
	if at == nil {
		return nil
	}
	return formatTime(at.Time)
}

// noWait is the flag of commands that wait for an agent.
type noWait struct {
	NoWait bool `help:"Do not wait until it is done."`
}

type agentsStart struct {
	agentArg
	noWait
}

// Run starts an agent.
func (c agentsStart) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	change := api.StartAgent
	if c.NoWait {
		change = api.BeginStart
	}
	a, err := change(ctx, id)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsStop struct {
	agentArg
	noWait
}

// Run stops an agent.
func (c agentsStop) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	change := api.StopAgent
	if c.NoWait {
		change = api.BeginStop
	}
	a, err := change(ctx, id)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsRestart struct {
	agentArg
	noWait
}

// Run restarts an agent.
func (c agentsRestart) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	change := api.RestartAgent
	if c.NoWait {
		change = api.BeginRestart
	}
	a, err := change(ctx, id)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsDelete struct {
	agentArg
	confirmation
}

// Run deletes an agent, after it has shown which one and has asked.
func (c agentsDelete) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	if !c.Yes {
		question := fmt.Sprintf("Delete the agent %s with its conversations, documents, secrets and files?", id)
		if a, err := api.Agent(ctx, id); err == nil {
			question = fmt.Sprintf("Delete the agent %q (%s) with its conversations, documents, secrets and files?", a.Name, id)
		} else if client.IsCode(err, "not_found") {
			return err
		}
		if err := c.ask(t, question); err != nil {
			return err
		}
	}
	d, err := api.DeleteAgent(ctx, id)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}

type agentsStatus struct{ agentArg }

// Run shows the current state of an agent's gateway.
func (c agentsStatus) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	s, err := api.AgentStatus(ctx, id)
	if err != nil {
		return err
	}
	fields := []field{{"status", s.Status}, {"gateway", s.ContainerStatus}}
	if s.Resources != nil {
		fields = append(fields, field{"memory", s.Resources.MemoryUsage}, field{"cpu", s.Resources.CPUPercent})
	}
	if s.WokeAt != nil {
		fields = append(fields, field{"woke", optionalTime(s.WokeAt)}, field{"wake took", time.Duration(s.WakeMs) * time.Millisecond})
	}
	if s.KeptAwake != "" {
		fields = append(fields, field{"does not sleep", s.KeptAwake})
	}
	return t.describe(s, fields...)
}

type agentsNetwork struct{ agentArg }

// Run shows where an agent may connect to, and where it has connected to.
func (c agentsNetwork) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	n, err := api.Network(ctx, id)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(n)
	}
	if err := t.describe(n, field{"egress", n.Egress}, field{"hosts", strings.Join(n.Hosts, " ")}, field{"open", fmt.Sprintf("%d connections", n.Connections)}); err != nil {
		return err
	}
	if len(n.Destinations) > 0 {
		rows := make([]map[string]any, len(n.Destinations))
		for i, d := range n.Destinations {
			rows[i] = map[string]any{"host": fmt.Sprintf("%s:%d", d.Host, d.Port), "connections": d.Connections, "in": formatBytes(d.BytesIn), "out": formatBytes(d.BytesOut), "last": optionalTime(d.LastAt)}
		}
		if err := t.section("Connections", rows, "host", "connections", "in", "out", "last"); err != nil {
			return err
		}
	}
	if len(n.Refused) == 0 {
		return nil
	}
	rows := make([]map[string]any, len(n.Refused))
	for i, d := range n.Refused {
		rows[i] = map[string]any{"host": d.Host, "port": d.Port, "count": d.Count, "last": optionalTime(d.LastAt), "why": d.Message}
	}
	return t.section("Refused", rows, "host", "port", "count", "last", "why")
}

type agentsRotateTokens struct{ agentArg }

// Run replaces the tokens of an agent.
func (c agentsRotateTokens) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	r, err := api.RotateTokens(ctx, id)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("generation %d", r.Generation)
	if r.NeedsRestart {
		text += "; the gateway has not taken it yet"
	}
	return t.print(r, text)
}

type agentsApprove struct {
	agentArg
	Document string `arg:"" optional:"" help:"SOUL.md, IDENTITY.md, WORKFLOW.md or rules/NAME.md. Without it, the edits that wait are listed."`
	Version  int64  `arg:"" optional:"" help:"Version of the document. Default: the newest that waits."`
	Reject   bool   `help:"Reject the edit instead."`
}

// Run lists the edits that wait for approval, or approves or rejects one.
func (c agentsApprove) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	if c.Document == "" || c.Version == 0 {
		waiting, err := api.PendingEdits(ctx, id)
		if err != nil {
			return err
		}
		if c.Document == "" {
			return c.list(t, waiting)
		}
		for _, e := range waiting {
			if e.Document == c.Document {
				c.Version = max(c.Version, e.Version)
			}
		}
		if c.Version == 0 {
			return notFoundError("no edit of %s waits for approval", c.Document)
		}
	}
	done := map[string]any{"document": c.Document, "version": c.Version, "review": "approved"}
	if c.Reject {
		done["review"] = "rejected"
		if _, err := api.RejectEdit(ctx, id, c.Document, c.Version); err != nil {
			return err
		}
	} else if err := api.ApproveEdit(ctx, id, c.Document, c.Version); err != nil {
		return err
	}
	return t.print(done, fmt.Sprintf("%s version %d of %s", done["review"], c.Version, c.Document))
}

func (c agentsApprove) list(t *terminal, waiting []client.PendingEdit) error {
	if t.json {
		return t.printJSON(waiting)
	}
	rows := make([]map[string]any, len(waiting))
	for i, e := range waiting {
		rows[i] = map[string]any{"document": e.Document, "version": e.Version, "size": e.Size, "createdAt": formatTime(e.CreatedAt.Time)}
	}
	return t.table(rows, "document", "version", "size", "createdAt")
}
