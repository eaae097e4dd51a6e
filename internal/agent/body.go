package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// Purposes of the tokens that belong to an agent.
const (
	gatewayToken = "gateway" // what callers of the gateway show it
	modelToken   = "model"   // what the gateway shows the model proxy
	toolsToken   = "tools"   // what the gateway shows our MCP endpoint
	specHash     = "spec"    // the key of the hash of a spec
)

// body puts an agent together: its spec, its files, the way to its gateway.
type body struct {
	Settings
	homes *homes
	given generation // of secrets that gateways have been given

	mu        sync.Mutex
	links     map[string]*link             // by agent; guarded by mu
	delivered map[string]map[string]string // by agent: the hash of each file its home was given; guarded by mu
}

func newBody(s Settings) *body {
	return &body{Settings: s, homes: newHomes(), links: map[string]*link{}, delivered: map[string]map[string]string{}}
}

// secrets are all that an agent has: its own, and its swarm's where it has none of
// that name.
func (b *body) secrets(ctx context.Context, q database.Querier, a Agent) (map[string]vault.Secret, error) {
	all := map[string]vault.Secret{}
	if a.SwarmID != "" {
		shared, err := readSecrets(ctx, b.Vault, q, a.account(), a.swarmOwner())
		if err != nil {
			return nil, fmt.Errorf("secrets of the swarm: %w", err)
		}
		maps.Copy(all, shared)
	}
	own, err := readSecrets(ctx, b.Vault, q, a.account(), a.owner())
	if err != nil {
		return nil, fmt.Errorf("secrets of the agent: %w", err)
	}
	maps.Copy(all, own)
	return all, nil
}

func (b *body) secretNames(ctx context.Context, q database.Querier, a Agent) (map[string]bool, error) {
	all := map[string]bool{}
	for _, owner := range []vault.OwnerID{a.owner(), a.swarmOwner()} {
		if owner == "" {
			continue
		}
		names, err := b.Vault.Names(ctx, q, a.account(), owner)
		if err != nil {
			return nil, fmt.Errorf("names of secrets: %w", err)
		}
		for _, n := range names {
			all[string(n)] = true
		}
	}
	return all, nil
}

// spec is all that a's gateway needs to exist, and its mark. Provider keys are not
// in it: the gateway has only a token for the model proxy. What the agent's owner
// must mend first is a failure.
func (b *body) spec(ctx context.Context, q database.Querier, a Agent) (runtime.Spec, mark, error) {
	secrets, err := b.secrets(ctx, q, a)
	if err != nil {
		return runtime.Spec{}, mark{}, err
	}
	p, _ := provider(a.Config, func(n string) bool { _, ok := secrets[n]; return ok })
	if p == "" {
		text := "The agent has no key for its model provider: set one with PUT /v1/agents/" + a.ID + "/secrets and start it again."
		return runtime.Spec{}, mark{}, failure{category: Credentials, text: text, final: true}
	}
	tokens := map[string]vault.Secret{}
	for _, purpose := range []string{gatewayToken, modelToken, toolsToken, specHash} {
		if tokens[purpose], err = b.Vault.Token(ctx, q, a.account(), a.owner(), purpose); err != nil {
			return runtime.Spec{}, mark{}, fmt.Errorf("token: %w", err)
		}
	}
	spec, err := openclaw.Spec(b.describe(a, p, secrets, tokens))
	if fault.Is(err, fault.Invalid) {
		text := fault.From(err).Message + " Change it with PATCH /v1/agents/" + a.ID + " and start the agent again."
		return spec, mark{}, failure{category: Config, text: text, final: true}
	}
	if err != nil {
		return spec, mark{}, fmt.Errorf("render config: %w", err)
	}
	return spec, markOf(spec, tokens[specHash]), nil
}

// describe tells the agent in OpenClaw's terms.
func (b *body) describe(a Agent, p openclaw.Provider, secrets, tokens map[string]vault.Secret) openclaw.Agent {
	d := openclaw.Agent{
		ID: a.ID, Token: tokens[gatewayToken], Env: environment(secrets), Limits: b.Limits,
		Model: openclaw.Model{
			Provider: p, ID: a.Config.Model(), Responses: p == openclaw.OpenAI && a.Config.BaseURL() == "",
			URL: b.InternalURL + "/" + string(p), Token: bearer(a.ID, tokens[modelToken]),
		},
	}
	if b.Tools {
		d.MCP = &openclaw.MCP{URL: b.InternalURL + "/mcp", Token: bearer(a.ID, tokens[toolsToken])}
	}
	if token := secrets[TelegramToken]; !token.Empty() && a.Config.Channel("telegram") {
		d.Telegram = &openclaw.Telegram{Token: token, URL: b.TelegramURL}
	}
	bot, app := secrets[SlackBotToken], secrets[SlackAppToken]
	if !bot.Empty() && !app.Empty() && a.Config.Channel("slack") {
		d.Slack = &openclaw.Slack{BotToken: bot, AppToken: app}
	}
	return d
}

// environment is what of an agent's secrets becomes environment variables.
func environment(secrets map[string]vault.Secret) map[string]vault.Secret {
	env := map[string]vault.Secret{}
	for name, s := range secrets {
		if envName.MatchString(name) {
			env[name] = s
		}
	}
	return env
}

// bearer is a token that says whose it is, so that it can be found and compared.
func bearer(agentID string, token vault.Secret) vault.Secret {
	return vault.NewSecret(agentID + "." + token.Reveal())
}

// stale says whether what runs differs from what is wanted.
func (b *body) stale(ctx context.Context, q database.Querier, a Agent) (bool, error) {
	if a.RunningHash == "" || a.Wanted != WantRunning || a.Place == "" {
		return false, nil
	}
	_, wanted, err := b.spec(ctx, q, a)
	if f := (failure{}); errors.As(err, &f) {
		return true, nil
	}
	return wanted.String() != a.RunningHash, err
}

// erase removes an agent's records in every room.
func (b *body) erase(ctx context.Context, tx *database.Tx, a Agent) error {
	if err := b.Vault.Shred(ctx, tx, a.account(), a.owner()); err != nil {
		return err
	}
	if err := b.Workspace.DeleteAgent(ctx, tx, a.account(), a.id()); err != nil {
		return err
	}
	for _, erase := range b.Erase {
		if err := erase(ctx, tx, a.AccountID, a.ID); err != nil {
			return err
		}
	}
	return nil
}
