package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/provider"
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

// Admission gives the gateways of agents room on a server of their region.
type Admission interface {
	// Reserve waits until there is room for the gateway of a new agent, and takes it.
	// Errors: ctx's.
	Reserve(ctx context.Context, account identity.AccountID, id identity.AgentID, region string) error
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

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID, kind string, data map[string]any) error {
	return s.events.Append(ctx, tx, actor, event.Event{Topic: event.AgentTopic(id), Kind: kind, Data: data})
}

// Usage counts the account's agents and how many of them should run.
func (s *Service) Usage(ctx context.Context, account identity.AccountID) (agents, running int, err error) {
	return s.store.Usage(ctx, s.db, account)
}
