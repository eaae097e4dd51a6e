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
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/swarm"
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
	Workspace *workspace.Service
	Swarms    *swarm.Service

	URLs         agent.URLChecker
	Tools        bool
	Limits       runtime.Limits
	MaxBoots     int // 0: 4
	Timing       reconciler.Timing
	Shared       agentstatus.Reports
	Interval     time.Duration // of agentstatus
	Contributors []gateway.HomeContributor
	Erasers      []reconciler.Eraser
}

// Server is everything that runs agents, wired as agento serve does.
type Server struct {
	DB         *database.DB
	Events     *event.Log
	Vault      *vault.Vault
	Workspace  *workspace.Service
	Swarms     *swarm.Service
	Store      *agent.Store
	Gateways   *gateway.Manager
	Logs       *agentlog.Service
	Reconciler *reconciler.Reconciler
	Agents     *agent.Service
	Status     *agentstatus.Service
}

// NewServer returns a server that does not run yet. Errors: of the vault.
func NewServer(s Settings) (*Server, error) {
	if err := s.setDefaults(); err != nil {
		return nil, err
	}
	srv := &Server{DB: s.DB, Events: s.Events, Vault: s.Vault, Workspace: s.Workspace, Swarms: s.Swarms, Store: agent.NewStore(s.DB, s.Events)}
	srv.Gateways = gateway.NewManager(gateway.Settings{
		DB: s.DB, Store: srv.Store, Events: s.Events, Vault: s.Vault, Workspace: s.Workspace, Driver: s.Driver, Log: s.Log,
		InternalURL: "http://127.0.0.1:1", Tools: s.Tools, Limits: s.Limits, Contributors: s.Contributors,
	})
	srv.Logs = agentlog.New(agentlog.Settings{DB: s.DB, Store: srv.Store, Gateways: srv.Gateways, Driver: s.Driver})
	srv.Reconciler = reconciler.New(reconciler.Settings{
		DB: s.DB, Store: srv.Store, Events: s.Events, Vault: s.Vault, Workspace: s.Workspace, Driver: s.Driver,
		Gateways: srv.Gateways, Logs: srv.Logs, Erasers: s.Erasers, Log: s.Log, MaxBoots: cmp.Or(s.MaxBoots, 4), Timing: s.Timing,
	})
	srv.Agents = agent.New(agent.Settings{
		DB: s.DB, Store: srv.Store, Events: s.Events, Vault: s.Vault, Access: s.Access, Workspace: s.Workspace, Swarms: s.Swarms,
		Gateways: srv.Gateways, Log: s.Log, URLs: s.URLs,
	})
	srv.Status = agentstatus.New(agentstatus.Settings{
		DB: s.DB, Store: srv.Store, Driver: s.Driver, Logs: srv.Logs, Log: s.Log, Shared: s.Shared, Interval: s.Interval,
	})
	s.Swarms.Members = agent.SwarmMembers{Agents: srv.Agents}
	return srv, nil
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
	if s.Workspace == nil {
		s.Workspace = &workspace.Service{DB: s.DB, Events: s.Events}
	}
	if s.Swarms == nil {
		allow := func(context.Context, string) error { return nil }
		s.Swarms = &swarm.Service{DB: s.DB, Events: s.Events, Secrets: s.Vault, Allows: allow}
	}
	if s.URLs == nil {
		s.URLs = modelproxy.Guard{}
	}
	return nil
}

// Loops returns what runs beside requests, each until its context ends.
func (s *Server) Loops() []func(context.Context) error {
	return []func(context.Context) error{s.Reconciler.Run, s.Status.Run}
}
