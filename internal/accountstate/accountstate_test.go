package accountstate_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"log/slog"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/accountstate"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/logtest"
)

// env is a server without the service under test.
type env struct {
	*agenttest.Env
	t        *testing.T
	operator identity.Actor
}

func newEnv(t *testing.T) *env {
	t.Helper()
	return &env{Env: agenttest.New(t, nil), t: t, operator: identity.ByOperator(agenttest.Account)}
}

// service returns a service of the server that runs now.
func (e *env) service() *accountstate.Service {
	return accountstate.New(accountstate.Settings{
		DB: e.DB, Events: e.Events, Accounts: access.New(access.Settings{DB: e.DB, Events: e.Events}), Agents: e.Agents, Log: slog.New(slog.NewTextHandler(&logtest.Buffer{}, nil)),
	})
}

// run runs the service until stop is called.
func (e *env) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() {
		if err := e.service().Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			e.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); loop.Wait() })
	e.t.Cleanup(stop)
	return stop
}

// decide stores what the operator decides, as the server's own commands do.
func (e *env) decide(decide func(*access.Service, context.Context, identity.Actor) error) {
	e.t.Helper()
	s := access.New(access.Settings{DB: e.DB, Events: e.Events})
	e.Must(decide(s, e.t.Context(), e.operator))
}

func TestAgentsOfADisabledAccountStopAndStartAgain(t *testing.T) {
	e := newEnv(t)
	one, two, rests := e.Create("one"), e.Create("two"), e.Create("rests")
	e.Stop(rests.ID)
	e.run()
	e.decide((*access.Service).Disable)
	for _, a := range []agent.Agent{one, two} {
		e.UntilStatus(a.ID, client.Stopped)
	}
	for _, start := range []func() error{
		func() error { _, err := e.Agents.Start(t.Context(), e.Actor, one.ID); return err },
		func() error { _, err := e.Agents.Restart(t.Context(), e.Actor, one.ID); return err },
		func() error {
			_, err := e.Agents.Create(t.Context(), e.Actor, client.CreateAgentRequest{Name: "new", Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}})
			return err
		},
	} {
		if err := start(); err == nil {
			t.Error("a request that began before makes an agent of a disabled account run")
		}
	}
	e.decide((*access.Service).Enable)
	for _, a := range []agent.Agent{one, two} {
		e.UntilStatus(a.ID, client.Running)
	}
	if a := e.Find(rests.ID); a.DesiredState != agent.DesiredStopped {
		t.Error("an agent that did not run was started")
	}
}

// An agent that is stopped while its account is disabled stays so.
func TestStopWhileDisabledIsKept(t *testing.T) {
	e := newEnv(t)
	a := e.Create("a")
	stop := e.run()
	e.decide((*access.Service).Disable)
	e.UntilStatus(a.ID, client.Stopped)
	if _, err := e.Agents.Stop(t.Context(), e.operator, a.ID); err != nil {
		t.Fatal(err)
	}
	e.decide((*access.Service).Enable)
	stop()
	e.Must(e.service().Recover(t.Context()))
	if a := e.Find(a.ID); a.DesiredState != agent.DesiredStopped {
		t.Error("it was started")
	}
}

// What a command decides while no server runs, or a killed server has not carried out, holds
// from the next start on.
func TestNextServerFinishes(t *testing.T) {
	e := newEnv(t)
	a := e.Create("a")
	e.StopServer()
	e.decide((*access.Service).Disable)
	e.Must(e.service().Recover(t.Context()))
	e.StartServer()
	e.UntilStatus(a.ID, client.Stopped)
	e.StopServer()
	e.decide((*access.Service).Enable)
	e.Must(e.service().Recover(t.Context()))
	e.StartServer()
	e.UntilStatus(a.ID, client.Running)

	e.StopServer()
	e.decide((*access.Service).Disable)
	e.decide(func(s *access.Service, ctx context.Context, actor identity.Actor) error {
		return s.DeleteAccount(ctx, actor, string(agenttest.Account))
	})
	e.Must(e.service().Recover(t.Context())) // killed after this
	e.StartServer()
	e.run()
	e.Eventually("the account to be removed", func() bool {
		n, err := database.One(t.Context(), e.DB, database.Scalar[int], `SELECT count(*) FROM accounts WHERE removed_at > 0`)
		return err == nil && n == 1
	})
	e.CheckNothingLeft(a.ID)
	e.CheckCount(0, `SELECT count(*) FROM events WHERE account_id = $1`, agenttest.Account)
	e.CheckCount(1, `SELECT count(*) FROM events WHERE account_id = '' AND kind = 'account.removed'`)
	e.Must(e.service().Recover(t.Context()))
}

// A request that was authenticated before its account was deleted leaves nothing behind.
func TestDeletedAccountGetsNothingNew(t *testing.T) {
	e := newEnv(t)
	e.decide(func(s *access.Service, ctx context.Context, actor identity.Actor) error {
		return s.DeleteAccount(ctx, actor, string(agenttest.Account))
	})
	if _, err := e.Swarms.Create(t.Context(), e.Actor, "late", "", ""); err == nil {
		t.Error("a swarm was created")
	}
	for _, insert := range []string{
		`INSERT INTO custom_skills (id, account_id, skill_id, version, manifest, report, digest, size, created_at) VALUES ('c', $1, 's', '1', '{}', '{}', '', 0, 0)`,
		`INSERT INTO knowledge_scopes (account_id, kind, target_id, last_seq) VALUES ($1, 'agent', 'x', 0)`,
		`INSERT INTO data_keys (account_id, owner_id, master_id, sealed, created_at) VALUES ($1, 'o', 'm', x'', 0)`,
	} {
		err := e.DB.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, insert, agenttest.Account)
			return err
		})
		if err == nil {
			t.Errorf("%s was executed", insert)
		}
	}
}
