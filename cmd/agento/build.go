package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/accountstate"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/agenttools"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/attention"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/dashboard"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/idempotency"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/embed/transformer"
	"agento.host/agento/internal/metrics"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/textfile/confined"
	"agento.host/agento/internal/usage"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/widget"
	"agento.host/agento/internal/workspace"
)

// devSettings are what the dev command adds to a server; the zero devSettings is nothing.
type devSettings struct {
	key         vault.Secret // of the scripted model
	url         string
	addr        netip.AddrPort
	unsandboxed bool // the machine cannot isolate agents
}

// newServer opens the resources of a server and builds its services on them. The
// server listens, and serves once run is called.
func newServer(ctx context.Context, f serveFlags, dev devSettings, t *terminal) (*server, error) {
	plans, err := f.plans()
	if err != nil {
		return nil, err
	}
	prices, err := usage.LoadPrices(f.Prices)
	if err != nil {
		return nil, err
	}
	if _, err := f.schedule(); err != nil { // before anything is made
		return nil, err
	}
	if err := f.checkPublicURL(); err != nil {
		return nil, err
	}
	r, err := openResources(ctx, f, dev, t)
	if err != nil {
		return nil, err
	}
	s, err := buildServices(ctx, r, f, dev, plans, prices)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.admin, err = admin.Listen(ctx, f.Data); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.closers = append(r.closers, r.admin.Close)
	return s, nil
}

// buildServices builds every service from the ones above it: records first, then what
// runs agents, then what callers use.
func buildServices(ctx context.Context, r *resources, f serveFlags, dev devSettings, plans *access.Plans, prices *usage.Prices) (*server, error) {
	secrets := r.secrets
	proxy, err := netguard.ProxyFromEnvironment()
	if err != nil {
		return nil, err
	}
	services := newDependencies()
	guard := netguard.Guard{AllowPrivate: f.AllowPrivateEndpoints}
	if dev.addr.IsValid() {
		guard.Trusted = []netip.AddrPort{dev.addr}
	}
	events := event.NewLog(r.db)
	budgets := budget.NewServer(budget.ServerSettings{
		Memory: limitMemory(), Descriptors: descriptorLimit(), Log: r.log, Refused: r.metrics.Refused,
		Exempt: func(a netip.Addr) bool {
			return slices.ContainsFunc(f.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
		},
	})
	accounts := access.New(access.Settings{DB: r.db, Events: events, Plans: plans, Log: r.log})
	if err := accounts.StorePlans(ctx); err != nil { // a server also starts on a full disk
		r.log.WarnContext(ctx, "the plans cannot be stored: they are forgotten if the plans file is removed", "error", err)
	}
	if problem, err := accounts.PlanProblem(ctx); err != nil {
		return nil, err
	} else if problem != "" {
		r.log.WarnContext(ctx, problem)
	}
	people := user.New(user.Settings{DB: r.db, Events: events, Access: accounts, Vault: secrets, PublicURL: f.linkBase(r.public.Addr()), Log: r.log})
	documents, swarmRecords, agentRecords := workspace.NewStore(r.db, events, secrets), swarm.NewStore(r.db), agent.NewStore(r.db, events)
	servers := pool.New(pool.Settings{DB: r.db, Events: events, Vault: secrets, Log: r.log, Image: f.image(), AgentsOn: agentsOn(r.db)})
	links, serverEngines := f.openPool(r, agentRecords, servers)
	channelStates := channel.NewStore(r.db, events)
	channels := channel.NewRecorder(channelStates, r.log)
	documents.LimitStorage(accounts)
	skillRecords := skill.NewStore(skill.StoreSettings{DB: r.db, Dir: openclaw.SkillsDir, Log: r.log})
	meter := usage.NewMeter(r.db, prices, r.log)
	installationSecrets := vault.NewInstallation(r.db, secrets, events)
	embedder, err := f.embedder(services, guard.Through(proxy), installationSecrets)
	if err != nil {
		return nil, fmt.Errorf("--embedder: %w", err)
	}
	base := knowledge.New(knowledge.Settings{
		DB: r.db, Events: events, Scopes: knowledge.NewScopes(r.db, agentRecords, swarmRecords), Embedder: embedder, Quota: accounts, Log: r.log,
	})

	var widgets *widget.Service // they need the conversations
	var agents *agent.Service   // the policies of the networks are theirs, and they need the gateways
	networkSettings, err := f.network(r, events)
	if err != nil {
		return nil, err
	}
	networkSettings.Policy = func(ctx context.Context, id identity.AgentID) (identity.AccountID, egress.Policy, error) {
		return agents.EgressPolicy(ctx, id)
	}
	network := egress.NewManager(networkSettings)
	gateways := gateway.NewManager(gateway.Settings{
		DB: r.db, Store: agentRecords, Events: events, Vault: secrets, Workspace: documents, Driver: r.driver, Log: r.log,
		WayOut: network, Tools: true, Limits: f.limits(),
		DemoKey: dev.key, DemoURL: dev.url, Contributors: []gateway.HomeContributor{skillRecords}, Memory: budgets.AgentMemory, Channels: channelStates,
	})
	backups, err := f.backups(r, gateways)
	if err != nil {
		return nil, err
	}
	memory, err := f.memory()
	if err != nil {
		return nil, err
	}
	bots, err := botapi.New(botapi.Settings{
		Resolver: gateways, Reporter: channels, Guard: guard.Through(proxy.OnlyFor("api.telegram.org")), URL: f.TelegramURL, Memory: budgets.AgentMemory, Log: r.log,
		Deliver: gateways.Deliver, Replied: gateways.Replied, Sleepers: gateways, DB: r.db, Vault: secrets,
	})
	if err != nil {
		return nil, fmt.Errorf("--telegram-url: %w", err)
	}
	r.closers = append(r.closers, func() error { bots.Close(); return nil })
	logs := agentlog.New(agentlog.Settings{DB: r.db, Store: agentRecords, Gateways: gateways, Driver: r.driver})
	reconcile := reconciler.New(reconciler.Settings{
		DB: r.db, Store: agentRecords, Events: events, Vault: secrets, Workspace: documents, Driver: r.driver, Gateways: gateways, Logs: logs, Log: r.log,
		Exclusive: true, MaxBoots: f.Boots, Memory: memory, Pool: serverEngines, Timing: reconciler.Timing{StallTimeout: f.BootStall, Linger: f.linger(), DiskAfter: f.CheckpointDiskAfter},
		Erasers: []reconciler.Eraser{chat.DeleteAgent, meter.DeleteAgent, skillRecords.DeleteAgent, base.AgentDeleted, network.DeleteAgent, func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
			return widgets.DeleteAgent(ctx, tx, actor, id)
		}},
		Asleep:   func(a agent.Agent) { bots.Listen(a.ID, a.Lease.Holder) },
		Woke:     func(w reconciler.Wake) { r.metrics.Wake(string(w.Kind), w.Took) },
		Slept:    func(s reconciler.Sleep) { r.metrics.Suspend(string(s.Result), s.Took) },
		Booted:   func(b reconciler.Boot) { r.metrics.Boot(b.Ready, b.Took) },
		Emptiers: []reconciler.Emptier{chat.EmptyAgent(r.db), base.EmptyAgent, meter.EmptyAgent}, Note: noteUnknown(f.Data),
	})
	r.reconciler = reconcile
	agents = agent.New(agent.Settings{
		DB: r.db, Store: agentRecords, Events: events, Vault: secrets, Access: accounts, Workspace: documents, Swarms: swarmRecords, Gateways: gateways, Stopper: reconcile, Admission: reconcile, Log: r.log,
		Channels: channelStates, URLs: guard, TurnLimits: f.turnLimits(), DemoKey: dev.key, Regions: servers.Regions,
	})
	if err := agents.BindKeys(ctx); err != nil {
		return nil, err
	}
	if err := agents.ClaimTokens(ctx); err != nil {
		return nil, err
	}
	states := accountstate.New(accountstate.Settings{DB: r.db, Events: events, Accounts: accounts, Agents: agents, Log: r.log})
	if err := states.Recover(ctx); err != nil {
		return nil, err
	}
	status := agentstatus.New(agentstatus.Settings{DB: r.db, Store: agentRecords, Driver: r.driver, Logs: logs, Log: r.log, Shared: r.sharedReports(), WhyAwake: whyAwake(f, gateways), Moved: func(id identity.AgentID) {
		events.Notify(event.AgentTopic(id))
	}})

	catalog, skills, err := buildSkills(ctx, r, f, events, skillRecords, accounts, agents, budgets.Scans, services, guard.Through(proxy), installationSecrets)
	if err != nil {
		return nil, err
	}
	agents.InstallSkillsWith(skills.InstallVerified)
	conversations := chat.New(chat.Settings{DB: r.db, Events: events, Agents: agents, Gateways: gateways, Vault: secrets, Keys: accounts, Quota: accounts, Channels: channels, Limits: f.turnLimits(), Waiting: budgets.Waiting, Log: r.log, Ended: r.turnEnded})
	widgets = widget.New(widget.Settings{DB: r.db, Events: events, Vault: secrets, Agents: agentRecords, Accounts: accounts, Turns: conversations, Log: r.log})
	if err := conversations.Recover(ctx); err != nil {
		return nil, err
	}
	requests := idempotency.New(idempotency.Settings{DB: r.db, Events: events, Vault: secrets, Log: r.log})
	if err := requests.Recover(ctx); err != nil {
		return nil, err
	}
	models := modelproxy.New(modelproxy.Settings{
		Resolver: gateways, Guard: guard.Through(proxy.OnlyFor(providerHosts()...)), Meter: meter, Attribute: conversations.Attribute, Check: conversations.CheckModelCall, Turn: conversations.ModelTurn, FromGateway: gateway.FromGateway,
		Observe: func(x modelproxy.Exchange) { status.Observe(x); r.modelCall(x) }, Memory: budgets.AgentMemory, Log: r.log, DemoKey: dev.key, DemoURL: dev.url,
	})
	r.closers = append(r.closers, func() error { models.Close(); return nil })
	internal := http.NewServeMux()
	internal.Handle("/", models)
	tools := agenttools.New(agenttools.Settings{Gateways: gateways, Knowledge: base, Memory: budgets.AgentMemory, Version: version, Log: r.log})
	internal.Handle(gateway.ToolsPath, tools)
	internal.Handle(gateway.FormerToolsPath, tools)
	internal.Handle(botapi.Prefix, bots)
	documentEdits := workspace.New(documents, agents)
	archives := agentarchive.New(agentarchive.Settings{
		DB: r.db, Events: events, Agents: agents, Documents: documents, Workspace: documentEdits, Skills: skills, Knowledge: base, Chat: conversations, Version: version, Log: r.log,
	})
	waiting := attention.New(attention.Settings{DB: r.db, Events: events, Agents: agents, Access: accounts, Skills: skills, Quarantined: func(context.Context) (int, error) {
		found, err := process.ListQuarantine(filepath.Join(f.Data, agentsDir))
		return len(found), err
	}})
	openID, err := f.provider(r.db, services, guard.Through(proxy), installationSecrets, r.log)
	if err != nil {
		return nil, err
	}
	started := make(chan struct{})
	public := api.New(api.Settings{
		DB:             r.db,
		Events:         events,
		Access:         accounts,
		Limiter:        access.NewLimiter(),
		Agents:         agents,
		Archives:       archives,
		Logs:           logs,
		Status:         status,
		Chat:           conversations,
		Workspace:      documentEdits,
		Knowledge:      base,
		Skills:         skills,
		Network:        network,
		People:         people,
		Usage:          usageService(r.db, agents, swarmRecords, accounts),
		Idempotency:    requests,
		Widgets:        widgets,
		ReadFile:       confined.New(confined.Settings{Log: r.log}).Read,
		Models:         models,
		Attention:      waiting,
		Budgets:        budgets,
		TrustedProxies: f.TrustedProxies,
		PublicURL:      f.PublicURL,
		Lenient:        f.Lenient,
		Swarms:         swarm.New(swarm.Settings{Store: swarmRecords, Events: events, Vault: secrets, Agents: agents, Members: people, Knowledge: base, URLs: guard}),
		Ready:          readiness(started, r.db, secrets),
		Degraded:       services.degradation(r, accounts, backups, openID),
		Version:        version,
		Log:            r.log,
		Completed:      r.completed,
	})
	pages, err := dashboard.New(dashboard.Settings{
		API: public, People: people, OpenID: openID,
		Events: events, OwnerOf: func(ctx context.Context, id identity.AgentID) (identity.AccountID, error) {
			a, err := agentRecords.FindByID(ctx, r.db, id)
			return a.AccountID, err
		},
		Regions: servers.Regions,
		Installation: installationSources{
			db: r.db, accounts: accounts, top: topSources{db: r.db, records: agentRecords, accounts: accounts, status: status, memory: reconcile.Memory},
			waiting: reconcile.Waiting, quarantine: quarantinedIn(f.Data), backupEvery: f.BackupEvery, servers: shownServers(servers, links),
		}.read,
		OperatorNeeds: operatorNeeds(waiting),
		PublicURL:     f.PublicURL, TrustedProxies: f.TrustedProxies, Version: version, Log: r.log,
	})
	if err != nil {
		return nil, err
	}
	loops := []func(context.Context) error{
		reconcile.Run, network.Run, status.Run, states.Run, meter.Run, base.Run, conversations.Run, chat.NewChannelReader(conversations).Run,
		requests.Run, channels.Run, bots.Run, backups.Run, widgets.Run, links.Run, serverEngines.Run,
	}
	quietLoops := []func(context.Context) error{accounts.Run, people.Run, pages.Run, catalog.Run, r.db.Run, func(ctx context.Context) error { return r.db.Monitor(ctx, r.log) }}
	if openID != nil {
		quietLoops = append(quietLoops, openID.Run)
	}
	if d, ok := r.driver.(runtime.Runner); ok {
		loops = append(loops, d.Run)
	}
	commands := admin.New(admin.Settings{
		Accounts: accounts, People: people, AgentUsage: agents.Usage, API: public.Operator(), Secrets: installationSecrets, Servers: servers, ServerLinks: links, Collectors: f.collectors(), Reembed: reembed(r.db, events, installationSecrets),
		Examine: examineGateways(r.driver), Checkpoints: checkpointUse(r.driver), Describe: describeInstallation(r.db), Activate: activateInstallation(r.db, events), Backup: makeBackup(backups),
		Top: topSources{db: r.db, records: agentRecords, accounts: accounts, status: status, memory: reconcile.Memory}.top,
	})
	return &server{
		resources: r, accounts: accounts, people: people, budgets: budgets, api: public, dashboard: pages, internalHandler: internal, drainInternal: bots.Drain, calls: gateways.Calls(), adminHandler: commands, loops: loops, quietLoops: quietLoops, recover: states.Recover, started: started,
	}, nil
}

// metricsMux serves the metrics at their usual path.
func metricsMux(m *metrics.Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	return mux
}

// network returns the settings of agents' networks, without the policies.
// --allow-private-endpoints is for the server's own calls and does not change them.
func (f serveFlags) network(r *resources, events *event.Log) (egress.Settings, error) {
	for _, p := range f.EgressPrivate {
		if err := netguard.CheckPrivate(p); err != nil {
			return egress.Settings{}, fmt.Errorf("--egress-private: %s %w", p, err)
		}
	}
	return egress.Settings{DB: r.db, Events: events, Log: r.log, Private: f.EgressPrivate}, nil
}

// buildSkills builds the marketplace. Its downloads go through the guard, so that no
// response of a public registry leads into the operator's network.
func buildSkills(ctx context.Context, r *resources, f serveFlags, events *event.Log, store *skill.Store, accounts *access.Service, agents *agent.Service, scans *budget.Budget, services *dependencies, guard netguard.Guard, secrets *vault.Installation) (*skill.Catalog, *skill.Service, error) {
	catalog, err := skill.NewCatalog(ctx, skill.CatalogSettings{Dir: f.Catalog, Log: r.log})
	if err != nil {
		return nil, nil, fmt.Errorf("load the catalog of skills: %w", err)
	}
	registry, err := clawhub.New(clawhub.Settings{Settings: fetch.Settings{BaseURL: f.ClawHub, HTTP: services.registryClient(registryService, guard, f.ClawHub, clawhub.DefaultURL)}})
	if err != nil {
		return nil, nil, fmt.Errorf("--clawhub-url: %w", err)
	}
	code, err := github.New(fetch.Settings{
		BaseURL: f.GitHub, HTTP: services.registryClient(githubService, guard, f.GitHub, github.DefaultURL, githubArchives),
		Token: func(ctx context.Context) (vault.Secret, error) { return secrets.Read(ctx, vault.GitHubToken) },
	})
	if err != nil {
		return nil, nil, fmt.Errorf("--github-url: %w", err)
	}
	return catalog, skill.New(skill.Settings{
		Store: store, Events: events, Catalog: catalog, ClawHub: registry, GitHub: code,
		Access: accounts, Agents: agents, Scans: scans, MinScore: f.MinSkillScore, Log: r.log,
	}), nil
}

// embedder returns the configured embedder. The operator chooses its address, so it may
// be in a private network.
func (f embedderFlags) embedder(services *dependencies, guard netguard.Guard, secrets *vault.Installation) (embed.Embedder, error) {
	switch f.Embedder {
	case "builtin":
		return embed.Builtin()
	case "transformer":
		return transformer.New(transformer.Settings{Dir: f.EmbedderDir})
	}
	if f.EmbedderBatch < 0 {
		return nil, fmt.Errorf("--embedder-batch must be at least 1, not %d", f.EmbedderBatch)
	}
	guard.AllowPrivate, guard.Proxy = true, guard.Proxy.For(f.EmbedderURL)
	calls := guard.Client()
	calls.Transport = services.watch(embedderService, calls.Transport)
	return embed.NewOpenAI(embed.OpenAISettings{
		URL: f.EmbedderURL, Model: f.EmbedderModel, Dimension: f.EmbedderSize, BatchSize: f.EmbedderBatch, HTTP: calls,
		Key: func(ctx context.Context) (vault.Secret, error) { return secrets.Read(ctx, vault.EmbedderAPIKey) },
	})
}

// readiness returns the check of /readyz: the loops have started, the database answers
// and takes writes, and it is one that the vault's master key belongs to.
func readiness(started <-chan struct{}, db *database.DB, secrets *vault.Vault) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-started:
			if err := db.Health(ctx); err != nil {
				return err
			}
		default:
			return errors.New("starting")
		}
		if err := db.Ping(ctx); err != nil {
			return err
		}
		if err := secrets.CheckMasterKey(ctx, db); err != nil {
			return fault.New(fault.Unavailable, "The master key does not belong to the database: %v.", err)
		}
		return nil
	}
}
