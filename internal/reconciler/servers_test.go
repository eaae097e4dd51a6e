package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/multi"
)

// servers are a pool of two servers beside the machine of the process: "b", in the region us, has room for
// so many agents. They implement reconciler.Pool and multi.Servers.
type servers struct {
	store *agent.Store
	db    *database.DB
	b     *fake.Driver

	mu   sync.Mutex
	room int                         // guarded by mu
	has  map[identity.AgentID]string // guarded by mu
	lost bool                        // b cannot be reached; guarded by mu
	full bool                        // b takes no gateway, also of agents that have room; guarded by mu
}

func (p *servers) Place(_ context.Context, id identity.AgentID, region, home string, _ int64) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	server := home
	if server == "" {
		if server = multi.Local; region == "us" {
			server = "b"
		}
	}
	if server == multi.Local {
		return server, nil
	}
	if p.full {
		return "", &pool.NoRoomError{Region: region, Home: home, Servers: []string{"b is full"}}
	}
	if _, ok := p.has[id]; !ok && len(p.has) >= p.room {
		return "", fmt.Errorf("region %s: %w", region, runtime.ErrNoCapacity)
	}
	p.has[id] = server
	return server, nil
}

func (p *servers) Take(id identity.AgentID, server string, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has[id] = server
}

func (p *servers) Release(id identity.AgentID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.has, id)
}

func (p *servers) holders() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.has)
}

func (p *servers) fill(full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = full
}

func (p *servers) lose(lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost = lost
}

var errLost = &runtime.UnreachableError{Server: "b", Cause: errors.New("no route")}

func (p *servers) Driver(context.Context, string) (runtime.Driver, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		return nil, errLost
	}
	return p.b, nil
}

func (p *servers) Names(context.Context) ([]string, error) { return []string{"b"}, nil }

func (p *servers) HomeOf(ctx context.Context, id identity.AgentID) (string, error) {
	return p.store.ServerOf(ctx, p.db, id)
}

// withPool runs a test in a bubble, with a pool.
func withPool(t *testing.T, room int, f func(t *testing.T, e *agenttest.Env, p *servers)) {
	t.Helper()
	p := &servers{room: room, has: map[identity.AgentID]string{}}
	agenttest.InBubble(t, func(s *agenttest.Settings) {
		if p.b == nil {
			p.b = fake.New(fake.Settings{Dir: t.TempDir(), Handler: (&agenttest.Scripts{}).Handler})
		}
		p.db, p.store = s.DB, agent.NewStore(s.DB, s.Events)
		s.Driver, s.Pool = multi.New(multi.Settings{Local: s.Driver, Servers: p}), p
		s.Timing.Linger, s.Exclusive = linger, true
	}, func(t *testing.T, e *agenttest.Env) {
		defer p.b.Close()
		f(t, e, p)
	})
}

func inRegion(name, region string) client.CreateAgentRequest {
	in := agenttest.NewAgent(name)
	in.Region = region
	return in
}

// TestAgentsStayOnTheServerOfTheirHome: an agent's gateways run where its home is, also after a stop,
// and after a restart of the process.
func TestAgentsStayOnTheServerOfTheirHome(t *testing.T) {
	withPool(t, 2, func(t *testing.T, e *agenttest.Env, p *servers) {
		here, there := e.CreateFrom(inRegion("here", "eu")), e.CreateFrom(inRegion("there", "us"))
		if here.Server != multi.Local || there.Server != "b" {
			t.Fatalf("%q, %q", here.Server, there.Server)
		}
		check := func(when string) {
			t.Helper()
			if !slices.Equal(p.b.Running(), []identity.AgentID{there.ID}) || !slices.Equal(e.Driver.Running(), []identity.AgentID{here.ID}) {
				t.Fatalf("%s: b runs %v, this machine %v", when, p.b.Running(), e.Driver.Running())
			}
		}
		check("created")
		if _, err := e.Turn(there.ID); err != nil {
			t.Error(err)
		}
		e.WriteHome(there.ID, "notes", "mine")
		e.Stop(there.ID)
		e.Eventually("a stopped agent has no room any more", func() bool { return p.holders() == 0 })
		e.Start(there.ID)
		check("started again")
		if got, err := e.ReadHome(there.ID, "notes"); err != nil || got != "mine" {
			t.Errorf("%q, %v", got, err)
		}
		e.RestartServer(e.Adjust)
		e.Eventually("the room of the gateway that runs is known again", func() bool { return p.holders() == 1 })
		check("after a restart of the process")
		e.Until(there.ID, isAsleep)
		if f := e.Find(there.ID); f.Power != agent.PowerFrozen {
			t.Errorf("it sleeps as %s", f.Power)
		}
		if _, err := e.Turn(there.ID); err != nil {
			t.Errorf("a turn that wakes it: %v", err)
		}
		e.Delete(there.ID)
		if found, err := p.b.List(t.Context()); err != nil || len(found) != 0 {
			t.Errorf("deleted: %v, %v", found, err)
		}
		e.Eventually("a deleted agent has no room any more", func() bool { return p.holders() == 0 })
	})
}

// TestFullPool: an agent whose region has no room waits, says so, and starts when there is some; a
// caller that waits for the creation hears it.
func TestFullPool(t *testing.T) {
	withPool(t, 1, func(t *testing.T, e *agenttest.Env, p *servers) {
		first := e.CreateFrom(inRegion("first", "us"))
		accepted, err := e.Agents.Create(e.Context(), e.Actor, inRegion("second", "us"))
		e.Must(err)
		waiting := e.Until(accepted.ID, func(a agent.Agent) bool { return a.ErrorCategory == agent.CategoryCapacity })
		if waiting.LastError == "" || waiting.Place != "" {
			t.Errorf("%+v", waiting)
		}
		limited, cancel := context.WithTimeout(e.Context(), 10*time.Second)
		defer cancel()
		if _, err := e.Agents.CreateWithRoom(limited, e.Actor, inRegion("third", "us")); err == nil {
			t.Error("a third agent was created")
		}
		e.Delete(first.ID)
		started := e.UntilStatus(accepted.ID, client.Running)
		if started.LastError != "" || started.Server != "b" || started.ErrorCategory != "" {
			t.Errorf("%+v", started)
		}
	})
}

// TestLostServerKeepsItsAgents: an agent whose server cannot be reached keeps its status and its place:
// nothing is known of its gateway, which may run.
func TestLostServerKeepsItsAgents(t *testing.T) {
	withPool(t, 1, func(t *testing.T, e *agenttest.Env, p *servers) {
		a := e.CreateFrom(inRegion("ada", "us"))
		p.lose(true)
		time.Sleep(10 * time.Minute)
		if now := e.Find(a.ID); now.Status != client.Running || now.Place != a.Place || len(now.Retry.Failures) > 0 {
			t.Errorf("%+v", now)
		}
		if live, err := e.Status.Status(t.Context(), agenttest.Account, a.ID); err != nil || live.Live || live.Status != client.Running || live.ContainerStatus != "unknown" {
			t.Errorf("status: %+v, %v", live, err)
		}
		p.lose(false)
		if _, err := e.Turn(a.ID); err != nil {
			t.Error(err)
		}
		if n := p.b.Starts(a.ID); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestWithdrawnWakeKeepsTheServer: an agent that sleeps, and whose server has no room to wake it, is still
// known to have its home there when nobody waits any more.
func TestWithdrawnWakeKeepsTheServer(t *testing.T) {
	withPool(t, 1, func(t *testing.T, e *agenttest.Env, p *servers) {
		a := e.CreateFrom(inRegion("ada", "us"))
		e.WriteHome(a.ID, "notes", "mine")
		e.Until(a.ID, isAsleep)
		p.fill(true)
		e.Must(e.Store.WantAwake(e.Context(), a.ID, time.Now()))
		waiting := e.Until(a.ID, func(a agent.Agent) bool { return a.ErrorCategory == agent.CategoryCapacity })
		if !strings.Contains(waiting.LastError, "server b") {
			t.Errorf("it waits because %q", waiting.LastError)
		}
		e.Must(e.Store.WithdrawWake(e.Context(), a.ID))
		sleeps := e.Until(a.ID, func(a agent.Agent) bool { return a.ErrorCategory == "" })
		if !sleeps.IsAsleep() || sleeps.Server != "b" || sleeps.Place != a.Place {
			t.Errorf("%+v", sleeps)
		}
		p.fill(false)
		if _, err := e.Turn(a.ID); err != nil {
			t.Error(err)
		}
		if got, err := e.ReadHome(a.ID, "notes"); err != nil || got != "mine" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestStartOnALostServer: an agent whose server is lost starts when that returns, however long it takes.
// That is no failure of the agent.
func TestStartOnALostServer(t *testing.T) {
	withPool(t, 1, func(t *testing.T, e *agenttest.Env, p *servers) {
		a := e.CreateFrom(inRegion("ada", "us"))
		e.Stop(a.ID)
		p.lose(true)
		if _, err := e.Agents.Start(e.Context(), e.Actor, a.ID); err != nil {
			t.Fatal(err)
		}
		waiting := e.Until(a.ID, func(a agent.Agent) bool { return a.ErrorCategory == agent.CategoryCapacity })
		if !strings.Contains(waiting.LastError, "server b") || strings.Contains(waiting.LastError, "no route") {
			t.Errorf("it waits because %q", waiting.LastError)
		}
		time.Sleep(3 * time.Hour)
		if now := e.Find(a.ID); now.Status != client.Starting || now.Server != "b" {
			t.Errorf("%+v", now)
		}
		p.lose(false)
		if now := e.UntilStatus(a.ID, client.Running); now.LastError != "" || now.Server != "b" {
			t.Errorf("%+v", now)
		}
	})
}
