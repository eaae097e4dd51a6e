package main

import (
	"context"
	"fmt"
	"os"

	"agento.host/agento/client"
)

type agentsCommand struct {
	List    agentsList    `cmd:"" help:"List the agents."`
	Create  agentsCreate  `cmd:"" help:"Create an agent and wait until it runs."`
	Get     agentsGet     `cmd:"" help:"Show an agent."`
	Start   agentsStart   `cmd:"" help:"Start an agent."`
	Stop    agentsStop    `cmd:"" help:"Stop an agent."`
	Restart agentsRestart `cmd:"" help:"Restart an agent with a new gateway."`
	Delete  agentsDelete  `cmd:"" help:"Delete an agent with all its data."`
	Approve agentsApprove `cmd:"" help:"List an agent's edits of its documents that wait for approval, or approve one."`
	Status  agentsStatus  `cmd:"" help:"Show the current state of an agent's gateway."`
	Network agentsNetwork `cmd:"" help:"Show where an agent may connect to, and where it has connected to."`

	RotateTokens agentsRotateTokens `cmd:"" help:"Replace the tokens of an agent's gateway, which may be awake."`
}

type agentsList struct{ remote }

// Run lists the agents.
func (c agentsList) Run(ctx context.Context, t *terminal) error {
	agents, err := c.client().ListAgents(ctx, client.AgentQuery{})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(agents.Data)
	}
	rows := make([]map[string]any, len(agents.Data))
	for i, a := range agents.Data {
		rows[i] = map[string]any{"id": a.ID, "name": a.Name, "status": a.Status, "region": a.Region, "createdAt": formatTime(a.CreatedAt.Time)}
	}
	return t.table(rows, "id", "name", "status", "region", "createdAt")
}

type agentsCreate struct {
	remote
	Name     string            `arg:"" help:"Name of the agent."`
	Region   string            `help:"us or eu."`
	Secret   map[string]string `help:"Secrets, such as anthropicApiKey=…; a value @NAME is read from the environment variable NAME." mapsep:","`
	Soul     string            `help:"File with the agent's personality." type:"existingfile"`
	Workflow string            `help:"File with the agent's role and procedures." type:"existingfile"`
	Swarm    string            `help:"Id of the swarm to put it in."`
}

// Run creates an agent.
func (c agentsCreate) Run(ctx context.Context, t *terminal) error {
	in := client.CreateAgentRequest{Name: c.Name, Region: c.Region, Secrets: map[string]string{}, SwarmID: c.Swarm}
	for name, value := range c.Secret {
		if len(value) > 1 && value[0] == '@' { // so that the secret is not in the process's arguments
			value = os.Getenv(value[1:])
		}
		in.Secrets[name] = value
	}
	for _, f := range []struct {
		path string
		to   *string
	}{{c.Soul, &in.SoulMD}, {c.Workflow, &in.WorkflowMD}} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}
		*f.to = string(text)
	}
	a, err := c.client().CreateAgent(ctx, in)
	if err != nil {
		return err
	}
	return t.print(a, a.ID)
}

type agentArg struct {
	remote
	ID string `arg:"" help:"Id of the agent."`
}

type agentsGet struct{ agentArg }

// Run shows an agent.
func (c agentsGet) Run(ctx context.Context, t *terminal) error {
	a, err := c.client().Agent(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.printJSON(a)
}

type agentsStart struct{ agentArg }

// Run starts an agent.
func (c agentsStart) Run(ctx context.Context, t *terminal) error {
	a, err := c.client().StartAgent(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsStop struct{ agentArg }

// Run stops an agent.
func (c agentsStop) Run(ctx context.Context, t *terminal) error {
	a, err := c.client().StopAgent(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsRestart struct{ agentArg }

// Run restarts an agent.
func (c agentsRestart) Run(ctx context.Context, t *terminal) error {
	a, err := c.client().RestartAgent(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.print(a, string(a.Status))
}

type agentsDelete struct{ agentArg }

// Run deletes an agent.
func (c agentsDelete) Run(ctx context.Context, t *terminal) error {
	d, err := c.client().DeleteAgent(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}

type agentsStatus struct{ agentArg }

// Run shows the current state of an agent's gateway.
func (c agentsStatus) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().AgentStatus(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.printJSON(s)
}

type agentsNetwork struct{ agentArg }

// Run shows where an agent may connect to, and where it has connected to.
func (c agentsNetwork) Run(ctx context.Context, t *terminal) error {
	n, err := c.client().Network(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.printJSON(n)
}

type agentsRotateTokens struct{ agentArg }

// Run replaces the tokens of an agent.
func (c agentsRotateTokens) Run(ctx context.Context, t *terminal) error {
	r, err := c.client().RotateTokens(ctx, c.ID)
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
	if c.Document == "" || c.Version == 0 {
		waiting, err := c.client().PendingEdits(ctx, c.ID)
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
			return fmt.Errorf("no edit of %s waits for approval", c.Document)
		}
	}
	done := map[string]any{"document": c.Document, "version": c.Version, "review": "approved"}
	if c.Reject {
		done["review"] = "rejected"
		if _, err := c.client().RejectEdit(ctx, c.ID, c.Document, c.Version); err != nil {
			return err
		}
	} else if err := c.client().ApproveEdit(ctx, c.ID, c.Document, c.Version); err != nil {
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
