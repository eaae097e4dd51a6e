package agent

import (
	"context"
	"log/slog"

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
	Workspace *workspace.Service
	Swarms    *swarm.Service
	Driver    runtime.Driver
	Log       *slog.Logger

	URLs        URLChecker
	InternalURL string         // of the listener that gateways call back on
	Tools       bool           // the listener serves tools under /mcp
	PluginDir   string         // where the runtime's channel plugins lie, as gateways see it
	Limits      runtime.Limits // of each gateway
	Boots       int            // gateways that may boot at once; 0: 2
	Timing      Timing
	DemoKey     vault.Secret // in dev: the key of an agent that is created without any
	DemoURL     string       // where calls with that key go

	// Furnish adds what other rooms put into an agent's home: path to content.
	Furnish func(ctx context.Context, q database.Querier, accountID, agentID string) (map[string][]byte, error)
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
	samples    *samples
	notes      *notes
}

// New makes the service and the reconciler that makes its wishes come true.
func New(s Settings) (*Service, *Reconciler) {
	if s.Boots == 0 {
		s.Boots = 2
	}
	b := newBody(s)
	r := &Reconciler{
		db: s.DB, events: s.Events, driver: s.Driver, body: b, timing: s.Timing.withDefaults(),
		boots: make(chan struct{}, s.Boots), log: s.Log, loops: map[string]*loop{},
	}
	return &Service{Settings: s, reconciler: r, body: b, samples: newSamples(), notes: newNotes()}, r
}
