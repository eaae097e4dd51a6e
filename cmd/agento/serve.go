package main

import (
	"cmp"
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

	"agento.host/agento/internal/vault"
)

// shutdownTime is how long requests may take to finish once the server is told to
// stop. Streams end at once; gateways go on running.
const shutdownTime = 10 * time.Second

// serveFlags are the flags of serve and dev.
type serveFlags struct {
	vaultFlags
	embedderFlags
	driverFlags
	Listen                string `help:"Address of the API." default:"127.0.0.1:8080"`
	InternalListen        string `help:"Loopback address that gateways call back on; by default a free port, kept in the data directory."`
	RuntimeDir            string `help:"Folder of the agent runtime; by default in the user's cache folder." type:"path"`
	Lean                  bool   `help:"Run gateways with a third less memory; they boot a third slower."`
	AgentMemory           int64  `help:"Memory limit of an agent, in MiB; 0 for none." default:"3072"`
	AgentProcesses        int64  `help:"Limit of an agent's processes and threads; 0 for none." default:"512"`
	Boots                 int    `help:"Gateways that may boot at once." default:"2"`
	AllowPrivateEndpoints bool   `help:"Let agents' config.baseUrl name loopback and private addresses."`
	Redis                 string `help:"Redis that servers share fresh status through, as redis://HOST:PORT/DB."`
	Catalog               string `help:"Folder of the operator's own verified skills; it is watched." type:"path"`
	ClawHub               string `help:"Address of the community skill registry." name:"clawhub-url" default:"https://clawhub.ai"`
	GitHub                string `help:"Address that skills of GitHub are fetched from." name:"github-url" default:"https://api.github.com"`
	MinSkillScore         int    `help:"Security score below which a skill is not installed." default:"50"`
	TelegramURL           string `help:"Bot API server of your own, in place of Telegram's." name:"telegram-url"`
	LogLevel              string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
}

// embedderFlags choose what embeds knowledge.
type embedderFlags struct {
	Embedder      string `help:"What embeds knowledge: builtin, openai for any OpenAI-compatible service, or transformer for a model in a directory." enum:"builtin,openai,transformer" default:"builtin"`
	EmbedderURL   string `help:"Address of the embedding service; /embeddings is added." default:"https://api.openai.com/v1"`
	EmbedderModel string `help:"Model of the embedding service." default:"text-embedding-3-small"`
	EmbedderSize  int    `help:"Dimension of the embedding service's vectors." default:"1536"`
	EmbedderDir   string `help:"Directory of a sentence transformer, as published, with its ONNX model." type:"path"`
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

// run serves until ctx ends, then lets requests finish, stops the loops and closes
// everything. begun is called once the API answers.
func (p *platform) run(ctx context.Context, begun func() error) error {
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	group, failed := errgroup.WithContext(loops)
	for _, loop := range p.loops() {
		group.Go(func() error { return loop(failed) })
	}
	public := p.server(p.door)
	public.RegisterOnShutdown(p.door.Drain)
	internal := p.server(p.callbacks)
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
	if p.reports != nil {
		err = errors.Join(err, p.reports.Close())
	}
	if p.db != nil {
		err = errors.Join(err, p.db.Close())
	}
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
	}
	return err
}

// vaultFlags say where the data are and what opens the secrets in them.
type vaultFlags struct {
	dataFlags
	MasterKey string `help:"Master key, 64 hex digits; by default in a file in the data directory."`
}

func (f vaultFlags) vault() (*vault.Vault, error) {
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
	text, err := os.ReadFile(filepath.Clean(kept))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the internal address: %w", err)
	}
	before := strings.TrimSpace(string(text))
	address := cmp.Or(flag, before, "127.0.0.1:0")
	host, _, err := net.SplitHostPort(address)
	if ip, _ := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("the internal address %q must be a loopback address with a port, such as 127.0.0.1:8081", address)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s, where running gateways call back (kept in %s): %w", address, kept, err)
	}
	if l.Addr().String() == before {
		return l, nil // written anew, it would be lost to a server that dies just then, and gateways with it
	}
	if err := os.WriteFile(kept, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the internal address: %w", err), l.Close())
	}
	return l, nil
}
