package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// shutdownTime is how long requests may take to finish once the server is told to
// stop. Streams end at once; gateways go on running.
const shutdownTime = 10 * time.Second

// serveFlags are the flags of serve and dev.
type serveFlags struct {
	dataFlags
	Listen                string `help:"Address of the API." default:"127.0.0.1:8080"`
	InternalListen        string `help:"Loopback address that gateways call back on; by default a free port, kept in the data directory."`
	Runtime               string `help:"What runs gateways." enum:"process" default:"process"`
	RuntimeDir            string `help:"Folder of the agent runtime; by default in the user's cache folder." type:"path"`
	Lean                  bool   `help:"Run gateways with a third less memory; they boot a third slower."`
	RequireSandbox        bool   `help:"Refuse to start where gateways cannot be sandboxed."`
	AgentMemory           int64  `help:"Memory limit of an agent, in MiB; 0 for none." default:"3072"`
	AgentProcesses        int64  `help:"Limit of an agent's processes and threads; 0 for none." default:"512"`
	Boots                 int    `help:"Gateways that may boot at once." default:"2"`
	AllowPrivateEndpoints bool   `help:"Let agents' config.baseUrl name loopback and private addresses."`
	MasterKey             string `help:"Master key, 64 hex digits; by default in a file in the data directory."`
	LogLevel              string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

type serveCommand struct{ serveFlags }

// Run serves until it is told to stop. Gateways go on running; the next start
// adopts them.
func (c serveCommand) Run(ctx context.Context, t *terminal) error {
	p, err := build(ctx, c.serveFlags, demo{}, t)
	if err != nil {
		return err
	}
	return p.run(ctx, func() error {
		_, err := fmt.Fprintf(t.err, "agento listens on http://%s\n", p.public.Addr())
		return err
	})
}

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
	meter      *modelproxy.Meter
	proxy      *modelproxy.Proxy
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
	p.furnish(f, d, secrets, plans)
	return p, p.accounts.CheckPlans(ctx)
}

// furnish makes the rooms, each from those below it.
func (p *platform) furnish(f serveFlags, d demo, secrets *vault.Vault, plans *access.Plans) {
	events := &event.Log{DB: p.db, Bell: event.NewBell()}
	p.accounts = access.New(access.Settings{DB: p.db, Events: events, Plans: plans, Log: p.log})
	guard := modelproxy.Guard{AllowPrivate: f.AllowPrivateEndpoints}
	if d.addr.IsValid() {
		guard.Trusted = []netip.AddrPort{d.addr}
	}
	p.meter = modelproxy.NewMeter(p.db, p.log)
	documents := &workspace.Service{DB: p.db, Events: events}
	swarms := &swarm.Service{DB: p.db, Events: events, Secrets: secrets, Allows: p.allowsSwarms}
	p.agents, p.reconciler = agent.New(agent.Settings{
		DB: p.db, Events: events, Vault: secrets, Access: p.accounts, Workspace: documents, Swarms: swarms, Driver: p.driver, Log: p.log,
		URLs: guard, InternalURL: "http://" + p.internal.Addr().String(), PluginDir: p.runtime.PluginDir(),
		Limits: runtime.Limits{MemoryBytes: f.AgentMemory << 20, Processes: f.AgentProcesses}, Boots: f.Boots,
		DemoKey: d.key, DemoURL: d.url,
		Erase: []agent.Eraser{chat.DeleteAgent, p.meter.Forget},
	})
	documents.Changed = func(_ context.Context, tx *database.Tx, _, agentID string) error {
		tx.AfterCommit(func() { p.reconciler.Nudge(agentID) })
		return nil
	}
	swarms.Members = agent.Members{Events: events, Left: p.reconciler.Nudge}
	talks := chat.New(chat.Settings{DB: p.db, Events: events, Agents: p.agents, Log: p.log})
	p.proxy = modelproxy.New(modelproxy.Settings{Resolver: p.agents, Guard: guard, Meter: p.meter, Split: talks.Split, Observe: p.agents.Observe, Log: p.log})
	p.door = api.New(api.Settings{
		DB: p.db, Access: p.accounts, Limiter: access.NewLimiter(), Agents: p.agents, Chat: talks, Documents: documents, Swarms: swarms,
		Ready: p.isReady, Version: version, Log: p.log,
	})
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

// run serves until ctx ends, then lets requests finish, stops the loops and closes
// everything. begun is called once the API answers.
func (p *platform) run(ctx context.Context, begun func() error) error {
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	group, failed := errgroup.WithContext(loops)
	group.Go(func() error { return p.reconciler.Run(failed) })
	group.Go(func() error { return p.agents.Run(failed) })
	group.Go(func() error { return p.accounts.Run(failed) })
	group.Go(func() error { return p.meter.Run(failed) })
	group.Go(func() error { return p.driver.Run(failed) })
	public := p.server(p.door)
	public.RegisterOnShutdown(p.door.Drain)
	internal := p.server(p.proxy)
	group.Go(func() error { return serve(public, p.public) })
	group.Go(func() error { return serve(internal, p.internal) })
	close(p.ready)
	err := begun()
	if err == nil {
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	err = errors.Join(err, ignoreLate(public.Shutdown(ending)), ignoreLate(internal.Shutdown(ending)), public.Close(), internal.Close())
	stopLoops()
	return errors.Join(err, group.Wait(), p.close())
}

// server has no limit on the time of a whole answer, since streams last.
func (p *platform) server(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)}
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// ignoreLate lets requests be cut off that did not finish in time: that is what
// the limit is for.
func ignoreLate(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (p *platform) close() error {
	var err error
	for _, l := range []net.Listener{p.public, p.internal} {
		if l != nil {
			if e := l.Close(); !errors.Is(e, net.ErrClosed) {
				err = errors.Join(err, e)
			}
		}
	}
	if p.proxy != nil {
		p.proxy.Close()
	}
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	return err
}

func (f serveFlags) vault() (*vault.Vault, error) {
	if f.MasterKey != "" {
		key, err := vault.ParseMasterKey([]byte(f.MasterKey))
		if err != nil {
			return nil, err
		}
		return vault.New(key)
	}
	key, err := vault.MasterKey(filepath.Join(f.Data, "master.key"))
	if err != nil {
		return nil, err
	}
	return vault.New(key)
}

func logger(t *terminal, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil { // kong lets only the four through
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: l}))
}

// lockData keeps a second server off the data directory: two would start every
// agent twice.
func lockData(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "server.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another agento server runs on %s: stop it, or choose another --data", dir), f.Close())
	}
	return f, nil
}

// listenInternal listens where running gateways expect us: their environment
// holds the address, and they outlive the server.
func listenInternal(ctx context.Context, flag, kept string) (net.Listener, error) {
	address := flag
	if address == "" {
		before, err := os.ReadFile(filepath.Clean(kept))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the internal address: %w", err)
		}
		if address = strings.TrimSpace(string(before)); address == "" {
			address = "127.0.0.1:0"
		}
	}
	host, _, err := net.SplitHostPort(address)
	if ip, _ := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("the internal address %q must be a loopback address with a port, such as 127.0.0.1:8081", address)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s, where running gateways call back (kept in %s): %w", address, kept, err)
	}
	if err := os.WriteFile(kept, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the internal address: %w", err), l.Close())
	}
	return l, nil
}
