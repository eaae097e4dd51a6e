package agent

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
)

// boundaries is a driver that can end the server before or after any call of it.
// The calls that the server makes while it ends still happen, as some would.
type boundaries struct {
	*fake.Driver
	mu    sync.Mutex
	seen  []string // every boundary passed; guarded by mu
	stop  int      // the boundary at which the server ends, from 1; 0: none; guarded by mu
	crash func()   // guarded by mu
}

func (b *boundaries) pass(name string) {
	b.mu.Lock()
	b.seen = append(b.seen, name)
	crash := func() {}
	if len(b.seen) == b.stop {
		crash = b.crash
	}
	b.mu.Unlock()
	crash()
}

func (b *boundaries) around(name string) (after func()) {
	b.pass("before " + name)
	return func() { b.pass("after " + name) }
}

func (b *boundaries) Place(ctx context.Context, s runtime.Spec) (string, error) {
	defer b.around("Place")()
	return b.Driver.Place(ctx, s)
}

func (b *boundaries) Start(ctx context.Context, place string, s runtime.Spec) error {
	defer b.around("Start")()
	return b.Driver.Start(ctx, place, s)
}

func (b *boundaries) Stop(ctx context.Context, place, id string, grace time.Duration) error {
	defer b.around("Stop")()
	return b.Driver.Stop(ctx, place, id, grace)
}

func (b *boundaries) Inspect(ctx context.Context, place, id string) (runtime.State, error) {
	defer b.around("Inspect")()
	return b.Driver.Inspect(ctx, place, id)
}

func (b *boundaries) Home(ctx context.Context, place, id string) (runtime.Home, error) {
	defer b.around("Home")()
	return b.Driver.Home(ctx, place, id)
}

func (b *boundaries) Dial(ctx context.Context, place, id string) (net.Conn, error) {
	defer b.around("Dial")()
	return b.Driver.Dial(ctx, place, id)
}

func (b *boundaries) Remove(ctx context.Context, place, id string) error {
	defer b.around("Remove")()
	return b.Driver.Remove(ctx, place, id)
}

// TestServerCrash ends the server at every boundary of every wish, and lets the
// next one finish it: nothing is lost, doubled or left.
func TestServerCrash(t *testing.T) {
	for name, wish := range map[string]func(w *world, ctx context.Context, id string) error{
		"start":   func(w *world, ctx context.Context, id string) error { _, err := w.Start(ctx, w.who, id); return err },
		"stop":    func(w *world, ctx context.Context, id string) error { _, err := w.Stop(ctx, w.who, id); return err },
		"restart": func(w *world, ctx context.Context, id string) error { _, err := w.Restart(ctx, w.who, id); return err },
		"delete":  func(w *world, ctx context.Context, id string) error { _, err := w.Delete(ctx, w.who, id); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w, b := newBoundaries(t)
			for at := 1; ; at++ {
				if passed := w.crashAt(b, at, name, wish); !passed {
					t.Logf("%d boundaries", at-1)
					return
				}
			}
		})
	}
}

func newBoundaries(t *testing.T) (*world, *boundaries) {
	w := newWorld(t, nil)
	w.crash()
	b := &boundaries{Driver: w.driver, crash: func() {}}
	w.adjust = func(s *Settings) {
		s.Driver, s.Timing = b, Timing{Backoff: time.Millisecond, Health: time.Hour, Report: time.Hour}
	}
	w.serve()
	return w, b
}

// crashAt says whether the wish came so far as that boundary.
func (w *world) crashAt(b *boundaries, at int, name string, wish func(*world, context.Context, string) error) bool {
	w.t.Helper()
	a := w.create("ada")
	if name == "start" {
		asked, err := w.Stop(w.ctx(), w.who, a.ID)
		w.must(err)
		_, err = w.AwaitStopped(w.ctx(), asked)
		w.must(err)
	}
	reached := make(chan struct{})
	end := w.end
	b.mu.Lock()
	b.seen, b.stop = nil, at
	b.crash = func() { end(); close(reached) }
	b.mu.Unlock()
	w.must(wish(w, w.ctx(), a.ID))
	server := w.Service
	ctx, cancel := context.WithCancel(w.ctx())
	defer cancel()
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		_, _ = server.await(ctx, a.ID, func(a Agent) bool { return a.Settled == a.Wish }) // it is gone, if it was to be deleted
	}()
	select {
	case <-reached:
	case <-settled:
	}
	w.crash()
	cancel()
	<-settled
	b.mu.Lock()
	where, passed := slices.Clone(b.seen[:min(at, len(b.seen))]), len(b.seen) >= at
	b.stop = 0
	b.mu.Unlock()
	w.serve()
	w.afterCrash(a.ID, name, fmt.Sprint(where))
	return passed
}

func (w *world) afterCrash(id, name, where string) {
	w.t.Helper()
	if name == "delete" {
		w.eventually("the agent is removed, after "+where, func() bool {
			_, err := findAny(w.t.Context(), w.db, id)
			return err != nil
		})
		w.nothingIsLeft(id)
		return
	}
	want, gateways := client.Running, 1
	if name == "stop" {
		want, gateways = client.Stopped, 0
	}
	now := w.until(id, func(a Agent) bool { return a.Settled == a.Wish && a.Status == want })
	if now.LastError != "" || w.driver.Live() != gateways {
		w.t.Errorf("after %s: %s, %d gateways, %s", where, now.Status, w.driver.Live(), now.LastError)
	}
	if want == client.Running {
		if text, err := w.turn(id); err != nil || text != "I am at "+w.find(id).Place {
			w.t.Errorf("after %s: %q, %v", where, text, err)
		}
	}
	asked, err := w.Delete(w.ctx(), w.who, id)
	w.must(err)
	w.must(w.AwaitDeleted(w.ctx(), asked))
	w.nothingIsLeft(id)
}

func TestAdoption(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.crash()
	w.serve()
	if text, err := w.turn(a.ID); err != nil || text != "I am at "+a.Place {
		t.Errorf("%q, %v", text, err)
	}
	w.eventually("it is looked at", func() bool {
		w.body.mu.Lock()
		defer w.body.mu.Unlock()
		return w.body.delivered[a.ID] != nil
	})
	if w.driver.Starts(a.ID) != 1 {
		t.Errorf("%d starts", w.driver.Starts(a.ID))
	}
}

// TestAdoptionKeepsEdits finds what the agent wrote while no server was up, and
// what the API wrote then.
func TestAdoptionKeepsEdits(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.crash()
	writeHome(w, a.ID, "workspace/SOUL.md", "the agent's")
	_, _, err := w.documents.SetWorkflow(w.ctx(), w.who.Actor(), a.id(), "the owner's", "")
	w.must(err)
	w.serve()
	w.eventually("the home is up to date", func() bool {
		text, err := readHome(w, a.ID, "workspace/WORKFLOW.md")
		return err == nil && text == "the owner's"
	})
	if got, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || got != "the agent's" || w.soul(a.ID) != got {
		t.Errorf("%q, %v; kept %q", got, err, w.soul(a.ID))
	}
}

// TestAdoptionInMidBoot takes over a gateway that was on its way when the server
// died, rather than make another.
func TestAdoptionInMidBoot(t *testing.T) {
	w := newWorld(t, nil)
	w.unready.Store(true)
	asked, err := w.Create(w.ctx(), w.who, newAgent("ada"))
	w.must(err)
	w.eventually("the gateway runs", func() bool { return w.driver.Live() == 1 })
	w.crash()
	w.unready.Store(false)
	w.serve()
	w.untilStatus(asked.ID, client.Running)
	if w.driver.Starts(asked.ID) != 1 {
		t.Errorf("%d starts", w.driver.Starts(asked.ID))
	}
}

// TestNoAdoptionOfTheOld boots anew if what was on its way is not what is wanted.
func TestNoAdoptionOfTheOld(t *testing.T) {
	w := newWorld(t, nil)
	w.unready.Store(true)
	asked, err := w.Create(w.ctx(), w.who, newAgent("ada"))
	w.must(err)
	w.eventually("the gateway runs", func() bool { return w.driver.Live() == 1 })
	w.crash()
	if _, err := w.Update(w.ctx(), w.who, asked.ID, client.UpdateAgentRequest{Config: map[string]any{"model": "another"}}); err != nil {
		t.Fatal(err)
	}
	w.unready.Store(false)
	w.serve()
	w.untilStatus(asked.ID, client.Running)
	if w.driver.Starts(asked.ID) != 2 {
		t.Errorf("%d starts", w.driver.Starts(asked.ID))
	}
}

func TestDeathWhileNobodyLooks(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.crash()
	w.driver.Kill(a.ID, 137)
	w.serve()
	w.until(a.ID, func(now Agent) bool { return now.Status == client.Running && now.Place != a.Place })
}

func TestErrorOutlivesTheServer(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Kill(a.ID, 78)
	w.untilStatus(a.ID, client.Errored)
	w.crash()
	w.serve()
	b := w.create("bob") // by now the first was looked at
	if now := w.find(a.ID); now.Status != client.Errored || w.driver.Starts(a.ID) != 1 || b.Status != client.Running {
		t.Errorf("%+v", now)
	}
}

// TestOrphans removes what belongs to no agent, and stops what runs though its agent
// is stopped.
func TestOrphans(t *testing.T) {
	w := newWorld(t, nil)
	lost, stray := w.create("lost"), w.create("stray")
	w.crash()
	exec := func(query, id string) {
		w.must(w.db.Tx(t.Context(), func(tx *database.Tx) error {
			_, err := tx.ExecContext(t.Context(), query, id)
			return err
		}))
	}
	exec(`DELETE FROM agents WHERE id = $1`, lost.ID)
	exec(`UPDATE agents SET wanted = 'stopped', status = 'stopped', place = '' WHERE id = $1`, stray.ID)
	w.serve()
	w.eventually("nothing runs", func() bool { return w.driver.Live() == 0 })
	w.eventually("the orphan is gone", func() bool {
		found, err := w.driver.List(t.Context())
		return err == nil && len(found) == 1 && found[0].ID == stray.ID
	})
	w.until(stray.ID, func(a Agent) bool { return a.Place == "" })
}
