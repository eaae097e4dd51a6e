package engines_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/engines"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/multi"
	"agento.host/agento/internal/runtime/runtimetest"
	"agento.host/agento/internal/vault"
)

func TestMain(m *testing.M) { os.Exit(dockertest.Main(m.Run)) }

// sharedSocket returns the socket of an engine with the test image. The test is skipped where none can run.
func sharedSocket(t *testing.T) string {
	t.Helper()
	return socketOf(dockertest.Shared(t))
}

func socketOf(e *dockertest.Engine) string { return strings.TrimPrefix(e.Host(), "unix://") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keepalive is how often connections are tried in these tests. One that is lost is noticed within four.
const keepalive = 250 * time.Millisecond

// env is an installation with a pool. The machine of the process has a fake driver.
type env struct {
	*engines.Servers
	t        *testing.T
	service  *pool.Service
	db       *database.DB
	driver   *multi.Driver
	local    *fake.Driver
	settings engines.Settings
	log      *logBuffer
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newEnv(t *testing.T, change ...func(*pool.Settings)) *env {
	t.Helper()
	db := databasetest.New(t)
	key, err := vault.New(make([]byte, 32))
	must(t, err)
	e := &env{t: t, db: db, log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(e.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.log)
		}
	})
	settings := pool.Settings{DB: db, Events: event.NewLog(db), Vault: key, Log: log, PingEvery: 3 * time.Second, Keepalive: keepalive}
	for _, f := range change {
		f(&settings)
	}
	e.service = pool.New(settings)
	e.settings = engines.Settings{
		DB: db, Store: agent.NewStore(db, settings.Events), Pool: e.service, Links: pool.NewLinks(e.service), Log: log,
		Docker: docker.Settings{
			Installation: "inst_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Dir: filepath.Join(t.TempDir(), "servers"),
			Image: dockertest.Image, Command: []string{dockertest.Gateway}, Log: log,
		},
	}
	e.local = fake.New(fake.Settings{Dir: t.TempDir(), Handler: func(g *fake.Gateway) http.Handler { return runtimetest.Handler(g) }})
	t.Cleanup(e.local.Close)
	e.run(e.settings.Links.Run)
	e.Servers = e.open()
	e.driver = multi.New(multi.Settings{Local: e.local, Servers: e.Servers, Log: log})
	return e
}

// open returns the servers as a process has them that begins.
func (e *env) open() *engines.Servers {
	s := engines.New(e.settings)
	e.t.Cleanup(s.Close)
	e.run(s.Run)
	return s
}

// run runs a loop until the end of the test.
func (e *env) run(loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- loop(ctx) }()
	e.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			e.t.Error(err)
		}
	})
}

var operator = identity.ByOperator("")

// sshd is an sshd with the key that it lets in.
type sshd struct {
	*sshtest.Server
	private vault.Secret
}

func newSSHD(t *testing.T) sshd {
	t.Helper()
	s := sshd{Server: sshtest.Start(t, "MaxStartups 200")}
	_, line, private := sshtest.NewKey(t)
	s.Authorize(line)
	s.private = vault.NewSecret(string(private))
	return s
}

// newServer returns a server to add, at address; empty: that of the sshd itself.
func (s sshd) newServer(name, socket, address string) pool.NewServer {
	if address == "" {
		address = s.Address
	}
	return pool.NewServer{Name: name, Login: s.User + "@" + address, Socket: socket, Regions: []string{"eu"}, Identity: s.private}
}

// add adds a server, without waiting for the connection.
func (e *env) add(n pool.NewServer) pool.Server {
	e.t.Helper()
	var err error
	if n.HostKeys == nil {
		n.HostKeys, err = e.service.HostKeys(e.t.Context(), n.Login)
		must(e.t, err)
	}
	record, err := e.service.Add(e.t.Context(), operator, n)
	must(e.t, err)
	return record
}

// connect adds a server and waits until agents can be placed on it.
func (e *env) connect(n pool.NewServer) pool.Server {
	e.t.Helper()
	record := e.add(n)
	e.waitOpen(n.Name)
	return record
}

// waitOpen waits until agents can be placed on a server.
func (e *env) waitOpen(name string) {
	e.t.Helper()
	runtimetest.WaitUntil(e.t, name+" can be used", func() bool {
		status, ok := e.settings.Links.Status(name)
		if !ok || !status.Up() {
			return false
		}
		d, err := e.Driver(e.t.Context(), name)
		return err == nil && d.CheckIsolation() == nil
	})
}

// waitLost waits until it is known that a server is not connected.
func (e *env) waitLost(name string) {
	e.t.Helper()
	runtimetest.WaitUntil(e.t, name+" is known to be lost", func() bool {
		status, _ := e.settings.Links.Status(name)
		return !status.Connected
	})
}

func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	must(e.t, e.db.Tx(e.t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}))
}

// record stores an agent whose home is on a server.
func (e *env) record(id identity.AgentID, server string, place runtime.Place) {
	e.t.Helper()
	e.exec(`INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, status, server, place, created_at)
		VALUES ($1, 'account', $1, 'eu', '{}', 'running', 1, 'running', $2, $3, 1)`, id, server, place)
}

func (e *env) setPlace(id identity.AgentID, place runtime.Place) {
	e.t.Helper()
	e.exec(`UPDATE agents SET place = $1 WHERE id = $2`, place, id)
}

// start starts an agent on a server, and records where.
func (e *env) start(server string) *runtimetest.Gateway {
	e.t.Helper()
	s := runtimetest.Spec(runtimetest.NewID())
	e.record(s.ID, server, "")
	g := runtimetest.Start(e.t, e.driver, s)
	e.setPlace(s.ID, g.Place)
	return g
}

func newAPI(t *testing.T, socket string) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost("unix://" + socket))
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// objects lists what an engine has of an agent: containers with their states, and volumes.
func objects(t *testing.T, api *client.Client, id identity.AgentID) (all []string) {
	t.Helper()
	filters := make(client.Filters).Add("label", "agento.agent="+string(id))
	ctx := context.WithoutCancel(t.Context())
	containers, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	must(t, err)
	for _, c := range containers.Items {
		all = append(all, fmt.Sprintf("%s %s", c.Labels["agento.role"], c.State))
	}
	volumes, err := api.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	must(t, err)
	for range volumes.Items {
		all = append(all, "volume")
	}
	return all
}
