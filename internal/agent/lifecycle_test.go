package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

func say(ctx context.Context, g *Gateway) (string, error) {
	result, err := g.Turn(ctx, openclaw.TurnRequest{Entry: openclaw.Main, SessionKey: "agent:main:api:x", Message: "who?"}, func(string) error { return nil })
	return result.Text, err
}

func TestCreate(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	if a.Status != client.Running || a.StartedAt.IsZero() || a.Place == "" || w.driver.Starts(a.ID) != 1 {
		t.Errorf("%+v", a)
	}
	if text, err := w.turn(a.ID); err != nil || text != "I am at "+a.Place {
		t.Errorf("%q, %v", text, err)
	}
	soul, err := readHome(w, a.ID, "workspace/SOUL.md")
	if err != nil || soul == "" {
		t.Errorf("SOUL.md: %q, %v", soul, err)
	}
	v, err := w.View(t.Context(), w.who, a.ID)
	if err != nil || v.NeedsRestart || v.Provider != openclaw.Anthropic {
		t.Errorf("%+v, %v", v, err)
	}
}

func readHome(w *world, id, path string) (string, error) {
	home, err := w.driver.Home(w.t.Context(), "", id)
	if err != nil {
		return "", err
	}
	data, err := home.ReadFile(path, 1<<20)
	return string(data), errors.Join(err, home.Close())
}

func writeHome(w *world, id, path, text string) {
	w.t.Helper()
	home, err := w.driver.Home(w.t.Context(), "", id)
	w.must(err)
	w.must(errors.Join(home.WriteFile(path, []byte(text)), home.Close()))
}

func TestStopStartRestartDelete(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	stopped, err := w.AwaitStopped(w.ctx(), asked)
	if err != nil || stopped.Status != client.Stopped || stopped.StoppedAt.IsZero() || w.driver.Live() != 0 {
		t.Errorf("stop: %+v, %v", stopped, err)
	}
	if _, err := w.Gateway(w.ctx(), a.ID); !fault.Is(err, fault.NotRunning) {
		t.Errorf("gateway of a stopped agent: %v", err)
	}
	if asked, err = w.Stop(w.ctx(), w.who, a.ID); err != nil || asked.Wish != stopped.Wish {
		t.Errorf("stopping again is a wish of its own: %+v, %v", asked, err)
	}
	asked, err = w.Start(w.ctx(), w.who, a.ID)
	w.must(err)
	started, err := w.AwaitRunning(w.ctx(), asked)
	if err != nil || started.Status != client.Running || w.driver.Starts(a.ID) != 2 {
		t.Errorf("start: %+v, %v", started, err)
	}
	asked, err = w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	if _, err := w.AwaitRunning(w.ctx(), asked); err != nil || w.driver.Starts(a.ID) != 3 {
		t.Errorf("restart: %v, %d starts", err, w.driver.Starts(a.ID))
	}
	asked, err = w.Delete(w.ctx(), w.who, a.ID)
	w.must(err)
	if err := w.AwaitDeleted(w.ctx(), asked); err != nil {
		t.Error(err)
	}
	w.nothingIsLeft(a.ID)
	if _, err := w.Start(w.ctx(), w.who, a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("start of a deleted agent: %v", err)
	}
}

func (w *world) nothingIsLeft(id string) {
	w.t.Helper()
	found, err := w.driver.List(w.t.Context())
	w.must(err)
	for _, f := range found {
		if f.ID == id {
			w.t.Errorf("left of %s: %+v", id, f)
		}
	}
	for _, table := range []string{"secrets", "data_keys"} {
		w.count(0, `SELECT count(*) FROM `+table+` WHERE owner_id = $1`, id)
	}
	w.count(0, `SELECT count(*) FROM documents WHERE agent_id = $1`, id)
	w.count(0, `SELECT count(*) FROM agents WHERE id = $1`, id)
	w.body.mu.Lock()
	defer w.body.mu.Unlock()
	if w.body.links[id] != nil || w.body.delivered[id] != nil {
		w.t.Error("the body remembers a deleted agent")
	}
}

func (w *world) count(want int, query string, args ...any) {
	w.t.Helper()
	var n int
	w.must(w.db.QueryRowContext(w.t.Context(), query, args...).Scan(&n))
	if n != want {
		w.t.Errorf("%d rows instead of %d: %s %v", n, want, query, args)
	}
}

// TestLastWishWins lets callers ask one agent for everything at once.
func TestLastWishWins(t *testing.T) {
	const rounds, callers = 30, 6
	w := newWorld(t, nil)
	a := w.create("ada")
	for round := range rounds {
		w.driver.DelayStart(time.Duration(rand.IntN(3)) * time.Millisecond)
		w.driver.DelayStop(time.Duration(rand.IntN(3)) * time.Millisecond)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() { w.askAnything(a.ID) })
		}
		all.Wait()
		now := w.until(a.ID, func(a Agent) bool { return a.Settled == a.Wish })
		want := map[Wanted]client.AgentStatus{WantRunning: client.Running, WantStopped: client.Stopped}[now.Wanted]
		if now.Status != want || (w.driver.Live() == 1) != (want == client.Running) {
			t.Fatalf("round %d: wanted %s, is %s with %d gateways (%s)", round, now.Wanted, now.Status, w.driver.Live(), now.LastError)
		}
	}
	asked, err := w.Delete(w.ctx(), w.who, a.ID)
	w.must(err)
	w.must(w.AwaitDeleted(w.ctx(), asked))
	w.nothingIsLeft(a.ID)
}

// askAnything asks for one thing and waits for an answer, whatever it is.
func (w *world) askAnything(id string) {
	ctx := w.ctx()
	var asked Outcome
	var err error
	switch rand.IntN(3) {
	case 0:
		if asked, err = w.Start(ctx, w.who, id); err == nil {
			_, err = w.AwaitRunning(ctx, asked)
		}
	case 1:
		if asked, err = w.Stop(ctx, w.who, id); err == nil {
			_, err = w.AwaitStopped(ctx, asked)
		}
	default:
		if asked, err = w.Restart(ctx, w.who, id); err == nil {
			_, err = w.AwaitRunning(ctx, asked)
		}
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		w.t.Errorf("asking: %v", err)
	}
}

// TestDeleteAlwaysWins deletes an agent while others ask for everything else.
func TestDeleteAlwaysWins(t *testing.T) {
	w := newWorld(t, nil)
	w.driver.DelayStart(time.Millisecond)
	for range 15 {
		created, err := w.Create(w.ctx(), w.who, newAgent("ada"))
		w.must(err)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				asked, err := w.Restart(w.ctx(), w.who, created.ID)
				if err == nil {
					_, err = w.AwaitRunning(w.ctx(), asked)
				}
				if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Conflict) {
					t.Errorf("restart: %v", err)
				}
			})
		}
		all.Go(func() {
			asked, err := w.Delete(w.ctx(), w.who, created.ID)
			if err == nil {
				err = w.AwaitDeleted(w.ctx(), asked)
			}
			if err != nil {
				t.Errorf("delete: %v", err)
			}
		})
		all.Wait()
		w.nothingIsLeft(created.ID)
	}
	if w.driver.Live() != 0 {
		t.Errorf("%q run", w.driver.Running())
	}
}

func TestFiftyAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	var all sync.WaitGroup
	var ids [50]string
	for i := range ids {
		all.Go(func() { ids[i] = w.create(fmt.Sprint("agent ", i)).ID })
	}
	all.Wait()
	if w.driver.Live() != len(ids) {
		t.Errorf("%d run", w.driver.Live())
	}
	for _, id := range ids {
		all.Go(func() {
			asked, err := w.Delete(w.ctx(), w.who, id)
			if err == nil {
				err = w.AwaitDeleted(w.ctx(), asked)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	found, err := w.driver.List(t.Context())
	if err != nil || len(found) != 0 || w.driver.Live() != 0 {
		t.Errorf("left: %+v, %v", found, err)
	}
	w.count(0, `SELECT count(*) FROM agents`)
	w.eventually("all loops end", func() bool {
		w.reconciler.mu.Lock()
		defer w.reconciler.mu.Unlock()
		return len(w.reconciler.loops) == 0
	})
}

func TestBootsAreBounded(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Boots = 3 }, func(t *testing.T, w *world) {
		w.driver.DelayStart(time.Second)
		var most atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for range 12 {
			all.Go(func() {
				w.create("ada")
				most.Store(max(most.Load(), int64(len(w.reconciler.boots))))
			})
		}
		all.Wait()
		if took := time.Since(began); took < 4*time.Second || most.Load() > 3 {
			t.Errorf("12 boots of a second, three at once, took %s", took)
		}
		if len(w.reconciler.boots) != 0 {
			t.Error("a slot is not given back")
		}
	})
}

// TestSlotsAreFree sees that a gateway which waits for its next try keeps no slot.
func TestSlotsAreFree(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Boots, s.Timing = 1, Timing{Backoff: time.Minute} }, func(t *testing.T, w *world) {
		w.driver.FailStart(1, errors.New("not now"))
		asked, err := w.Create(w.ctx(), w.who, newAgent("first"))
		w.must(err)
		w.until(asked.ID, func(a Agent) bool { return a.LastError != "" })
		began := time.Now()
		w.create("second")
		if time.Since(began) > 30*time.Second {
			t.Error("the second waited for the first")
		}
	})
}

func TestCrash(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	for range 3 {
		w.driver.Kill(a.ID, 137)
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
	w.driver.Kill(a.ID, 137)
	if text, err := say(w.ctx(), g); err != nil || text == "I am at "+a.Place {
		t.Errorf("%q, %v", text, err)
	}
}

func TestFiveCrashes(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Timing = Timing{} }, func(t *testing.T, w *world) {
		a := w.create("ada")
		w.driver.Print(a.ID, `{"time":"2026-02-10T14:00:05Z","level":"error","message":"boom with key sk-ant-test and more"}`)
		w.driver.ExitAfterStart(a.ID, 100, 3)
		began := time.Now()
		w.driver.Kill(a.ID, 3)
		broken := w.untilStatus(a.ID, client.Errored)
		if broken.ErrorCategory != Runtime || !strings.Contains(broken.LastError, "exit code 3") || !strings.Contains(broken.LastError, "boom with key [secret] and more") {
			t.Errorf("%s: %s", broken.ErrorCategory, broken.LastError)
		}
		if took := time.Since(began).Round(time.Second); took != 15*time.Second { // 1+2+4+8
			t.Errorf("back-off took %s", took)
		}
		if n := w.driver.Starts(a.ID); n != 5 {
			t.Errorf("%d starts", n)
		}
		_, err := w.Gateway(w.ctx(), a.ID)
		if !fault.Is(err, fault.NotRunning) || fault.From(err).Details["errorCategory"] != "runtime" {
			t.Errorf("gateway: %v", err)
		}

		time.Sleep(time.Hour) // it stays so
		if w.find(a.ID).Status != client.Errored || w.driver.Starts(a.ID) != 5 {
			t.Error("it was started without a wish")
		}
		w.driver.ExitAfterStart(a.ID, 0, 0)
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
			w.driver.Kill(a.ID, 1)
			w.until(a.ID, func(a Agent) bool {
				return a.Status == client.Running && a.StartedAt.After(time.Now().Add(-time.Minute))
			})
		}
	})
}

func TestRefusedConfig(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Kill(a.ID, openclaw.ExitBadConfig)
	now := w.untilStatus(a.ID, client.Errored)
	if now.ErrorCategory != Config || !strings.Contains(now.LastError, "refuses the agent's configuration") || w.driver.Starts(a.ID) != 1 {
		t.Errorf("%s: %s after %d starts", now.ErrorCategory, now.LastError, w.driver.Starts(a.ID))
	}
}

func TestOutOfMemory(t *testing.T) {
	inBubble(t, func(s *Settings) {
		s.Timing, s.Limits = Timing{Backoff: time.Hour}, runtime.Limits{MemoryBytes: 512 << 20}
	}, func(t *testing.T, w *world) {
		a := w.create("ada")
		w.driver.KillForMemory(a.ID)
		now := w.until(a.ID, func(a Agent) bool { return a.Status == client.Starting })
		if !strings.Contains(now.LastError, "memory limit of 512 MiB") {
			t.Error(now.LastError)
		}
	})
}

func TestNoRoom(t *testing.T) {
	w := newWorld(t, nil)
	w.driver.FailPlace(1, fmt.Errorf("place: %w", runtime.ErrNoRoom))
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
		w.eventually("nothing runs", func() bool { return w.driver.Live() == 0 })
		if n := w.driver.Starts(asked.ID); n != 3 {
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
		if w.driver.Starts(a.ID) != 2 || now.Place == a.Place {
			t.Errorf("%d starts", w.driver.Starts(a.ID))
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

func TestInterruptedBoot(t *testing.T) {
	for name, interrupt := range map[string]func(w *world, id string){
		"stop": func(w *world, id string) {
			asked, err := w.Stop(w.ctx(), w.who, id)
			w.must(err)
			a, err := w.AwaitStopped(w.ctx(), asked)
			if err != nil || a.Status != client.Stopped {
				w.t.Errorf("%+v, %v", a, err)
			}
		},
		"delete": func(w *world, id string) {
			asked, err := w.Delete(w.ctx(), w.who, id)
			w.must(err)
			w.must(w.AwaitDeleted(w.ctx(), asked))
		},
	} {
		for _, starting := range []bool{true, false} { // within driver.Start, or waiting to be ready
			t.Run(fmt.Sprintf("%s/starting=%v", name, starting), func(t *testing.T) {
				w := newWorld(t, nil)
				if w.unready.Store(!starting); starting {
					w.driver.DelayStart(time.Hour)
				}
				asked, err := w.Create(w.ctx(), w.who, newAgent("ada"))
				w.must(err)
				waited := make(chan error, 1)
				go func() {
					_, err := w.AwaitRunning(w.ctx(), asked)
					waited <- err
				}()
				w.until(asked.ID, func(a Agent) bool { return a.Place != "" })
				w.eventually("it boots", func() bool { return starting || w.driver.Live() == 1 })
				interrupt(w, asked.ID)
				if err := <-waited; !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
					t.Errorf("who waited for create got %v", err)
				}
				if w.driver.Live() != 0 {
					t.Error("the gateway runs")
				}
			})
		}
	}
}

func TestDeathWhileStoppedIsNothing(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.DelayStop(20 * time.Millisecond)
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	w.driver.Kill(a.ID, 1)
	now, err := w.AwaitStopped(w.ctx(), asked)
	if err != nil || now.LastError != "" || w.driver.Starts(a.ID) != 1 {
		t.Errorf("%+v, %v", now, err)
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
		w.eventually("nothing runs", func() bool { return w.driver.Live() == 0 })
	})
}

func TestCallerGoesAway(t *testing.T) {
	w := newWorld(t, nil)
	w.unready.Store(true)
	ctx, cancel := context.WithCancel(w.ctx())
	asked, err := w.Create(ctx, w.who, newAgent("ada"))
	w.must(err)
	w.until(asked.ID, func(a Agent) bool { return a.Place != "" })
	cancel()
	if _, err := w.AwaitRunning(ctx, asked); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.unready.Store(false)
	w.untilStatus(asked.ID, client.Running) // the wish stands
}
