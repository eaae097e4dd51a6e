package reconciler_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/workspace"
)

// boundaries is a driver that can end the server before or after any call of it. The
// calls that the server makes while it ends still happen, as some would.
type boundaries struct {
	*fake.Driver
	mu    sync.Mutex
	seen  []string // every boundary passed; guarded by mu
	at    int      // the boundary at which the server ends, from 1; 0: none; guarded by mu
	crash func()   // guarded by mu
}

func (b *boundaries) pass(name string) {
	b.mu.Lock()
	b.seen = append(b.seen, name)
	crash := func() {}
	if len(b.seen) == b.at {
		crash = b.crash
	}
	b.mu.Unlock()
	crash()
}

// crashAt makes the boundary with that number, counted from now, call crash.
func (b *boundaries) crashAt(at int, crash func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen, b.at, b.crash = nil, at, crash
}

// passed returns the boundaries passed up to a number, and whether there were so many.
// From now on no boundary ends the server.
func (b *boundaries) passed(at int) ([]string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = 0
	return slices.Clone(b.seen[:min(at, len(b.seen))]), len(b.seen) >= at
}

func (b *boundaries) around(name string) (after func()) {
	b.pass("before " + name)
	return func() { b.pass("after " + name) }
}

func (b *boundaries) Place(ctx context.Context, s runtime.Spec) (runtime.Place, error) {
	defer b.around("Place")()
	return b.Driver.Place(ctx, s)
}

func (b *boundaries) Start(ctx context.Context, place runtime.Place, s runtime.Spec) error {
	defer b.around("Start")()
	return b.Driver.Start(ctx, place, s)
}

func (b *boundaries) Stop(ctx context.Context, place runtime.Place, id identity.AgentID, grace time.Duration) error {
	defer b.around("Stop")()
	return b.Driver.Stop(ctx, place, id, grace)
}

func (b *boundaries) Inspect(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	defer b.around("Inspect")()
	return b.Driver.Inspect(ctx, place, id)
}

func (b *boundaries) Home(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.Home, error) {
	defer b.around("Home")()
	return b.Driver.Home(ctx, place, id)
}

func (b *boundaries) Dial(ctx context.Context, place runtime.Place, id identity.AgentID) (net.Conn, error) {
	defer b.around("Dial")()
	return b.Driver.Dial(ctx, place, id)
}

func (b *boundaries) Remove(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	defer b.around("Remove")()
	return b.Driver.Remove(ctx, place, id)
}

// TestServerCrashAtEveryBoundary ends the server at every boundary of every request, and
// lets the next server finish it: nothing is lost, done twice or left over.
func TestServerCrashAtEveryBoundary(t *testing.T) {
	for name, request := range map[string]func(context.Context, *agenttest.Env, identity.AgentID) error{
		"start": func(ctx context.Context, e *agenttest.Env, id identity.AgentID) error {
			_, err := e.Agents.Start(ctx, e.Actor, id)
			return err
		},
		"stop": func(ctx context.Context, e *agenttest.Env, id identity.AgentID) error {
			_, err := e.Agents.Stop(ctx, e.Actor, id)
			return err
		},
		"restart": func(ctx context.Context, e *agenttest.Env, id identity.AgentID) error {
			_, err := e.Agents.Restart(ctx, e.Actor, id)
			return err
		},
		"delete": func(ctx context.Context, e *agenttest.Env, id identity.AgentID) error {
			_, err := e.Agents.Delete(ctx, e.Actor, id)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrashTest(t, name)
			for at := 1; ; at++ {
				if passed := c.crashAt(at, request); !passed {
					t.Logf("%d boundaries", at-1)
					return
				}
			}
		})
	}
}

// crashTest is TestServerCrashAtEveryBoundary for one request.
type crashTest struct {
	*agenttest.Env
	t       *testing.T
	driver  *boundaries
	request string
}

func newCrashTest(t *testing.T, request string) *crashTest {
	t.Helper()
	e := agenttest.New(t, nil)
	b := &boundaries{Driver: e.Driver, crash: func() {}}
	e.RestartServer(func(s *agenttest.Settings) {
		s.Driver, s.Interval = b, time.Hour
		s.Timing = reconciler.Timing{Backoff: time.Millisecond, HealthInterval: time.Hour}
	})
	return &crashTest{e, t, b, request}
}

// crashAt ends the server at a boundary of the request, and checks what the next one
// makes of it. It reports whether the request has that many boundaries.
func (c *crashTest) crashAt(at int, request func(context.Context, *agenttest.Env, identity.AgentID) error) (passed bool) {
	c.t.Helper()
	a := c.Create("ada")
	if c.request == "start" {
		c.Stop(a.ID)
	}
	reached := make(chan struct{})
	c.driver.crashAt(at, func() { c.CancelServer(); close(reached) })
	c.Must(request(c.Context(), c.Env, a.ID))
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	observed := make(chan struct{})
	store := c.Store
	go func() {
		defer close(observed)
		_, _ = store.Await(ctx, a.ID, func(a agent.Agent) bool { return a.ObservedGeneration == a.Generation }) // a deleted agent is an error
	}()
	select {
	case <-reached:
	case <-observed:
	}
	c.StopServer()
	cancel()
	<-observed
	passedBoundaries, passed := c.driver.passed(at)
	c.StartServer()
	c.check(a.ID, fmt.Sprint(passedBoundaries))
	return passed
}

func (c *crashTest) check(id identity.AgentID, where string) {
	c.t.Helper()
	if c.request == "delete" {
		c.Eventually("the agent is removed, after "+where, func() bool {
			_, err := c.Store.FindByID(c.t.Context(), c.DB, id)
			return err != nil
		})
		c.CheckNothingLeft(id)
		return
	}
	want, gateways := client.Running, 1
	if c.request == "stop" {
		want, gateways = client.Stopped, 0
	}
	now := c.Until(id, func(a agent.Agent) bool { return a.ObservedGeneration == a.Generation && a.Status == want })
	if now.LastError != "" || c.Driver.RunningCount() != gateways {
		c.t.Errorf("after %s: %s, %d gateways, %s", where, now.Status, c.Driver.RunningCount(), now.LastError)
	}
	if want == client.Running {
		if text, err := c.Turn(id); err != nil || text != "I am at "+string(c.Find(id).Place) {
			c.t.Errorf("after %s: %q, %v", where, text, err)
		}
	}
	c.Delete(id)
	c.CheckNothingLeft(id)
}

func TestRunningGatewayIsAdopted(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	var homes atomic.Int64 // opened
	e.RestartServer(func(s *agenttest.Settings) {
		s.Driver = agenttest.HookedDriver{Driver: e.Driver, Before: func(method string) error {
			if method == "Home" {
				homes.Add(1)
			}
			return nil
		}}
	})
	if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
		t.Errorf("%q, %v", text, err)
	}
	e.Eventually("its home is synced", func() bool { return homes.Load() > 0 })
	if e.Driver.Starts(a.ID) != 1 {
		t.Errorf("%d starts", e.Driver.Starts(a.ID))
	}
}

// noAgents implements workspace.Agents while no server runs.
type noAgents struct{}

func (noAgents) Absorb(context.Context, identity.AccountID, identity.AgentID) error { return nil }

func (noAgents) Sync(context.Context, identity.AccountID, identity.AgentID) (bool, error) {
	return false, nil
}

// TestAdoptionKeepsEditsOfBothSides: the agent and the API changed documents while no
// server ran.
func TestAdoptionKeepsEditsOfBothSides(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.StopServer()
	e.WriteHome(a.ID, "workspace/SOUL.md", "the agent's")
	_, _, err := workspace.New(e.Documents, noAgents{}).SetWorkflow(e.Context(), e.Actor, a.ID, "the owner's", "")
	e.Must(err)
	e.StartServer()
	e.Eventually("the home is up to date", func() bool {
		text, err := e.ReadHome(a.ID, "workspace/WORKFLOW.md")
		return err == nil && text == "the owner's"
	})
	if got, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || got != "the agent's" || e.Soul(a.ID) != got {
		t.Errorf("%q, %v; kept %q", got, err, e.Soul(a.ID))
	}
}

// TestBootIsContinuedByTheNextServer: a gateway that was booting when the server died is
// adopted, and no second one is started.
func TestBootIsContinuedByTheNextServer(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Scripts.NeverReady.Store(true)
	accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	e.Eventually("the gateway runs", func() bool { return e.Driver.RunningCount() == 1 })
	e.StopServer()
	e.Scripts.NeverReady.Store(false)
	e.StartServer()
	e.UntilStatus(accepted.ID, client.Running)
	if e.Driver.Starts(accepted.ID) != 1 {
		t.Errorf("%d starts", e.Driver.Starts(accepted.ID))
	}
}

// TestGatewayOfAnOldSpecIsNotAdopted: a new one is started, if the config has changed since.
func TestGatewayOfAnOldSpecIsNotAdopted(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Scripts.NeverReady.Store(true)
	accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	e.Eventually("the gateway runs", func() bool { return e.Driver.RunningCount() == 1 })
	e.StopServer()
	if _, err := e.Agents.Update(e.Context(), e.Actor, accepted.ID, client.UpdateAgentRequest{Config: map[string]any{"model": "another"}}); err != nil {
		t.Fatal(err)
	}
	e.Scripts.NeverReady.Store(false)
	e.StartServer()
	e.UntilStatus(accepted.ID, client.Running)
	if e.Driver.Starts(accepted.ID) != 2 {
		t.Errorf("%d starts", e.Driver.Starts(accepted.ID))
	}
}

func TestGatewayThatDiedWithoutAServerIsReplaced(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.StopServer()
	e.Driver.Kill(a.ID, 137)
	e.StartServer()
	e.Until(a.ID, func(now agent.Agent) bool { return now.Status == client.Running && now.Place != a.Place })
}

func TestErrorOutlivesTheServer(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.Kill(a.ID, 78)
	e.UntilStatus(a.ID, client.Errored)
	e.StopServer()
	e.StartServer()
	b := e.Create("bob") // by now the first has been checked
	if now := e.Find(a.ID); now.Status != client.Errored || e.Driver.Starts(a.ID) != 1 || b.Status != client.Running {
		t.Errorf("%+v", now)
	}
}

// forget deletes the rows of agents while no server runs, as if an older database had
// been restored.
func forget(e *agenttest.Env, agents ...agent.Agent) {
	for _, a := range agents {
		e.Exec(`DELETE FROM agents WHERE id = $1`, a.ID)
	}
}

// restartWithLog starts the server with a log that can be read, and short pauses between
// searches for orphans.
func restartWithLog(e *agenttest.Env) *logtest.Buffer {
	log := &logtest.Buffer{}
	e.RestartServer(func(s *agenttest.Settings) {
		s.Log = slog.New(slog.NewTextHandler(log, nil))
		s.Timing.OrphanInterval = 10 * time.Millisecond
	})
	return log
}

// TestUnknownHomesGoIntoQuarantineAndStraysStop: after an older database was restored,
// the home of an agent that it does not know is kept, and a gateway whose agent is
// stopped is stopped.
func TestUnknownHomesGoIntoQuarantineAndStraysStop(t *testing.T) {
	e := agenttest.New(t, nil)
	lost, stray := e.Create("lost"), e.Create("stray")
	e.StopServer()
	forget(e, lost)
	e.Exec(`UPDATE agents SET desired_state = 'stopped', status = 'stopped', place = '' WHERE id = $1`, stray.ID)
	log := restartWithLog(e)
	e.Eventually("nothing runs", func() bool { return e.Driver.RunningCount() == 0 })
	e.Eventually("the unknown home is in quarantine", func() bool { return slices.Equal(e.Driver.Quarantined(), []identity.AgentID{lost.ID}) })
	found, err := e.Driver.List(t.Context())
	if err != nil || len(found) != 1 || found[0].ID != stray.ID {
		t.Errorf("the driver has %+v, %v", found, err)
	}
	e.Until(stray.ID, func(a agent.Agent) bool { return a.Place == "" })
	if n := strings.Count(log.String(), "they go into quarantine"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, log)
	}
}

// awaitSearches waits until the server has searched for orphans several times more.
func awaitSearches(e *agenttest.Env, lists *atomic.Int64) {
	from := lists.Load()
	e.Eventually("several searches", func() bool { return lists.Load() > from+6 })
}

// listCounter counts the calls of List.
type listCounter struct {
	agenttest.HookedDriver
	lists *atomic.Int64
}

func (d listCounter) List(ctx context.Context) ([]runtime.Found, error) {
	d.lists.Add(1)
	return d.HookedDriver.List(ctx)
}

// TestManyUnknownHomesAreLeftAlone: that is no accident with one agent but a wrong
// database. It is said once.
func TestManyUnknownHomesAreLeftAlone(t *testing.T) {
	checkLeftAlone(t, runtime.Own, "does not know agents that this installation has files of (4, such as", 4)
}

// TestHomesOfAnotherInstallationAreLeftAlone: however few they are, also their gateways.
func TestHomesOfAnotherInstallationAreLeftAlone(t *testing.T) {
	checkLeftAlone(t, runtime.Foreign, "files of agents of another installation (2, such as", 2)
}

// TestUnmarkedHomesAreLeftAlone: nothing says whose they are.
func TestUnmarkedHomesAreLeftAlone(t *testing.T) {
	checkLeftAlone(t, runtime.Unmarked, "do not say whose they are (1, such as", 1)
}

func checkLeftAlone(t *testing.T, owner runtime.Owner, report string, n int) {
	t.Helper()
	e := agenttest.New(t, nil)
	var agents []agent.Agent
	for i := range n {
		agents = append(agents, e.Create(fmt.Sprintf("agent-%d", i)))
	}
	known := e.Create("known")
	e.StopServer()
	forget(e, agents...)
	for _, a := range agents {
		e.Driver.SetOwner(a.ID, owner)
	}
	log, lists := &logtest.Buffer{}, &atomic.Int64{}
	var note atomic.Value
	e.RestartServer(func(s *agenttest.Settings) {
		s.Log, s.Timing.OrphanInterval = slog.New(slog.NewTextHandler(log, nil)), time.Millisecond
		s.Note = func(text string) error {
			note.Store(text)
			return nil
		}
		s.Driver = listCounter{agenttest.HookedDriver{Driver: e.Driver, Before: func(method string) error {
			if method == "Remove" { // the test calls it past the hook
				t.Error("something was removed")
			}
			return nil
		}}, lists}
	})
	awaitSearches(e, lists)
	if text, err := e.Turn(known.ID); err != nil || text == "" {
		t.Errorf("the agent that is known: %q, %v", text, err)
	}
	if now := e.Driver.RunningCount(); now != n+1 || len(e.Driver.Quarantined()) > 0 {
		t.Errorf("%d gateways run, in quarantine: %v", now, e.Driver.Quarantined())
	}
	found, err := e.Driver.List(t.Context())
	if err != nil || len(found) != n+1 {
		t.Errorf("the driver has %+v, %v", found, err)
	}
	if got := strings.Count(log.String(), report); got != 1 {
		t.Errorf("reported %d times:\n%s", got, log)
	}
	if text, ok := note.Load().(string); !ok || !strings.Contains(text, report) {
		t.Errorf("noted: %q", text)
	}
	for _, a := range agents {
		e.Driver.SetOwner(a.ID, runtime.Own)
		e.Must(e.Driver.Remove(t.Context(), "", a.ID))
	}
	e.Eventually("the note is withdrawn", func() bool { return note.Load() == "" })
}

// TestInterruptedQuarantineIsRepeated: the driver fails at first.
func TestInterruptedQuarantineIsRepeated(t *testing.T) {
	e := agenttest.New(t, nil)
	lost := e.Create("lost")
	e.StopServer()
	forget(e, lost)
	e.RestartServer(func(s *agenttest.Settings) {
		driver, left := agenttest.FailingDriver(e.Driver, "Stop")
		left.Store(2)
		s.Driver, s.Timing.OrphanInterval = driver, time.Millisecond
	})
	e.Eventually("the unknown home is in quarantine", func() bool { return len(e.Driver.Quarantined()) == 1 })
}

// TestForeignHomeOfAKnownAgent: the records know the agent, but its files belong to
// another installation. It is in error, and its deletion leaves them.
func TestForeignHomeOfAKnownAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.WriteHome(a.ID, "kept", "theirs")
	e.Stop(a.ID)
	e.Driver.SetOwner(a.ID, runtime.Foreign)
	_, err := e.Agents.Start(e.Context(), e.Actor, a.ID)
	e.Must(err)
	e.UntilStatus(a.ID, client.Errored)
	if now := e.Find(a.ID); !strings.Contains(now.LastError, "belong to another installation") {
		t.Errorf("%+v", now)
	}
	e.Delete(a.ID)
	e.Driver.SetOwner(a.ID, runtime.Own)
	if text, err := e.ReadHome(a.ID, "kept"); err != nil || text != "theirs" {
		t.Errorf("the files: %q, %v", text, err)
	}
}
