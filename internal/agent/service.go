package agent

import (
	"agento.host/agento/internal/identity"

	"context"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// DefaultRegion is where an agent lives whose creator names no region.
const DefaultRegion = "eu"

// View is an agent as its reader sees it.
type View struct {
	Agent
	Provider     openclaw.Provider // the provider it talks to, empty if it has no key
	Swarm        swarm.Swarm       // zero: none
	WorkflowMD   string
	NeedsRestart bool // what runs differs from what is wanted
}

// Outcome is what came of a wish.
type Outcome struct {
	Agent
	Wish int64 // give it to Await
}

// Create stores a new agent, wanted running; the reconciler makes its gateway.
// Faults: Invalid, naming every broken field; PlanLimit.
func (s *Service) Create(ctx context.Context, who access.Principal, in client.CreateAgentRequest) (Outcome, error) {
	a, in := s.newAgent(who, in)
	secrets, err := s.checkNew(ctx, a, in)
	if err != nil {
		return Outcome{}, err
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := s.roomForOne(ctx, tx, string(who.AccountID)); err != nil {
			return err
		}
		if err := s.stillThere(ctx, tx, a); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, who, a, secrets, in); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.reconciler.Wake(a.ID) })
		return s.tell(ctx, tx, who, a.ID, "agent.created", map[string]any{"name": a.Name, "region": a.Region})
	})
	return Outcome{a, a.Wish}, err
}

// CheckNew names everything that is wrong with a request for a new agent.
// Faults: Invalid.
func (s *Service) CheckNew(ctx context.Context, who access.Principal, in client.CreateAgentRequest) error {
	a, in := s.newAgent(who, in)
	_, err := s.checkNew(ctx, a, in)
	return err
}

func (s *Service) newAgent(who access.Principal, in client.CreateAgentRequest) (Agent, client.CreateAgentRequest) {
	if len(in.Secrets) == 0 && !s.DemoKey.Empty() {
		in.Secrets = map[string]string{AnthropicKey: s.DemoKey.Reveal()}
	}
	if in.Region == "" {
		in.Region = DefaultRegion
	}
	return Agent{
		ID: uuid.Must(uuid.NewV7()).String(), AccountID: string(who.AccountID), Name: in.Name, Region: in.Region, Config: Options{}.merge(in.Config), SwarmID: in.SwarmID,
		Wanted: WantRunning, Wish: 1, Status: client.Provisioning, CreatedAt: now(),
	}, in
}

func (s *Service) checkNew(ctx context.Context, a Agent, in client.CreateAgentRequest) (map[string]vault.Secret, error) {
	wrong := fault.Fields{}
	validateName(wrong, a.Name)
	if a.Region != "eu" && a.Region != "us" {
		wrong.Add("region", `must be "us" or "eu"`)
	}
	a.Config.validate(wrong, s.URLs)
	secrets := parseSecrets(wrong, "secrets.", in.Secrets)
	workspace.CheckNew(wrong, in.SoulMD, in.WorkflowMD)
	names, err := s.shared(ctx, wrong, a)
	if err != nil {
		return nil, err
	}
	for name := range secrets {
		names[name] = true
	}
	checkProvider(wrong, a.Config, names)
	return secrets, wrong.Err()
}

// shared returns the names of the credentials that an agent gets from its swarm,
// and notes a swarm that is not there.
func (s *Service) shared(ctx context.Context, wrong fault.Fields, a Agent) (map[string]bool, error) {
	names := map[string]bool{}
	if a.SwarmID == "" {
		return names, nil
	}
	if there, err := s.inSwarm(ctx, s.DB, wrong, a); err != nil || !there {
		return names, err
	}
	list, err := s.Vault.Names(ctx, s.DB, a.account(), a.swarmOwner())
	for _, n := range list {
		names[string(n)] = true
	}
	return names, err
}

// inSwarm says whether a's swarm is there, and notes it if not.
func (s *Service) inSwarm(ctx context.Context, q database.Querier, wrong fault.Fields, a Agent) (bool, error) {
	err := s.Swarms.Exists(ctx, q, a.account(), identity.SwarmID(a.SwarmID))
	if fault.Is(err, fault.NotFound) {
		wrong.Add("swarmId", "names no swarm of this account")
		return false, nil
	}
	return err == nil, err
}

// stillThere looks for a's swarm again, now that none can be deleted.
func (s *Service) stillThere(ctx context.Context, tx *database.Tx, a Agent) error {
	if a.SwarmID == "" {
		return nil
	}
	wrong := fault.Fields{}
	if _, err := s.inSwarm(ctx, tx, wrong, a); err != nil {
		return err
	}
	return wrong.Err()
}

// checkProvider notes what an agent lacks to talk to a model.
func checkProvider(wrong fault.Fields, o Options, names map[string]bool) {
	has := func(name string) bool { return names[name] }
	if p, _ := provider(o, has); p != "" {
		return
	}
	for _, p := range providerKeys {
		if o.Provider() == string(p.provider) {
			wrong.Add("secrets."+p.secret, "is required, since config.llmProvider is %q", p.provider)
			return
		}
	}
	wrong.Add("secrets", "must have at least one of anthropicApiKey, openaiApiKey or googleApiKey")
}

func (s *Service) roomForOne(ctx context.Context, tx *database.Tx, accountID string) error {
	plan, err := s.Access.PlanOf(ctx, tx, identity.AccountID(accountID))
	if err != nil {
		return err
	}
	have, _, err := usage(ctx, tx, accountID)
	if err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	return plan.AllowsAgent(have)
}

func (s *Service) insert(ctx context.Context, tx *database.Tx, who access.Principal, a Agent, secrets map[string]vault.Secret, in client.CreateAgentRequest) error {
	if err := insert(ctx, tx, a); err != nil {
		return fmt.Errorf("insert agent: %w", err)
	}
	if err := putSecrets(ctx, s.Vault, tx, a, secrets); err != nil {
		return err
	}
	return s.Workspace.Init(ctx, tx, who.Actor(), a.id(), a.Name, in.SoulMD, in.WorkflowMD)
}

// List returns every agent of the account, newest first, and the swarms that they
// may be in by their ids.
func (s *Service) List(ctx context.Context, who access.Principal) ([]Agent, map[identity.SwarmID]swarm.Swarm, error) {
	agents, err := list(ctx, s.DB, string(who.AccountID))
	if err != nil {
		return nil, nil, err
	}
	swarms, err := s.Swarms.Names(ctx, s.DB, who.AccountID)
	return agents, swarms, err
}

// Find returns an agent. Faults: NotFound.
func (s *Service) Find(ctx context.Context, who access.Principal, id string) (Agent, error) {
	return find(ctx, s.DB, string(who.AccountID), id)
}

// View returns an agent with what its reader is shown beside the record.
// Faults: NotFound.
func (s *Service) View(ctx context.Context, who access.Principal, id string) (View, error) {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, s.DB, a)
}

func (s *Service) view(ctx context.Context, q database.Querier, a Agent) (View, error) {
	v := View{Agent: a}
	names, err := s.body.secretNames(ctx, q, a)
	if err != nil {
		return v, err
	}
	v.Provider, _ = provider(a.Config, func(n string) bool { return names[n] })
	if a.SwarmID != "" {
		swarms, err := s.Swarms.Names(ctx, q, a.account())
		if err != nil {
			return v, err
		}
		v.Swarm = swarms[identity.SwarmID(a.SwarmID)]
	}
	content, err := s.Workspace.Content(ctx, q, a.account(), a.id())
	if err != nil {
		return v, err
	}
	v.WorkflowMD = content.WorkflowMD
	v.NeedsRestart, err = s.body.stale(ctx, q, a)
	return v, err
}

// ShownConfig is the agent's config with what it comes to: the provider in use,
// and how it authenticates.
func (v View) ShownConfig() map[string]any {
	shown := v.Config.merge(nil)
	if v.Config.Provider() == "" && v.Provider != "" {
		shown[optProvider] = string(v.Provider)
	}
	shown["authType"] = "api_key"
	return shown
}

// Update changes an agent's name, avatar, config or swarm. What runs is told what
// can be told while it runs; the rest shows in NeedsRestart.
// Faults: NotFound; Invalid, naming every broken field.
func (s *Service) Update(ctx context.Context, who access.Principal, id string, in client.UpdateAgentRequest) (View, error) {
	var before, after Agent
	var v View
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if before, err = find(ctx, tx, string(who.AccountID), id); err != nil {
			return err
		}
		if after, err = s.changed(ctx, tx, before, in); err != nil {
			return err
		}
		if err := update(ctx, tx, after); err != nil {
			return fmt.Errorf("update agent: %w", err)
		}
		if after.Name != before.Name {
			if err := s.Workspace.Rename(ctx, tx, who.Actor(), after.id(), after.Name); err != nil {
				return err
			}
		}
		tx.AfterCommit(func() { s.reconciler.Nudge(id) })
		if err := s.tell(ctx, tx, who, id, "agent.updated", changedFields(in)); err != nil {
			return err
		}
		v, err = s.view(ctx, tx, after)
		return err
	})
	if err == nil && runs(after) && (v.NeedsRestart || after.Name != before.Name) {
		v.NeedsRestart = s.waitsStill(ctx, who, after)
	}
	return v, err
}

// changed returns the agent as it will be, or an Invalid fault.
func (s *Service) changed(ctx context.Context, q database.Querier, a Agent, in client.UpdateAgentRequest) (Agent, error) {
	wrong := fault.Fields{}
	if in.Name.Set {
		a.Name = in.Name.Value
		validateName(wrong, a.Name)
	}
	if in.AvatarURL.Set {
		if a.AvatarURL = in.AvatarURL.Value; !in.AvatarURL.Null {
			validateAvatar(wrong, a.AvatarURL)
		}
	}
	if in.Config != nil {
		a.Config = a.Config.merge(in.Config)
		a.Config.validate(wrong, s.URLs)
	}
	if in.SwarmID.Set {
		if a.SwarmID = in.SwarmID.Value; !in.SwarmID.Null {
			if _, err := s.inSwarm(ctx, q, wrong, a); err != nil {
				return a, err
			}
		}
	}
	if in.Config == nil && !in.SwarmID.Set {
		return a, wrong.Err()
	}
	names, err := s.body.secretNames(ctx, q, a)
	if err != nil {
		return a, err
	}
	checkProvider(wrong, a.Config, names)
	return a, wrong.Err()
}

func changedFields(in client.UpdateAgentRequest) map[string]any {
	fields := map[string]any{}
	if in.Name.Set {
		fields["name"] = in.Name.Value
	}
	if in.AvatarURL.Set {
		fields["avatarUrl"] = in.AvatarURL.Value
	}
	if in.SwarmID.Set {
		fields["swarmId"] = in.SwarmID.Value
	}
	if in.Config != nil {
		keys := make([]string, 0, len(in.Config))
		for k := range in.Config {
			keys = append(keys, k)
		}
		fields["config"] = keys
	}
	return fields
}

// Start asks for a running gateway. Faults: NotFound.
func (s *Service) Start(ctx context.Context, who access.Principal, id string) (Outcome, error) {
	return s.wish(ctx, who, id, WantRunning, false, "agent.start_requested")
}

// Stop asks that the gateway be stopped; the home stays. Faults: NotFound.
func (s *Service) Stop(ctx context.Context, who access.Principal, id string) (Outcome, error) {
	return s.wish(ctx, who, id, WantStopped, false, "agent.stop_requested")
}

// Restart asks for a fresh gateway with the latest config, secrets and skills.
// Faults: NotFound.
func (s *Service) Restart(ctx context.Context, who access.Principal, id string) (Outcome, error) {
	return s.wish(ctx, who, id, WantRunning, true, "agent.restart_requested")
}

// Delete asks that everything of the agent be removed. From now on it is not
// found. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, who access.Principal, id string) (Outcome, error) {
	return s.wish(ctx, who, id, WantDeleted, false, "agent.deleted")
}

func (s *Service) wish(ctx context.Context, who access.Principal, id string, want Wanted, fresh bool, kind string) (Outcome, error) {
	var a Agent
	var wish int64
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if a, err = find(ctx, tx, string(who.AccountID), id); err != nil {
			return err
		}
		if wish, err = ask(ctx, tx, a, want, fresh); err != nil {
			return fmt.Errorf("write wish: %w", err)
		}
		if wish == a.Wish {
			return nil
		}
		tx.AfterCommit(func() { s.reconciler.Wake(id) })
		return s.tell(ctx, tx, who, id, kind, nil)
	})
	return Outcome{a, wish}, err
}

// tell appends to the audit log what a caller changed.
func (s *Service) tell(ctx context.Context, tx *database.Tx, who access.Principal, id, kind string, data map[string]any) error {
	return s.Events.Append(ctx, tx, who.Actor(), event.Event{Topic: topic(id), Kind: kind, Data: data})
}

// Usage counts the account's agents and how many of them are wanted running.
func (s *Service) Usage(ctx context.Context, who access.Principal) (agents, running int, err error) {
	return usage(ctx, s.DB, string(who.AccountID))
}
