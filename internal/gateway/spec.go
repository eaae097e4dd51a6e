package gateway

import (
	"context"
	"errors"
	"fmt"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// SpecError means that an agent cannot have a gateway until its owner changes
// something. Starting it again does not help.
type SpecError struct {
	Category agent.ErrorCategory
	Message  string // a sentence that says what to change
}

// Error implements error.
func (e *SpecError) Error() string { return e.Message }

// RaiseTokens begins a new generation of a's tokens, for a gateway that is about to start:
// those of the last gateway end. Errors: agent.ErrOutdated, if the caller no longer holds a.
func (m *Manager) RaiseTokens(ctx context.Context, a agent.Agent) error {
	err := m.db.Tx(ctx, "gateway.raise_tokens", func(ctx context.Context, tx *database.Tx) error {
		if err := m.store.CheckHeld(ctx, tx, a); err != nil {
			return err
		}
		_, err := m.vault.RaiseTokens(ctx, tx, a.AccountID, vault.OfAgent(a.ID), false)
		return err
	})
	if errors.Is(err, vault.ErrNoKey) {
		return nil // Spec says what to do
	}
	return err
}

// Spec returns everything that a's gateway needs to exist, and the digest of it.
// Provider keys are not in it: the gateway has only a token for the model proxy.
// Errors: *SpecError.
func (m *Manager) Spec(ctx context.Context, a agent.Agent) (spec runtime.Spec, digest string, err error) {
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return runtime.Spec{}, "", err
	}
	spec, d, err := m.makeSpec(a, c)
	return spec, d.String(), err
}

func (m *Manager) makeSpec(a agent.Agent, c credentials) (runtime.Spec, specDigest, error) {
	if err := c.check(a); err != nil {
		return runtime.Spec{}, specDigest{}, err
	}
	k, ok := a.Config.ChooseKey(c.ownOrigins, c.sharedOrigins)
	if !ok {
		text := "The agent has no key for its model provider: set one with PUT /v1/agents/" + string(a.ID) + "/secrets and start it again."
		return runtime.Spec{}, specDigest{}, &SpecError{Category: agent.CategoryCredentials, Message: text}
	}
	described, err := m.describe(a, k.Provider, c)
	if err != nil {
		return runtime.Spec{}, specDigest{}, err
	}
	key, err := c.own.Token(purposeSpec)
	if err != nil {
		return runtime.Spec{}, specDigest{}, fmt.Errorf("key of the digest: %w", err)
	}
	spec, err := openclaw.Spec(described)
	if fault.Is(err, fault.Invalid) {
		text := fault.From(err).Message + " Change it with PATCH /v1/agents/" + string(a.ID) + " and start the agent again."
		return spec, specDigest{}, &SpecError{Category: agent.CategoryConfig, Message: text}
	}
	if err != nil {
		return spec, specDigest{}, fmt.Errorf("render config: %w", err)
	}
	return spec, digestOf(spec, key), nil
}

// internalURL is this server as gateways reach it.
const internalURL = "http://" + runtime.ServerAddr

const (
	// ToolsPath is where Calls serves the tools of agents.
	ToolsPath = "/tools"
	// FormerToolsPath is where gateways call them that an earlier version has started: they
	// are adopted, or wake, with the URL of their start.
	FormerToolsPath = "/mcp"
)

// describe returns the agent in OpenClaw's terms.
func (m *Manager) describe(a agent.Agent, p provider.Provider, c credentials) (openclaw.Agent, error) {
	gatewayToken, err := c.token(purposeGateway)
	if err != nil {
		return openclaw.Agent{}, err
	}
	modelToken, err := c.token(purposeModel)
	if err != nil {
		return openclaw.Agent{}, err
	}
	toolsToken, err := c.token(purposeTools)
	if err != nil {
		return openclaw.Agent{}, err
	}
	d := openclaw.Agent{
		ID: a.ID, Token: gatewayToken, Env: environment(c.secrets), Limits: m.limits,
		Model: openclaw.Model{
			Provider: p, ID: a.Config.Model(), Protocol: p.EndpointProtocol(a.Config.BaseURL()),
			URL: internalURL + "/" + string(p.Name), Token: bearerToken(a.ID, modelToken), MaxOutput: a.Config.MaxOutputTokens(),
		},
	}
	if m.tools {
		d.MCP = &openclaw.MCP{URL: internalURL + ToolsPath, Token: bearerToken(a.ID, toolsToken)}
	}
	if err := describeChannels(&d, a, c); err != nil {
		return openclaw.Agent{}, err
	}
	return d, nil
}

// describeChannels adds the channels. A bot's token stays here: see package botapi. Slack is
// left out while another agent has one of its tokens.
func describeChannels(d *openclaw.Agent, a agent.Agent, c credentials) error {
	if a.Config.UsesTelegram(c.secrets.has) {
		placeholder, err := c.botPlaceholder()
		if err != nil {
			return err
		}
		d.Telegram = &openclaw.Telegram{Token: placeholder, URL: internalURL + botapi.Path(a.ID)}
	}
	if a.Config.UsesSlack(c.secrets.has) && c.own.HasClaim(provider.SlackBotToken) && c.own.HasClaim(provider.SlackAppToken) {
		d.Slack = &openclaw.Slack{BotToken: c.secrets[provider.SlackBotToken], AppToken: c.secrets[provider.SlackAppToken]}
	}
	return nil
}

// environment returns the secrets that become environment variables.
func environment(secrets secretSet) map[string]vault.Secret {
	env := map[string]vault.Secret{}
	for name, s := range secrets {
		if name.IsVariable() {
			env[string(name)] = s
		}
	}
	return env
}

// bearerToken returns a token that begins with the id of its agent, by which
// findByToken finds the agent.
func bearerToken(id identity.AgentID, token vault.Secret) vault.Secret {
	return vault.NewSecret(string(id) + "." + token.Reveal())
}
