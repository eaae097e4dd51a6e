package gateway_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// createWith creates an agent with further secrets and returns it when it runs.
func createWith(t *testing.T, e *agenttest.Env, name string, secrets map[string]string) agent.Agent {
	t.Helper()
	in := agenttest.NewAgent(name)
	for n, s := range secrets {
		in.Secrets[n] = s
	}
	accepted, err := e.Agents.Create(e.Context(), e.Actor, in)
	e.Must(err)
	a, err := e.Agents.AwaitRunning(e.Context(), accepted)
	e.Must(err)
	return a
}

// botToken returns the token that an agent's gateway has for its bot.
func botToken(t *testing.T, e *agenttest.Env, id identity.AgentID) vault.Secret {
	t.Helper()
	text, err := e.Driver.Gateway(id).Secrets()
	e.Must(err)
	var held struct{ TelegramBotToken string }
	e.Must(json.Unmarshal(text, &held))
	return vault.NewSecret(held.TelegramBotToken)
}

// A gateway has a token of its own in place of the bot's. It begins with the bot's number,
// stays the same when the gateway is replaced, and changes with the bot's token.
func TestGatewaysDoNotHaveTheBotsToken(t *testing.T) {
	e := agenttest.New(t, nil)
	a := createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
	held := botToken(t, e, a.ID)
	if strings.Contains(held.Reveal(), "real") || !strings.HasPrefix(held.Reveal(), "777:") || len(held.Reveal()) < 40 {
		t.Errorf("the gateway has %q", held.Reveal())
	}
	bot, err := e.Gateways.ResolveBot(e.Context(), a.ID, held)
	if err != nil || bot.Token.Reveal() != "777:real" || bot.Placeholder.Reveal() != held.Reveal() || bot.Agent != a.ID || bot.Account != a.AccountID || bot.Gateway != a.GatewayGeneration {
		t.Errorf("%+v, %v", bot, err)
	}
	for _, wrong := range []string{"", "777:real", held.Reveal() + "x"} {
		if _, err := e.Gateways.ResolveBot(e.Context(), a.ID, vault.NewSecret(wrong)); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	other := createWith(t, e, "bob", map[string]string{"telegramBotToken": "778:real"})
	if _, err := e.Gateways.ResolveBot(e.Context(), other.ID, held); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("the token of another agent's gateway: %v", err)
	}
	values, err := e.Gateways.SecretValues(e.Context(), a)
	e.Must(err)
	masked := map[string]bool{}
	for _, v := range values {
		masked[v.Reveal()] = true
	}
	if !masked["777:real"] || !masked[held.Reveal()] {
		t.Error("the log does not mask both tokens")
	}
	e.Restart(a.ID)
	if now := botToken(t, e, a.ID); now.Reveal() != held.Reveal() {
		t.Error("another gateway has another token: it would read messages again")
	}
	e.SetSecrets(a.ID, map[string]string{"telegramBotToken": "777:renewed"})
	if now := botToken(t, e, a.ID); now.Reveal() == held.Reveal() {
		t.Error("the gateway does not connect anew with a new token")
	}
	if _, err := e.Gateways.ResolveBot(e.Context(), a.ID, held); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("the token from before: %v", err)
	}
}

// A token connects one agent of the installation. Another account does not learn whose it is.
func TestATokenConnectsOneAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Exec(`INSERT INTO accounts (id, name, plan_id, created_at) VALUES ('acct_2', 'b', 'plan_self_hosted', 1)`)
	stranger := identity.ByKey("acct_2", "key_2")
	for name, value := range map[string]string{"telegramBotToken": "777:real", "slackBotToken": "xoxb-1", "slackAppToken": "xapp-1"} {
		owner := createWith(t, e, "owner of "+name, map[string]string{name: value})
		ask := agenttest.NewAgent("second")
		ask.Secrets[name] = value
		check := func(what string, err error, names bool) {
			t.Helper()
			f := fault.From(err)
			if f.Code != fault.Conflict || strings.Contains(f.Message, string(owner.ID)) != names || strings.Contains(f.Message, value) || f.Details["secrets."+name] == "" {
				t.Errorf("%s: %+v", what, f)
			}
			if !names && (f.Details["agentId"] != "" || strings.Contains(f.Message, string(owner.AccountID))) {
				t.Errorf("%s says whose it is: %+v", what, f)
			}
		}
		_, err := e.Agents.Create(e.Context(), e.Actor, ask)
		check("create", err, true)
		_, err = e.Agents.CreateWithRoom(e.Context(), e.Actor, ask)
		check("create with room", err, true)
		_, err = e.Agents.Create(e.Context(), stranger, ask)
		check("create in another account", err, false)
		second := e.Create("second")
		_, err = e.Agents.SetSecrets(e.Context(), e.Actor, second.ID, client.SecretsRequest{Secrets: map[string]string{name: value}})
		check("set", err, true)
		_, err = e.Agents.Update(e.Context(), e.Actor, second.ID, client.UpdateAgentRequest{Secrets: map[string]string{name: value}})
		check("update", err, true)

		accepted, err := e.Agents.Delete(e.Context(), e.Actor, owner.ID) // from now on it is free
		e.Must(err)
		_, err = e.Agents.SetSecrets(e.Context(), e.Actor, second.ID, client.SecretsRequest{Secrets: map[string]string{name: value}})
		e.Must(err)
		e.Must(e.Agents.AwaitDeleted(e.Context(), accepted))
	}
}

// A request that is executed again after a crash finds the agent that it has created: the
// agent's own token is not in the way.
func TestARepeatedRequestFindsItsAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	actor := e.Actor
	actor.Request = "idem_1"
	in := agenttest.NewAgent("ada")
	in.Secrets["telegramBotToken"] = "777:real"
	first, err := e.Agents.Create(e.Context(), actor, in)
	e.Must(err)
	e.Must(e.Agents.CheckNew(e.Context(), agenttest.Account, in))
	for name, create := range map[string]func(context.Context, identity.Actor, client.CreateAgentRequest) (agent.Accepted, error){"Create": e.Agents.Create, "CreateWithRoom": e.Agents.CreateWithRoom} {
		if again, err := create(e.Context(), actor, in); err != nil || again.ID != first.ID {
			t.Errorf("%s: %s, %v, want %s", name, again.ID, err, first.ID)
		}
	}
}

// Of two agents that had one token before, the older one is connected; the other says so, and
// is connected once the token is free.
func TestAgentsThatSharedATokenBefore(t *testing.T) {
	e := agenttest.New(t, nil)
	first := createWith(t, e, "first", map[string]string{"telegramBotToken": "777:real", "slackBotToken": "xoxb-1", "slackAppToken": "xapp-1"})
	second := createWith(t, e, "second", map[string]string{"telegramBotToken": "777:other", "slackBotToken": "xoxb-2", "slackAppToken": "xapp-2"})
	release := func(id identity.AgentID) {
		e.Must(e.DB.Tx(e.Context(), "gateway.test", func(ctx context.Context, tx *database.Tx) error {
			return e.Vault.Release(ctx, tx, agenttest.Account, vault.OfAgent(id))
		}))
	}
	release(first.ID)
	e.SetSecrets(second.ID, map[string]string{"telegramBotToken": "777:real", "slackBotToken": "xoxb-1", "slackAppToken": "xapp-1"})
	release(second.ID)
	e.Must(e.Agents.ClaimTokens(e.Context()))

	if _, err := e.Gateways.ResolveBot(e.Context(), first.ID, botToken(t, e, first.ID)); err != nil {
		t.Errorf("the first: %v", err)
	}
	bot, err := e.Gateways.ResolveBot(e.Context(), second.ID, botToken(t, e, second.ID))
	if !fault.Is(err, fault.Conflict) || bot.Agent != second.ID || !bot.Token.Empty() {
		t.Errorf("the second: %+v, %v", bot, err)
	}
	v, err := e.Agents.View(e.Context(), agenttest.Account, second.ID)
	e.Must(err)
	for _, name := range []channel.Name{channel.Telegram, channel.Slack} {
		if s := v.Channels[name]; s.Status != channel.Failed || !strings.Contains(s.Error, "Another agent of this installation") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if v.ErrorCategory != agent.CategoryChannel || strings.Contains(v.LastError, string(first.ID)) {
		t.Errorf("%q (%s)", v.LastError, v.ErrorCategory)
	}
	spec, _, err := e.Gateways.Spec(e.Context(), second)
	e.Must(err)
	if strings.Contains(string(spec.Secrets), "xoxb-1") {
		t.Error("both gateways connect to Slack")
	}
	_, err = e.Agents.SetSecrets(e.Context(), e.Actor, first.ID, client.SecretsRequest{DeleteSecrets: []string{"telegramBotToken"}})
	e.Must(err)
	if bot, err := e.Gateways.ResolveBot(e.Context(), second.ID, botToken(t, e, second.ID)); err != nil || bot.Token.Reveal() != "777:real" {
		t.Errorf("the second, when the token is free: %v", err)
	}
}

// The states of channels and what they say of the agent.
func TestChannelsArePartOfTheAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	a := createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
	view := func() agent.View {
		t.Helper()
		v, err := e.Agents.View(e.Context(), agenttest.Account, a.ID)
		e.Must(err)
		return v
	}
	report := func(status channel.Status, text string) {
		t.Helper()
		e.Channels.Report(channel.Report{Account: agenttest.Account, Agent: a.ID, Gateway: view().GatewayGeneration, Channel: channel.Telegram, Status: status, Error: text})
		for view().Channels[channel.Telegram].Status != status || view().Channels[channel.Telegram].Error != text {
			if e.Context().Err() != nil {
				t.Fatalf("%+v", view().Channels)
			}
			e.Until(a.ID, func(agent.Agent) bool { return true })
		}
	}
	if v := view(); len(v.Channels) != 1 || v.Channels[channel.Telegram].Status != channel.Connecting || v.LastError != "" {
		t.Errorf("%+v %q", v.Channels, v.LastError)
	}
	report(channel.Failed, "The token is dead.")
	if v := view(); v.LastError != "The token is dead." || v.ErrorCategory != agent.CategoryChannel || v.Channels[channel.Telegram].Since.IsZero() {
		t.Errorf("%+v %q %s", v.Channels, v.LastError, v.ErrorCategory)
	}
	e.Must(e.Store.SaveModelResult(e.Context(), a.ID, agent.CategoryModel, "The model fails."))
	if v := view(); v.LastError != "The model fails." || v.ErrorCategory != agent.CategoryModel || v.Channels[channel.Telegram].Error == "" {
		t.Errorf("%+v %q %s", v.Channels, v.LastError, v.ErrorCategory)
	}
	e.Must(e.Store.SaveModelResult(e.Context(), a.ID, "", ""))
	report(channel.Connected, "")
	if v := view(); v.LastError != "" || v.ErrorCategory != "" {
		t.Errorf("%q %s", v.LastError, v.ErrorCategory)
	}
	report(channel.Failed, "The token is dead.")
	e.Restart(a.ID) // says nothing of the new gateway
	if v := view(); v.Channels[channel.Telegram].Status != channel.Connecting || v.LastError != "" {
		t.Errorf("after a restart: %+v %q", v.Channels, v.LastError)
	}
	_, err := e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Config: map[string]any{"channels": map[string]any{"telegram": false}}})
	e.Must(err)
	if v := view(); v.Channels[channel.Telegram].Status != channel.Disabled {
		t.Errorf("switched off: %+v", v.Channels)
	}
	_, err = e.Agents.Update(e.Context(), e.Actor, a.ID, client.UpdateAgentRequest{Config: map[string]any{"channels": nil}})
	e.Must(err)
	e.Stop(a.ID)
	if v := view(); v.Channels[channel.Telegram].Status != channel.Stopped || v.LastError != "" {
		t.Errorf("stopped: %+v %q", v.Channels, v.LastError)
	}
	if v, err := e.Agents.View(e.Context(), agenttest.Account, e.Create("bob").ID); err != nil || v.Channels == nil || len(v.Channels) != 0 {
		t.Errorf("without a token: %+v, %v", v.Channels, err)
	}
}

// A gateway that is never heard of is not connected.
func TestAChannelThatIsNeverConnectedShows(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
		e.SetSecrets(a.ID, map[string]string{"slackBotToken": "xoxb-1", "slackAppToken": "xapp-1"}) // needs a restart
		time.Sleep(3 * time.Minute)
		v, err := e.Agents.View(t.Context(), agenttest.Account, a.ID)
		e.Must(err)
		if !v.NeedsRestart || v.Channels[channel.Slack].Status != channel.Connecting || v.LastError != "" {
			t.Errorf("%+v %q", v.Channels, v.LastError)
		}
		e.Restart(a.ID)
		time.Sleep(time.Minute)
		v, err = e.Agents.View(t.Context(), agenttest.Account, a.ID)
		e.Must(err)
		if v.Channels[channel.Telegram].Status != channel.Connecting || v.LastError != "" {
			t.Errorf("after a minute: %+v %q", v.Channels, v.LastError)
		}
		time.Sleep(2 * time.Minute)
		v, err = e.Agents.View(t.Context(), agenttest.Account, a.ID)
		e.Must(err)
		if s := v.Channels[channel.Telegram]; s.Status != channel.Failed || !strings.Contains(s.Error, "has not connected to the channel telegram") || v.ErrorCategory != agent.CategoryChannel {
			t.Errorf("after three minutes: %+v %q", s, v.LastError)
		}
	})
}

// One of Slack's two tokens connects nothing, and the agent says which one is missing.
func TestSlackNeedsBothTokens(t *testing.T) {
	e := agenttest.New(t, nil)
	for name, missing := range map[string]string{"slackBotToken": "slackAppToken", "slackAppToken": "slackBotToken"} {
		a := createWith(t, e, name, map[string]string{name: map[string]string{"slackBotToken": "xoxb-1", "slackAppToken": "xapp-1"}[name]})
		v, err := e.Agents.View(e.Context(), agenttest.Account, a.ID)
		e.Must(err)
		s := v.Channels[channel.Slack]
		if s.Status != channel.Failed || !strings.Contains(s.Error, "the agent has no "+missing) || v.LastError != s.Error || v.ErrorCategory != agent.CategoryChannel {
			t.Errorf("only %s: %+v %q %s", name, s, v.LastError, v.ErrorCategory)
		}
	}
}

// A report on an agent that is deleted meanwhile leaves nothing.
func TestReportsOnDeletedAgentsAreDropped(t *testing.T) {
	e := agenttest.New(t, nil)
	a := createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
	other := createWith(t, e, "bob", map[string]string{"telegramBotToken": "778:real"})
	accepted, err := e.Agents.Delete(e.Context(), e.Actor, a.ID)
	e.Must(err)
	e.Must(e.Agents.AwaitDeleted(e.Context(), accepted))
	for _, id := range []identity.AgentID{a.ID, other.ID} {
		e.Channels.Report(channel.Report{Account: agenttest.Account, Agent: id, Gateway: 1, Channel: channel.Telegram, Status: channel.Connected})
	}
	count := func() (n int) {
		e.Must(e.DB.QueryRowContext(e.Context(), `SELECT count(*) FROM channel_states`).Scan(&n))
		return n
	}
	for count() == 0 {
		e.Until(other.ID, func(agent.Agent) bool { return true })
	}
	e.Must(e.DB.QueryRowContext(e.Context(), `SELECT agent_id FROM channel_states`).Scan(&a.ID))
	if a.ID != other.ID || count() != 1 {
		t.Errorf("%d rows, of %s", count(), a.ID)
	}
}
