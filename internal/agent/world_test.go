package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// world is all that outlives a server: records and gateways; and the server that
// is up now.
type world struct {
	t      testing.TB
	db     *database.DB
	driver *fake.Driver
	who    access.Principal
	adjust func(*Settings) // of the next server

	unready atomic.Bool  // gateways never get ready
	mute    atomic.Bool  // gateways do not answer health checks
	broken  atomic.Bool  // gateways refuse calls
	silent  atomic.Bool  // gateways tick, and leave calls without an answer
	reloads atomic.Int64 // of secrets

	*Service
	documents  *workspace.Service // of an agent that nobody absorbs from or syncs to
	swarms     *swarm.Service
	reconciler *Reconciler
	end        func()
	ran        sync.WaitGroup
}

// newWorld has a server that is up.
func newWorld(t testing.TB, adjust func(*Settings)) *world {
	t.Helper()
	w := &world{t: t, db: databasetest.New(t), who: access.Principal{AccountID: "acct_1", KeyID: "key_1"}, adjust: adjust}
	w.driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: w.gateway})
	t.Cleanup(w.driver.Close)
	w.account("acct_1")
	w.serve()
	t.Cleanup(func() {
		w.crash()
		if v := w.driver.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
	})
	return w
}

// noHomes is a workspace.Agents that does nothing, so that tests see what the
// reconciler does.
type noHomes struct{}

func (noHomes) Absorb(context.Context, identity.AccountID, identity.AgentID) error { return nil }

func (noHomes) Sync(context.Context, identity.AccountID, identity.AgentID) (bool, error) {
	return false, nil
}

// noKnowledge is a swarm.Knowledge that does nothing.
type noKnowledge struct{}

func (noKnowledge) SwarmDeleted(context.Context, *database.Tx, identity.AccountID, identity.SwarmID, []identity.AgentID) error {
	return nil
}

// inBubble runs a test whose time is not the clock's.
func inBubble(t *testing.T, adjust func(*Settings), f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t, adjust)) })
}

func (w *world) account(id string) {
	w.t.Helper()
	err := w.db.Tx(w.t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(w.t.Context(), `INSERT INTO accounts (id, name, plan_id, created_at) VALUES ($1, $1, 'plan_self_hosted', 1)`, id)
		return err
	})
	w.must(err)
}

// serve starts a server over what there is.
func (w *world) serve() {
	w.t.Helper()
	v, err := vault.New(make([]byte, 32))
	w.must(err)
	events := event.NewLog(w.db)
	s := Settings{
		DB: w.db, Events: events, Vault: v, Driver: w.driver, Log: w.log(),
		Access:    access.New(access.Settings{DB: w.db, Events: events}),
		Workspace: workspace.NewStore(w.db, events),
		Swarms:    swarm.NewStore(w.db),
		URLs:      modelproxy.Guard{}, InternalURL: "http://127.0.0.1:1",
		Boots: 4, Timing: Timing{Backoff: time.Millisecond},
	}
	if w.adjust != nil {
		w.adjust(&s)
	}
	w.Service, w.reconciler = New(s)
	w.documents = workspace.New(s.Workspace, noHomes{})
	w.swarms = swarm.New(swarm.Settings{
		Store: s.Swarms, Events: events, Vault: v, Access: s.Access, Agents: SwarmAgents{w.Service}, Knowledge: noKnowledge{},
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	for _, run := range []func(context.Context) error{w.reconciler.Run, w.Run} {
		w.ran.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				w.t.Errorf("run: %v", err)
			}
		})
	}
}

func (w *world) log() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(w.t.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// crash ends the server wherever it is; gateways go on.
func (w *world) crash() {
	w.end()
	w.ran.Wait()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// gateway is a gateway's own HTTP server.
func (w *world) gateway(g *fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		if w.unready.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(rw, `{"failing":["databases"]}`)
		}
	})
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, _ *http.Request) {
		if w.mute.Load() {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /v1/chat/completions", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(rw, "data: {\"choices\":[{\"delta\":{\"content\":\"I am at %s\"}}]}\n\ndata: [DONE]\n\n", g.Place)
	})
	mux.HandleFunc("GET /{$}", w.calls)
	return mux
}

// calls is the gateway's WebSocket.
func (w *world) calls(rw http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(rw, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	var ticking sync.WaitGroup
	defer ticking.Wait()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	_ = wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "connect.challenge"}) // a broken connection shows in Read
	for {
		var f struct{ ID, Method string }
		if wsjson.Read(ctx, c, &f) != nil {
			return
		}
		if f.Method != "connect" && w.silent.Load() {
			ticking.Go(func() { tick(ctx, c) })
			continue
		}
		ok := f.Method == "connect" || !w.broken.Load()
		if f.Method == "secrets.reload" && ok {
			w.reloads.Add(1)
		}
		_ = wsjson.Write(ctx, c, map[string]any{"type": "res", "id": f.ID, "ok": ok, "payload": map[string]any{}, "error": map[string]any{"code": "UNAVAILABLE"}})
	}
}

// tick keeps a connection alive as a gateway does that has nothing to say.
func tick(ctx context.Context, c *websocket.Conn) {
	for wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "tick"}) == nil {
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
		}
	}
}

// newAgent is a request that is fine.
func newAgent(name string) client.CreateAgentRequest {
	return client.CreateAgentRequest{Name: name, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}}
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// create returns a running agent.
func (w *world) create(name string) Agent {
	w.t.Helper()
	asked, err := w.Create(w.ctx(), w.who, newAgent(name))
	w.must(err)
	a, err := w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	return a
}

func (w *world) find(id string) Agent {
	w.t.Helper()
	a, err := findAny(w.t.Context(), w.db, id)
	w.must(err)
	return a
}

// until waits for an agent to be as done says.
func (w *world) until(id string, done func(Agent) bool) Agent {
	w.t.Helper()
	a, err := w.await(w.ctx(), id, done)
	if err != nil {
		w.t.Fatalf("agent is %s (wanted %s, %s): %v", a.Status, a.Wanted, a.LastError, err)
	}
	return a
}

func (w *world) untilStatus(id string, s client.AgentStatus) Agent {
	w.t.Helper()
	return w.until(id, func(a Agent) bool { return a.Status == s && a.Settled == a.Wish })
}

// eventually polls for what rings no bell.
func (w *world) eventually(what string, done func() bool) {
	w.t.Helper()
	ctx, tick := w.ctx(), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// turn says something to an agent and returns the answer.
func (w *world) turn(id string) (string, error) {
	g, err := w.Gateway(w.ctx(), id)
	if err != nil {
		return "", err
	}
	return say(w.ctx(), g)
}

// driverFunc is a driver that may fail otherwise than the fake can be told to.
type driverFunc struct {
	*fake.Driver
	before func(method, id string) error
}

func (d driverFunc) Stop(ctx context.Context, place, id string, grace time.Duration) error {
	return errors.Join(d.before("Stop", id), d.Driver.Stop(ctx, place, id, grace))
}

func (d driverFunc) Remove(ctx context.Context, place, id string) error {
	if err := d.before("Remove", id); err != nil {
		return err
	}
	return d.Driver.Remove(ctx, place, id)
}

func (d driverFunc) Inspect(ctx context.Context, place, id string) (runtime.State, error) {
	if err := d.before("Inspect", id); err != nil {
		return runtime.State{}, err
	}
	return d.Driver.Inspect(ctx, place, id)
}

func (d driverFunc) Home(ctx context.Context, place, id string) (runtime.Home, error) {
	if err := d.before("Home", id); err != nil {
		return nil, err
	}
	return d.Driver.Home(ctx, place, id)
}
