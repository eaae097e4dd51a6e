package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agent/agenttest"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// house is a whole agento in this process: every room is real, on a real database
// with a real vault, behind a real HTTP server. Only gateways are scripted, since
// a real one takes half a minute to boot.
type house struct {
	t        testing.TB
	url      string
	db       *database.DB
	accounts *access.Service
	agents   *agent.Service
	driver   *fake.Driver
	gateways *gateways
	door     *api.Server
	log      *logBook
	loops    []func(context.Context) error
	close    func() // before the end of the test, where that matters
}

// plan of a house; the zero plan is what most tests need.
type plan struct {
	plans     *access.Plans // nil: one plan without limits
	heartbeat time.Duration
	db        *database.DB // nil: an empty one
}

// open builds a house that is torn down at the end of the test.
func open(t testing.TB, p plan) *house {
	t.Helper()
	h := &house{t: t, db: p.db, gateways: newGateways(), log: &logBook{}}
	if h.db == nil {
		h.db = databasetest.New(t)
	}
	h.driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: h.gateways.handler})
	h.furnish(p)
	stop := h.run()
	server := httptest.NewServer(h.door)
	h.url = server.URL
	h.close = sync.OnceFunc(func() { // in the order of a real shutdown
		h.door.Drain()
		server.Close()
		stop()
	})
	t.Cleanup(h.close)
	return h
}

// furnish makes the rooms, each from those below it, as agento serve does.
func (h *house) furnish(p plan) {
	log := slog.New(slog.NewTextHandler(h.log, nil))
	events := event.NewLog(h.db)
	secrets := newVault(h.t)
	h.accounts = access.New(access.Settings{DB: h.db, Events: events, Plans: p.plans, Log: log})
	documents := &workspace.Service{DB: h.db, Events: events}
	swarms := &swarm.Service{DB: h.db, Events: events, Secrets: secrets, Allows: h.allowsSwarms}
	skills := h.marketplace(events, log)
	var known *knowledge.Service
	server, err := agenttest.NewServer(agenttest.Settings{
		DB: h.db, Events: events, Vault: secrets, Access: h.accounts, Workspace: documents, Swarms: swarms, Driver: h.driver, Log: log,
		Tools: true, MaxBoots: 64,
		Timing:       reconciler.Timing{ReadyTimeout: patience, StopGrace: time.Second, Backoff: time.Millisecond, HealthInterval: 50 * time.Millisecond},
		Contributors: []gateway.HomeContributor{skillHomes{skills}},
		Erasers: []reconciler.Eraser{
			eraser(chat.DeleteAgent), eraser(skills.DeleteAgent),
			eraser(func(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
				return known.AgentDeleted(ctx, tx, accountID, agentID)
			}),
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	documents.Changed = func(_ context.Context, tx *database.Tx, _, agentID string) error {
		events.NotifyAfterCommit(tx, event.ReconcileTopic(identity.AgentID(agentID)))
		return nil
	}
	skills.Applier, skills.Agent = agent.SkillAgents{Agents: server.Agents}, agent.SkillAgents{Agents: server.Agents}.Exists
	h.agents = server.Agents
	embedder, err := embed.Builtin()
	if err != nil {
		h.t.Fatal(err)
	}
	known = knowledge.New(knowledge.Settings{
		DB: h.db, Events: events, Scopes: knowledge.Rooms{DB: h.db, Agents: server.Store, Swarms: swarms}, Embedder: embedder, Log: log,
	})
	swarms.OnDelete = known.OnSwarmDeleted(swarms.Members)
	talks := chat.New(chat.Settings{DB: h.db, Events: events, Agents: server.Agents, Gateways: server.Gateways, Log: log})
	h.loops = append(h.loops, known.Run, talks.KeepDrafts)
	h.door = api.New(api.Settings{
		DB: h.db, Access: h.accounts, Limiter: access.NewLimiter(), Agents: server.Agents, Logs: server.Logs, Status: server.Status, Documents: documents, Swarms: swarms, Knowledge: known, Skills: skills,
		Chat:  talks,
		Ready: h.db.Ping, Version: "test", Heartbeat: p.heartbeat, Log: log,
	})
	h.loops = append(h.loops, server.Loops()...)
}

func eraser(f func(ctx context.Context, tx *database.Tx, accountID, agentID string) error) reconciler.Eraser {
	return func(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.AgentID) error {
		return f(ctx, tx, string(account), string(id))
	}
}

// skillHomes implements gateway.HomeContributor with skills.
type skillHomes struct{ skills *skill.Service }

func (s skillHomes) Digest(ctx context.Context, q database.Querier, account identity.AccountID, id identity.AgentID) (string, error) {
	return s.skills.Hash(ctx, q, string(account), string(id))
}

func (s skillHomes) SyncHome(ctx context.Context, home runtime.Home, account identity.AccountID, id identity.AgentID) error {
	return s.skills.Sync(ctx, home, string(account), string(id))
}

// marketplace has the verified skills of the binary, and no way to the internet.
func (h *house) marketplace(events *event.Log, log *slog.Logger) *skill.Service {
	catalog, err := skill.NewCatalog(h.t.Context(), skill.CatalogSettings{Log: log})
	if err != nil {
		h.t.Fatal(err)
	}
	h.loops = append(h.loops, catalog.Run)
	return skill.New(skill.Settings{DB: h.db, Events: events, Catalog: catalog, MinScore: skill.DefaultMinScore, Dir: openclaw.SkillsDir, Log: log})
}

func (h *house) allowsSwarms(ctx context.Context, accountID string) error {
	p, err := h.accounts.PlanOf(ctx, h.db, accountID)
	if err != nil {
		return err
	}
	return p.Allows(access.FeatureSwarms)
}

// run keeps loops going until stop is called, which ends the gateways too.
func (h *house) run() (stop func()) {
	t := h.t
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, loop := range h.loops {
		all.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("a loop ended: %v", err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		h.driver.Close()
		for _, v := range h.driver.Violations() {
			t.Errorf("the driver was used against its contract: %s", v)
		}
	}
}

func newVault(t testing.TB) *vault.Vault {
	t.Helper()
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	v, err := vault.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// logBook is the server's log, which tests look through for what must not be there.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
