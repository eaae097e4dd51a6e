package main

import (
	"context"
	"strings"

	"agento.host/agento/client"
)

type attentionCommand struct {
	remote
	Dismiss string `help:"Do not list this any more: the id of an item that can be dismissed." placeholder:"ID"`
	Limit   int    `help:"How many, the worst first." default:"100"`
}

// Run lists what waits for a person.
func (c attentionCommand) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	if c.Dismiss != "" {
		done, err := api.DismissAttention(ctx, c.Dismiss)
		if err != nil {
			return err
		}
		return t.print(done, "dismissed "+done.ID)
	}
	found, err := api.Attention(ctx, c.Limit)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found.Data)
	}
	if len(found.Data) == 0 {
		return t.print(nil, "Nothing waits for you.")
	}
	rows := make([]map[string]any, len(found.Data))
	for i, item := range found.Data {
		rows[i] = map[string]any{"severity": item.Severity, "agent": deref(item.AgentName), "what": commandWords(item.Sentence), "since": optionalTime(item.Since), "repair": repairWords(item)}
	}
	return t.table(rows, "severity", "agent", "what", "since", "repair")
}

// repairWords returns the commands that repair an item.
func repairWords(item client.AttentionItem) string {
	words := make([]string, len(item.Actions))
	for i, a := range item.Actions {
		words[i] = commandWords(a.Method + " " + a.Path)
	}
	return strings.Join(words, ", or ")
}

type agentsStarters struct{ remote }

// Run lists the starters.
func (c agentsStarters) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	all, err := api.Starters(ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"starter": s.ID, "what": s.Description, "skills": strings.Join(s.Skills, " ")}
	}
	return t.table(rows, "starter", "what", "skills")
}

type agentsCheckKey struct {
	remote
	Provider string `arg:"" help:"anthropic, openai or google."`
	Key      string `help:"The key: - for standard input, @FILE, or env:NAME." default:"-" placeholder:"-|@FILE|env:NAME"`
	BaseURL  string `name:"base-url" help:"Another endpoint that speaks the provider's API."`
}

// Run asks a provider whether it accepts a key. It fails if the provider does not.
func (c agentsCheckKey) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	key, err := (&inputs{in: t.in}).secret("key", c.Key)
	if err != nil {
		return err
	}
	checked, err := api.CheckProvider(ctx, client.ProviderCheckRequest{Provider: c.Provider, Key: key, BaseURL: c.BaseURL})
	if err != nil {
		return err
	}
	if checked.OK {
		return t.print(checked, "ok\n"+strings.Join(checked.Models, "\n"))
	}
	if t.json {
		if err := t.printJSON(checked); err != nil {
			return err
		}
	}
	if said := deref(checked.ProviderMessage); said != "" {
		return refusedError("%s It says: %s", deref(checked.Message), said)
	}
	return refusedError("%s", deref(checked.Message))
}
