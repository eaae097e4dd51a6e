package agent_test

import (
	"fmt"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

const (
	maxSecrets     = 64      // of an agent
	maxSecretBytes = 8 << 10 // of a variable's value
)

// FuzzSecretNames: whatever a caller writes, the name is stable and the runtime does
// not use it itself.
func FuzzSecretNames(f *testing.F) {
	for _, s := range []string{"", "anthropicApiKey", "anthropic_api_key", "MY_VAR", "my_var", "PATH", "OPENCLAW_X", "A\x00B", "É", "A" + strings.Repeat("B", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, written string) {
		name, problem := provider.ParseAgentSecret(written, openclaw.ReservedEnv)
		if (name == "") == (problem == "") {
			t.Fatalf("%q: name %q and problem %q", written, name, problem)
		}
		if name == "" {
			return
		}
		if again, _ := provider.ParseAgentSecret(string(name), openclaw.ReservedEnv); again != name {
			t.Errorf("%q is %q, which is %q", written, name, again)
		}
		if name.IsVariable() && (openclaw.ReservedEnv(string(name)) || string(name) != written) {
			t.Errorf("%q is accepted as %q", written, name)
		}
	})
}

func TestSetSecretsNamesTheInvalidField(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	many := map[string]string{}
	for i := range maxSecrets {
		many[fmt.Sprint("VAR_", i)] = "x"
	}
	tests := map[string]struct {
		in   client.SecretsRequest
		want string // the field that is wrong; empty: none
	}{
		"both spellings":             {client.SecretsRequest{Secrets: map[string]string{"openai_api_key": "sk-1", "googleApiKey": "g-1"}}, ""},
		"environment":                {client.SecretsRequest{Secrets: map[string]string{"MY_VAR": "two\nlines"}}, ""},
		"nothing":                    {client.SecretsRequest{}, "secrets"},
		"unknown":                    {client.SecretsRequest{Secrets: map[string]string{"apiKey": "x"}}, "secrets.apiKey"},
		"reserved":                   {client.SecretsRequest{Secrets: map[string]string{"PATH": "x"}}, "secrets.PATH"},
		"empty":                      {client.SecretsRequest{Secrets: map[string]string{"MY_VAR": ""}}, "secrets.MY_VAR"},
		"too long":                   {client.SecretsRequest{Secrets: map[string]string{"MY_VAR": strings.Repeat("x", maxSecretBytes+1)}}, "secrets.MY_VAR"},
		"NUL":                        {client.SecretsRequest{Secrets: map[string]string{"MY_VAR": "a\x00b"}}, "secrets.MY_VAR"},
		"white space":                {client.SecretsRequest{Secrets: map[string]string{"openaiApiKey": "sk-1 "}}, "secrets.openaiApiKey"},
		"prefix":                     {client.SecretsRequest{Secrets: map[string]string{"slackBotToken": "xapp-1"}}, "secrets.slackBotToken"},
		"set and deleted":            {client.SecretsRequest{Secrets: map[string]string{"MY_VAR": "x"}, DeleteSecrets: []string{"MY_VAR"}}, "deleteSecrets[0]"},
		"deleting the unknown":       {client.SecretsRequest{DeleteSecrets: []string{"MY_VAR", "nonsense"}}, "deleteSecrets[1]"},
		"deleting what is not there": {client.SecretsRequest{DeleteSecrets: []string{"NOT_THERE"}}, ""},
		"too many":                   {client.SecretsRequest{Secrets: many}, "secrets"},
		"the last key":               {client.SecretsRequest{DeleteSecrets: []string{"anthropicApiKey", "openaiApiKey", "googleApiKey"}}, "secrets"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, tt.in)
			if tt.want == "" {
				e.Must(err)
				return
			}
			f := fault.From(err)
			if f.Code != fault.Invalid || f.Details[tt.want] == "" {
				t.Errorf("%v, %v", err, f.Details)
			}
		})
	}
	if _, err := e.Agents.SetSecrets(e.Context(), e.Actor, "none", client.SecretsRequest{DeleteSecrets: []string{"MY_VAR"}}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestPrefixOfKeysAtAnotherEndpoint: the prefix of a provider's keys is asked for where the
// agent calls the provider itself after the request.
func TestPrefixOfKeysAtAnotherEndpoint(t *testing.T) {
	e := agenttest.New(t, nil)
	own, other := map[string]string{"anthropicApiKey": "sk-ant-x"}, map[string]string{"anthropicApiKey": "virtual-key"}
	endpoint := map[string]any{"baseUrl": "https://llm.example.com", "llmProvider": "anthropic"}
	refused := func(err error) {
		t.Helper()
		if f := fault.From(err); !fault.Is(err, fault.Invalid) || !strings.Contains(f.Details["secrets.anthropicApiKey"], "sk-ant-") {
			t.Errorf("%v, %v", err, f.Details)
		}
	}
	_, err := e.Agents.Create(e.Context(), e.Actor, client.CreateAgentRequest{Name: "a", Secrets: other})
	refused(err)
	a, err := e.Agents.Create(e.Context(), e.Actor, client.CreateAgentRequest{Name: "a", Secrets: other, Config: endpoint})
	e.Must(err)
	_, err = e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{Secrets: map[string]string{"anthropic_api_key": "another-key"}})
	e.Must(err)
	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Secrets: other, Config: map[string]any{"baseUrl": nil}})
	refused(err)
	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Secrets: own, Config: map[string]any{"baseUrl": nil}})
	e.Must(err)
	_, err = e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{Secrets: other})
	refused(err)
	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Secrets: other})
	refused(err)
	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Secrets: other, Config: endpoint})
	e.Must(err)
}

func TestSetSecretsIsAllOrNothing(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	_, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{Secrets: map[string]string{"MY_VAR": "x"}, DeleteSecrets: []string{"anthropicApiKey"}})
	if !fault.Is(err, fault.Invalid) {
		t.Fatal(err)
	}
	kept, err := e.Vault.Read(t.Context(), e.DB, a.AccountID, vault.OfAgent(a.ID))
	if err != nil || len(kept) != 1 || kept[provider.AnthropicKey].Empty() {
		t.Errorf("%d secrets, %v", len(kept), err)
	}
}

func TestSecretsAreNowhereUnencrypted(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.SetSecrets(a.ID, map[string]string{"MY_VAR": "hidden-value", "anthropicApiKey": "sk-ant-hidden"})
	for table, columns := range map[string]string{"agents": "config || last_error || spec_digest", "events": "data", "secrets": "CAST(sealed AS TEXT)"} {
		e.CheckCount(0, `SELECT count(*) FROM `+table+` WHERE `+columns+` LIKE '%hidden%'`)
	}
	g := e.Driver.Gateway(a.ID)
	held, err := g.Secrets()
	if err != nil || strings.Contains(string(held), "sk-ant") || strings.Contains(strings.Join(g.Args(), " "), "hidden") {
		t.Errorf("the gateway holds a provider's key: %s, %q, %v", held, g.Args(), err)
	}
	for name, v := range g.Spec.Env {
		if strings.Contains(v.Reveal(), "sk-ant") {
			t.Errorf("%s holds a provider's key", name)
		}
	}
}
