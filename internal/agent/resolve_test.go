package agent

import (
	"strings"
	"sync"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/modelproxy"
	providers "agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

func (w *world) token(a Agent, purpose string) vault.Secret {
	w.t.Helper()
	token, err := w.Vault.Token(w.ctx(), w.db, a.account(), a.owner(), purpose)
	w.must(err)
	return bearer(a.ID, token)
}

func (w *world) set(id string, secrets map[string]string) {
	w.t.Helper()
	_, err := w.SetSecrets(w.ctx(), w.who, id, client.SecretsRequest{Secrets: secrets})
	w.must(err)
}

func TestResolve(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	up, err := w.Resolve(w.ctx(), w.token(a, modelToken), "anthropic")
	if err != nil || up.Key.Reveal() != "sk-ant-test" || up.AgentID != a.ID || up.AccountID != a.AccountID || up.BaseURL != "" {
		t.Errorf("%+v, %v", up, err)
	}
	if up, err = w.Resolve(w.ctx(), w.token(a, modelToken), "openai"); !fault.Is(err, fault.Invalid) || up.AgentID != a.ID {
		t.Errorf("a provider without a key: %+v, %v", up, err)
	}
	w.set(a.ID, map[string]string{"anthropicApiKey": "sk-ant-rotated"})
	if up, err = w.Resolve(w.ctx(), w.token(a, modelToken), "anthropic"); err != nil || up.Key.Reveal() != "sk-ant-rotated" {
		t.Errorf("after a rotation: %v", err)
	}
}

func TestResolveEndpoint(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.URLs = modelproxy.Guard{AllowPrivate: true} })
	in := newAgent("ada")
	in.Secrets["openaiApiKey"] = "sk-two"
	in.Config = map[string]any{"llmProvider": "openai", "baseUrl": "http://127.0.0.1:11434/v1"}
	asked, err := w.Create(w.ctx(), w.who, in)
	w.must(err)
	for provider, want := range map[string]string{"openai": "http://127.0.0.1:11434/v1", "anthropic": ""} {
		if up, err := w.Resolve(w.ctx(), w.token(asked.Agent, modelToken), provider); err != nil || up.BaseURL != want {
			t.Errorf("%s: %q, %v", provider, up.BaseURL, err)
		}
	}
}

func TestTokensOfOthers(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.create("ada"), w.create("bob")
	if got, err := w.CallerOf(w.ctx(), w.token(a, toolsToken)); err != nil || got != (Caller{a.AccountID, a.ID, ""}) {
		t.Errorf("%+v, %v", got, err)
	}
	deleted := w.create("eve")
	gone := w.token(deleted, toolsToken)
	asked, err := w.Delete(w.ctx(), w.who, deleted.ID)
	w.must(err)
	if _, err := w.CallerOf(w.ctx(), gone); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("one that is being deleted: %v", err)
	}
	w.must(w.AwaitDeleted(w.ctx(), asked))
	_, secret, _ := strings.Cut(w.token(b, toolsToken).Reveal(), ".")
	for name, token := range map[string]string{
		"empty": "", "id alone": a.ID, "nothing after the dot": a.ID + ".", "another purpose": w.token(a, modelToken).Reveal(),
		"another agent's": a.ID + "." + secret, "one letter more": w.token(a, toolsToken).Reveal() + "0", "deleted": gone.Reveal(),
		"no agent": "x." + secret, "only dots": "...", "upper case": strings.ToUpper(w.token(a, toolsToken).Reveal()),
	} {
		if got, err := w.CallerOf(w.ctx(), vault.NewSecret(token)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := w.Resolve(w.ctx(), vault.NewSecret(strings.ReplaceAll(token, w.token(a, modelToken).Reveal(), "y")), "anthropic"); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s as a model token: %v", name, err)
		}
	}
}

func TestSwarmCredentials(t *testing.T) {
	w := newWorld(t, nil)
	s, err := w.swarms.Create(w.ctx(), w.who.Actor(), "bees", "", "")
	w.must(err)
	shared := map[providers.SecretName]vault.Secret{AnthropicKey: vault.NewSecret("sk-ant-shared"), OpenAIKey: vault.NewSecret("sk-shared")}
	w.must(w.db.Tx(w.ctx(), func(tx *database.Tx) error {
		return w.Vault.Put(w.ctx(), tx, w.who.AccountID, vault.OfSwarm(s.ID), shared)
	}))

	asked, err := w.Create(w.ctx(), w.who, client.CreateAgentRequest{Name: "without a key", SwarmID: string(s.ID)})
	w.must(err)
	a, err := w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	key := func(provider, want string) {
		t.Helper()
		if up, err := w.Resolve(w.ctx(), w.token(a, modelToken), provider); err != nil || up.Key.Reveal() != want {
			t.Errorf("%s: %v", provider, err)
		}
	}
	key("anthropic", "sk-ant-shared")
	w.set(a.ID, map[string]string{"anthropicApiKey": "sk-ant-own"})
	key("anthropic", "sk-ant-own")
	key("openai", "sk-shared")
	if got, err := w.CallerOf(w.ctx(), w.token(a, toolsToken)); err != nil || got.SwarmID != string(s.ID) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.SetSecrets(w.ctx(), w.who, a.ID, client.SecretsRequest{DeleteSecrets: []string{"anthropic_api_key"}}); err != nil {
		t.Errorf("the swarm has a key still: %v", err)
	}
	key("anthropic", "sk-ant-shared")
	_, err = w.Update(w.ctx(), w.who, a.ID, client.UpdateAgentRequest{SwarmID: client.Optional[string]{Set: true, Null: true}})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("leaving with no key of its own: %v", err)
	}
}

func TestObserve(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	told := func(x modelproxy.Exchange, category Category, text string) {
		t.Helper()
		x.AgentID = a.ID
		w.Observe(x)
		w.until(a.ID, func(a Agent) bool { return a.ErrorCategory == category && a.LastError == text })
	}
	refused := modelproxy.Exchange{Status: 401, KeyRefused: true, Failure: "The key sk-ant-test is refused: set another one."}
	told(refused, Credentials, "The key [secret] is refused: set another one.")
	told(modelproxy.Exchange{Status: 200}, "", "")
	told(modelproxy.Exchange{Status: 503}, Model, "The model provider answered with HTTP status 503.")
	w.Observe(modelproxy.Exchange{AgentID: a.ID})       // the gateway hung up: no news
	w.Observe(modelproxy.Exchange{Status: 200})         // whose?
	w.Observe(modelproxy.Exchange{AgentID: "nobody's"}) // deleted meanwhile
	told(modelproxy.Exchange{Failure: "The provider cannot be reached."}, Model, "The provider cannot be reached.")
	if now := w.find(a.ID); now.Status != client.Running {
		t.Errorf("%+v", now)
	}

	told(refused, Credentials, "The key [secret] is refused: set another one.")
	asked, err := w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	if now, err := w.AwaitRunning(w.ctx(), asked); err != nil || now.LastError != "" {
		t.Errorf("after a restart: %+v, %v", now, err)
	}
	told(refused, Credentials, "The key [secret] is refused: set another one.") // the same again
}

func TestObserveOnlyWhileRunning(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Kill(a.ID, 78)
	broken := w.untilStatus(a.ID, client.Errored)
	w.must(w.write(w.ctx(), a.ID, note{}))
	if now := w.find(a.ID); now.LastError != broken.LastError || now.ErrorCategory != Config {
		t.Errorf("%+v", now)
	}
}

// TestSwarmGoesMeanwhile: no agent comes to be in a swarm that is just being deleted.
func TestSwarmGoesMeanwhile(t *testing.T) {
	w := newWorld(t, nil)
	for range 20 {
		s, err := w.swarms.Create(w.ctx(), w.who.Actor(), "bees", "", "")
		w.must(err)
		in := newAgent("ada")
		in.SwarmID = string(s.ID)
		var both sync.WaitGroup
		for range 4 {
			both.Go(func() {
				if _, err := w.Create(w.ctx(), w.who, in); err != nil && !fault.Is(err, fault.Invalid) {
					t.Errorf("create: %v", err)
				}
			})
		}
		both.Go(func() {
			if err := w.swarms.Delete(w.ctx(), w.who.Actor(), s.ID); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		both.Wait()
	}
	w.count(0, `SELECT count(*) FROM agents WHERE swarm_id <> '' AND swarm_id NOT IN (SELECT id FROM swarms)`)
}
