// Package gateway is the gateway manager: it makes the spec of an agent's gateway,
// keeps the agent's home up to date, starts and stops the gateway, keeps the
// connections to it, and knows agents by their tokens. When a gateway should be
// started or stopped is decided by package reconciler.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// HomeContributor is another package that puts files into the homes of agents.
type HomeContributor interface {
	// Digest changes whenever SyncHome has something to do.
	Digest(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) (string, error)
	// SyncHome makes a home hold what it should. It is never called twice at once for
	// one home.
	SyncHome(ctx context.Context, home runtime.Home, account identity.AccountID, id identity.AgentID) error
}

// Settings are what a Manager needs.
type Settings struct {
	DB        *database.DB
	Store     *agent.Store
	Events    *event.Log
	Vault     *vault.Vault
	Workspace *workspace.Store
	Driver    runtime.Driver
	Log       *slog.Logger

	WayOut       WayOut         // nil: agents reach nothing but this server
	Tools        bool           // Calls serves ToolsPath
	Limits       runtime.Limits // of each gateway
	DemoKey      vault.Secret   // in dev: a key whose calls go to DemoURL
	DemoURL      string
	Contributors []HomeContributor
	Memory       *budget.Budget // of what gateways send; nil: no limit
	Channels     *channel.Store // nil: the Bot API proxy does not ask for the messages of agents that sleep
}

// Manager manages the gateways of all agents. It is safe for concurrent use.
type Manager struct {
	db           *database.DB
	memory       *budget.Budget
	store        *agent.Store
	events       *event.Log
	vault        *vault.Vault
	workspace    *workspace.Store
	driver       runtime.Driver
	log          *slog.Logger
	wayOut       WayOut
	tools        bool
	limits       runtime.Limits
	demoKey      vault.Secret
	demoURL      string
	contributors []HomeContributor
	channels     *channel.Store // may be nil

	activity       *activity
	waits          *waits
	notSuspended   sync.Map // reasons that were logged, by text
	homes          *homeLocks
	digests        *digestCache
	secretsVersion atomic.Int64

	calls     *callListener
	attaching sync.Mutex // one Attach at a time

	mu       sync.Mutex
	clients  map[identity.AgentID]*gatewayClient // guarded by mu
	networks map[identity.AgentID]*network       // guarded by mu
	synced   map[identity.AgentID]fileDigests    // what each home was last made to hold; guarded by mu
}

// NewManager returns the gateway manager. A server has one.
func NewManager(s Settings) *Manager {
	m := &Manager{
		db: s.DB, store: s.Store, events: s.Events, vault: s.Vault, workspace: s.Workspace, driver: s.Driver, log: s.Log,
		wayOut: s.WayOut, tools: s.Tools, limits: s.Limits, demoKey: s.DemoKey, demoURL: s.DemoURL,
		contributors: s.Contributors, memory: s.Memory, channels: s.Channels, homes: newHomeLocks(), activity: newActivity(), waits: newWaits(), digests: &digestCache{entries: map[identity.AgentID]digestEntry{}},
		clients: map[identity.AgentID]*gatewayClient{}, networks: map[identity.AgentID]*network{}, synced: map[identity.AgentID]fileDigests{},
	}
	m.calls = newCallListener(func(id identity.AgentID) {
		m.log.Warn("an agent has too many connections to the server; further ones are closed", "agent", id, "limit", maxCalls)
	})
	return m
}

// retryIsolation is when a caller should try again after a fault of CheckIsolation.
const retryIsolation = 10 * time.Second

// CheckIsolation implements agent.Gateways.
func (m *Manager) CheckIsolation() error {
	err := m.driver.CheckIsolation()
	if missing := (*runtime.IsolationError)(nil); errors.As(err, &missing) {
		f := fault.New(fault.Unavailable, "Agents cannot be isolated at the moment: %s. No agent is started and no message is accepted until the operator has changed that. Reading, stopping and deleting work.", missing.Missing)
		f.RetryAfter = retryIsolation
		return f.Because(err)
	}
	return err
}

// Prepare fills a's home for the next start.
func (m *Manager) Prepare(ctx context.Context, a agent.Agent) error {
	m.drop(a.ID)
	return m.fillHome(ctx, a)
}

// Start starts a gateway at a's place, whose home is prepared. The caller has saved the
// place before: after a crash the record must know where a gateway may run.
func (m *Manager) Start(ctx context.Context, a agent.Agent, spec runtime.Spec) error {
	m.secretsVersion.Add(1)
	if err := m.driver.Start(ctx, a.Place, spec); err != nil {
		return err
	}
	if _, err := m.Attach(ctx, a); !errors.Is(err, runtime.ErrNotRunning) { // its end is seen by the caller's next look
		return err
	}
	return nil
}

// absorbTimeout bounds how long a stop reads the agent's documents, which takes
// milliseconds.
const absorbTimeout = 4 * time.Second

// Stop stops the gateway at a's place, if it runs, and stores what the agent wrote
// into its documents until the end. The gateway gets SIGTERM and, after grace,
// SIGKILL.
func (m *Manager) Stop(ctx context.Context, a agent.Agent, grace time.Duration) error {
	m.drop(a.ID) // running turns end with their connections: the gateway need not wait for them
	if err := m.driver.Stop(ctx, a.Place, a.ID, grace); err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	err := m.AbsorbEdits(limited, a.ID)
	if err == nil {
		err = limited.Err()
	}
	if err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "absorbing an agent's edits failed", "agent", a.ID, "error", err)
	}
	return nil
}

// Remove removes a's gateway and home, and then calls deleteRecords. Until that
// returns, nothing else can write into the home.
func (m *Manager) Remove(ctx context.Context, a agent.Agent, deleteRecords func(context.Context) error) error {
	unlock, err := m.homes.lock(ctx, a.ID)
	if err != nil {
		return err
	}
	defer unlock()
	m.drop(a.ID)
	if err := m.driver.Remove(ctx, a.Place, a.ID); err != nil {
		return fmt.Errorf("remove gateway: %w", err)
	}
	err = deleteRecords(ctx)
	m.drop(a.ID) // a late caller may have connected since
	m.digests.remove(a.ID)
	m.activity.forget(a.ID)
	return err
}

// HasState reports whether the manager keeps a connection or the digests of a home
// for an agent. It keeps none of a deleted agent.
func (m *Manager) HasState(id identity.AgentID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clients[id] != nil || m.networks[id] != nil || m.synced[id] != nil
}

// CloseAll closes the connections to all gateways, which continue to run, and their
// networks.
func (m *Manager) CloseAll() {
	m.mu.Lock()
	for id, c := range m.clients {
		c.Close()
		delete(m.clients, id)
	}
	open := slices.Collect(maps.Keys(m.networks))
	m.mu.Unlock()
	for _, id := range open {
		m.detach(id)
	}
}

// drop closes the connections to an agent's gateway and its network, and deletes the
// digests of its home. The next sync writes everything.
func (m *Manager) drop(id identity.AgentID) {
	m.detach(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clients[id]; c != nil {
		c.Close()
	}
	delete(m.clients, id)
	delete(m.synced, id)
}

// Limits returns the limits of each gateway.
func (m *Manager) Limits() runtime.Limits { return m.limits }
