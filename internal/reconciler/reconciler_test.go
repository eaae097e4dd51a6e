package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/reconciler"
)

func TestCreatedAgentRuns(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	if a.Status != client.Running || a.StartedAt.IsZero() || a.Place == "" || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("%+v", a)
	}
	if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
		t.Errorf("%q, %v", text, err)
	}
	soul, err := e.ReadHome(a.ID, "workspace/SOUL.md")
	if err != nil || soul == "" {
		t.Errorf("SOUL.md: %q, %v", soul, err)
	}
	v, err := e.Agents.View(t.Context(), agenttest.Account, a.ID)
	if err != nil || v.NeedsRestart || v.Provider != provider.Anthropic {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestAgentCannotMakeItselfUnstartable: whatever it puts where the server writes.
func TestAgentCannotMakeItselfUnstartable(t *testing.T) {
	for name, command := range map[string]string{
		"a directory instead of a file":            "rm workspace/SOUL.md; mkdir workspace/SOUL.md; touch workspace/SOUL.md/x",
		"a link out of the home":                   "mv workspace w; ln -s /etc workspace",
		"a file instead of a directory":            "mv workspace w; touch workspace",
		"a pipe instead of a directory":            "mv workspace w; mkfifo workspace",
		"a pipe instead of a file":                 "rm workspace/SOUL.md; mkfifo workspace/SOUL.md",
		"a directory instead of its configuration": "for f in *.json; do [ -e $f ] || continue; rm $f; mkdir -p $f/x; done",
	} {
		t.Run(name, func(t *testing.T) {
			e := agenttest.New(t, nil)
			a := e.Create("ada")
			cmd := exec.Command("/bin/sh", "-ec", command)
			cmd.Dir = e.Driver.Gateway(a.ID).HomeDir()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if a = e.Restart(a.ID); a.Status != client.Running {
				t.Errorf("it is %s: %s", a.Status, a.LastError)
			}
			if soul, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || soul == "" {
				t.Errorf("SOUL.md: %q, %v", soul, err)
			}
		})
	}
}

func TestStopStartRestartAndDelete(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	accepted, err := e.Agents.Stop(e.Context(), e.Actor, a.ID)
	e.Must(err)
	stopped, err := e.Agents.AwaitStopped(e.Context(), accepted)
	if err != nil || stopped.Status != client.Stopped || stopped.StoppedAt.IsZero() || e.Driver.RunningCount() != 0 {
		t.Errorf("stop: %+v, %v", stopped, err)
	}
	if _, err := e.Gateways.Connect(e.Context(), a.ID); !fault.Is(err, fault.NotRunning) {
		t.Errorf("gateway of a stopped agent: %v", err)
	}
	if accepted, err = e.Agents.Stop(e.Context(), e.Actor, a.ID); err != nil || accepted.Target != stopped.Generation {
		t.Errorf("stopping again is a new request: %+v, %v", accepted, err)
	}
	accepted, err = e.Agents.Start(e.Context(), e.Actor, a.ID)
	e.Must(err)
	started, err := e.Agents.AwaitRunning(e.Context(), accepted)
	if err != nil || started.Status != client.Running || e.Driver.Starts(a.ID) != 2 {
		t.Errorf("start: %+v, %v", started, err)
	}
	accepted, err = e.Agents.Restart(e.Context(), e.Actor, a.ID)
	e.Must(err)
	if _, err := e.Agents.AwaitRunning(e.Context(), accepted); err != nil || e.Driver.Starts(a.ID) != 3 {
		t.Errorf("restart: %v, %d starts", err, e.Driver.Starts(a.ID))
	}
	accepted, err = e.Agents.Delete(e.Context(), e.Actor, a.ID)
	e.Must(err)
	if err := e.Agents.AwaitDeleted(e.Context(), accepted); err != nil {
		t.Error(err)
	}
	e.CheckNothingLeft(a.ID)
	if _, err := e.Agents.Start(e.Context(), e.Actor, a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("start of a deleted agent: %v", err)
	}
}

// TestLastRequestWins starts, stops and restarts one agent from many callers at once.
func TestLastRequestWins(t *testing.T) {
	const rounds, callers = 30, 6
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	for round := range rounds {
		e.Driver.DelayStart(time.Duration(rand.IntN(3)) * time.Millisecond)
		e.Driver.DelayStop(time.Duration(rand.IntN(3)) * time.Millisecond)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() { requestAnything(t, e, a.ID) })
		}
		all.Wait()
		now := e.Until(a.ID, func(a agent.Agent) bool { return a.ObservedGeneration == a.Generation })
		want := map[agent.DesiredState]client.AgentStatus{agent.DesiredRunning: client.Running, agent.DesiredStopped: client.Stopped}[now.DesiredState]
		if now.Status != want || (e.Driver.RunningCount() == 1) != (want == client.Running) {
			t.Fatalf("round %d: desired %s, is %s with %d gateways (%s)", round, now.DesiredState, now.Status, e.Driver.RunningCount(), now.LastError)
		}
	}
	e.Delete(a.ID)
	e.CheckNothingLeft(a.ID)
}

// requestAnything requests one thing and waits for the outcome, whatever it is.
func requestAnything(t *testing.T, e *agenttest.Env, id identity.AgentID) {
	t.Helper()
	ctx := e.Context()
	var accepted agent.Accepted
	var err error
	switch rand.IntN(3) {
	case 0:
		if accepted, err = e.Agents.Start(ctx, e.Actor, id); err == nil {
			_, err = e.Agents.AwaitRunning(ctx, accepted)
		}
	case 1:
		if accepted, err = e.Agents.Stop(ctx, e.Actor, id); err == nil {
			_, err = e.Agents.AwaitStopped(ctx, accepted)
		}
	default:
		if accepted, err = e.Agents.Restart(ctx, e.Actor, id); err == nil {
			_, err = e.Agents.AwaitRunning(ctx, accepted)
		}
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		t.Errorf("request: %v", err)
	}
}

// TestDeleteWinsOverRestart deletes an agent while others restart it.
func TestDeleteWinsOverRestart(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Driver.DelayStart(time.Millisecond)
	for range 15 {
		created, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				accepted, err := e.Agents.Restart(e.Context(), e.Actor, created.ID)
				if err == nil {
					_, err = e.Agents.AwaitRunning(e.Context(), accepted)
				}
				if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
					t.Errorf("restart: %v", err)
				}
			})
		}
		all.Go(func() {
			accepted, err := e.Agents.Delete(e.Context(), e.Actor, created.ID)
			if err == nil {
				err = e.Agents.AwaitDeleted(e.Context(), accepted)
			}
			if err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		all.Wait()
		e.CheckNothingLeft(created.ID)
	}
	if e.Driver.RunningCount() != 0 {
		t.Errorf("%q run", e.Driver.Running())
	}
}

func TestFiftyAgentsAtOnce(t *testing.T) {
	e := agenttest.New(t, nil)
	var all sync.WaitGroup
	var ids [50]identity.AgentID
	for i := range ids {
		all.Go(func() { ids[i] = e.Create(fmt.Sprint("agent ", i)).ID })
	}
	all.Wait()
	if e.Driver.RunningCount() != len(ids) {
		t.Errorf("%d run", e.Driver.RunningCount())
	}
	for _, id := range ids {
		all.Go(func() {
			accepted, err := e.Agents.Delete(e.Context(), e.Actor, id)
			if err == nil {
				err = e.Agents.AwaitDeleted(e.Context(), accepted)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	found, err := e.Driver.List(t.Context())
	if err != nil || len(found) != 0 || e.Driver.RunningCount() != 0 {
		t.Errorf("left: %+v, %v", found, err)
	}
	e.CheckCount(0, `SELECT count(*) FROM agents`)
	e.Eventually("all loops end", func() bool { return e.Reconciler.LoopCount() == 0 })
}

func TestBootsAreBounded(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.MaxBoots = 3 }, func(t *testing.T, e *agenttest.Env) {
		e.Driver.DelayStart(time.Second)
		var most atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for range 12 {
			all.Go(func() {
				e.Create("ada")
				most.Store(max(most.Load(), int64(e.Reconciler.BootCount())))
			})
		}
		all.Wait()
		if took := time.Since(began); took < 4*time.Second || most.Load() > 3 {
			t.Errorf("12 boots of a second, three at once, took %s", took)
		}
		if e.Reconciler.BootCount() != 0 {
			t.Error("a slot stays in use")
		}
	})
}

// TestBackoffHoldsNoBootSlot: a gateway that waits for its next try lets others boot.
func TestBackoffHoldsNoBootSlot(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.MaxBoots, s.Timing = 1, reconciler.Timing{Backoff: time.Minute} }, func(t *testing.T, e *agenttest.Env) {
		e.Driver.FailStart(1, errors.New("not now"))
		accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("first"))
		e.Must(err)
		e.Until(accepted.ID, func(a agent.Agent) bool { return a.LastError != "" })
		began := time.Now()
		e.Create("second")
		if time.Since(began) > 30*time.Second {
			t.Error("the second waited for the first")
		}
	})
}

func TestStopAndDeleteInterruptABoot(t *testing.T) {
	for name, interrupt := range map[string]func(t *testing.T, e *agenttest.Env, id identity.AgentID){
		"stop": func(t *testing.T, e *agenttest.Env, id identity.AgentID) {
			t.Helper()
			accepted, err := e.Agents.Stop(e.Context(), e.Actor, id)
			e.Must(err)
			a, err := e.Agents.AwaitStopped(e.Context(), accepted)
			if err != nil || a.Status != client.Stopped {
				t.Errorf("%+v, %v", a, err)
			}
		},
		"delete": func(_ *testing.T, e *agenttest.Env, id identity.AgentID) { e.Delete(id) },
	} {
		for _, starting := range []bool{true, false} { // within driver.Start, or waiting to be ready
			t.Run(fmt.Sprintf("%s/starting=%v", name, starting), func(t *testing.T) {
				e := agenttest.New(t, nil)
				if e.Scripts.NeverReady.Store(!starting); starting {
					e.Driver.DelayStart(time.Hour)
				}
				accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
				e.Must(err)
				waited := make(chan error, 1)
				go func() {
					_, err := e.Agents.AwaitRunning(e.Context(), accepted)
					waited <- err
				}()
				e.Until(accepted.ID, func(a agent.Agent) bool { return a.Place != "" })
				e.Eventually("it boots", func() bool { return starting || e.Driver.RunningCount() == 1 })
				interrupt(t, e, accepted.ID)
				if err := <-waited; !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
					t.Errorf("the caller that waited for the creation got %v", err)
				}
				if e.Driver.RunningCount() != 0 {
					t.Error("the gateway runs")
				}
			})
		}
	}
}

func TestGatewayThatDiesWhileStoppingIsNoFailure(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.DelayStop(20 * time.Millisecond)
	accepted, err := e.Agents.Stop(e.Context(), e.Actor, a.ID)
	e.Must(err)
	e.Driver.Kill(a.ID, 1)
	now, err := e.Agents.AwaitStopped(e.Context(), accepted)
	if err != nil || now.LastError != "" || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestStartDoesNotAdoptAStoppingGateway: a gateway that is being stopped is not used
// for the next start, though it still answers.
func TestStartDoesNotAdoptAStoppingGateway(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.DelayStop(time.Hour)
	_, err := e.Agents.Stop(e.Context(), e.Actor, a.ID)
	e.Must(err)
	e.Until(a.ID, func(a agent.Agent) bool { return a.Status == client.Stopping })
	e.Driver.DelayStop(0)
	accepted, err := e.Agents.Start(e.Context(), e.Actor, a.ID)
	e.Must(err)
	now, err := e.Agents.AwaitRunning(e.Context(), accepted)
	if err != nil || now.Place == a.Place || e.Driver.Starts(a.ID) != 2 || e.Driver.RunningCount() != 1 {
		t.Errorf("%+v, %v, %d starts", now, err, e.Driver.Starts(a.ID))
	}
}

// TestTurnOnAReplacedGatewayGoesToItsSuccessor: a caller that connected before the
// restart and sends after it gets the answer of the new gateway.
func TestTurnOnAReplacedGatewayGoesToItsSuccessor(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	g, err := e.Gateways.Connect(e.Context(), a.ID)
	e.Must(err)
	now := e.Restart(a.ID)
	if text, err := e.TurnOn(g); err != nil || text != "I am at "+string(now.Place) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRequestStandsWhenItsCallerLeaves(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Scripts.NeverReady.Store(true)
	ctx, cancel := context.WithCancel(e.Context())
	accepted, err := e.Agents.Create(ctx, e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	e.Until(accepted.ID, func(a agent.Agent) bool { return a.Place != "" })
	cancel()
	if _, err := e.Agents.AwaitRunning(ctx, accepted); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	e.Scripts.NeverReady.Store(false)
	e.UntilStatus(accepted.ID, client.Running) // the request stands
}

// TestOtherChangesDoNotInterruptABoot: only a newer generation interrupts a step.
func TestOtherChangesDoNotInterruptABoot(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Scripts.NeverReady.Store(true)
	accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	e.Eventually("the gateway runs", func() bool { return e.Driver.RunningCount() == 1 })
	for range 20 {
		e.Events.Notify(event.ReconcileTopic(accepted.ID))
		time.Sleep(time.Millisecond)
	}
	if n := e.Reconciler.BootCount(); n != 1 {
		t.Errorf("%d boots in progress: the boot was interrupted", n)
	}
	e.Scripts.NeverReady.Store(false)
	e.UntilStatus(accepted.ID, client.Running)
	if n := e.Driver.Starts(accepted.ID); n != 1 {
		t.Errorf("%d starts", n)
	}
}
