package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/client"
)

type swarmsCommand struct {
	List    swarmsList    `cmd:"" help:"List the swarms."`
	Create  swarmsCreate  `cmd:"" help:"Create a swarm."`
	Get     swarmsGet     `cmd:"" help:"Show a swarm with its agents."`
	Update  swarmsUpdate  `cmd:"" help:"Change the name, description or icon of a swarm."`
	Delete  swarmsDelete  `cmd:"" help:"Delete a swarm with its knowledge and keys. Its agents are kept."`
	Members swarmsMembers `cmd:"" help:"List, add and remove the people of a swarm."`
	Secrets swarmsSecrets `cmd:"" help:"Set, delete and list the keys that a swarm shares."`
}

// swarmArg is a swarm of the server.
type swarmArg struct {
	remote
	Swarm string `arg:"" help:"Name, slug, id or unique beginning of one of the swarm."`
}

func (s swarmArg) swarm(ctx context.Context) (*client.Client, string, error) {
	c, err := s.client(ctx)
	if err != nil {
		return nil, "", err
	}
	id, err := findSwarm(ctx, c, s.Swarm)
	return c, id, err
}

type swarmsList struct{ remote }

// Run lists the swarms.
func (c swarmsList) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	all, err := api.ListSwarms(ctx)
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
	Icon        string `help:"Emoji or icon."`
}

// Run creates a swarm.
func (c swarmsCreate) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	s, err := api.CreateSwarm(ctx, client.CreateSwarmRequest{Name: c.Name, Description: c.Description, Icon: c.Icon})
	if err != nil {
		return err
	}
	return t.print(s, s.ID)
}

type swarmsGet struct{ swarmArg }

// Run shows a swarm.
func (c swarmsGet) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	s, err := api.Swarm(ctx, id)
	if err != nil {
		return err
	}
	err = t.describe(s, field{"name", s.Name}, field{"id", s.ID}, field{"slug", s.Slug}, field{"about", deref(s.Description)}, field{"icon", deref(s.Icon)},
		field{"created", formatTime(s.CreatedAt.Time)}, field{"changed", formatTime(s.UpdatedAt.Time)})
	if err != nil || t.json || len(s.Agents) == 0 {
		return err
	}
	rows := make([]map[string]any, len(s.Agents))
	for i, a := range s.Agents {
		rows[i] = map[string]any{"id": a.ID, "name": a.Name, "state": statusWords(a.Status)}
	}
	return t.section("Agents", rows, "id", "name", "state")
}

type swarmsUpdate struct {
	swarmArg
	Name        string  `help:"New name."`
	Description *string `help:"What it is for; empty for nothing."`
	Icon        *string `help:"Emoji or icon; empty for none."`
}

// Run changes a swarm.
func (c swarmsUpdate) Run(ctx context.Context, t *terminal) error {
	var in client.UpdateSwarmRequest
	if c.Name != "" {
		in.Name = client.Some(c.Name)
	}
	if c.Description != nil {
		in.Description = optional(*c.Description)
	}
	if c.Icon != nil {
		in.Icon = optional(*c.Icon)
	}
	if !in.Name.Set && !in.Description.Set && !in.Icon.Set {
		return usageError("say what to change: --name, --description or --icon")
	}
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	s, err := api.UpdateSwarm(ctx, id, in)
	if err != nil {
		return err
	}
	return t.print(s, "updated "+s.ID)
}

type swarmsDelete struct {
	swarmArg
	confirmation
}

// Run deletes a swarm.
func (c swarmsDelete) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	if err := c.ask(t, fmt.Sprintf("Delete the swarm %q with its knowledge and keys?", c.Swarm)); err != nil {
		return err
	}
	d, err := api.DeleteSwarm(ctx, id)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}

type swarmsSecrets struct {
	Set    swarmsSecretsSet    `cmd:"" help:"Set keys that a swarm shares."`
	Delete swarmsSecretsDelete `cmd:"" help:"Delete keys that a swarm shares."`
	List   swarmsSecretsList   `cmd:"" help:"List the names of a swarm's keys. No command prints their values."`
}

type swarmsSecretsSet struct {
	swarmArg
	Secret  []string `arg:"" help:"Keys, such as anthropicApiKey=env:ANTHROPIC_API_KEY. The value is - for standard input, @FILE, or env:NAME; KEY alone is KEY=-." name:"key=value"`
	BaseURL string   `help:"Endpoint that the keys are for. Default: each provider's own."`
}

// Run sets keys.
func (c swarmsSecretsSet) Run(ctx context.Context, t *terminal) error {
	secrets, err := readSecrets(t, c.Secret)
	if err != nil {
		return err
	}
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	done, err := api.SetSwarmSecrets(ctx, id, client.SwarmSecretsRequest{Secrets: secrets, BaseURL: c.BaseURL})
	if err != nil {
		return err
	}
	return t.print(done, "set "+strings.Join(slices.Sorted(maps.Keys(secrets)), ", ")+swarmRestartHint(done))
}

func swarmRestartHint(done client.SecretsUpdated) string {
	if !done.NeedsRestart {
		return ""
	}
	return "; agents of the swarm need a restart for it"
}

type swarmsSecretsDelete struct {
	swarmArg
	confirmation
	Names []string `arg:"" help:"Names of the keys."`
}

// Run deletes keys.
func (c swarmsSecretsDelete) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	names := strings.Join(c.Names, ", ")
	if err := c.ask(t, fmt.Sprintf("Delete %s of the swarm %q?", names, c.Swarm)); err != nil {
		return err
	}
	done, err := api.SetSwarmSecrets(ctx, id, client.SwarmSecretsRequest{DeleteSecrets: c.Names})
	if err != nil {
		return err
	}
	return t.print(done, "deleted "+names+swarmRestartHint(done))
}

type swarmsSecretsList struct{ swarmArg }

// Run lists the names of keys.
func (c swarmsSecretsList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.swarm(ctx)
	if err != nil {
		return err
	}
	found, err := api.SwarmSecrets(ctx, id)
	if err != nil {
		return err
	}
	return listSecrets(t, found, found.Secrets, found.Origins)
}
