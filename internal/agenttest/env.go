package agenttest

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/vault"
)

// waitTimeout bounds every wait of a test.
const waitTimeout = 30 * time.Second

// Account is the account of the tests.
const Account identity.AccountID = "acct_1"

// Env is what outlives a server: the database and the gateways; and the server that
// runs now.
type Env struct {
	t       testing.TB
	DB      *database.DB
	Driver  *fake.Driver
	Actor   identity.Actor
	Scripts *Scripts // of the gateways

	// Adjust changes the settings of the next server; nil changes nothing.
	Adjust func(*Settings)

	*Server
	cancel context.CancelFunc
	loops  sync.WaitGroup
}

// New returns an environment with a running server.
func New(t testing.TB, adjust func(*Settings)) *Env {
	t.Helper()
	e := &Env{t: t, DB: databasetest.New(t), Actor: identity.ByKey(Account, "key_1"), Scripts: &Scripts{}, Adjust: adjust}
	e.Driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: e.Scripts.Handler})
	t.Cleanup(e.Driver.Close)
	e.Exec(`INSERT INTO accounts (id, name, plan_id, created_at) VALUES ($1, $1, 'plan_self_hosted', 1)`, Account)
	e.StartServer()
	t.Cleanup(func() {
		e.StopServer()
		if v := e.Driver.Violations(); len(v) > 0 {
			t.Errorf("the driver was used against its contract: %q", v)
		}
	})
	return e
}

// InBubble runs a test in a synctest bubble, whose clock advances when nothing else
// can happen.
func InBubble(t *testing.T, adjust func(*Settings), f func(t *testing.T, e *Env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, New(t, adjust)) })
}

// StartServer starts a server over the database and the gateways.
func (e *Env) StartServer() {
	e.t.Helper()
	s := Settings{DB: e.DB, Driver: e.Driver, Log: e.logger(), Timing: reconciler.Timing{Backoff: time.Millisecond}}
	if e.Adjust != nil {
		e.Adjust(&s)
	}
	server, err := NewServer(s)
	e.Must(err)
	e.Server = server
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	for _, loop := range server.Loops() {
		e.loops.Go(func() {
			if err := loop(ctx); err != nil && ctx.Err() == nil {
				e.t.Errorf("a loop ended: %v", err)
			}
		})
	}
}

// CancelServer makes the server stop, wherever it is, and does not wait for that.
func (e *Env) CancelServer() { e.cancel() }

// StopServer stops the server wherever it is, as a crash would; gateways continue to
// run.
func (e *Env) StopServer() {
	e.cancel()
	e.loops.Wait()
}

// RestartServer stops the server and starts another one with other settings.
func (e *Env) RestartServer(adjust func(*Settings)) {
	e.t.Helper()
	e.StopServer()
	e.Adjust = adjust
	e.StartServer()
}

func (e *Env) logger() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(e.t.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// Must ends the test if err is not nil.
func (e *Env) Must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// Context returns a context that bounds a wait.
func (e *Env) Context() context.Context {
	ctx, cancel := context.WithTimeout(e.t.Context(), waitTimeout)
	e.t.Cleanup(cancel)
	return ctx
}

// NewAgent returns a valid request for an agent.
func NewAgent(name string) client.CreateAgentRequest {
	return client.CreateAgentRequest{Name: name, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}}
}

// Create creates an agent and returns it when it runs.
func (e *Env) Create(name string) agent.Agent {
	e.t.Helper()
	return e.CreateFrom(NewAgent(name))
}

// CreateFrom creates an agent from a request and returns it when it runs.
func (e *Env) CreateFrom(in client.CreateAgentRequest) agent.Agent {
	e.t.Helper()
	accepted, err := e.Agents.Create(e.Context(), e.Actor, in)
	e.Must(err)
	a, err := e.Agents.AwaitRunning(e.Context(), accepted)
	e.Must(err)
	return a
}

// Start starts an agent and waits until it runs.
func (e *Env) Start(id identity.AgentID) agent.Agent {
	e.t.Helper()
	accepted, err := e.Agents.Start(e.Context(), e.Actor, id)
	e.Must(err)
	a, err := e.Agents.AwaitRunning(e.Context(), accepted)
	e.Must(err)
	return a
}

// Restart restarts an agent and waits until it runs.
func (e *Env) Restart(id identity.AgentID) agent.Agent {
	e.t.Helper()
	accepted, err := e.Agents.Restart(e.Context(), e.Actor, id)
	e.Must(err)
	a, err := e.Agents.AwaitRunning(e.Context(), accepted)
	e.Must(err)
	return a
}

// Stop stops an agent and waits until it is stopped.
func (e *Env) Stop(id identity.AgentID) agent.Agent {
	e.t.Helper()
	accepted, err := e.Agents.Stop(e.Context(), e.Actor, id)
	e.Must(err)
	a, err := e.Agents.AwaitStopped(e.Context(), accepted)
	e.Must(err)
	return a
}

// Delete deletes an agent and waits until it is removed.
func (e *Env) Delete(id identity.AgentID) {
	e.t.Helper()
	accepted, err := e.Agents.Delete(e.Context(), e.Actor, id)
	e.Must(err)
	e.Must(e.Agents.AwaitDeleted(e.Context(), accepted))
}

// SetSecrets sets secrets of an agent.
func (e *Env) SetSecrets(id identity.AgentID, secrets map[string]string) {
	e.t.Helper()
	_, err := e.Agents.SetSecrets(e.Context(), e.Actor, id, client.SecretsRequest{Secrets: secrets})
	e.Must(err)
}

// Find returns the record of an agent.
func (e *Env) Find(id identity.AgentID) agent.Agent {
	e.t.Helper()
	a, err := e.Store.FindByID(e.t.Context(), e.DB, id)
	e.Must(err)
	return a
}

// Until waits until done reports true of an agent.
func (e *Env) Until(id identity.AgentID, done func(agent.Agent) bool) agent.Agent {
	e.t.Helper()
	a, err := e.Store.Await(e.Context(), id, done)
	if err != nil {
		e.t.Fatalf("the agent is %s (desired %s, %s): %v", a.Status, a.DesiredState, a.LastError, err)
	}
	return a
}

// UntilHours is Until with a limit of an hour, for a bubble, where that costs nothing.
func (e *Env) UntilHours(id identity.AgentID, done func(agent.Agent) bool) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Hour)
	defer cancel()
	_, err := e.Store.Await(ctx, id, done)
	e.Must(err)
}

// UntilStatus waits until an agent has a status, and nothing else is requested.
func (e *Env) UntilStatus(id identity.AgentID, s client.AgentStatus) agent.Agent {
	e.t.Helper()
	return e.Until(id, func(a agent.Agent) bool { return a.Status == s && a.ObservedGeneration == a.Generation })
}

// Eventually polls for what sends no notification.
func (e *Env) Eventually(what string, done func() bool) {
	e.t.Helper()
	ctx, tick := e.Context(), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			e.t.Fatalf("not within %s: %s", waitTimeout, what)
		case <-tick.C:
		}
	}
}

// Turn sends a message to an agent and returns the answer.
func (e *Env) Turn(id identity.AgentID) (string, error) { return e.TurnFor(waitTimeout, id) }

// TurnFor is Turn for a caller that leaves after a time.
func (e *Env) TurnFor(patience time.Duration, id identity.AgentID) (string, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	c, err := e.Gateways.Connect(ctx, id)
	if err != nil {
		return "", err
	}
	return e.TurnOn(c)
}

// TurnOn sends a message over a connection and returns the answer.
func (e *Env) TurnOn(c *gateway.Connection) (string, error) {
	request := openclaw.TurnRequest{Entry: openclaw.Main, SessionKey: "agent:main:api:x", Message: "who?"}
	var text strings.Builder
	_, err := c.Turn(e.Context(), request, func(delta string) error {
		text.WriteString(delta)
		return nil
	})
	return text.String(), err
}

// Exec changes the database.
func (e *Env) Exec(query string, args ...any) {
	e.t.Helper()
	e.Must(e.DB.Tx(e.t.Context(), "agenttest.exec", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(e.t.Context(), query, args...)
		return err
	}))
}

// CheckCount checks the number that a query returns.
func (e *Env) CheckCount(want int, query string, args ...any) {
	e.t.Helper()
	var n int
	e.Must(e.DB.QueryRowContext(e.t.Context(), query, args...).Scan(&n))
	if n != want {
		e.t.Errorf("%d rows instead of %d: %s %v", n, want, query, args)
	}
}

// CheckNothingLeft checks that nothing of a deleted agent exists any more.
func (e *Env) CheckNothingLeft(id identity.AgentID) {
	e.t.Helper()
	found, err := e.Driver.List(e.t.Context())
	e.Must(err)
	for _, f := range found {
		if f.ID == id {
			e.t.Errorf("the driver still has %+v", f)
		}
	}
	for _, table := range []string{"secrets", "data_keys"} {
		e.CheckCount(0, `SELECT count(*) FROM `+table+` WHERE owner_id = $1`, id)
	}
	e.CheckCount(0, `SELECT count(*) FROM documents WHERE agent_id = $1`, id)
	e.CheckCount(0, `SELECT count(*) FROM agents WHERE id = $1`, id)
	if e.Gateways.HasState(id) {
		e.t.Error("the gateway manager keeps state of a deleted agent")
	}
}

// ReadHome reads a file of an agent's home.
func (e *Env) ReadHome(id identity.AgentID, path string) (string, error) {
	home, err := e.Driver.Home(e.t.Context(), "", id)
	if err != nil {
		return "", err
	}
	data, err := home.ReadFile(path, 1<<20)
	return string(data), errors.Join(err, home.Close())
}

// WriteHome writes a file into an agent's home, as the agent does.
func (e *Env) WriteHome(id identity.AgentID, path, text string) {
	e.t.Helper()
	home, err := e.Driver.Home(e.t.Context(), "", id)
	e.Must(err)
	e.Must(errors.Join(home.WriteFile(path, []byte(text)), home.Close()))
}

// SetSoul changes an agent's SOUL.md, as the API does.
func (e *Env) SetSoul(id identity.AgentID, text string) {
	e.t.Helper()
	_, _, err := e.Workspace.SetSoul(e.Context(), e.Actor, id, text, "")
	e.Must(err)
}

// Soul returns an agent's current SOUL.md.
func (e *Env) Soul(id identity.AgentID) string {
	e.t.Helper()
	c, err := e.Documents.Content(e.Context(), e.DB, Account, id)
	e.Must(err)
	return c.SoulMD
}

// Token returns the token of an agent's gateway for a purpose, "model" or "tools".
func (e *Env) Token(a agent.Agent, purpose string) vault.Secret {
	e.t.Helper()
	tokens, err := e.Vault.BearerTokens(e.Context(), e.DB, a.AccountID, vault.OfAgent(a.ID), purpose)
	e.Must(err)
	return vault.NewSecret(string(a.ID) + "." + tokens[0].Reveal())
}

// CreateSwarm creates a swarm that shares secrets.
func (e *Env) CreateSwarm(secrets map[string]string) identity.SwarmID {
	e.t.Helper()
	s, err := e.Swarms.Create(e.Context(), e.Actor, "bees", "", "")
	e.Must(err)
	e.SetSwarmSecrets(s.ID, secrets)
	return s.ID
}

// SetSwarmSecrets sets secrets that a swarm shares.
func (e *Env) SetSwarmSecrets(id identity.SwarmID, secrets map[string]string) {
	e.t.Helper()
	set := map[provider.SecretName]vault.Secret{}
	for name, value := range secrets {
		set[provider.SecretName(name)] = vault.NewSecret(value)
		if p, isKey := provider.SecretName(name).OfKey(); isKey {
			origin, err := p.Origin("")
			e.Must(err)
			set[p.Secret] = vault.NewSecret(value).For(origin)
		}
	}
	e.Must(e.DB.Tx(e.Context(), "agenttest.set_swarm_secrets", func(ctx context.Context, tx *database.Tx) error {
		return e.Vault.Put(e.Context(), tx, Account, vault.OfSwarm(id), set)
	}))
}
