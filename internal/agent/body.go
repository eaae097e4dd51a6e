package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"sync"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
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
	mu        sync.Mutex
	gateways  map[string]*Gateway // by agent; guarded by mu
	delivered map[string]string   // by agent: the hash of the files its home has; guarded by mu
}

func newBody(s Settings) *body {
	return &body{Settings: s, gateways: map[string]*Gateway{}, delivered: map[string]string{}}
}

// Gateway is the way to a running agent's gateway.
type Gateway struct {
	*openclaw.Gateway
	place string
}

// gateway returns the way to the gateway at a's place, keeping its connections for
// the next caller.
func (b *body) gateway(ctx context.Context, a Agent) (*Gateway, error) {
	b.mu.Lock()
	g := b.gateways[a.ID]
	b.mu.Unlock()
	if g != nil && g.place == a.Place {
		return g, nil
	}
	token, err := b.Vault.Token(ctx, b.DB, a.AccountID, a.ID, gatewayToken)
	if err != nil {
		return nil, fmt.Errorf("gateway token: %w", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return b.Driver.Dial(ctx, a.Place, a.ID) }
	g = &Gateway{place: a.Place, Gateway: openclaw.NewGateway(dial, token)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if other := b.gateways[a.ID]; other != nil {
		if other.place == a.Place {
			return other, nil // another caller was faster
		}
		other.Close()
	}
	b.gateways[a.ID] = g
	return g, nil
}

// forget closes the connections to an agent's gateway.
func (b *body) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.gateways[id]; g != nil {
		g.Close()
	}
	delete(b.gateways, id)
	delete(b.delivered, id)
}

// secrets are all that an agent has: its own, and its swarm's where it has none of
// that name.
func (b *body) secrets(ctx context.Context, q database.Querier, a Agent) (map[string]vault.Secret, error) {
	all := map[string]vault.Secret{}
	if a.SwarmID != "" {
		shared, err := b.Vault.Read(ctx, q, a.AccountID, a.SwarmID)
		if err != nil {
			return nil, fmt.Errorf("secrets of the swarm: %w", err)
		}
		maps.Copy(all, shared)
	}
	own, err := b.Vault.Read(ctx, q, a.AccountID, a.ID)
	if err != nil {
		return nil, fmt.Errorf("secrets of the agent: %w", err)
	}
	maps.Copy(all, own)
	return all, nil
}

func (b *body) secretNames(ctx context.Context, q database.Querier, a Agent) (map[string]bool, error) {
	all := map[string]bool{}
	for _, owner := range []string{a.ID, a.SwarmID} {
		if owner == "" {
			continue
		}
		names, err := b.Vault.Names(ctx, q, a.AccountID, owner)
		if err != nil {
			return nil, fmt.Errorf("names of secrets: %w", err)
		}
		for _, n := range names {
			all[n] = true
		}
	}
	return all, nil
}

// spec is all that a's gateway needs to exist, and its hash. Provider keys are not
// in it: the gateway has only a token for the model proxy.
func (b *body) spec(ctx context.Context, q database.Querier, a Agent) (runtime.Spec, string, error) {
	secrets, err := b.secrets(ctx, q, a)
	if err != nil {
		return runtime.Spec{}, "", err
	}
	p, _ := provider(a.Config, func(n string) bool { _, ok := secrets[n]; return ok })
	if p == "" {
		return runtime.Spec{}, "", failure{Credentials, "The agent has no key for its model provider: set one with PUT /v1/agents/" + a.ID + "/secrets and start it again.", "", true}
	}
	tokens := map[string]vault.Secret{}
	for _, purpose := range []string{gatewayToken, modelToken, toolsToken, specHash} {
		if tokens[purpose], err = b.Vault.Token(ctx, q, a.AccountID, a.ID, purpose); err != nil {
			return runtime.Spec{}, "", fmt.Errorf("token: %w", err)
		}
	}
	spec, err := openclaw.Spec(b.describe(a, p, secrets, tokens))
	if fault.Is(err, fault.Invalid) {
		return spec, "", failure{Config, fault.From(err).Message + " Change it with PATCH /v1/agents/" + a.ID + " and start the agent again.", "", true}
	}
	if err != nil {
		return spec, "", fmt.Errorf("render config: %w", err)
	}
	return spec, hashOf(spec, tokens[specHash]), nil
}

// describe tells the agent in OpenClaw's terms.
func (b *body) describe(a Agent, p openclaw.Provider, secrets, tokens map[string]vault.Secret) openclaw.Agent {
	d := openclaw.Agent{
		ID: a.ID, Token: tokens[gatewayToken], Env: environment(secrets), PluginDir: b.PluginDir, Limits: b.Limits,
		Model: openclaw.Model{
			Provider: p, ID: a.Config.Model(), Responses: p == openclaw.OpenAI && a.Config.BaseURL() == "",
			URL: b.InternalURL + "/" + string(p), Token: bearer(a.ID, tokens[modelToken]),
		},
	}
	if b.Tools {
		d.MCP = &openclaw.MCP{URL: b.InternalURL + "/mcp", Token: bearer(a.ID, tokens[toolsToken])}
	}
	if token := secrets[TelegramToken]; !token.Empty() && a.Config.Channel("telegram") {
		d.Telegram = &openclaw.Telegram{Token: token}
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

// hashOf tells two specs apart. It is keyed, since a spec holds secrets and the
// hash is kept in the clear.
func hashOf(s runtime.Spec, key vault.Secret) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	put := func(parts ...string) {
		for _, p := range parts {
			_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // a hash takes every write
		}
	}
	put(s.Args...)
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		put(name, s.Env[name].Reveal())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		put(name, string(s.Files[name]))
	}
	put(string(s.Secrets), fmt.Sprint(s.Limits))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// stale says whether what runs differs from what is wanted.
func (b *body) stale(ctx context.Context, q database.Querier, a Agent) (bool, error) {
	if a.RunningHash == "" || a.Wanted != WantRunning || a.Place == "" {
		return false, nil
	}
	_, hash, err := b.spec(ctx, q, a)
	if f := (failure{}); errors.As(err, &f) {
		return true, nil
	}
	return hash != a.RunningHash, err
}

// deliver writes the agent's documents and skills into its home, where they differ
// from what was delivered last.
func (b *body) deliver(ctx context.Context, a Agent) error {
	content, err := b.Workspace.Content(ctx, b.DB, a.AccountID, a.ID)
	if err != nil {
		return fmt.Errorf("read documents: %w", err)
	}
	files, err := b.files(ctx, a, content)
	if err != nil {
		return err
	}
	hash := hashOf(runtime.Spec{Files: files}, vault.Secret{})
	b.mu.Lock()
	same := b.delivered[a.ID] == hash
	b.mu.Unlock()
	if same {
		return nil
	}
	if err := b.write(ctx, a, files, content.Gone); err != nil {
		return err
	}
	err = b.DB.Tx(ctx, func(tx *database.Tx) error { return b.Workspace.Delivered(ctx, tx, a.AccountID, a.ID, content) })
	if err != nil {
		return fmt.Errorf("note what was delivered: %w", err)
	}
	b.mu.Lock()
	b.delivered[a.ID] = hash
	b.mu.Unlock()
	return nil
}

// files is all that the home of an agent is to hold, by path.
func (b *body) files(ctx context.Context, a Agent, c workspace.Content) (map[string][]byte, error) {
	told := openclaw.Content{Name: a.Name, SoulMD: c.SoulMD, IdentityMD: c.IdentityMD, WorkflowMD: c.WorkflowMD}
	for _, r := range c.Rules {
		told.Rules = append(told.Rules, openclaw.Rule(r))
	}
	files := openclaw.WorkspaceFiles(told)
	if b.Furnish == nil {
		return files, nil
	}
	more, err := b.Furnish(ctx, b.DB, a.AccountID, a.ID)
	if err != nil {
		return nil, fmt.Errorf("read what else the home holds: %w", err)
	}
	maps.Copy(files, more)
	return files, nil
}

func (b *body) write(ctx context.Context, a Agent, files map[string][]byte, gone []string) error {
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := home.WriteFile(name, files[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	for _, name := range gone {
		for _, entry := range []openclaw.Entry{openclaw.Main, openclaw.Guest} {
			if err := home.RemoveAll(path.Join(entry.Workspace(), name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}

// absorb takes over what the agent wrote into its own documents. That it fails
// must not keep an agent from being stopped or started.
func (b *body) absorb(ctx context.Context, a Agent) {
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		b.Log.ErrorContext(ctx, "opening an agent's home failed", "agent", a.ID, "error", err)
		return
	}
	defer func() { _ = home.Close() }()
	if _, err := b.Workspace.Absorb(ctx, a.AccountID, a.ID, workspace.Within(home, openclaw.Main.Workspace())); err != nil && ctx.Err() == nil {
		b.Log.ErrorContext(ctx, "taking over an agent's own edits failed", "agent", a.ID, "error", err)
	}
}

// sync brings the home of a running agent up to date, both ways.
func (b *body) sync(ctx context.Context, a Agent) error {
	b.absorb(ctx, a)
	return b.deliver(ctx, a)
}

// erase removes an agent's records in every room.
func (b *body) erase(ctx context.Context, tx *database.Tx, a Agent) error {
	if err := b.Vault.Shred(ctx, tx, a.AccountID, a.ID); err != nil {
		return err
	}
	if err := b.Workspace.DeleteAgent(ctx, tx, a.AccountID, a.ID); err != nil {
		return err
	}
	for _, erase := range b.Erase {
		if err := erase(ctx, tx, a.AccountID, a.ID); err != nil {
			return err
		}
	}
	return nil
}
