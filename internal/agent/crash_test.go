package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

func TestCrash(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	for range 3 {
		w.driver.Kill(identity.AgentID(a.ID), 137)
		text, err := w.turn(a.ID)
		if err != nil {
			t.Fatalf("the next chat: %v", err)
		}
		now := w.find(a.ID)
		if text != "I am at "+now.Place || now.Place == a.Place || now.Status != client.Running {
			t.Errorf("%q from %+v", text, now)
		}
	}
}

// TestCrashBetween kills the gateway after a caller has got the way to it.
func TestCrashBetween(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	g, err := w.Gateway(w.ctx(), a.ID)
	w.must(err)
	w.driver.Kill(identity.AgentID(a.ID), 137)
	if text, err := say(w.ctx(), g); err != nil || text == "I am at "+a.Place {
		t.Errorf("%q, %v", text, err)
	}
}

func TestFiveCrashes(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Timing = Timing{} }, func(t *testing.T, w *world) {
		a := w.create("ada")
		w.driver.Print(identity.AgentID(a.ID), `{"time":"2026-02-10T14:00:05Z","level":"error","message":"boom with key sk-ant-test and more"}`)
		w.driver.ExitAfterStart(identity.AgentID(a.ID), 100, 3)
		began := time.Now()
		w.driver.Kill(identity.AgentID(a.ID), 3)
		broken := w.untilStatus(a.ID, client.Errored)
		if broken.ErrorCategory != Runtime || !strings.Contains(broken.LastError, "exit code 3") || !strings.Contains(broken.LastError, "boom with key [secret] and more") {
			t.Errorf("%s: %s", broken.ErrorCategory, broken.LastError)
		}
		if took := time.Since(began).Round(time.Second); took != 15*time.Second { // 1+2+4+8
			t.Errorf("back-off took %s", took)
		}
		if n := w.driver.Starts(identity.AgentID(a.ID)); n != 5 {
			t.Errorf("%d starts", n)
		}
		_, err := w.Gateway(w.ctx(), a.ID)
		if !fault.Is(err, fault.NotRunning) || fault.From(err).Details["errorCategory"] != "runtime" {
			t.Errorf("gateway: %v", err)
		}

		time.Sleep(time.Hour) // it stays so
		if w.find(a.ID).Status != client.Errored || w.driver.Starts(identity.AgentID(a.ID)) != 5 {
			t.Error("it was started without a wish")
		}
		w.driver.ExitAfterStart(identity.AgentID(a.ID), 0, 0)
		asked, err := w.Start(w.ctx(), w.who, a.ID)
		w.must(err)
		if now, err := w.AwaitRunning(w.ctx(), asked); err != nil || now.LastError != "" || now.ErrorCategory != "" {
			t.Errorf("%+v, %v", now, err)
		}
	})
}

// TestOldFailuresAreForgotten crashes a gateway seldom enough.
func TestOldFailuresAreForgotten(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		a := w.create("ada")
		for range 10 {
			time.Sleep(3 * time.Minute)
			w.driver.Kill(identity.AgentID(a.ID), 1)
			w.until(a.ID, func(a Agent) bool {
				return a.Status == client.Running && a.StartedAt.After(time.Now().Add(-time.Minute))
			})
		}
	})
}

func TestRefusedConfig(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Kill(identity.AgentID(a.ID), openclaw.ExitBadConfig)
	now := w.untilStatus(a.ID, client.Errored)
	if now.ErrorCategory != Config || !strings.Contains(now.LastError, "refuses the agent's configuration") || w.driver.Starts(identity.AgentID(a.ID)) != 1 {
		t.Errorf("%s: %s after %d starts", now.ErrorCategory, now.LastError, w.driver.Starts(identity.AgentID(a.ID)))
	}
}

func TestOutOfMemory(t *testing.T) {
	inBubble(t, func(s *Settings) {
		s.Timing, s.Limits = Timing{Backoff: time.Hour}, runtime.Limits{MemoryBytes: 512 << 20}
	}, func(t *testing.T, w *world) {
		a := w.create("ada")
		w.driver.KillForMemory(identity.AgentID(a.ID))
		now := w.until(a.ID, func(a Agent) bool { return a.Status == client.Starting })
		if !strings.Contains(now.LastError, "memory limit of 512 MiB") {
			t.Error(now.LastError)
		}
	})
}

func TestNoRoom(t *testing.T) {
	w := newWorld(t, nil)
	w.driver.FailPlace(1, fmt.Errorf("place: %w", runtime.ErrNoCapacity))
	asked, err := w.Create(w.ctx(), w.who, newAgent("ada"))
	w.must(err)
	a, err := w.AwaitRunning(w.ctx(), asked)
	if !fault.Is(err, fault.Unavailable) || a.ErrorCategory != Capacity {
		t.Errorf("%+v, %v", a, err)
	}
	if asked, err = w.Start(w.ctx(), w.who, asked.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AwaitRunning(w.ctx(), asked); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func TestDriverFailsForAWhile(t *testing.T) {
	for name, fail := range map[string]func(w *world){
		"place": func(w *world) { w.driver.FailPlace(4, errors.New("no answer")) },
		"start": func(w *world) { w.driver.FailStart(4, runtime.ErrPlaceTaken) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			fail(w)
			if a := w.create("ada"); a.LastError != "" {
				t.Error(a.LastError)
			}
		})
	}
}

func TestDriverFailsForGood(t *testing.T) {
	w := newWorld(t, nil)
	w.driver.FailStart(5, errors.New("no such machine"))
	asked, err := w.Create(w.ctx(), w.who, newAgent("ada"))
	w.must(err)
	a, err := w.AwaitRunning(w.ctx(), asked)
	if !fault.Is(err, fault.Upstream) || a.ErrorCategory != Runtime || !strings.Contains(a.LastError, "no such machine") {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestNeverReady has a gateway that starts and then never answers: the caller is
// told, and the gateway does not stay.
func TestNeverReady(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Timing = Timing{} }, func(t *testing.T, w *world) {
		w.unready.Store(true)
		asked, err := w.Create(t.Context(), w.who, newAgent("ada"))
		w.must(err)
		began := time.Now()
		_, err = w.AwaitRunning(t.Context(), asked)
		if !fault.Is(err, fault.Upstream) || !strings.Contains(err.Error(), "not ready after 4m0s") || !strings.Contains(err.Error(), "databases") {
			t.Error(err)
		}
		if took := time.Since(began); took > 15*time.Minute {
			t.Errorf("took %s", took)
		}
		w.eventually("nothing runs", func() bool { return w.driver.RunningCount() == 0 })
		if n := w.driver.Starts(identity.AgentID(asked.ID)); n != 3 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestMuteGateway has a gateway whose process lives but does not answer.
func TestMuteGateway(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		a := w.create("ada")
		w.mute.Store(true)
		w.untilHours(t, a.ID, func(a Agent) bool { return a.Status != client.Running })
		w.mute.Store(false)
		now := w.untilStatus(a.ID, client.Running)
		if w.driver.Starts(identity.AgentID(a.ID)) != 2 || now.Place == a.Place {
			t.Errorf("%d starts", w.driver.Starts(identity.AgentID(a.ID)))
		}
	})
}

// untilHours waits longer than until, in a bubble, where it costs nothing.
func (w *world) untilHours(t *testing.T, id string, done func(Agent) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := w.await(ctx, id, done); err != nil {
		t.Fatal(err)
	}
}

// failing makes the next n calls of a method fail.
func failing(w *world, method string, n int64) (d driverFunc, left *atomic.Int64) {
	left = &atomic.Int64{}
	left.Store(n)
	return driverFunc{w.driver, func(m, _ string) error {
		if m == method && left.Add(-1) >= 0 {
			return errors.New("the driver fails")
		}
		return nil
	}}, left
}

func TestStopIsRetried(t *testing.T) {
	for _, method := range []string{"Stop", "Remove", "Inspect", "Home"} {
		t.Run(method, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *world) {
				w.crash()
				d, left := failing(w, method, 0)
				w.adjust = func(s *Settings) { s.Driver = d }
				w.serve()
				a := w.create("ada")
				left.Store(3)
				asked, err := w.Stop(w.ctx(), w.who, a.ID)
				w.must(err)
				if now, err := w.AwaitStopped(w.ctx(), asked); err != nil || now.Status != client.Stopped {
					t.Errorf("%+v, %v", now, err)
				}
				left.Store(3)
				asked, err = w.Delete(w.ctx(), w.who, a.ID)
				w.must(err)
				w.must(w.AwaitDeleted(w.ctx(), asked))
				w.nothingIsLeft(a.ID)
			})
		})
	}
}

// TestStopThatNeverEnds tells its caller so after a while.
func TestStopThatNeverEnds(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.crash()
		d, left := failing(w, "Stop", 0)
		w.adjust = func(s *Settings) { s.Driver = d }
		w.serve()
		a := w.create("ada")
		left.Store(1 << 40)
		asked, err := w.Stop(t.Context(), w.who, a.ID)
		w.must(err)
		if now, err := w.AwaitStopped(t.Context(), asked); !fault.Is(err, fault.UpstreamTimeout) || now.Status != client.Stopping {
			t.Errorf("%+v, %v", now, err)
		}
		left.Store(0)
		w.untilHours(t, a.ID, func(a Agent) bool { return a.Status == client.Stopped })
	})
}

// TestRestartThatCannotStop counts as failures, so that whoever waits is told.
func TestRestartThatCannotStop(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		w.crash()
		d, left := failing(w, "Stop", 0)
		w.adjust = func(s *Settings) { s.Driver = d }
		w.serve()
		a := w.create("ada")
		left.Store(7) // five tries, and two of putting down what is left
		asked, err := w.Restart(t.Context(), w.who, a.ID)
		w.must(err)
		if _, err := w.AwaitRunning(t.Context(), asked); !fault.Is(err, fault.Upstream) {
			t.Error(err)
		}
		w.eventually("nothing runs", func() bool { return w.driver.RunningCount() == 0 })
	})
}
