package gateway_test

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func TestResolveReturnsTheCurrentKey(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic")
	if err != nil || up.Key.Reveal() != "sk-ant-test" || up.AgentID != a.ID || up.AccountID != a.AccountID || up.BaseURL != "" {
		t.Errorf("%+v, %v", up, err)
	}
	if up, err = e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "openai"); !fault.Is(err, fault.Invalid) || up.AgentID != a.ID {
		t.Errorf("a provider without a key: %+v, %v", up, err)
	}
	e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-rotated"})
	if up, err = e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic"); err != nil || up.Key.Reveal() != "sk-ant-rotated" {
		t.Errorf("after a rotation: %v", err)
	}
}

func TestBaseURLIsOfTheConfiguredProvider(t *testing.T) {
	e := agenttest.New(t, func(s *agenttest.Settings) { s.URLs = netguard.Guard{AllowPrivate: true} })
	in := agenttest.NewAgent("ada")
	in.Secrets["openaiApiKey"] = "sk-two"
	in.Config = map[string]any{"llmProvider": "openai", "baseUrl": "http://127.0.0.1:11434/v1"}
	accepted, err := e.Agents.Create(e.Context(), e.Actor, in)
	e.Must(err)
	for name, want := range map[provider.Name]string{"openai": "http://127.0.0.1:11434/v1", "anthropic": ""} {
		if up, err := e.Gateways.Resolve(e.Context(), e.Token(accepted.Agent, "model"), name); err != nil || up.BaseURL != want {
			t.Errorf("%s: %q, %v", name, up.BaseURL, err)
		}
	}
}

func TestOnlyTheExactTokenIsAccepted(t *testing.T) {
	e := agenttest.New(t, nil)
	a, b := e.Create("ada"), e.Create("bob")
	if got, err := e.Gateways.CallerOf(e.Context(), e.Token(a, "tools")); err != nil || got != (gateway.Caller{AccountID: a.AccountID, AgentID: a.ID}) {
		t.Errorf("%+v, %v", got, err)
	}
	deleted := e.Create("eve")
	deletedToken := e.Token(deleted, "tools")
	accepted, err := e.Agents.Delete(e.Context(), e.Actor, deleted.ID)
	e.Must(err)
	if _, err := e.Gateways.CallerOf(e.Context(), deletedToken); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("an agent that is being deleted: %v", err)
	}
	e.Must(e.Agents.AwaitDeleted(e.Context(), accepted))
	_, secret, _ := strings.Cut(e.Token(b, "tools").Reveal(), ".")
	for name, token := range map[string]string{
		"empty": "", "id alone": string(a.ID), "nothing after the dot": string(a.ID) + ".", "another purpose": e.Token(a, "model").Reveal(),
		"another agent's": string(a.ID) + "." + secret, "one letter more": e.Token(a, "tools").Reveal() + "0", "deleted": deletedToken.Reveal(),
		"no agent": "x." + secret, "only dots": "...", "upper case": strings.ToUpper(e.Token(a, "tools").Reveal()),
	} {
		if got, err := e.Gateways.CallerOf(e.Context(), vault.NewSecret(token)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := e.Gateways.Resolve(e.Context(), vault.NewSecret(strings.ReplaceAll(token, e.Token(a, "model").Reveal(), "y")), "anthropic"); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s as a model token: %v", name, err)
		}
	}
}

func TestAgentsUseTheCredentialsOfTheirSwarm(t *testing.T) {
	e := agenttest.New(t, nil)
	swarm := e.CreateSwarm(map[string]string{"anthropicApiKey": "sk-ant-shared", "openaiApiKey": "sk-shared"})
	a := e.CreateFrom(client.CreateAgentRequest{Name: "without a key", SwarmID: string(swarm)})
	checkKey := func(name provider.Name, want string) {
		t.Helper()
		if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), name); err != nil || up.Key.Reveal() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	checkKey("anthropic", "sk-ant-shared")
	e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-own"})
	checkKey("anthropic", "sk-ant-own")
	checkKey("openai", "sk-shared")
	if got, err := e.Gateways.CallerOf(e.Context(), e.Token(a, "tools")); err != nil || got.SwarmID != swarm {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{DeleteSecrets: []string{"anthropic_api_key"}}); err != nil {
		t.Errorf("deleting the agent's key while the swarm has one: %v", err)
	}
	checkKey("anthropic", "sk-ant-shared")
	_, err := e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{SwarmID: client.Optional[string]{Set: true, Null: true}})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("leaving the swarm without a key: %v", err)
	}
}

// TestTokensAreReplaced: a start makes new tokens and ends the others; a rotation of a gateway
// that is awake gives it new ones, and the others end after a grace.
func TestTokensAreReplaced(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	resolve := func(token vault.Secret) error {
		_, err := e.Gateways.Resolve(e.Context(), token, "anthropic")
		return err
	}
	started := e.Token(a, "model")
	e.Restart(a.ID)
	restarted := e.Token(a, "model")
	if err := resolve(started); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("the token of the gateway before: %v", err)
	}
	if err := resolve(restarted); err != nil {
		t.Errorf("the token of the gateway: %v", err)
	}

	starts := e.Driver.Starts(a.ID)
	r, err := e.Agents.RotateTokens(e.Context(), e.Actor, a.ID)
	e.Must(err)
	rotated := e.Token(a, "model")
	held, err := e.Driver.Gateway(a.ID).Secrets()
	if err != nil || r.NeedsRestart || !strings.Contains(string(held), rotated.Reveal()) || e.Driver.Starts(a.ID) != starts || e.Scripts.SecretReloads.Load() != 1 {
		t.Errorf("%+v, %v, %d starts, %d reloads", r, err, e.Driver.Starts(a.ID), e.Scripts.SecretReloads.Load())
	}
	if v, err := e.Agents.View(t.Context(), agenttest.Account, a.ID); err != nil || v.NeedsRestart {
		t.Errorf("view: %v, %v", v.NeedsRestart, err)
	}
	for _, token := range []vault.Secret{restarted, rotated} {
		if err := resolve(token); err != nil {
			t.Errorf("during the grace: %v", err)
		}
	}
	e.Must(e.DB.Tx(e.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE data_keys SET tokens_raised_at = tokens_raised_at - $1`, vault.TokenGrace.Milliseconds())
		return err
	}))
	if err := resolve(restarted); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("after the grace: %v", err)
	}
	if err := resolve(rotated); err != nil {
		t.Errorf("the newest after the grace: %v", err)
	}

	e.Scripts.RefuseCalls.Store(true) // what the gateway does not take now, it takes later
	if r, err = e.Agents.RotateTokens(e.Context(), e.Actor, a.ID); err != nil || !r.NeedsRestart {
		t.Errorf("a gateway that refuses: %+v, %v", r, err)
	}
	if err := resolve(rotated); err != nil {
		t.Errorf("the token that the gateway has: %v", err)
	}
	e.Scripts.RefuseCalls.Store(false)
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || needsRestart {
		t.Errorf("%v, %v", needsRestart, err)
	}

	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Config: map[string]any{"model": "claude-x"}})
	e.Must(err)
	if _, err := e.Agents.RotateTokens(e.Context(), e.Actor, a.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a gateway that waits for a restart: %v", err)
	}
	e.Stop(a.ID)
	if _, err := e.Agents.RotateTokens(e.Context(), e.Actor, a.ID); err != nil {
		t.Errorf("a stopped agent: %v", err)
	}
	if err := resolve(rotated); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a token of a stopped agent that was replaced: %v", err)
	}
}
