package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	modelprovider "agento.host/agento/internal/provider"
)

func say(ctx context.Context, g *Gateway) (string, error) {
	result, err := g.Turn(ctx, openclaw.TurnRequest{Entry: openclaw.Main, SessionKey: "agent:main:api:x", Message: "who?"}, func(string) error { return nil })
	return result.Text, err
}

func TestCreate(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	if a.Status != client.Running || a.StartedAt.IsZero() || a.Place == "" || w.driver.Starts(identity.AgentID(a.ID)) != 1 {
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
	if err != nil || v.NeedsRestart || v.Provider != modelprovider.Anthropic {
		t.Errorf("%+v, %v", v, err)
	}
}

func readHome(w *world, id, path string) (string, error) {
	home, err := w.driver.Home(w.t.Context(), "", identity.AgentID(id))
	if err != nil {
		return "", err
	}
	data, err := home.ReadFile(path, 1<<20)
	return string(data), errors.Join(err, home.Close())
}

func writeHome(w *world, id, path, text string) {
	w.t.Helper()
	home, err := w.driver.Home(w.t.Context(), "", identity.AgentID(id))
	w.must(err)
	w.must(errors.Join(home.WriteFile(path, []byte(text)), home.Close()))
}

func TestStopStartRestartDelete(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	stopped, err := w.AwaitStopped(w.ctx(), asked)
	if err != nil || stopped.Status != client.Stopped || stopped.StoppedAt.IsZero() || w.driver.RunningCount() != 0 {
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
	if err != nil || started.Status != client.Running || w.driver.Starts(identity.AgentID(a.ID)) != 2 {
		t.Errorf("start: %+v, %v", started, err)
	}
	asked, err = w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	if _, err := w.AwaitRunning(w.ctx(), asked); err != nil || w.driver.Starts(identity.AgentID(a.ID)) != 3 {
		t.Errorf("restart: %v, %d starts", err, w.driver.Starts(identity.AgentID(a.ID)))
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
		if string(f.ID) == id {
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
		if now.Status != want || (w.driver.RunningCount() == 1) != (want == client.Running) {
			t.Fatalf("round %d: wanted %s, is %s with %d gateways (%s)", round, now.Wanted, now.Status, w.driver.RunningCount(), now.LastError)
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
	if w.driver.RunningCount() != 0 {
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
	if w.driver.RunningCount() != len(ids) {
		t.Errorf("%d run", w.driver.RunningCount())
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
	if err != nil || len(found) != 0 || w.driver.RunningCount() != 0 {
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
				w.eventually("it boots", func() bool { return starting || w.driver.RunningCount() == 1 })
				interrupt(w, asked.ID)
				if err := <-waited; !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
					t.Errorf("who waited for create got %v", err)
				}
				if w.driver.RunningCount() != 0 {
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
	w.driver.Kill(identity.AgentID(a.ID), 1)
	now, err := w.AwaitStopped(w.ctx(), asked)
	if err != nil || now.LastError != "" || w.driver.Starts(identity.AgentID(a.ID)) != 1 {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestStartWhileStopping: a gateway that was told to end is not taken for the one
// that is wanted next, though it still answers.
func TestStartWhileStopping(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.DelayStop(time.Hour)
	_, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	w.until(a.ID, func(a Agent) bool { return a.Status == client.Stopping })
	w.driver.DelayStop(0)
	asked, err := w.Start(w.ctx(), w.who, a.ID)
	w.must(err)
	now, err := w.AwaitRunning(w.ctx(), asked)
	if err != nil || now.Place == a.Place || w.driver.Starts(identity.AgentID(a.ID)) != 2 || w.driver.RunningCount() != 1 {
		t.Errorf("%+v, %v, %d starts", now, err, w.driver.Starts(identity.AgentID(a.ID)))
	}
}

// TestTurnAfterARestart: who has the way to a gateway that was replaced before it is
// used gets the answer of the new one.
func TestTurnAfterARestart(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	g, err := w.Gateway(w.ctx(), a.ID)
	w.must(err)
	asked, err := w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	now, err := w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	if text, err := say(w.ctx(), g); err != nil || text != "I am at "+now.Place {
		t.Errorf("%q, %v", text, err)
	}
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
