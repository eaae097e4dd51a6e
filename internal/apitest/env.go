// Package apitest is the whole server in this process for tests: every service is real, on a real database with a real
// vault, behind a real HTTP server. Only the gateways are scripted, since a real one takes half a minute to boot.
package apitest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/accountstate"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/attention"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/idempotency"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/widget"
	"agento.host/agento/internal/workspace"
)

// DemoKey is a key of a model provider that POST /v1/providers/check accepts: it is that of a scripted model.
const DemoKey = "sk-ant-placeholder"

// WaitTimeout is how long a test waits for a condition.
const WaitTimeout = 30 * time.Second

// Env is a whole agento server. Its fields are what the server is made of; tests change the world through them.
type Env struct {
	T         testing.TB
	URL       string // of the HTTP server
	DB        *database.DB
	Vault     *vault.Vault
	Events    *event.Log
	Access    *access.Service
	Agents    *agent.Service
	Swarms    *swarm.Service
	People    *user.Service
	Widgets   *widget.Service
	Runtime   *agenttest.Server // everything that runs agents
	Driver    *fake.Driver
	Gateways  *Gateways
	Network   *egress.Manager
	Meter     *usage.Meter
	Attention *attention.Service
	Server    *api.Server
	Log       *logtest.Buffer
	Close     func() // as a shutdown; also called at the end of the test

	loops []func(context.Context) error
}

// Options of an environment. The zero value is what most tests need.
type Options struct {
	Plans       *access.Plans // nil: one plan without limits
	Heartbeat   time.Duration
	DB          *database.DB   // nil: an empty one
	Vault       *vault.Vault   // nil: one with a new master key
	RoomTimeout time.Duration  // how long requests wait for room; 0: a minute
	Memory      int64          // that gateways may use together; 0: any
	Waiting     *budget.Budget // of messages that wait for gateways; nil: no limit
	Proxies     []netip.Prefix
	PublicURL   string
	Budgets     *budget.Server         // nil: no limits
	Log         *logtest.Buffer        // nil: a new one
	Monitor     bool                   // run the monitor of the database, which reserves room on its disk
	Network     func(*egress.Settings) // changes the settings of agents' networks; nil: they are not changed

	// Handler returns what the HTTP server serves; nil: env.Server. It is called when all but URL is there. What it
	// makes may run loops with env.Loop.
	Handler func(env *Env) http.Handler
}

// New returns an environment that is closed at the end of the test.
func New(t testing.TB, o Options) *Env {
	t.Helper()
	env := &Env{T: t, DB: o.DB, Gateways: newGateways(), Log: cmp.Or(o.Log, &logtest.Buffer{})}
	if env.DB == nil {
		env.DB = databasetest.New(t)
	}
	env.Driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: env.Gateways.handler})
	env.build(o)
	handler := http.Handler(env.Server)
	if o.Handler != nil {
		handler = o.Handler(env)
	}
	stop := env.runLoops()
	server := httptest.NewUnstartedServer(handler)
	if o.Budgets != nil {
		server.Listener = o.Budgets.API.Listener(server.Listener)
		server.Config.ConnContext = budget.ConnContext
	}
	server.Start()
	env.URL = server.URL
	env.Close = sync.OnceFunc(func() { // in the order of a real shutdown
		env.Server.Drain()
		server.Close()
		stop()
	})
	t.Cleanup(env.Close)
	return env
}

// Loop adds what runs until the environment is closed. Only Options.Handler may call it.
func (env *Env) Loop(run func(context.Context) error) { env.loops = append(env.loops, run) }

// build constructs the services in the order of agento serve.
func (env *Env) build(o Options) {
	log := slog.New(slog.NewTextHandler(env.Log, nil))
	events := event.NewLog(env.DB)
	if o.Vault == nil {
		o.Vault = NewVault(env.T)
	}
	secrets := o.Vault
	env.Vault, env.Events = secrets, events
	env.Access = access.New(access.Settings{DB: env.DB, Events: events, Plans: o.Plans, Log: log})
	swarms, skills := swarm.NewStore(env.DB), skill.NewStore(skill.StoreSettings{DB: env.DB, Dir: openclaw.SkillsDir, Log: log})
	embedder, err := embed.Builtin()
	if err != nil {
		env.T.Fatal(err)
	}
	base := knowledge.New(knowledge.Settings{
		DB: env.DB, Events: events, Scopes: knowledge.NewScopes(env.DB, agent.NewStore(env.DB, events), swarms), Embedder: embedder, Quota: env.Access, Log: log,
	})
	documents := workspace.NewStore(env.DB, events, secrets)
	documents.LimitStorage(env.Access)
	prices, err := usage.LoadPrices("")
	if err != nil {
		env.T.Fatal(err)
	}
	env.Meter = usage.NewMeter(env.DB, prices, log)
	runtime, err := agenttest.NewServer(agenttest.Settings{
		Documents: documents, PublicURL: o.PublicURL,
		DB: env.DB, Driver: env.Driver, Log: log, Events: events, Vault: secrets, Access: env.Access, SwarmRows: swarms, Knowledge: base,
		Tools: true, MaxBoots: 64, Memory: o.Memory, RoomTimeout: o.RoomTimeout, Contributors: []gateway.HomeContributor{skills},
		Timing: reconciler.Timing{ReadyTimeout: WaitTimeout, StopGrace: time.Second, Backoff: time.Millisecond, HealthInterval: 50 * time.Millisecond},
		Erasers: []reconciler.Eraser{chat.DeleteAgent, env.Meter.DeleteAgent, skills.DeleteAgent, base.AgentDeleted, func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
			return env.Network.DeleteAgent(ctx, tx, actor, id)
		}, func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
			return env.Widgets.DeleteAgent(ctx, tx, actor, id)
		}},
		Emptiers: []reconciler.Emptier{chat.EmptyAgent(env.DB), base.EmptyAgent, env.Meter.EmptyAgent},
	})
	if err != nil {
		env.T.Fatal(err)
	}
	env.Agents, env.Swarms, env.People, env.Runtime = runtime.Agents, runtime.Swarms, runtime.People, runtime
	states := accountstate.New(accountstate.Settings{DB: env.DB, Events: events, Accounts: env.Access, Agents: runtime.Agents, Log: log})
	if err := states.Recover(env.T.Context()); err != nil {
		env.T.Fatal(err)
	}
	env.loops = append(env.loops, states.Run)
	conversations := chat.New(chat.Settings{DB: env.DB, Events: events, Agents: runtime.Agents, Gateways: runtime.Gateways, Vault: secrets, Keys: env.Access, Quota: env.Access, Waiting: o.Waiting, Log: log})
	env.Widgets = widget.New(widget.Settings{DB: env.DB, Events: events, Vault: secrets, Agents: agent.NewStore(env.DB, events), Accounts: env.Access, Turns: conversations, Log: log})
	env.loops = append(env.loops, env.Widgets.Run)
	requests := idempotency.New(idempotency.Settings{DB: env.DB, Events: events, Vault: secrets, Log: log})
	if err := requests.Recover(env.T.Context()); err != nil {
		env.T.Fatal(err)
	}
	env.loops = append(env.loops, env.Access.Run, env.People.Run, base.Run, conversations.Run, requests.Run, env.DB.Run)
	env.loops = append(env.loops, runtime.Loops()...)
	if o.Monitor {
		env.loops = append(env.loops, func(ctx context.Context) error { return env.DB.Monitor(ctx, log) })
	}
	network := egress.Settings{DB: env.DB, Events: events, Log: log, Policy: runtime.Agents.EgressPolicy}
	if o.Network != nil {
		o.Network(&network)
	}
	env.Network = egress.NewManager(network)
	env.loops = append(env.loops, env.Network.Run)
	skillService := env.newSkills(events, skills, runtime.Agents, log)
	runtime.Agents.InstallSkillsWith(skillService.InstallVerified)
	archives := agentarchive.New(agentarchive.Settings{
		DB: env.DB, Events: events, Agents: runtime.Agents, Documents: documents, Workspace: runtime.Workspace, Skills: skillService, Knowledge: base, Chat: conversations, Version: "test", Log: log,
	})
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		env.T.Fatal(err)
	}
	env.T.Cleanup(func() { _ = model.Close() })
	models := modelproxy.New(modelproxy.Settings{Guard: netguard.Guard{Trusted: []netip.AddrPort{model.Addr()}}, DemoKey: vault.NewSecret(DemoKey), DemoURL: model.URL(), Log: log})
	env.T.Cleanup(models.Close)
	env.Attention = attention.New(attention.Settings{DB: env.DB, Events: events, Agents: runtime.Agents, Access: env.Access, Skills: skillService})
	env.Server = api.New(api.Settings{
		Models: models, Attention: env.Attention,
		DB: env.DB, Events: events, Access: env.Access, Limiter: access.NewLimiter(), Agents: runtime.Agents, Archives: archives, Logs: runtime.Logs, Status: runtime.Status,
		Chat: conversations, Workspace: runtime.Workspace, Swarms: runtime.Swarms, Knowledge: base, Skills: skillService, Network: env.Network, Idempotency: requests, People: env.People, Widgets: env.Widgets,
		Usage:   usage.New(usage.Settings{DB: env.DB, Agents: env.agentNames}),
		Budgets: o.Budgets, TrustedProxies: o.Proxies, PublicURL: o.PublicURL,
		Ready: env.DB.Health, Degraded: env.degraded, Version: "test", Heartbeat: o.Heartbeat, Log: log,
	})
}

func (env *Env) agentNames(ctx context.Context, account identity.AccountID) (map[string]string, error) {
	page, err := env.Agents.List(ctx, account, agent.Filter{})
	names := map[string]string{}
	for _, a := range page.Agents {
		names[string(a.ID)] = a.Name
	}
	return names, err
}

// newSkills returns a marketplace with the verified skills of the binary and no
// access to the internet.
func (env *Env) newSkills(events *event.Log, store *skill.Store, agents *agent.Service, log *slog.Logger) *skill.Service {
	catalog, err := skill.NewCatalog(env.T.Context(), skill.CatalogSettings{Log: log})
	if err != nil {
		env.T.Fatal(err)
	}
	env.loops = append(env.loops, catalog.Run)
	return skill.New(skill.Settings{Store: store, Events: events, Catalog: catalog, Access: env.Access, Agents: agents, MinScore: skill.DefaultMinScore, Log: log})
}

// runLoops runs the loops until stop is called, which ends the gateways too.
func (env *Env) runLoops() (stop func()) {
	t := env.T
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, loop := range env.loops {
		all.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("a loop ended: %v", err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		env.Driver.Close()
		for _, v := range env.Driver.Violations() {
			t.Errorf("the driver was used against its contract: %s", v)
		}
	}
}

// EditHome changes a file in an agent's home, as the agent itself does.
func (env *Env) EditHome(id identity.AgentID, path, content string) {
	env.T.Helper()
	gw := env.Driver.Gateway(id)
	if gw == nil {
		env.T.Fatalf("the agent %s has no gateway", id)
	}
	// The reconciler may read the home at any time; it must not find a file half written.
	whole := filepath.Join(gw.HomeDir(), "edited")
	if err := errors.Join(os.WriteFile(whole, []byte(content), 0o600), os.Rename(whole, filepath.Join(gw.HomeDir(), path))); err != nil {
		env.T.Fatal(err)
	}
}

// degraded is the Degraded of the server's Settings.
func (env *Env) degraded() []api.Degradation {
	if space := env.DB.Space(); space != "" {
		return []api.Degradation{{Name: "disk", Message: space}}
	}
	return nil
}
