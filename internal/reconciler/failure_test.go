package reconciler_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
)

func TestCrashedGatewayIsReplaced(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	for range 3 {
		e.Driver.Kill(a.ID, 137)
		text, err := e.Turn(a.ID)
		if err != nil {
			t.Fatalf("the next chat: %v", err)
		}
		now := e.Find(a.ID)
		if text != "I am at "+string(now.Place) || now.Place == a.Place || now.Status != client.Running {
			t.Errorf("%q from %+v", text, now)
		}
	}
}

// TestTurnAfterACrashGoesToTheSuccessor kills the gateway after a caller has connected.
func TestTurnAfterACrashGoesToTheSuccessor(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	g, err := e.Gateways.Connect(e.Context(), a.ID)
	e.Must(err)
	e.Driver.Kill(a.ID, 137)
	if text, err := e.TurnOn(g); err != nil || text == "I am at "+string(a.Place) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestFiveCrashesPutTheAgentIntoError(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Timing = reconciler.Timing{} }, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.Print(a.ID, `{"time":"2026-02-10T14:00:05Z","level":"error","message":"boom with key sk-ant-test and more"}`)
		e.Driver.ExitAfterStart(a.ID, 100, 3)
		began := time.Now()
		e.Driver.Kill(a.ID, 3)
		broken := e.UntilStatus(a.ID, client.Errored)
		if broken.ErrorCategory != agent.CategoryRuntime || !strings.Contains(broken.LastError, "exit code 3") || !strings.Contains(broken.LastError, "boom with key [secret] and more") {
			t.Errorf("%s: %s", broken.ErrorCategory, broken.LastError)
		}
		if took := time.Since(began).Round(time.Second); took != 15*time.Second { // 1+2+4+8
			t.Errorf("back-off took %s", took)
		}
		if n := e.Driver.Starts(a.ID); n != 5 {
			t.Errorf("%d starts", n)
		}
		_, err := e.Gateways.Connect(e.Context(), a.ID)
		if !fault.Is(err, fault.NotRunning) || fault.From(err).Details["errorCategory"] != "runtime" {
			t.Errorf("gateway: %v", err)
		}

		time.Sleep(time.Hour) // it stays so
		if e.Find(a.ID).Status != client.Errored || e.Driver.Starts(a.ID) != 5 {
			t.Error("it was started without a request")
		}
		e.Driver.ExitAfterStart(a.ID, 0, 0)
		accepted, err := e.Agents.Start(e.Context(), e.Actor, a.ID)
		e.Must(err)
		if now, err := e.Agents.AwaitRunning(e.Context(), accepted); err != nil || now.LastError != "" || now.ErrorCategory != "" {
			t.Errorf("%+v, %v", now, err)
		}
	})
}

// TestOldFailuresDoNotCount: a gateway crashes ten times, seldom enough.
func TestOldFailuresDoNotCount(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		for range 10 {
			time.Sleep(3 * time.Minute)
			e.Driver.Kill(a.ID, 1)
			e.Until(a.ID, func(a agent.Agent) bool {
				return a.Status == client.Running && a.StartedAt.After(time.Now().Add(-time.Minute))
			})
		}
	})
}

func TestRefusedConfigIsNotTriedAgain(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.Kill(a.ID, openclaw.ExitBadConfig)
	now := e.UntilStatus(a.ID, client.Errored)
	if now.ErrorCategory != agent.CategoryConfig || !strings.Contains(now.LastError, "refuses the agent's configuration") || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("%s: %s after %d starts", now.ErrorCategory, now.LastError, e.Driver.Starts(a.ID))
	}
}

func TestOutOfMemoryNamesTheLimit(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) {
		s.Timing, s.Limits = reconciler.Timing{Backoff: time.Minute}, runtime.Limits{MemoryBytes: 512 << 20}
	}, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.KillForMemory(a.ID)
		now := e.Until(a.ID, func(a agent.Agent) bool { return a.Status == client.Starting })
		if !strings.Contains(now.LastError, "memory limit of 512 MiB") {
			t.Error(now.LastError)
		}
	})
}

// TestDriverWithoutRoom: its refusals are no failures of the agent, however many there
// are, and the agent starts when there is room.
func TestDriverWithoutRoom(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		e.Driver.FailPlace(40, fmt.Errorf("place: %w", runtime.ErrNoCapacity))
		accepted, err := e.Agents.Create(t.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		began := time.Now()
		a, err := e.Agents.AwaitRunning(t.Context(), accepted)
		if !fault.Is(err, fault.Unavailable) || fault.From(err).RetryAfter == 0 || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if a.DesiredState != agent.DesiredRunning || a.ErrorCategory != agent.CategoryCapacity || a.Status != client.Provisioning || len(a.Retry.Failures) > 0 {
			t.Errorf("%+v", a)
		}
		e.UntilHours(accepted.ID, func(a agent.Agent) bool { return a.Status == client.Running })
		if a = e.Find(accepted.ID); a.LastError != "" || a.ErrorCategory != "" {
			t.Errorf("it runs with %q", a.LastError)
		}

		e.Driver.FailPlace(40, fmt.Errorf("place: %w", &pool.NoRoomError{Region: "eu", Servers: []string{"fra1 is cordoned"}}))
		accepted, err = e.Agents.CreateWithRoom(t.Context(), e.Actor, agenttest.NewAgent("bob"))
		e.Must(err)
		if _, err := e.Agents.AwaitCreated(t.Context(), e.Actor, accepted); !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "region eu") || strings.Contains(err.Error(), "fra1") {
			t.Error(err)
		}
		e.Must(e.Agents.AwaitDeleted(t.Context(), accepted))
		e.CheckNothingLeft(accepted.ID)
	})
}

// TestTooManyFiles: the agent is in error at once, a start is refused as long as there are
// too many, and it can be deleted.
func TestTooManyFiles(t *testing.T) {
	e := agenttest.New(t, func(s *agenttest.Settings) { s.Limits = runtime.Limits{DiskBytes: 10 << 20, Files: 100} })
	a := e.Create("ada")
	e.Driver.SetDisk(a.ID, runtime.Disk{Bytes: 11 << 20, Files: 7})
	now := e.UntilStatus(a.ID, client.Errored)
	if now.ErrorCategory != agent.CategoryDisk || !strings.Contains(now.LastError, "11 MiB in 7 files") || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("%s: %s after %d starts", now.ErrorCategory, now.LastError, e.Driver.Starts(a.ID))
	}
	e.CheckCount(1, `SELECT count(*) FROM events WHERE kind = 'agent.failed' AND data LIKE '%11 MiB%'`)
	accepted, err := e.Agents.Start(e.Context(), e.Actor, a.ID)
	e.Must(err)
	if _, err := e.Agents.AwaitRunning(e.Context(), accepted); !fault.Is(err, fault.Conflict) || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("start: %v after %d starts", err, e.Driver.Starts(a.ID))
	}
	e.Driver.SetDisk(a.ID, runtime.Disk{Bytes: 1 << 20, Files: 7})
	if now := e.Start(a.ID); now.LastError != "" || now.ErrorCategory != "" {
		t.Errorf("it runs with %q", now.LastError)
	}
	e.Driver.SetDisk(a.ID, runtime.Disk{Files: 101})
	e.UntilStatus(a.ID, client.Errored)
	e.Delete(a.ID)
	e.CheckNothingLeft(a.ID)
}

func TestDriverThatFailsForAWhile(t *testing.T) {
	for name, fail := range map[string]func(e *agenttest.Env){
		"place": func(e *agenttest.Env) { e.Driver.FailPlace(4, errors.New("no answer")) },
		"start": func(e *agenttest.Env) { e.Driver.FailStart(4, errors.New("no answer")) },
	} {
		t.Run(name, func(t *testing.T) {
			e := agenttest.New(t, nil)
			fail(e)
			if a := e.Create("ada"); a.LastError != "" {
				t.Error(a.LastError)
			}
		})
	}
}

func TestDriverThatFailsForGood(t *testing.T) {
	e := agenttest.New(t, nil)
	e.Driver.FailStart(5, errors.New("no such machine"))
	accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
	e.Must(err)
	a, err := e.Agents.AwaitRunning(e.Context(), accepted)
	if !fault.Is(err, fault.Upstream) || a.ErrorCategory != agent.CategoryRuntime || !strings.Contains(a.LastError, "no such machine") {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestGatewayThatIsNeverReady: the caller gets the reason, and the gateway is stopped.
func TestGatewayThatIsNeverReady(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Timing = reconciler.Timing{} }, func(t *testing.T, e *agenttest.Env) {
		e.Scripts.NeverReady.Store(true)
		accepted, err := e.Agents.Create(t.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		began := time.Now()
		_, err = e.Agents.AwaitRunning(t.Context(), accepted)
		if !fault.Is(err, fault.Upstream) || !strings.Contains(err.Error(), "not ready after 4m0s") || !strings.Contains(err.Error(), "databases") {
			t.Error(err)
		}
		if took := time.Since(began); took > 15*time.Minute {
			t.Errorf("took %s", took)
		}
		e.Eventually("nothing runs", func() bool { return e.Driver.RunningCount() == 0 })
		if n := e.Driver.Starts(accepted.ID); n != 3 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestUnhealthyGatewayIsReplaced: its process runs but does not answer.
func TestUnhealthyGatewayIsReplaced(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Scripts.Unhealthy.Store(true)
		e.UntilHours(a.ID, func(a agent.Agent) bool { return a.Status != client.Running })
		e.Scripts.Unhealthy.Store(false)
		now := e.UntilStatus(a.ID, client.Running)
		if e.Driver.Starts(a.ID) != 2 || now.Place == a.Place {
			t.Errorf("%d starts", e.Driver.Starts(a.ID))
		}
	})
}

func TestStopIsRetried(t *testing.T) {
	for _, method := range []string{"Stop", "Remove", "Inspect", "Home"} {
		t.Run(method, func(t *testing.T) {
			agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
				d, left := agenttest.FailingDriver(e.Driver, method)
				e.RestartServer(func(s *agenttest.Settings) { s.Driver = d })
				a := e.Create("ada")
				left.Store(3)
				accepted, err := e.Agents.Stop(e.Context(), e.Actor, a.ID)
				e.Must(err)
				if now, err := e.Agents.AwaitStopped(e.Context(), accepted); err != nil || now.Status != client.Stopped {
					t.Errorf("%+v, %v", now, err)
				}
				left.Store(3)
				e.Delete(a.ID)
				e.CheckNothingLeft(a.ID)
			})
		})
	}
}

// TestStopThatNeverEnds: the caller gets an error after WaitTimeout.
func TestStopThatNeverEnds(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		d, left := agenttest.FailingDriver(e.Driver, "Stop")
		e.RestartServer(func(s *agenttest.Settings) { s.Driver = d })
		a := e.Create("ada")
		left.Store(1 << 40)
		accepted, err := e.Agents.Stop(t.Context(), e.Actor, a.ID)
		e.Must(err)
		if now, err := e.Agents.AwaitStopped(t.Context(), accepted); !fault.Is(err, fault.UpstreamTimeout) || now.Status != client.Stopping {
			t.Errorf("%+v, %v", now, err)
		}
		left.Store(0)
		e.UntilHours(a.ID, func(a agent.Agent) bool { return a.Status == client.Stopped })
	})
}

// TestRestartThatCannotStop: each try counts as a failure, and the caller gets the last.
func TestRestartThatCannotStop(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		d, left := agenttest.FailingDriver(e.Driver, "Stop")
		e.RestartServer(func(s *agenttest.Settings) { s.Driver = d })
		a := e.Create("ada")
		left.Store(7) // five tries, and two of stopping what is left
		accepted, err := e.Agents.Restart(t.Context(), e.Actor, a.ID)
		e.Must(err)
		if _, err := e.Agents.AwaitRunning(t.Context(), accepted); !fault.Is(err, fault.Upstream) {
			t.Error(err)
		}
		e.Eventually("nothing runs", func() bool { return e.Driver.RunningCount() == 0 })
	})
}
