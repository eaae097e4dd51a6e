package main

import (
	"context"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/client"
)

type agentsSecrets struct {
	Set    agentsSecretsSet    `cmd:"" help:"Set secrets of an agent."`
	Delete agentsSecretsDelete `cmd:"" help:"Delete secrets of an agent."`
	List   agentsSecretsList   `cmd:"" help:"List the names of an agent's secrets. No command prints their values."`
}

type agentsSecretsSet struct {
	agentArg
	Secret []string `arg:"" help:"Secrets, such as anthropicApiKey=env:ANTHROPIC_API_KEY. The value is - for standard input, @FILE, or env:NAME; KEY alone is KEY=-." name:"key=value"`
}

// Run sets secrets.
func (c agentsSecretsSet) Run(ctx context.Context, t *terminal) error {
	secrets, err := readSecrets(t, c.Secret)
	if err != nil {
		return err
	}
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	done, err := api.SetSecrets(ctx, id, client.SecretsRequest{Secrets: secrets})
	if err != nil {
		return err
	}
	return t.print(done, "set "+strings.Join(slices.Sorted(maps.Keys(secrets)), ", ")+restartHint(done.NeedsRestart, id))
}

// readSecrets returns the secrets of arguments. On a terminal nothing is read: what is
// typed there can be seen.
func readSecrets(t *terminal, given []string) (map[string]string, error) {
	given = slices.Clone(given)
	for i, g := range given {
		if !strings.Contains(g, "=") {
			given[i] = g + "=-"
		}
		if strings.HasSuffix(given[i], "=-") && isTerminal(t.in) {
			return nil, usageError("give the secret %s on standard input, where it is not visible: < FILE", strings.TrimSuffix(given[i], "=-"))
		}
	}
	return (&inputs{in: t.in}).secrets(given)
}

func restartHint(needed bool, agent string) string {
	if !needed {
		return ""
	}
	return "; the agent needs a restart for it: agento agents restart " + agent
}

type agentsSecretsDelete struct {
	agentArg
	confirmation
	Names []string `arg:"" help:"Names of the secrets."`
}

// Run deletes secrets.
func (c agentsSecretsDelete) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	names := strings.Join(c.Names, ", ")
	if err := c.ask(t, "Delete "+names+" of the agent "+c.Agent+"?"); err != nil {
		return err
	}
	done, err := api.SetSecrets(ctx, id, client.SecretsRequest{DeleteSecrets: c.Names})
	if err != nil {
		return err
	}
	return t.print(done, "deleted "+names+restartHint(done.NeedsRestart, id))
}

type agentsSecretsList struct{ agentArg }

// Run lists the names of secrets.
func (c agentsSecretsList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	found, err := api.AgentSecrets(ctx, id)
	if err != nil {
		return err
	}
	return listSecrets(t, found, found.Secrets, found.Origins)
}

func listSecrets(t *terminal, v any, names []string, origins map[string]string) error {
	if t.json {
		return t.printJSON(v)
	}
	if len(names) == 0 {
		return t.print(nil, "There is no secret.")
	}
	rows := make([]map[string]any, len(names))
	for i, name := range names {
		rows[i] = map[string]any{"name": name, "sent to": origins[name]}
	}
	return t.table(rows, "name", "sent to")
}
