package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// botPlaceholder returns what the gateway has in place of the bot's token. OpenClaw reads
// the bot's number from it, keeps which messages it has read by its digest, so it does not
// change with the gateway, and connects anew when it changes, so it changes with the token.
func (c credentials) botPlaceholder() (vault.Secret, error) {
	token := c.secrets[provider.TelegramToken].Reveal()
	sum := sha256.Sum256([]byte(token))
	derived, err := c.own.Token("telegram bot " + hex.EncodeToString(sum[:]))
	if err != nil {
		return vault.Secret{}, fmt.Errorf("placeholder of a bot's token: %w", err)
	}
	return vault.NewSecret(botNumber(token) + ":" + derived.Reveal()), nil
}

// botNumber returns the bot's number, which begins its token; "0" if it does not.
func botNumber(token string) string {
	number, _, ok := strings.Cut(token, ":")
	if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
		return "0"
	}
	return number
}

// ResolveBot implements botapi.Resolver.
func (m *Manager) ResolveBot(ctx context.Context, id identity.AgentID, token vault.Secret) (botapi.Bot, error) {
	unknown := fault.New(fault.Unauthorized, "This token belongs to no bot of the agent.")
	if !checkConnection(ctx, id) {
		m.log.ErrorContext(ctx, "an agent called the Bot API of another agent", "agent", ctx.Value(callerKey{}), "of", id)
		return botapi.Bot{}, unknown
	}
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) || err == nil && (a.DesiredState == agent.DesiredDeleted || a.Damage != "") {
		return botapi.Bot{}, unknown
	}
	if err != nil {
		return botapi.Bot{}, err
	}
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return botapi.Bot{}, err
	}
	if !a.Config.UsesTelegram(c.secrets.has) {
		return botapi.Bot{}, unknown
	}
	placeholder, err := c.botPlaceholder()
	if isKeyDamaged(err) {
		return botapi.Bot{}, unknown.Because(err)
	}
	if err != nil {
		return botapi.Bot{}, err
	}
	if subtle.ConstantTimeCompare([]byte(placeholder.Reveal()), []byte(token.Reveal())) != 1 {
		return botapi.Bot{}, unknown
	}
	return m.botOf(ctx, a, c, placeholder)
}

// botOf returns the bot of an agent that has one. Faults: Conflict, as of botapi.Resolver.
func (m *Manager) botOf(ctx context.Context, a agent.Agent, c credentials, placeholder vault.Secret) (botapi.Bot, error) {
	bot := botapi.Bot{Account: a.AccountID, Agent: a.ID, Gateway: a.GatewayGeneration, Wakes: a.Sleep.Wakes}
	if !c.own.HasClaim(provider.TelegramToken) {
		if ok, err := m.claimBot(ctx, a); err != nil {
			return botapi.Bot{}, err
		} else if !ok {
			return bot, fault.New(fault.Conflict, "%s", agent.TokenTaken(a.ID, provider.TelegramToken))
		}
	}
	bot.Token, bot.Placeholder = c.secrets[provider.TelegramToken], placeholder
	return bot, nil
}

// ResolveSleeping implements botapi.Sleepers.
func (m *Manager) ResolveSleeping(ctx context.Context, id identity.AgentID, holder string) (bot botapi.Bot, asleep bool, err error) {
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		return botapi.Bot{}, false, nil
	}
	if err != nil {
		return botapi.Bot{}, false, err
	}
	if wake := a.NextWake(); !a.IsAsleep() || a.Damage != "" || a.Lease.Holder != holder || !wake.IsZero() && !wake.After(time.Now()) {
		return botapi.Bot{}, false, nil
	}
	none := fault.New(fault.NotFound, "The agent has no bot.")
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return botapi.Bot{}, false, err
	}
	if !a.Config.UsesTelegram(c.secrets.has) {
		return botapi.Bot{}, false, none
	}
	if listens, err := m.mayListen(ctx, a); err != nil || !listens {
		return botapi.Bot{}, false, err
	}
	placeholder, err := c.botPlaceholder()
	if err != nil {
		return botapi.Bot{}, false, err
	}
	bot, err = m.botOf(ctx, a, c, placeholder)
	return bot, err == nil, err
}

// WakeAt implements botapi.Sleepers.
func (m *Manager) WakeAt(ctx context.Context, id identity.AgentID, at time.Time) error {
	return m.store.WantAwake(ctx, id, at)
}

// Changes implements botapi.Sleepers.
func (m *Manager) Changes(id identity.AgentID) (changed <-chan struct{}, end func()) {
	return m.events.Subscribe(event.ReconcileTopic(id))
}

// claimBot claims a bot's token that another agent had before, and reports whether the agent
// has it now.
func (m *Manager) claimBot(ctx context.Context, a agent.Agent) (ok bool, err error) {
	owner := vault.OfAgent(a.ID)
	err = m.db.Tx(ctx, "gateway.claim_bot", func(ctx context.Context, tx *database.Tx) error {
		if err := m.vault.Claim(ctx, tx, a.AccountID, owner); err != nil {
			return err
		}
		all, err := m.vault.ReadMany(ctx, tx, a.AccountID, owner)
		ok = all[owner].HasClaim(provider.TelegramToken)
		return err
	})
	return ok, err
}
