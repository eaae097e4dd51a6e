package gateway_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
)

// patchConfig changes an agent's config.
func patchConfig(e *agenttest.Env, id identity.AgentID, config map[string]any) agent.View {
	v, err := e.Agents.Update(e.Context(), e.Actor, id, client.UpdateAgentRequest{Config: config})
	e.Must(err)
	return v
}

func TestCallsFailUntilTheKeyOfANewOriginIsSet(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	if v := patchConfig(e, a.ID, map[string]any{"baseUrl": "https://API.anthropic.com:443/v1"}); v.NeedsKey {
		t.Errorf("another spelling of the same origin: %q", v.LastError)
	}
	v := patchConfig(e, a.ID, map[string]any{"baseUrl": "https://proxy.test/v1"})
	want := "The agent's anthropicApiKey was set for https://api.anthropic.com and the agent now calls https://proxy.test, where it is not sent: set the key for that endpoint with PUT /v1/agents/" + string(a.ID) + "/secrets."
	if !v.NeedsKey || v.LastError != want || v.ErrorCategory != agent.CategoryCredentials {
		t.Errorf("after PATCH: %v %q %s", v.NeedsKey, v.LastError, v.ErrorCategory)
	}
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic"); !fault.Is(err, fault.Invalid) || fault.From(err).Message != want || !up.Key.Empty() {
		t.Errorf("a call: %+v, %v", up, err)
	}
	if status := e.Restart(a.ID).Status; status != client.Running {
		t.Errorf("after a restart it is %s", status)
	}
	e.SetSecrets(a.ID, map[string]string{"telegramBotToken": "1:x"})
	if v, err := e.Agents.View(e.Context(), a.AccountID, a.ID); err != nil || !v.NeedsKey {
		t.Errorf("after another secret was set: %v %v", v.NeedsKey, err)
	}
	e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-proxy"})
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic"); err != nil || up.Key.Reveal() != "sk-ant-proxy" || up.Key.Origin() != "https://proxy.test" {
		t.Errorf("a call with the new key: %v", err)
	}
	if v, err := e.Agents.View(e.Context(), a.AccountID, a.ID); err != nil || v.NeedsKey || v.LastError != "" {
		t.Errorf("with the new key: %v %q %v", v.NeedsKey, v.LastError, err)
	}
	if v := patchConfig(e, a.ID, map[string]any{"baseUrl": nil}); !v.NeedsKey || !strings.Contains(v.LastError, "was set for https://proxy.test and the agent now calls https://api.anthropic.com") {
		t.Errorf("back to the provider's own endpoint: %v %q", v.NeedsKey, v.LastError)
	}
}

func TestAgentWithAnotherEndpointDoesNotGetTheKeyOfItsSwarm(t *testing.T) {
	e := agenttest.New(t, nil)
	bees := e.CreateSwarm(map[string]string{"openaiApiKey": "sk-shared"})
	a := e.CreateFrom(client.CreateAgentRequest{Name: "ada", SwarmID: string(bees), Config: map[string]any{"baseUrl": "https://attacker.test"}})
	want := "The swarm's openaiApiKey is for https://api.openai.com and the agent calls https://attacker.test, so the agent does not get it: set a key of the agent's own with PUT /v1/agents/" +
		string(a.ID) + "/secrets, or set the swarm's for that endpoint with PUT /v1/swarms/" + string(bees) + "/secrets and its baseUrl."
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "openai"); !fault.Is(err, fault.Invalid) || fault.From(err).Message != want || !up.Key.Empty() {
		t.Errorf("a call: %+v, %v", up, err)
	}
	if v, err := e.Agents.View(e.Context(), a.AccountID, a.ID); err != nil || !v.NeedsKey || v.LastError != want {
		t.Errorf("the agent: %v %q %v", v.NeedsKey, v.LastError, err)
	}
	_, err := e.Swarms.SetSecrets(e.Context(), e.Actor, bees, swarm.SecretChange{
		Set: map[string]vault.Secret{"openai_api_key": vault.NewSecret("sk-for-it")}, BaseURL: "https://attacker.test/v1",
	})
	e.Must(err)
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "openai"); err != nil || up.Key.Reveal() != "sk-for-it" {
		t.Errorf("a call with a key for that endpoint: %v", err)
	}
	if v, err := e.Agents.View(e.Context(), a.AccountID, a.ID); err != nil || v.NeedsKey || v.LastError != "" {
		t.Errorf("the agent with a key: %v %q %v", v.NeedsKey, v.LastError, err)
	}
}

// TestProviderWithAUsableKeyIsChosen: the swarm's Anthropic key is for another endpoint
// than the agent's.
func TestProviderWithAUsableKeyIsChosen(t *testing.T) {
	e := agenttest.New(t, nil)
	bees := e.CreateSwarm(map[string]string{"anthropicApiKey": "sk-ant-shared"})
	a := e.CreateFrom(client.CreateAgentRequest{
		Name: "ada", SwarmID: string(bees), Secrets: map[string]string{"openaiApiKey": "sk-own"}, Config: map[string]any{"baseUrl": "https://vllm.test"},
	})
	if v, err := e.Agents.View(e.Context(), a.AccountID, a.ID); err != nil || v.Provider != "openai" || v.NeedsKey {
		t.Errorf("%q, needs a key: %v, %v", v.Provider, v.NeedsKey, err)
	}
	e.SetSwarmSecrets(bees, nil) // another revision
	if needs, err := e.Gateways.NeedsRestart(e.Context(), e.DB, e.Find(a.ID)); err != nil || needs {
		t.Errorf("the gateway was started for another provider: %v %v", needs, err)
	}
}

func TestDemoKeyGoesToTheScriptedModel(t *testing.T) {
	e := agenttest.New(t, func(s *agenttest.Settings) {
		s.DemoKey, s.DemoURL = vault.NewSecret("sk-ant-dev"), "http://127.0.0.1:9"
	})
	a := e.CreateFrom(client.CreateAgentRequest{Name: "without a key"})
	check := func(name string) {
		t.Helper()
		up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic")
		if err != nil || up.BaseURL != "http://127.0.0.1:9" || up.Key.Reveal() != "sk-ant-dev" || up.Key.Origin() != "http://127.0.0.1:9" {
			t.Errorf("%s: %+v, %v", name, up, err)
		}
	}
	check("by default")
	e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-real"})
	if up, err := e.Gateways.Resolve(e.Context(), e.Token(a, "model"), "anthropic"); err != nil || up.BaseURL != "" || up.Key.Origin() != "https://api.anthropic.com" {
		t.Errorf("a real key: %+v, %v", up, err)
	}
	e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-dev"})
	check("set by its owner")
}

// TestCallsDoNotFailWhileEndpointAndKeyChangeTogether: a call sees both or neither.
func TestCallsDoNotFailWhileEndpointAndKeyChangeTogether(t *testing.T) {
	e := agenttest.New(t, nil)
	accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	a := e.Stop(accepted.ID)
	token, ctx := e.Token(a, "model"), e.Context()
	done := make(chan struct{})
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := e.Gateways.Resolve(ctx, token, "anthropic"); err != nil {
					t.Errorf("a call: %v", err)
					return
				}
			}
		})
	}
	for i := range 150 {
		_, err := e.Agents.Update(ctx, e.Actor, a.ID, client.UpdateAgentRequest{
			Config: map[string]any{"baseUrl": fmt.Sprintf("https://proxy-%d.test", i)}, Secrets: map[string]string{"anthropicApiKey": fmt.Sprint("sk-ant-", i)},
		})
		if err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	calls.Wait()
}
