package agent

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/starter"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// DefaultRegion is where an agent lives whose creator names no region.
const DefaultRegion = "eu"

// defaultWaitTimeout is the default of Settings.WaitTimeout.
const defaultWaitTimeout = 2 * time.Minute

// Gateways is what the service needs of the gateway manager.
type Gateways interface {
	// CheckIsolation returns a fault if no gateway can be isolated from others at the
	// moment. It does not block. Faults: Unavailable.
	CheckIsolation() error
	// NeedsRestart reports whether a's running gateway differs from what its record
	// and its secrets now ask for. It is false for an agent that does not run.
	NeedsRestart(ctx context.Context, q database.Reader, a Agent) (bool, error)
	// AnyNeedsRestart is NeedsRestart for many agents of one account. Its number of
	// queries does not grow with the number of agents.
	AnyNeedsRestart(ctx context.Context, q database.Reader, account identity.AccountID, agents []Agent) (bool, error)
	// SyncHome brings the home and the secrets of a running agent up to date.
	SyncHome(ctx context.Context, id identity.AgentID) error
	// AbsorbEdits stores what an agent has written into its own documents.
	AbsorbEdits(ctx context.Context, id identity.AgentID) error
}

// Stopper ends gateways whose desired state cannot be stored.
type Stopper interface {
	// StopUnrecorded ends a's gateway and returns when it has ended. It does not run
	// until record, which stores the desired state, has succeeded, or until a has a newer
	// generation.
	StopUnrecorded(ctx context.Context, a Agent, record func(context.Context) error) error
}

// Admission gives the gateways of agents room on the server.
type Admission interface {
	// Reserve waits until there is room for the gateway of a new agent, and takes it.
	// Errors: ctx's.
	Reserve(ctx context.Context, account identity.AccountID, id identity.AgentID) error
	// Release gives the room of an agent back that was not created.
	Release(id identity.AgentID)
}

// Settings are what a Service needs.
type Settings struct {
	DB        *database.DB
	Store     *Store
	Events    *event.Log
	Vault     *vault.Vault
	Access    *access.Service
	Workspace *workspace.Store
	Swarms    *swarm.Store
	Channels  *channel.Store
	Gateways  Gateways
	Stopper   Stopper
	Admission Admission
	Log       *slog.Logger

	URLs        URLChecker       // checks config.baseUrl
	TurnLimits  modelturn.Limits // that config.limits can lower
	DemoKey     vault.Secret     // in dev: the key of an agent that is created without any
	WaitTimeout time.Duration    // how long AwaitStopped and AwaitDeleted wait; 0: 2 minutes

	// Regions returns the regions that an agent can be in. Nil: eu and us.
	Regions func(ctx context.Context) ([]string, error)
}

// Service holds what callers may do with agents.
type Service struct {
	db          *database.DB
	store       *Store
	events      *event.Log
	vault       *vault.Vault
	access      *access.Service
	workspace   *workspace.Store
	swarms      *swarm.Store
	channels    *channel.Store
	gateways    Gateways
	stopper     Stopper
	admission   Admission
	log         *slog.Logger
	urls        URLChecker
	turnLimits  modelturn.Limits
	demoKey     vault.Secret
	waitTimeout time.Duration
	regions     func(ctx context.Context) ([]string, error)

	installSkills SkillInstaller
}

// SkillInstaller installs verified skills on a new agent, in the transaction that creates it.
// Faults: Conflict, if the catalog lacks one; PlanLimit.
type SkillInstaller func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID, skills []string) error

// InstallSkillsWith sets what installs the skills of starters. It is called once, before the
// first request: the service of skills needs this one.
func (s *Service) InstallSkillsWith(f SkillInstaller) { s.installSkills = f }

// noSkills is the SkillInstaller of a service that was given none.
func noSkills(context.Context, *database.Tx, identity.Actor, identity.AgentID, []string) error {
	return errors.New("no skills can be installed on new agents")
}

// New returns the service.
func New(s Settings) *Service {
	if s.WaitTimeout == 0 {
		s.WaitTimeout = defaultWaitTimeout
	}
	return &Service{
		db: s.DB, store: s.Store, events: s.Events, vault: s.Vault, access: s.Access, workspace: s.Workspace, swarms: s.Swarms, channels: s.Channels,
		gateways: s.Gateways, stopper: s.Stopper, admission: s.Admission, log: s.Log, urls: s.URLs, turnLimits: s.TurnLimits, demoKey: s.DemoKey, waitTimeout: s.WaitTimeout, regions: s.Regions,
		installSkills: noSkills,
	}
}

// View is an agent with what its reader is shown beside the record.
type View struct {
	Agent
	Provider     provider.Name // the provider it calls; empty if it has no key
	Swarm        swarm.Swarm   // zero: none
	WorkflowMD   string
	NeedsRestart bool                           // the running gateway differs from what the record asks for
	NeedsKey     bool                           // it has no key that may be sent where its calls go; LastError says what to do
	Channels     map[channel.Name]channel.State // those that it has a token for
}

// ShownConfig returns the agent's config with the provider in use, and how the agent
// authenticates there.
func (v View) ShownConfig() map[string]any {
	shown := v.Config.merge(nil)
	if v.Config.Provider() == "" && v.Provider != "" {
		shown[keyProvider] = string(v.Provider)
	}
	shown["authType"] = "api_key"
	return shown
}

// Accepted is an agent whose desired state a caller has changed.
type Accepted struct {
	Agent        // as it was found
	Target int64 // the generation that Await waits for
}

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
	err := s.admission.Reserve(limited, a.AccountID, a.ID)
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

// ListWithChannels returns the running agents that are awake, of every account, that are
// connected to a channel.
func (s *Service) ListWithChannels(ctx context.Context) ([]Agent, error) {
	running, err := s.store.ListRunning(ctx, s.db)
	if err != nil {
		return nil, fmt.Errorf("list running agents: %w", err)
	}
	connected := running[:0]
	for i := range running {
		if running[i].Damage != "" || running[i].IsAsleep() { // of the first, its config is unknown
			continue
		}
		names, err := s.secretNames(ctx, s.db, running[i])
		if err != nil {
			return nil, err
		}
		if c := running[i].Config; c.UsesTelegram(names.has) || c.UsesSlack(names.has) {
			connected = append(connected, running[i])
		}
	}
	return connected, nil
}

// Find returns an agent. Faults: NotFound.
func (s *Service) Find(ctx context.Context, account identity.AccountID, id identity.AgentID) (Agent, error) {
	return s.store.Find(ctx, s.db, account, id)
}

// Names returns the names of those of some agents that the account has.
func (s *Service) Names(ctx context.Context, account identity.AccountID, ids []identity.AgentID) (map[identity.AgentID]string, error) {
	return s.store.Names(ctx, s.db, account, ids)
}

// View returns an agent with what its reader is shown beside the record.
// Faults: NotFound.
func (s *Service) View(ctx context.Context, account identity.AccountID, id identity.AgentID) (View, error) {
	a, err := s.store.Find(ctx, s.db, account, id)
	if err != nil {
		return View{}, err
	}
	return s.view(ctx, s.db, a)
}

func (s *Service) view(ctx context.Context, q database.Reader, a Agent) (View, error) {
	v := View{Agent: a}
	own, shared, err := s.secretOrigins(ctx, q, a)
	if err != nil {
		return v, err
	}
	v.showKey(own, shared)
	if a.SwarmID != "" {
		swarms, err := s.swarms.Names(ctx, q, a.AccountID)
		if err != nil {
			return v, err
		}
		v.Swarm = swarms[a.SwarmID]
	}
	content, err := s.workspace.Content(ctx, q, a.AccountID, a.ID)
	if err != nil {
		return v, err
	}
	v.WorkflowMD = content.WorkflowMD
	if v.NeedsRestart, err = s.gateways.NeedsRestart(ctx, q, a); err != nil {
		return v, err
	}
	return v, s.showChannels(ctx, q, &v, own)
}

// showKey sets what the view says of the key. What is missing is not stored: it changes
// with the agent, its secrets, and those of its swarm.
func (v *View) showKey(own, shared Origins) {
	k, ok := v.Config.ChooseKey(own, shared)
	v.Provider = k.Provider.Name
	v.NeedsKey = v.Damage == "" && !k.Usable()
	if !v.NeedsKey || v.Status == client.Errored { // the error is why it does not run
		return
	}
	v.ErrorCategory, v.LastError = CategoryCredentials, missingKey(v.ID)
	if ok {
		v.LastError = k.Problem(v.Agent)
	}
}

// Update changes an agent's name, avatar, config, swarm or secrets. What a running
// gateway can use without a restart is synced to it; the rest shows in NeedsRestart.
// Secrets are bound to the origin that the agent calls after the change.
// Faults: NotFound; Invalid, naming every invalid field; Conflict, if the record is
// damaged, or if another agent has a channel token.
func (s *Service) Update(ctx context.Context, actor identity.Actor, id identity.AgentID, in client.UpdateAgentRequest) (View, error) {
	var before, after Agent
	var v View
	err := s.db.Tx(ctx, "agent.update", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if before, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		if err := before.CheckReadable(); err != nil {
			return err
		}
		var secrets secretValues
		if after, secrets, err = s.apply(ctx, tx, before, in); err != nil {
			return err
		}
		if err := s.saveUpdate(ctx, tx, actor, before, after); err != nil {
			return err
		}
		if len(secrets) > 0 {
			if err := s.changeSecrets(ctx, tx, actor, after, secretChange{set: secrets, deleted: []provider.SecretName{}}); err != nil {
				return err
			}
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		if err := s.appendEvent(ctx, tx, actor, id, "agent.updated", updatedFields(in)); err != nil {
			return err
		}
		v, err = s.view(ctx, tx, after)
		return err
	})
	// A sync that has begun with the former SelfEdit ends before this one.
	if err == nil && after.IsRunning() && (v.NeedsRestart || after.Name != before.Name || after.Config.SelfEdit() != before.Config.SelfEdit()) {
		v.NeedsRestart = s.syncChange(ctx, after)
	}
	return v, err
}

func (s *Service) saveUpdate(ctx context.Context, tx *database.Tx, actor identity.Actor, before, after Agent) error {
	if err := s.store.update(ctx, tx, after); err != nil {
		return err
	}
	if after.Name == before.Name {
		return nil
	}
	return s.workspace.Rename(ctx, tx, actor, after.ID, after.Name)
}

// apply returns the agent with the changes made, and the secrets to set.
// Faults: Invalid.
func (s *Service) apply(ctx context.Context, q database.Reader, a Agent, in client.UpdateAgentRequest) (Agent, secretValues, error) {
	problems := fault.Fields{}
	secrets := parseSecrets(problems, in.Secrets)
	if in.Name.Set {
		a.Name = in.Name.Value
		validateName(problems, a.Name)
	}
	if in.AvatarURL.Set {
		if a.AvatarURL = in.AvatarURL.Value; !in.AvatarURL.Null {
			validateAvatar(problems, a.AvatarURL)
		}
	}
	if in.Config != nil {
		checkConfigKeys(problems, in.Config)
		a.Config = a.Config.merge(in.Config)
		a.Config.validate(problems, s.urls)
		Config(in.Config).validateLimits(problems, s.turnLimits)
	}
	if in.SwarmID.Set {
		if a.SwarmID = identity.SwarmID(in.SwarmID.Value); !in.SwarmID.Null {
			if _, err := s.checkSwarm(ctx, q, problems, a); err != nil {
				return a, nil, err
			}
		}
	}
	checkKeys(problems, a.Config, in.Secrets)
	if in.Config == nil && !in.SwarmID.Set {
		return a, secrets, problems.Err()
	}
	a.Revision++
	names, err := s.secretNames(ctx, q, a)
	if err != nil {
		return a, nil, err
	}
	for name := range secrets {
		names[name] = true
	}
	checkProvider(problems, a.Config, names)
	return a, secrets, problems.Err()
}

func updatedFields(in client.UpdateAgentRequest) map[string]any {
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

// Start asks for a running gateway.
// Faults: NotFound; Conflict, if the record is damaged; Unauthorized, if the account was disabled
// meanwhile; Unavailable, if agents cannot be isolated.
func (s *Service) Start(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(ctx, actor, id, DesiredRunning, false, "agent.start_requested")
}

// Stop asks for the gateway to be stopped; the home stays. Faults: NotFound; Conflict,
// if the record is damaged; Unavailable, if the database takes no writes: the gateway
// has been stopped, if the message says so.
func (s *Service) Stop(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	accepted, err := s.setDesiredState(database.UseReserve(ctx), actor, id, DesiredStopped, false, "agent.stop_requested")
	if p, ok := database.Diagnose(err); ok {
		err = s.stopUnrecorded(ctx, actor, id, p, err)
	}
	return accepted, err
}

// stopUnrecorded ends the gateway of an agent whose desired state could not be stored
// because of cause, and returns the fault that says so. It returns cause if it cannot
// find out whether the agent is the account's.
func (s *Service) stopUnrecorded(ctx context.Context, actor identity.Actor, id identity.AgentID, p database.Problem, cause error) error {
	a, err := s.store.Find(ctx, s.db, actor.AccountID, id)
	if fault.Is(err, fault.NotFound) {
		return err
	}
	if err != nil {
		return cause
	}
	limited, cancel := context.WithTimeout(ctx, s.waitTimeout)
	defer cancel()
	err = s.stopper.StopUnrecorded(limited, a, func(ctx context.Context) error { return s.recordStop(ctx, actor, a) })
	if err != nil {
		s.log.ErrorContext(ctx, "stopping an agent whose record cannot be written failed", "agent", id, "error", err)
		return cause
	}
	s.log.WarnContext(ctx, "an agent was stopped, but its record cannot be written", "agent", id, "error", cause)
	stopped := fault.New(fault.Unavailable, "The agent's gateway has been stopped, but that is not stored, and a restart of the server would start it again: repeat the request until it succeeds. %s", p)
	stopped.RetryAfter = retryStop
	return stopped.Because(cause)
}

// retryStop is when a caller should repeat a stop that could not be stored.
const retryStop = 10 * time.Second

// recordStop stores that an agent should be stopped, unless a newer request was stored
// meanwhile.
func (s *Service) recordStop(ctx context.Context, actor identity.Actor, a Agent) error {
	return s.db.Tx(database.UseReserve(ctx), "agent.record_stop", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockAgent, string(a.ID)); err != nil {
			return err
		}
		now, err := s.store.FindByID(ctx, tx, a.ID)
		if errors.Is(err, sql.ErrNoRows) || err == nil && now.Generation != a.Generation {
			return nil
		}
		if err != nil {
			return err
		}
		target, err := s.store.setDesiredState(ctx, tx, now, DesiredStopped, false)
		if err != nil || target == now.Generation {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(a.ID))
		return s.appendEvent(ctx, tx, actor, a.ID, "agent.stop_requested", nil)
	})
}

// Restart asks for a new gateway with the latest config, secrets and skills.
// Faults: as Start.
func (s *Service) Restart(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(ctx, actor, id, DesiredRunning, true, "agent.restart_requested")
}

// Delete asks for the agent and everything of it to be removed. From now on Find does
// not return it. Faults: NotFound.
func (s *Service) Delete(ctx context.Context, actor identity.Actor, id identity.AgentID) (Accepted, error) {
	return s.setDesiredState(database.UseReserve(ctx), actor, id, DesiredDeleted, false, "agent.deleted")
}

// setDesiredState writes a desired state. A damaged agent can only be deleted.
// Faults: NotFound; Conflict, if the record is damaged; Unavailable, if the agent should
// run and agents cannot be isolated.
func (s *Service) setDesiredState(ctx context.Context, actor identity.Actor, id identity.AgentID, desired DesiredState, restart bool, kind string) (Accepted, error) {
	var r Accepted
	err := s.db.Tx(ctx, "agent.set_desired_state", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if r.Agent, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); ok || err != nil {
			r.Target = r.Generation // an earlier execution of the request has changed it
			return err
		}
		if err := r.CheckReadable(); err != nil && desired != DesiredDeleted {
			return err
		}
		if desired == DesiredRunning {
			if err := s.access.CheckActive(ctx, tx, actor.AccountID); err != nil {
				return err
			}
			if err := s.gateways.CheckIsolation(); err != nil {
				return err
			}
		}
		if r.Target, err = s.store.setDesiredState(ctx, tx, r.Agent, desired, restart); err != nil {
			return err
		}
		if desired == DesiredDeleted {
			if err := s.vault.Release(ctx, tx, actor.AccountID, vault.OfAgent(id)); err != nil {
				return err
			}
		}
		if r.Target == r.Generation {
			return nil
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		return s.appendEvent(ctx, tx, actor, id, kind, nil)
	})
	return r, err
}

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID, kind string, data map[string]any) error {
	return s.events.Append(ctx, tx, actor, event.Event{Topic: event.AgentTopic(id), Kind: kind, Data: data})
}

// Usage counts the account's agents and how many of them should run.
func (s *Service) Usage(ctx context.Context, account identity.AccountID) (agents, running int, err error) {
	return s.store.Usage(ctx, s.db, account)
}
