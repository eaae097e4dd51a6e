package main

import (
	"context"

	"agento.host/agento/client"
)

type swarmsCommand struct {
	List   swarmsList   `cmd:"" help:"List the swarms."`
	Create swarmsCreate `cmd:"" help:"Create a swarm."`
	Delete swarmsDelete `cmd:"" help:"Delete a swarm. Its agents are kept."`
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
