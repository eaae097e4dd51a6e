package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/starter"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// Create stores a new agent that should run; the reconciler starts its gateway. If the
// actor's request has created an agent before, Create returns that agent.
// Faults: Invalid, naming every invalid field; Conflict, if another agent has a channel
// token; PlanLimit; Unauthorized, if the account was disabled meanwhile; NotFound, if the
// agent of an earlier execution was deleted; Unavailable, if agents cannot be isolated.
func (s *Service) Create(ctx context.Context, actor identity.Actor, in client.CreateAgentRequest) (Accepted, error) {
	a, in := s.newAgent(actor.AccountID, in)
	secrets, err := s.checkNew(ctx, a, in)
	if err != nil {
		return Accepted{}, err
	}
	return s.create(ctx, actor, a, secrets, in)
}

// CreateWithRoom is Create for a caller that waits until the agent runs. It stores nothing
// until there is room for the gateway. Faults: as Create; Unavailable, if there has been
// no room for a minute.
func (s *Service) CreateWithRoom(ctx context.Context, actor identity.Actor, in client.CreateAgentRequest) (Accepted, error) {
	a, in := s.newAgent(actor.AccountID, in)
	secrets, err := s.checkNew(ctx, a, in)
	if err != nil {
		return Accepted{}, err
	}
	if err := s.reserve(ctx, actor, a, secrets); err != nil {
		return Accepted{}, err
	}
	accepted, err := s.create(ctx, actor, a, secrets, in)
	if err != nil || accepted.ID != a.ID {
		s.admission.Release(a.ID)
	}
	return accepted, err
}

// reserve waits for the room of a new agent. It does not wait for one that create will
// refuse, or return without creating it.
// Faults: PlanLimit; Conflict, if another agent has a channel token; Unavailable, if there is
// no room, or if agents cannot be isolated.
func (s *Service) reserve(ctx context.Context, actor identity.Actor, a Agent, secrets secretValues) error {
	if _, repeated, err := s.events.Repeated(ctx, s.db, actor); repeated || err != nil {
		return err
	}
	if err := s.gateways.CheckIsolation(); err != nil {
		return err
	}
	if err := s.checkPlan(ctx, s.db, actor.AccountID); err != nil {
		return err
	}
	if err := s.vault.CheckClaims(ctx, s.db, a.AccountID, vault.OfAgent(a.ID), secrets); err != nil {
		return claimFault(a.AccountID, err)
	}
	limited, cancel := s.store.withRoomTimeout(ctx)
	defer cancel()
	err := s.admission.Reserve(limited, a.AccountID, a.ID, a.Region)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return noRoom(a.Region)
	}
	return err
}

// noRoom returns the fault for a caller whose new agent has no room in its region.
func noRoom(region string) error {
	f := fault.New(fault.Unavailable, "No server of the region %s has room for another agent, so none was created: stop or delete one that is not needed, or ask the operator for more. With the header Prefer: respond-async the agent is created and waits.", region)
	f.RetryAfter = retryRoom
	return f.With("errorCategory", string(CategoryCapacity))
}

func (s *Service) create(ctx context.Context, actor identity.Actor, a Agent, secrets secretValues, in client.CreateAgentRequest) (Accepted, error) {
	err := s.db.Tx(ctx, "agent.create", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockAgents, string(actor.AccountID)); err != nil {
			return err
		}
		if created, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok {
			a, err = s.store.Find(ctx, tx, actor.AccountID, identity.AgentID(created.Topic.ID()))
			return err
		}
		if err := s.gateways.CheckIsolation(); err != nil {
			return err
		}
		if err := s.checkPlan(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := s.recheckSwarm(ctx, tx, a); err != nil {
			return err
		}
		if err := s.insert(ctx, tx, actor, a, secrets, in); err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(a.ID))
		return s.appendEvent(ctx, tx, actor, a.ID, "agent.created", createdData(a, in))
	})
	return Accepted{a, a.Generation}, err
}

func createdData(a Agent, in client.CreateAgentRequest) map[string]any {
	data := map[string]any{"name": a.Name, "region": a.Region}
	if in.Starter != "" {
		data["starter"] = in.Starter
	}
	return data
}

// CheckNew returns everything that is wrong with a request for a new agent.
// Faults: Invalid.
func (s *Service) CheckNew(ctx context.Context, account identity.AccountID, in client.CreateAgentRequest) error {
	a, in := s.newAgent(account, in)
	_, err := s.checkNew(ctx, a, in)
	return err
}

func (s *Service) newAgent(account identity.AccountID, in client.CreateAgentRequest) (Agent, client.CreateAgentRequest) {
	if len(in.Secrets) == 0 && !s.demoKey.Empty() {
		in.Secrets = map[string]string{string(provider.AnthropicKey): s.demoKey.Reveal()}
	}
	if from, ok := starter.Find(in.Starter); ok {
		in.SoulMD, in.WorkflowMD = cmp.Or(in.SoulMD, from.SoulMD), cmp.Or(in.WorkflowMD, from.WorkflowMD)
	}
	if in.Region == "" {
		in.Region = DefaultRegion
	}
	return Agent{
		ID: identity.AgentID(uuid.Must(uuid.NewV7()).String()), AccountID: account, Name: in.Name, Region: in.Region,
		Config: Config{}.merge(in.Config), SwarmID: identity.SwarmID(in.SwarmID), Revision: 1,
		DesiredState: DesiredRunning, Generation: 1, Status: client.Provisioning, Power: PowerAwake, CreatedAt: now(),
	}, in
}

func (s *Service) checkNew(ctx context.Context, a Agent, in client.CreateAgentRequest) (secretValues, error) {
	problems := fault.Fields{}
	validateName(problems, a.Name)
	if err := s.validateRegion(ctx, problems, a.Region); err != nil {
		return nil, err
	}
	s.checkNewConfig(problems, in.Config)
	secrets := parseSecrets(problems, in.Secrets)
	checkKeys(problems, a.Config, in.Secrets)
	workspace.CheckNew(problems, in.SoulMD, in.WorkflowMD)
	starter.Check(problems, in.Starter)
	names := secretNames{}
	if a.SwarmID != "" {
		exists, err := s.checkSwarm(ctx, s.db, problems, a)
		if err != nil {
			return nil, err
		}
		if exists {
			if names, err = s.secretNames(ctx, s.db, a); err != nil {
				return nil, err
			}
		}
	}
	for name := range secrets {
		names[name] = true
	}
	checkProvider(problems, a.Config, names)
	return secrets, problems.Err()
}

// checkNewConfig adds a problem for everything that is wrong with the config of a new agent.
func (s *Service) checkNewConfig(problems fault.Fields, config map[string]any) {
	checkConfigKeys(problems, config)
	checkNoNulls(problems, config)
	Config{}.merge(config).validate(problems, s.urls)
	Config(config).validateLimits(problems, s.turnLimits)
}

// checkSwarm reports whether a's swarm exists, and adds a problem if not.
func (s *Service) checkSwarm(ctx context.Context, q database.Reader, problems fault.Fields, a Agent) (exists bool, err error) {
	err = s.swarms.Exists(ctx, q, a.AccountID, a.SwarmID)
	if fault.Is(err, fault.NotFound) {
		problems.Add("swarmId", "names no swarm of this account")
		return false, nil
	}
	return err == nil, err
}

// recheckSwarm reads a's swarm again inside the write transaction, which serialises
// with the swarm's deletion. Faults: Invalid.
func (s *Service) recheckSwarm(ctx context.Context, tx *database.Tx, a Agent) error {
	if a.SwarmID == "" {
		return nil
	}
	if err := tx.Lock(ctx, database.LockSwarm, string(a.SwarmID)); err != nil {
		return err
	}
	problems := fault.Fields{}
	if _, err := s.checkSwarm(ctx, tx, problems, a); err != nil {
		return err
	}
	return problems.Err()
}

// checkPlan returns nil if the account's plan allows one more agent.
// Faults: PlanLimit; Unauthorized, if the account was disabled or deleted meanwhile.
func (s *Service) checkPlan(ctx context.Context, tx database.Reader, account identity.AccountID) error {
	if err := s.access.CheckActive(ctx, tx, account); err != nil {
		return err
	}
	plan, err := s.access.PlanOf(ctx, tx, account)
	if err != nil {
		return err
	}
	agents, _, err := s.store.Usage(ctx, tx, account)
	if err != nil {
		return fmt.Errorf("count agents: %w", err)
	}
	return plan.AllowsAgent(agents)
}

func (s *Service) insert(ctx context.Context, tx *database.Tx, actor identity.Actor, a Agent, secrets secretValues, in client.CreateAgentRequest) error {
	if err := s.store.insert(ctx, tx, a); err != nil {
		return err
	}
	bound, err := a.Config.bind(secrets)
	if err != nil {
		return err
	}
	if err := s.vault.Put(ctx, tx, a.AccountID, vault.OfAgent(a.ID), bound); err != nil {
		return claimFault(a.AccountID, err)
	}
	from, _ := starter.Find(in.Starter)
	rules := make([]workspace.NewRule, len(from.Rules))
	for i, r := range from.Rules {
		rules[i] = workspace.NewRule(r)
	}
	if err := s.workspace.Init(ctx, tx, actor, a.ID, a.Name, in.SoulMD, in.WorkflowMD, rules); err != nil || len(from.Skills) == 0 {
		return err
	}
	return s.installSkills(ctx, tx, actor, a.ID, from.Skills)
}
