package agent_test

import (
	"context"
	"fmt"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func TestUpdateSetsAKeyForTheEndpointOfTheSameRequest(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	update := func(in client.UpdateAgentRequest) (agent.View, error) {
		return e.Agents.Update(e.Context(), e.Actor, a.ID, in)
	}
	origin := func() provider.Origin {
		all, err := e.Vault.Origins(e.Context(), e.DB, a.AccountID, vault.OfAgent(a.ID))
		e.Must(err)
		return all[vault.OfAgent(a.ID)][provider.AnthropicKey]
	}
	moved := map[string]any{"baseUrl": "https://proxy.test/v1"}
	_, err := update(client.UpdateAgentRequest{Config: moved, Secrets: map[string]string{"anthropicApiKey": "no prefix", "nonsense": "x"}})
	if f := fault.From(err); f.Code != fault.Invalid || f.Details["secrets.anthropicApiKey"] == "" || f.Details["secrets.nonsense"] == "" {
		t.Errorf("an invalid key: %v", err)
	}
	many := map[string]string{"anthropicApiKey": "sk-ant-proxy"}
	for i := range 63 {
		many[fmt.Sprint("VAR_", i)] = "x"
	}
	e.SetSecrets(a.ID, map[string]string{"ONE_MORE": "x"})
	if _, err = update(client.UpdateAgentRequest{Config: moved, Secrets: many}); fault.From(err).Details["secrets"] == "" {
		t.Errorf("too many secrets: %v", err)
	}
	if got := e.Find(a.ID).Config.BaseURL(); got != "" || origin() != "https://api.anthropic.com" {
		t.Fatalf("a refused request changed the endpoint to %q, or the key to one for %s", got, origin())
	}
	v, err := update(client.UpdateAgentRequest{Config: moved, Secrets: map[string]string{"anthropic_api_key": "sk-ant-proxy"}})
	if err != nil || v.NeedsKey || v.LastError != "" || origin() != "https://proxy.test" {
		t.Errorf("the key is for %s; needs a key: %v, %q, %v", origin(), v.NeedsKey, v.LastError, err)
	}
	set, err := e.Events.List(e.Context(), a.AccountID, event.Filter{Kind: "agent.secrets_updated", Limit: 1})
	if err != nil || len(set) != 1 || fmt.Sprint(set[0].Data["origins"]) != "map[anthropicApiKey:https://proxy.test]" {
		t.Errorf("the audit log: %+v, %v", set, err)
	}
	v, err = update(client.UpdateAgentRequest{
		Config: map[string]any{"baseUrl": nil, "llmProvider": "google"}, Secrets: map[string]string{"googleApiKey": "g"},
	})
	if err != nil || v.NeedsKey || v.Provider != "google" {
		t.Errorf("another provider with its key: %v %s, %v", v.NeedsKey, v.Provider, err)
	}
	if v, err = update(client.UpdateAgentRequest{Secrets: map[string]string{"ONE_MORE": "y"}}); err != nil || !v.NeedsRestart {
		t.Errorf("secrets alone: %v, %v", v.NeedsRestart, err)
	}
}

// TestBindKeysBindsWhatWasStoredBeforeOrigins: a key is for the endpoint that its agent
// called at the update.
func TestBindKeysBindsWhatWasStoredBeforeOrigins(t *testing.T) {
	e := agenttest.New(t, nil)
	in := agenttest.NewAgent("ada")
	in.Config = map[string]any{"llmProvider": "anthropic", "baseUrl": "https://proxy.test:8443/v1"}
	ada, bob, damaged := e.CreateFrom(in), e.Create("bob"), e.CreateFrom(in)
	bees := e.CreateSwarm(nil)
	old := func(account identity.AccountID, owner vault.OwnerID) {
		e.Must(e.DB.Tx(e.Context(), "agent.test", func(ctx context.Context, tx *database.Tx) error {
			return e.Vault.Put(ctx, tx, account, owner, map[provider.SecretName]vault.Secret{
				provider.AnthropicKey: vault.NewSecret("sk-ant-old"), provider.OpenAIKey: vault.NewSecret("sk-old"), "CRM_TOKEN": vault.NewSecret("x"),
			})
		}))
	}
	owners := []vault.OwnerID{vault.OfAgent(ada.ID), vault.OfAgent(bob.ID), vault.OfAgent(damaged.ID), vault.OfSwarm(bees)}
	for _, owner := range owners {
		old(agenttest.Account, owner)
	}
	if _, err := e.Gateways.Resolve(e.Context(), e.Token(bob, "model"), "anthropic"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a key for no endpoint: %v", err)
	}
	e.Exec(`UPDATE secrets SET sealed = x'00' WHERE owner_id = $1 AND name = 'openaiApiKey'`, bob.ID)
	e.Exec(`UPDATE agents SET config = '{' WHERE id = $1`, damaged.ID)
	for range 2 { // the second changes nothing
		e.Must(e.Agents.BindKeys(e.Context()))
		all, err := e.Vault.Origins(e.Context(), e.DB, agenttest.Account, owners...)
		e.Must(err)
		for i, want := range []string{
			"map[CRM_TOKEN: anthropicApiKey:https://proxy.test:8443 openaiApiKey:https://api.openai.com]",
			"map[CRM_TOKEN: anthropicApiKey:https://api.anthropic.com openaiApiKey:]", // damaged
			"map[CRM_TOKEN: anthropicApiKey: openaiApiKey:]",                          // unknown: its endpoint
			"map[CRM_TOKEN: anthropicApiKey:https://api.anthropic.com openaiApiKey:https://api.openai.com]",
		} {
			if got := fmt.Sprint(all[owners[i]]); got != want {
				t.Errorf("owner %d: %s", i, got)
			}
		}
	}
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(ada, "model"), "anthropic"); err != nil || up.Key.Reveal() != "sk-ant-old" {
		t.Errorf("a key that was bound: %v", err)
	}
}
