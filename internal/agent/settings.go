package agent

import (
	"context"
	"log/slog"
	"sync"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// Settings are what agents need.
type Settings struct {
	DB        *database.DB
	Events    *event.Log
	Vault     *vault.Vault
	Access    *access.Service
	Workspace *workspace.Store
	Swarms    *swarm.Store
	Driver    runtime.Driver
	Log       *slog.Logger

	URLs        URLChecker
	InternalURL string         // of the listener that gateways call back on
	Tools       bool           // the listener serves tools under /mcp
	Limits      runtime.Limits // of each gateway
	TelegramURL string         // a Bot API server in place of Telegram's own; empty: none
	Boots       int            // gateways that may boot at once; 0: 2
	Timing      Timing
	DemoKey     vault.Secret // in dev: the key of an agent that is created without any
	DemoURL     string       // where calls with that key go

	// Reports are kept beside those in memory, shared with other servers; nil: none.
	Reports Reports
	// Furnish are the other rooms that put something into agents' homes.
	Furnish []Furnisher
	// Erase removes what other rooms keep of an agent.
	Erase []Eraser
}

// Eraser removes what a room keeps of an agent, in the transaction that removes
// the agent.
type Eraser func(ctx context.Context, tx *database.Tx, accountID, agentID string) error

// Service is what callers may ask of agents.
type Service struct {
	Settings
	reconciler *Reconciler
	body       *body
	reports    []reports // the first that knows is asked
	notes      *notes
}

// New makes the service and the reconciler that makes its wishes come true.
func New(s Settings) (*Service, *Reconciler) {
	if s.Boots == 0 {
		s.Boots = 2
	}
	s.Timing = s.Timing.withDefaults()
	b := newBody(s)
	r := &Reconciler{
		db: s.DB, events: s.Events, driver: s.Driver, body: b, timing: s.Timing,
		boots: make(chan struct{}, s.Boots), log: s.Log, loops: map[string]*loop{},
	}
	kept := []reports{{&MemoryReports{}, fromMemory}}
	if s.Reports != nil {
		kept = []reports{{s.Reports, fromRedis}, kept[0]}
	}
	return &Service{Settings: s, reconciler: r, body: b, reports: kept, notes: newNotes()}, r
}

// Run reports on running gateways, and notes how their model calls go, until ctx
// ends.
func (s *Service) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { s.takeNotes(ctx) })
	loops.Go(func() { (&sampler{Service: s}).run(ctx) })
	loops.Wait()
	return nil
}
