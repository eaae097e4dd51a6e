// Package agenttest is the test environment of everything that runs agents: the
// record, the gateway manager, the reconciler, logs and status, over a fake runtime
// driver whose gateways are scripted.
package agenttest

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// Settings of a Server. DB, Driver and Log are needed; the others have defaults.
type Settings struct {
	DB     *database.DB
	Driver runtime.Driver
	Log    *slog.Logger

	Events    *event.Log
	Vault     *vault.Vault
	Access    *access.Service
	Documents *workspace.Store
	SwarmRows *swarm.Store
	Knowledge swarm.Knowledge // nil: no knowledge

	URLs         agent.URLChecker
	DemoKey      vault.Secret // of the scripted model at DemoURL
	DemoURL      string
	Tools        bool
	Limits       runtime.Limits
	Exclusive    bool  // no other server uses the database
	MaxBoots     int   // 0: 4
	Memory       int64 // that gateways may use together; 0: any
	Pool         reconciler.Pool
	RoomTimeout  time.Duration // of agent.Store
	Timing       reconciler.Timing
	Shared       agentstatus.Reports
	Interval     time.Duration // of agentstatus
	Contributors []gateway.HomeContributor
	Erasers      []reconciler.Eraser
	Emptiers     []reconciler.Emptier
	Note         func(text string) error // of the reconciler
	Woke         func(reconciler.Wake)   // of the reconciler
	Slept        func(reconciler.Sleep)  // of the reconciler
	PublicURL    string                  // of links for people; empty: they are paths
	TelegramURL  string                  // of a Bot API server; empty: nobody asks it for the messages of agents that sleep
}

// Server is everything that runs agents, wired as agento serve does.
type Server struct {
	DB         *database.DB
	Events     *event.Log
	Vault      *vault.Vault
	Documents  *workspace.Store
	Workspace  *workspace.Service
	People     *user.Service
	Swarms     *swarm.Service
	Store      *agent.Store
	Gateways   *gateway.Manager
	Logs       *agentlog.Service
	Reconciler *reconciler.Reconciler
	Agents     *agent.Service
	Channels   *channel.Recorder
	Status     *agentstatus.Service
	Bots       *botapi.Proxy // nil without Settings.TelegramURL
}

// NewServer returns a server that does not run yet. Errors: of the vault.
func NewServer(s Settings) (*Server, error) {
	if err := s.setDefaults(); err != nil {
		return nil, err
	}
	store := agent.NewStore(s.DB, s.Events)
	store.RoomTimeout = s.RoomTimeout
	channelStates := channel.NewStore(s.DB, s.Events)
	var listens *channel.Store
	if s.TelegramURL != "" {
		listens = channelStates
	}
	gateways := gateway.NewManager(gateway.Settings{
		DB: s.DB, Store: store, Events: s.Events, Vault: s.Vault, Workspace: s.Documents, Driver: s.Driver, Log: s.Log,
		Tools: s.Tools, Limits: s.Limits, Contributors: s.Contributors, DemoKey: s.DemoKey, DemoURL: s.DemoURL,
		Channels: listens,
	})
	channels := channel.NewRecorder(channelStates, s.Log)
	var bots *botapi.Proxy
	var asleep func(agent.Agent)
	if s.TelegramURL != "" {
		var err error
		bots, err = botapi.New(botapi.Settings{
			Resolver: gateways, Reporter: channels, URL: s.TelegramURL, Log: s.Log, Deliver: gateways.Deliver, Replied: gateways.Replied,
			Sleepers: gateways, DB: s.DB, Vault: s.Vault,
		})
		if err != nil {
			return nil, err
		}
		asleep = func(a agent.Agent) { bots.Listen(a.ID, a.Lease.Holder) }
	}
	logs := agentlog.New(agentlog.Settings{DB: s.DB, Store: store, Gateways: gateways, Driver: s.Driver})
	reconcile := reconciler.New(reconciler.Settings{
		DB: s.DB, Store: store, Events: s.Events, Vault: s.Vault, Workspace: s.Documents, Driver: s.Driver,
		Gateways: gateways, Logs: logs, Erasers: s.Erasers, Emptiers: s.Emptiers, Note: s.Note, Log: s.Log, Exclusive: s.Exclusive, MaxBoots: cmp.Or(s.MaxBoots, 4), Memory: s.Memory, Pool: s.Pool, Timing: s.Timing,
		Asleep: asleep, Woke: s.Woke, Slept: s.Slept,
	})
	agents := agent.New(agent.Settings{
		DB: s.DB, Store: store, Events: s.Events, Vault: s.Vault, Access: s.Access, Workspace: s.Documents, Swarms: s.SwarmRows,
		Channels: channelStates, Gateways: gateways, Stopper: reconcile, Admission: reconcile, Log: s.Log, URLs: s.URLs, DemoKey: s.DemoKey,
	})
	statusSettings := agentstatus.Settings{DB: s.DB, Store: store, Driver: s.Driver, Logs: logs, Log: s.Log, Shared: s.Shared, Interval: s.Interval, Moved: func(id identity.AgentID) { s.Events.Notify(event.AgentTopic(id)) }}
	if s.Timing.Linger > 0 {
		statusSettings.WhyAwake = gateways.WhyAwake
	}
	status := agentstatus.New(statusSettings)
	people := user.New(user.Settings{DB: s.DB, Events: s.Events, Access: s.Access, Vault: s.Vault, PublicURL: s.PublicURL, Log: s.Log})
	return &Server{
		People: people,
		DB:     s.DB, Events: s.Events, Vault: s.Vault, Documents: s.Documents, Store: store, Gateways: gateways, Logs: logs, Reconciler: reconcile,
		Agents: agents, Channels: channels, Status: status, Bots: bots, Workspace: workspace.New(s.Documents, agents),
		Swarms: swarm.New(swarm.Settings{Store: s.SwarmRows, Events: s.Events, Vault: s.Vault, Agents: agents, Members: people, Knowledge: s.Knowledge, URLs: s.URLs}),
	}, nil
}

func (s *Settings) setDefaults() error {
	if s.Events == nil {
		s.Events = event.NewLog(s.DB)
	}
	if s.Vault == nil {
		v, err := vault.New(make([]byte, 32))
		if err != nil {
			return err
		}
		s.Vault = v
	}
	if s.Access == nil {
		s.Access = access.New(access.Settings{DB: s.DB, Events: s.Events})
	}
	if s.Documents == nil {
		s.Documents = workspace.NewStore(s.DB, s.Events, s.Vault)
	}
	if s.SwarmRows == nil {
		s.SwarmRows = swarm.NewStore(s.DB)
	}
	if s.Knowledge == nil {
		s.Knowledge = noKnowledge{}
	}
	if s.URLs == nil {
		s.URLs = netguard.Guard{}
	}
	return nil
}

// noKnowledge implements swarm.Knowledge for tests without a knowledge base.
type noKnowledge struct{}

// PassOn implements swarm.Knowledge.
func (noKnowledge) PassOn(context.Context, identity.AccountID, identity.SwarmID, []identity.AgentID) error {
	return nil
}

// SwarmDeleted implements swarm.Knowledge.
func (noKnowledge) SwarmDeleted(context.Context, *database.Tx, identity.AccountID, identity.SwarmID, []identity.AgentID) error {
	return nil
}

// Loops returns what runs beside requests, each until its context ends.
func (s *Server) Loops() []func(context.Context) error {
	loops := []func(context.Context) error{s.Reconciler.Run, s.Status.Run, s.Channels.Run}
	if s.Bots != nil {
		loops = append(loops, s.Bots.Run)
	}
	return loops
}
