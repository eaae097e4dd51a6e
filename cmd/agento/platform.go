package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/embed/transformer"
	"agento.host/agento/internal/mcp"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// demo is the scripted model of dev; the zero demo is none.
type demo struct {
	key  vault.Secret
	url  string
	addr netip.AddrPort
}

// platform is a whole control plane, put together and listening, not yet serving.
type platform struct {
	log        *slog.Logger
	lock       *os.File
	db         *database.DB
	accounts   *access.Service
	driver     *process.Driver
	runtime    install.Runtime
	agents     *agent.Service
	reconciler *agent.Reconciler
	reports    *agent.RedisReports // nil: no Redis
	meter      *modelproxy.Meter
	proxy      *modelproxy.Proxy
	catalog    *skill.Catalog
	skills     *skill.Service
	knowledge  *knowledge.Service
	talks      *chat.Service
	mirror     *chat.Mirror
	callbacks  *http.ServeMux // of the internal listener
	door       *api.Server
	public     net.Listener
	internal   net.Listener
	ready      chan struct{} // closed when the loops have begun
}

// build puts the platform together, from the ground up.
func build(ctx context.Context, f serveFlags, d demo, t *terminal) (_ *platform, err error) {
	p := &platform{log: logger(t, f.LogLevel), ready: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.db, err = f.database(ctx, p.log); err != nil {
		return nil, err
	}
	if p.lock, err = lockData(f.Data); err != nil {
		return nil, err
	}
	secrets, err := f.vault()
	if err != nil {
		return nil, err
	}
	plans, err := f.plans()
	if err != nil {
		return nil, err
	}
	if p.runtime, err = install.Install(ctx, install.Settings{Dir: f.RuntimeDir, Progress: t.err}); err != nil {
		return nil, fmt.Errorf("install the agent runtime: %w", err)
	}
	p.driver, err = process.New(process.Settings{
		Dir: filepath.Join(f.Data, "agents"), Command: p.runtime.Command(f.Lean), ReadOnly: p.runtime.Dirs,
		RequireSandbox: f.RequireSandbox, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	if p.internal, err = listenInternal(ctx, f.InternalListen, filepath.Join(f.Data, "internal.addr")); err != nil {
		return nil, err
	}
	if p.public, err = (&net.ListenConfig{}).Listen(ctx, "tcp", f.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", f.Listen, err)
	}
	if f.Redis != "" {
		if p.reports, err = agent.OpenRedisReports(f.Redis); err != nil {
			return nil, fmt.Errorf("--redis: %w", err)
		}
	}
	if err := p.furnish(ctx, f, d, secrets, plans); err != nil {
		return nil, err
	}
	return p, p.accounts.CheckPlans(ctx)
}

// furnish makes the rooms, each from those below it.
func (p *platform) furnish(ctx context.Context, f serveFlags, d demo, secrets *vault.Vault, plans *access.Plans) (err error) {
	events := event.NewLog(p.db)
	p.accounts = access.New(access.Settings{DB: p.db, Events: events, Plans: plans, Log: p.log})
	guard := modelproxy.Guard{AllowPrivate: f.AllowPrivateEndpoints}
	if d.addr.IsValid() {
		guard.Trusted = []netip.AddrPort{d.addr}
	}
	p.meter = modelproxy.NewMeter(p.db, p.log)
	documents := &workspace.Service{DB: p.db, Events: events}
	swarms := &swarm.Service{DB: p.db, Events: events, Secrets: secrets, Allows: p.allowsSwarms}
	if err := p.furnishSkills(ctx, f, events, guard); err != nil {
		return err
	}
	p.agents, p.reconciler = agent.New(agent.Settings{
		DB: p.db, Events: events, Vault: secrets, Access: p.accounts, Workspace: documents, Swarms: swarms, Driver: p.driver, Log: p.log,
		URLs: guard, InternalURL: "http://" + p.internal.Addr().String(), Tools: true,
		Limits: runtime.Limits{MemoryBytes: f.AgentMemory << 20, Processes: f.AgentProcesses}, Boots: f.Boots, TelegramURL: f.TelegramURL,
		DemoKey: d.key, DemoURL: d.url, Reports: p.sharedReports(),
		Furnish: []agent.Furnisher{{Hash: p.skills.Hash, Sync: func(ctx context.Context, home runtime.Home, accountID, agentID string) error {
			return p.skills.Sync(ctx, home, accountID, agentID)
		}}},
		Erase: []agent.Eraser{chat.DeleteAgent, p.meter.Forget, p.skills.DeleteAgent, func(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
			return p.knowledge.AgentDeleted(ctx, tx, accountID, agentID)
		}},
	})
	members := agent.Members{Events: events, Left: p.reconciler.Nudge}
	documents.Changed = func(_ context.Context, tx *database.Tx, _, agentID string) error {
		tx.AfterCommit(func() { p.reconciler.Nudge(agentID) })
		return nil
	}
	p.skills.Applier, p.skills.Agent = p.agents, p.agents.Exists
	if err := p.furnishKnowledge(f, events, swarms, guard, &vault.Installation{DB: p.db, Vault: secrets, Events: events}); err != nil {
		return err
	}
	swarms.Members, swarms.OnDelete = members, p.knowledge.OnSwarmDeleted(members)
	p.talks = chat.New(chat.Settings{DB: p.db, Events: events, Agents: p.agents, Log: p.log})
	if err := p.talks.Recover(ctx); err != nil {
		return err
	}
	p.mirror = chat.NewMirror(p.talks)
	p.proxy = modelproxy.New(modelproxy.Settings{Resolver: p.agents, Guard: guard, Meter: p.meter, Split: p.talks.Split, Observe: p.agents.Observe, Log: p.log})
	p.callbacks = http.NewServeMux()
	p.callbacks.Handle("/", p.proxy)
	p.callbacks.Handle("/mcp", mcp.New(mcp.Settings{Agents: p.agents, Knowledge: p.knowledge, Version: version, Log: p.log}))
	p.door = api.New(api.Settings{
		DB: p.db, Events: events, Access: p.accounts, Limiter: access.NewLimiter(), Agents: p.agents, Chat: p.talks,
		Workspace: documents, Swarms: swarms, Knowledge: p.knowledge, Skills: p.skills,
		Ready: p.isReady, Version: version, Log: p.log,
	})
	return nil
}

// furnishSkills makes the marketplace. What it fetches goes through the guard, so
// that no answer of a public registry leads into the operator's network.
func (p *platform) furnishSkills(ctx context.Context, f serveFlags, events *event.Log, guard modelproxy.Guard) (err error) {
	if p.catalog, err = skill.NewCatalog(ctx, skill.CatalogSettings{Dir: f.Catalog, Log: p.log}); err != nil {
		return fmt.Errorf("load the catalog of skills: %w", err)
	}
	registry, err := clawhub.New(clawhub.Settings{Settings: fetch.Settings{BaseURL: f.ClawHub, HTTP: fetcher(guard, f.ClawHub, clawhub.DefaultURL)}})
	if err != nil {
		return fmt.Errorf("--clawhub-url: %w", err)
	}
	code, err := github.New(fetch.Settings{BaseURL: f.GitHub, HTTP: fetcher(guard, f.GitHub, github.DefaultURL)})
	if err != nil {
		return fmt.Errorf("--github-url: %w", err)
	}
	p.skills = skill.New(skill.Settings{
		DB: p.db, Events: events, Catalog: p.catalog, ClawHub: registry, GitHub: code,
		MinScore: f.MinSkillScore, Dir: openclaw.SkillsDir, Log: p.log,
	})
	return nil
}

// fetcher is the client for a registry. One that the operator named himself may be
// in his own network.
func fetcher(guard modelproxy.Guard, url, standard string) *http.Client {
	if url != standard {
		guard.AllowPrivate = true
	}
	return guard.Client()
}

func (p *platform) furnishKnowledge(f serveFlags, events *event.Log, swarms *swarm.Service, guard modelproxy.Guard, secrets *vault.Installation) error {
	embedder, err := f.embedder(guard, secrets)
	if err != nil {
		return fmt.Errorf("--embedder: %w", err)
	}
	p.knowledge = knowledge.New(knowledge.Settings{
		DB: p.db, Events: events, Scopes: knowledge.Rooms{DB: p.db, Agents: p.agents, Swarms: swarms}, Embedder: embedder, Log: p.log,
	})
	return nil
}

// embedder is the one that the installation is set to. The operator names its
// address, so it may be private.
func (f embedderFlags) embedder(guard modelproxy.Guard, secrets *vault.Installation) (embed.Embedder, error) {
	switch f.Embedder {
	case "builtin":
		return embed.Builtin()
	case "transformer":
		return transformer.New(transformer.Settings{Dir: f.EmbedderDir})
	}
	guard.AllowPrivate = true
	return embed.NewOpenAI(embed.OpenAISettings{
		URL: f.EmbedderURL, Model: f.EmbedderModel, Size: f.EmbedderSize, HTTP: guard.Client(),
		Key: func(ctx context.Context) (vault.Secret, error) { return secrets.Read(ctx, vault.EmbedderAPIKey) },
	})
}

// sharedReports is nil, and no interface that holds a nil, where there is no Redis.
func (p *platform) sharedReports() agent.Reports {
	if p.reports == nil {
		return nil
	}
	return p.reports
}

// loops are what goes on beside the requests, each until its context ends.
func (p *platform) loops() []func(context.Context) error {
	return []func(context.Context) error{
		p.reconciler.Run, p.agents.Run, p.accounts.Run, p.meter.Run, p.driver.Run, p.knowledge.Run, p.catalog.Run, p.talks.KeepDrafts, p.mirror.Run,
	}
}

func (p *platform) allowsSwarms(ctx context.Context, accountID string) error {
	plan, err := p.accounts.PlanOf(ctx, p.db, accountID)
	if err != nil {
		return err
	}
	return plan.Allows(access.FeatureSwarms)
}

func (p *platform) isReady(ctx context.Context) error {
	select {
	case <-p.ready:
		return p.db.Ping(ctx)
	default:
		return errors.New("starting")
	}
}
