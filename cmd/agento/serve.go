package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/dashboard"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/user"
)

// shutdownTimeout is how long requests may take to finish after the signal to stop.
// Streams end at once; gateways keep running.
const shutdownTimeout = 10 * time.Second

// serveFlags are the flags of serve and dev.
type serveFlags struct {
	vaultFlags
	embedderFlags
	driverFlags
	turnFlags
	backupFlags
	oidcFlags
	Listen                string         `help:"Address of the API." default:"127.0.0.1:8080"`
	Seal                  bool           `help:"Seal texts and older logs of agents with their data keys. What is stored stays as it is." default:"true" negatable:""`
	PublicURL             string         `help:"Address at which clients reach the API, such as https://api.example.com: for the OpenAPI document, and for links that people get." name:"public-url" placeholder:"URL"`
	Lenient               bool           `help:"Ignore query parameters that the API does not know, in place of refusing the request."`
	TrustedProxies        []netip.Prefix `help:"Networks of your own proxies, as CIDRs separated by commas. Their X-Forwarded-For names the client." placeholder:"CIDR,..."`
	RuntimeDir            string         `help:"Directory of the agent runtime. Default: in the user's cache directory." type:"path"`
	Lean                  bool           `help:"Run gateways with a third less memory. They boot a third slower."`
	AgentMemory           int64          `help:"Memory limit of an agent, in MiB; 0 means no limit." default:"3072"`
	AgentProcesses        int64          `help:"Limit of an agent's processes and threads; 0 means no limit." default:"512"`
	AgentCPUs             float64        `help:"Processor cores that an agent may use at once; 0 means no limit of its own." default:"2" name:"agent-cpus"`
	AgentCPUWeight        int64          `help:"Share of an agent where there is not enough CPU time for all: 1 to 10000." default:"100" name:"agent-cpu-weight"`
	AgentDisk             int64          `help:"Limit of an agent's files on the disk, in MiB; 0 means no limit." default:"10240"`
	AgentFiles            int64          `help:"Limit of the number of an agent's files and directories; 0 means no limit." default:"1000000"`
	Memory                int64          `help:"Memory that all agents may use together, in MiB; an agent that does not fit waits. 0: that of the machine or container, less an eighth (at least 512 MiB)." default:"0"`
	Boots                 int            `help:"Gateways that may boot at the same time." default:"2"`
	Sleep                 string         `help:"Whether agents that nobody uses sleep: auto suspends their gateways, or freezes them where the machine cannot do that; freeze freezes them; off. A message wakes them." enum:"auto,freeze,off" default:"off"`
	Linger                time.Duration  `help:"How long an agent stays awake after its last answer, with --sleep auto or freeze." default:"25s"`
	CheckpointDiskAfter   time.Duration  `help:"How long after its last answer the checkpoint of an agent that sleeps moves from memory to the disk; earlier, if others need the memory." default:"5m"`
	BootStall             time.Duration  `help:"How long a gateway that boots may do nothing before it is ended." default:"20s"`
	AllowPrivateEndpoints bool           `help:"Allow loopback and private addresses in config.baseUrl of agents."`
	EgressPrivate         []netip.Prefix `help:"Private ranges that agents may connect to if their config.egress names what is there, as CIDRs separated by commas." placeholder:"CIDR,..."`
	Redis                 string         `help:"Redis for status reports, as redis://HOST:PORT/DB."`
	Catalog               string         `help:"Directory of the operator's own verified skills. Changes are loaded automatically." type:"path"`
	ClawHub               string         `help:"Address of the community skill registry." name:"clawhub-url" default:"https://clawhub.ai"`
	GitHub                string         `help:"Address of the GitHub API that skills are downloaded from. Its token is the secret GITHUB_TOKEN: agento installation secrets set GITHUB_TOKEN." name:"github-url" default:"https://api.github.com"`
	MinSkillScore         int            `help:"Minimum security score of a skill that can be installed." default:"50"`
	TelegramURL           string         `help:"Bot API server to use instead of Telegram's." name:"telegram-url"`
	AccessLog             string         `help:"Write a line for each request to standard output: off, text or json." enum:"off,text,json" default:"off"`
	MetricsListen         string         `help:"Address of the Prometheus metrics, such as 127.0.0.1:9090. They need no key: only your monitoring must reach it. Default: none." placeholder:"ADDRESS"`
	Prices                string         `help:"Prices of models, as a YAML file, in place of the built-in ones for the same models. See docs/usage.md." type:"path"`
	Activate              bool           `help:"Activate a restored installation: its original must not run from now on." env:"-"`
	LogLevel              string         `help:"Log level: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// checkPublicURL returns nil if the public URL is the beginning of addresses.
func (f serveFlags) checkPublicURL() error {
	if f.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(f.PublicURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return usageError("--public-url must be an address such as https://api.example.com, without a query")
	}
	return nil
}

// linkBase returns the address that links for people begin with, which a browser on this machine
// reaches if no public URL is known.
func (f serveFlags) linkBase(listens net.Addr) string {
	if f.PublicURL != "" {
		return f.PublicURL
	}
	addr, err := netip.ParseAddrPort(listens.String())
	if err != nil || addr.Addr().IsUnspecified() {
		_, port, _ := net.SplitHostPort(listens.String())
		return "http://localhost:" + port
	}
	return "http://" + addr.String()
}

// turnFlags are the limits of a turn. 0 means no limit.
type turnFlags struct {
	TurnModelCalls     int64         `help:"Model calls that one message to an agent may cause; 0 means no limit." default:"40"`
	TurnToolCalls      int64         `help:"Tool calls that one message to an agent may cause; 0 means no limit." default:"80"`
	TurnEqualToolCalls int64         `help:"Equal tool calls in a row after which the answer to a message is ended; 0 means no limit." default:"5"`
	TurnTime           time.Duration `help:"How long the answer to a message may take; 0 means no limit." default:"10m"`
	TurnTokens         int64         `help:"Tokens that one message to an agent may cost, in and out, without cache reads; 0 means no limit." default:"2000000"`
}

func (f turnFlags) turnLimits() modelturn.Limits {
	return modelturn.Limits{
		ModelCalls: max(0, f.TurnModelCalls), ToolCalls: max(0, f.TurnToolCalls), EqualToolCalls: max(0, f.TurnEqualToolCalls),
		Time: max(0, f.TurnTime), Tokens: max(0, f.TurnTokens),
	}
}

// embedderFlags configure the embedder of knowledge.
type embedderFlags struct {
	Embedder      string `help:"What embeds knowledge: builtin, openai (any OpenAI-compatible service), or transformer (a model in a directory)." enum:"builtin,openai,transformer" default:"builtin"`
	EmbedderURL   string `help:"Address of the embedding service, without /embeddings." default:"https://api.openai.com/v1"`
	EmbedderModel string `help:"Model of the embedding service." default:"text-embedding-3-small"`
	EmbedderSize  int    `help:"Dimension of the embedding service's vectors." default:"1536"`
	EmbedderBatch int    `help:"Most texts in a request to the embedding service. It is lowered when the service refuses that many." default:"64"`
	EmbedderDir   string `help:"Directory of a sentence transformer with its ONNX model." type:"path"`
}

type serveCommand struct{ serveFlags }

// Run serves until it is told to stop. Gateways keep running, and the next start adopts
// them.
func (c serveCommand) Run(ctx context.Context, t *terminal) error {
	s, err := newServer(ctx, c.serveFlags, devSettings{}, t)
	if err != nil {
		return err
	}
	s.warnOfPlainHTTP(c.TrustedProxies)
	return s.run(ctx, func() error {
		return errors.Join(s.printQuiet(ctx, c.serveFlags, t), s.printStart(ctx, c.serveFlags, t), s.hintFirstOwner(ctx, c.serveFlags, t))
	})
}

// printStart says what has started: what an operator would ask first if something is wrong.
func (s *server) printStart(ctx context.Context, f serveFlags, t *terminal) error {
	found, err := s.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list the gateways: %w", err)
	}
	running := 0
	for _, g := range found {
		if g.Running && g.Owner != runtime.Foreign {
			running++
		}
	}
	metrics := ""
	if s.metricsListener != nil {
		metrics = fmt.Sprintf("\n  metrics    http://%s/metrics", s.metricsListener.Addr())
	}
	if s.traces != "" {
		metrics += "\n  traces     " + s.traces
	}
	_, err = fmt.Fprintf(t.err, `agento %s
  data       %s
  sandbox    %s
  gateways   %d run and are adopted%s
agento listens on http://%s
`, version, f.Data, f.sandboxName(), running, metrics, s.public.Addr())
	return err
}

// warnOfPlainHTTP logs that API keys can be read on the way, if other machines reach the
// API and no proxy is known that adds TLS.
func (s *server) warnOfPlainHTTP(proxies []netip.Prefix) {
	at, ok := s.public.Addr().(*net.TCPAddr)
	if !ok || at.IP.IsLoopback() || len(proxies) > 0 {
		return
	}
	s.log.Warn("the API is reachable from other machines without TLS, so that API keys and conversations can be read on the way: "+
		"put a proxy with TLS in front of it and name it with --trusted-proxies, or listen on a loopback address", "address", at.String())
}

// server is a complete control plane that listens and can be run once.
type server struct {
	*resources
	accounts        *access.Service
	people          *user.Service
	budgets         *budget.Server
	api             *api.Server
	dashboard       *dashboard.Server
	internalHandler http.Handler // the model proxy, the tools and the Bot API, which gateways call
	drainInternal   func()       // ends calls that wait
	calls           net.Listener // of the gateways
	adminHandler    http.Handler
	loops           []func(context.Context) error // run beside the requests, once the installation is active, until their context ends
	recover         func(context.Context) error   // stores what was decided while the installation was quiet, before the loops run
	quietLoops      []func(context.Context) error // run while it is quiet, too: they neither act on the outside nor remove anything
	started         chan struct{}                 // closed when the loops have started
}

// run serves until ctx ends, then lets requests finish, stops the loops and closes the
// resources. It calls onStart when the API answers.
func (s *server) run(ctx context.Context, onStart func() error) error {
	loopsCtx, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	group, failed := errgroup.WithContext(loopsCtx)
	start := func(loops []func(context.Context) error) {
		for _, loop := range loops {
			group.Go(func() error { return loop(failed) })
		}
	}
	start(s.quietLoops)
	if s.db.IsQuiet() {
		group.Go(func() error { return s.startActivated(failed, func() { start(s.loops) }) })
	} else {
		start(s.loops)
	}
	public, internal, admin := s.httpServer(s.publicHandler()), s.httpServer(budget.TimedHandler(refuseWhileQuiet(s.db, s.internalHandler))), s.httpServer(s.adminHandler)
	public.RegisterOnShutdown(s.api.Drain)
	public.RegisterOnShutdown(s.dashboard.Drain)
	group.Go(func() error { return serve(public, s.budgets.API.Listener(s.public)) })
	internal.ConnContext = gateway.ConnContext
	internal.RegisterOnShutdown(s.drainInternal)
	group.Go(func() error { return serve(internal, s.budgets.Agents.Listener(s.calls)) })
	group.Go(func() error { return serve(admin, s.admin) })
	metrics := s.httpServer(nil)
	if s.metricsListener != nil {
		metrics.Handler = metricsMux(s.metrics)
		group.Go(func() error { return serve(metrics, s.metricsListener) })
	}
	close(s.started)
	err := onStart()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // it was told to stop while it said that it had started
	}
	if err == nil {
		select {
		case <-ctx.Done():
			s.log.InfoContext(ctx, "stopping: requests may end, gateways go on", "within", shutdownTimeout)
		case <-failed.Done():
		}
	}
	shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = errors.Join(err, ignoreTimeout(public.Shutdown(shutdown)), ignoreTimeout(internal.Shutdown(shutdown)), ignoreTimeout(admin.Shutdown(shutdown)),
		public.Close(), internal.Close(), admin.Close(), metrics.Close())
	stopLoops()
	return errors.Join(err, group.Wait(), s.Close())
}

// publicHandler serves the API and the dashboard.
func (s *server) publicHandler() http.Handler {
	return s.dashboard.Before(s.api)
}

// startActivated calls start when the installation is not quiet any more, unless ctx ends
// before.
func (s *server) startActivated(ctx context.Context, start func()) error {
	select {
	case <-s.db.Active():
	case <-ctx.Done():
		return nil
	}
	s.log.InfoContext(ctx, "the installation is active: its agents start, and their channels are read")
	err := s.recover(ctx)
	if err == nil {
		start()
	}
	return err
}

// httpServer has no limit on the time of a whole response, because streams last; see
// budget.Timed.
func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ConnContext: budget.ConnContext, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// ignoreTimeout drops the error of requests that did not finish in time and were cut
// off.
func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
