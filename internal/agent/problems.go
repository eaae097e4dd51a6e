package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// Problem is something that is wrong with an agent and that a person can repair.
type Problem struct {
	ID       identity.AgentID
	Name     string
	Failed   bool // the agent is in error, and stays so until somebody does something
	Category ErrorCategory
	Channel  channel.Name // of a problem with a channel
	Text     string       // what is wrong, and what to do, as View shows it
	Since    time.Time    // zero: not known
}

// Problems returns what is wrong with the agents of an account: at most one problem of each, and
// one of each of its channels. Its number of queries does not grow with the number of agents.
func (s *Service) Problems(ctx context.Context, account identity.AccountID) ([]Problem, error) {
	agents, err := database.All(ctx, s.db, scanTroubled, `SELECT id, name, config, swarm_id, shown_status, shown_status <> status, desired_state, last_error, error_category, CASE WHEN typeof(error_since) = 'integer' THEN error_since ELSE 0 END, place,
		CASE WHEN shown_status = status THEN gateway_generation ELSE 0 END
		FROM agents WHERE account_id = $1 AND desired_state <> 'deleted' AND (shown_status = 'error' OR desired_state = 'running' AND (last_error <> '' OR NOT `+hasUsableKey+` OR `+hasChannel+`)) ORDER BY created_at DESC, id DESC`, account)
	if err != nil {
		return nil, fmt.Errorf("read the states of agents: %w", err)
	}
	secrets, err := s.secretsOf(ctx, account, agents)
	if err != nil {
		return nil, err
	}
	failing, err := s.failingChannels(ctx, account)
	if err != nil {
		return nil, err
	}
	if len(agents) == 0 {
		return nil, nil
	}
	configs := map[string]Config{} // most agents have the same one
	var all []Problem
	for i := range agents {
		a := &agents[i]
		if a.Damage != "" {
			all = append(all, a.problem(CategoryRecord, damageText(a.Damage)))
			continue
		}
		if a.Config, err = decodeConfig(configs, a.config); err != nil {
			return nil, fmt.Errorf("read the config of agent %s: %w", a.ID, err)
		}
		all = append(all, a.problems(secrets[string(a.ID)], secrets[string(a.SwarmID)], failing[a.ID])...)
	}
	return all, nil
}

// troubled is an agent as far as Problems needs it.
type troubled struct {
	Agent
	config string
	since  time.Time
}

func scanTroubled(r database.Row) (t troubled, err error) {
	var damaged bool
	var since int64
	err = r.Scan(&t.ID, &t.Name, &t.config, &t.SwarmID, &t.Status, &damaged, &t.DesiredState, &t.LastError, &t.ErrorCategory, &since, &t.Place, &t.GatewayGeneration)
	if damaged {
		t.Damage = "a column cannot be read"
	}
	if since > 0 {
		t.since = database.Time(since)
	}
	return t, err
}

func decodeConfig(known map[string]Config, text string) (Config, error) {
	if c, ok := known[text]; ok {
		return c, nil
	}
	var c Config
	err := database.DecodeJSON(text, &c)
	known[text] = c
	return c, err
}

func (t *troubled) problem(c ErrorCategory, text string) Problem {
	return Problem{ID: t.ID, Name: t.Name, Failed: t.Status == client.Errored, Category: c, Text: text, Since: t.since}
}

// problems returns what is wrong with an agent that is not damaged.
func (t *troubled) problems(own, shared ownedSecrets, failing map[channel.Name]reportedChannel) []Problem {
	var all []Problem
	k, hasKey := t.Config.ChooseKey(own.origins, shared.origins)
	switch {
	case t.Status == client.Errored:
		all = append(all, t.problem(t.ErrorCategory, t.LastError))
	case t.DesiredState != DesiredRunning:
		return nil // nobody misses it
	case !k.Usable():
		text := missingKey(t.ID)
		if hasKey {
			text = k.Problem(t.Agent)
		}
		all = append(all, t.problem(CategoryCredentials, text))
	case t.LastError != "":
		all = append(all, t.problem(t.ErrorCategory, t.LastError))
	}
	if t.DesiredState != DesiredRunning {
		return all
	}
	for _, name := range []channel.Name{channel.Slack, channel.Telegram} {
		if !slices.ContainsFunc(channelTokens[name], own.has) || !t.Config.channelEnabled(string(name)) {
			continue
		}
		text := t.tokenProblem(name, own.has, own.unclaimed)
		since := time.Time{}
		if r, ok := failing[name]; text == "" && ok && r.gateway == t.GatewayGeneration && t.IsRunning() {
			text, since = r.text, r.since
		}
		if text != "" {
			p := t.problem(CategoryChannel, text)
			p.Channel, p.Since, p.Failed = name, since, false
			all = append(all, p)
		}
	}
	return all
}

// ownedSecrets are the named secrets of one owner.
type ownedSecrets struct {
	origins   Origins
	unclaimed []provider.SecretName
}

func (o ownedSecrets) has(n provider.SecretName) bool { _, ok := o.origins[n]; return ok }

// hasUsableKey is true of most agents that have a key for what they call: it saves looking at their
// configs. hasChannel is true of those that have a token of a channel.
var hasUsableKey, hasChannel = func() (string, string) {
	var keys []string
	for _, p := range provider.All() {
		own, err := p.Origin("")
		if err != nil {
			panic(err) // it is a constant
		}
		keys = append(keys, fmt.Sprintf(`s.name = '%s' AND s.origin = '%s' AND coalesce(json_extract(config, '$.llmProvider'), '%s') = '%s'`, p.Secret, own, p.Name, p.Name))
	}
	const ofAgent = `EXISTS (SELECT 1 FROM secrets s WHERE s.account_id = agents.account_id AND s.owner_id = agents.id AND `
	usable := `CASE WHEN json_valid(config) AND json_extract(config, '$.baseUrl') IS NULL THEN ` + ofAgent + `(` + strings.Join(keys, ` OR `) + `)) ELSE FALSE END`
	return usable, ofAgent + fmt.Sprintf(`s.name IN ('%s', '%s', '%s'))`, provider.TelegramToken, provider.SlackBotToken, provider.SlackAppToken)
}()

// secretsOf returns what is known of the secrets of agents and of their swarms, by owner.
func (s *Service) secretsOf(ctx context.Context, account identity.AccountID, agents []troubled) (map[string]ownedSecrets, error) {
	all := map[string]ownedSecrets{}
	var owners []vault.OwnerID
	for i := range agents {
		owners = append(owners, vault.OfAgent(agents[i].ID))
		if swarm := agents[i].SwarmID; swarm != "" {
			owners = append(owners, vault.OfSwarm(swarm))
		}
	}
	slices.Sort(owners)
	for some := range slices.Chunk(slices.Compact(owners), maxOwners) {
		found, err := s.vault.Origins(ctx, s.db, account, some...)
		if err != nil {
			return nil, err
		}
		for owner, origins := range found {
			all[string(owner)] = ownedSecrets{origins: origins}
		}
	}
	if len(owners) == 0 {
		return all, nil
	}
	type row struct {
		owner string
		name  provider.SecretName
	}
	unclaimed, err := database.All(ctx, s.db, func(r database.Row) (v row, err error) { return v, r.Scan(&v.owner, &v.name) },
		`SELECT owner_id, name FROM secrets WHERE account_id = $1 AND claim = '' AND name IN ($2, $3, $4)`, account, provider.TelegramToken, provider.SlackBotToken, provider.SlackAppToken)
	if err != nil {
		return nil, fmt.Errorf("list unclaimed secrets: %w", err)
	}
	for _, v := range unclaimed {
		if o, ok := all[v.owner]; ok && v.name.IsExclusive() {
			o.unclaimed = append(o.unclaimed, v.name)
			all[v.owner] = o
		}
	}
	return all, nil
}

// maxOwners is how many owners a query names.
const maxOwners = 1000

// reportedChannel is a channel that a gateway cannot connect to.
type reportedChannel struct {
	gateway int64
	text    string
	since   time.Time
}

func (s *Service) failingChannels(ctx context.Context, account identity.AccountID) (map[identity.AgentID]map[channel.Name]reportedChannel, error) {
	reports, err := s.channels.ListFailed(ctx, s.db, account)
	all := map[identity.AgentID]map[channel.Name]reportedChannel{}
	for _, r := range reports {
		if all[r.Agent] == nil {
			all[r.Agent] = map[channel.Name]reportedChannel{}
		}
		all[r.Agent][r.Channel] = reportedChannel{r.Gateway, r.Error, r.Since}
	}
	return all, err
}
