package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/runtime"
)

// Timing is how patient the reconciler is. The zero value of a field means the
// default that stands beside it.
type Timing struct {
	Ready   time.Duration // 4 m: from start to ready; a loaded machine took 80 s (openclaw.md)
	Grace   time.Duration // 10 s: from SIGTERM to SIGKILL
	Backoff time.Duration // 1 s: before the second try, doubled for each further one
	Window  time.Duration // 10 m: failures older than this are forgotten
	Tries   int           // 5: failures in a window that put an agent into error
	Health  time.Duration // 20 s: between looks at a running gateway
	Sweep   time.Duration // 10 m: between looks for gateways of no agent
}

func (t Timing) withDefaults() Timing {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&t.Ready, 4*time.Minute)
	or(&t.Grace, 10*time.Second)
	or(&t.Backoff, time.Second)
	or(&t.Window, 10*time.Minute)
	or(&t.Health, 20*time.Second)
	or(&t.Sweep, 10*time.Minute)
	if t.Tries == 0 {
		t.Tries = 5
	}
	return t
}

// Reconciler makes what is so follow what is wanted. Callers write a wish and
// Wake it; everything it does can be interrupted anywhere and is taken up again
// from the records, by this process or the next.
//
// Each agent that has something to do, or runs, has one loop of its own, so that
// all that happens to one agent happens in order.
type Reconciler struct {
	db     *database.DB
	events *event.Log
	driver runtime.Driver
	body   *body
	timing Timing
	boots  chan struct{} // a token each gateway that is booting
	log    *slog.Logger

	mu    sync.Mutex
	ctx   context.Context  // of Run; nil before and after; guarded by mu
	loops map[string]*loop // by agent; guarded by mu
	all   sync.WaitGroup   // the loops
}

// loop tends one agent.
type loop struct {
	id     string
	wake   chan struct{} // the records say something new
	cancel func()        // interrupts the present step; guarded by Reconciler.mu
	died   chan struct{} // the gateway that is watched has ended

	// Known to the loop's goroutine alone.
	watched  string      // the place whose end is awaited
	failures []time.Time // within the window, oldest first
	unwell   int         // health checks missed in a row
}

// Run tends every agent until ctx ends, and returns when all loops have. Gateways
// go on running: the next Run adopts them.
func (r *Reconciler) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	defer r.all.Wait()
	defer func() {
		r.mu.Lock()
		r.ctx = nil
		r.mu.Unlock()
	}()
	ids, err := open(ctx, r.db)
	if err != nil {
		return fmt.Errorf("list agents to tend: %w", err)
	}
	for _, id := range ids {
		r.Wake(id)
	}
	for {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "looking for gateways of no agent failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(r.timing.Sweep):
		}
	}
}

// Wake makes the reconciler look at an agent's records anew, now: a wish was
// written. What it is doing for an older wish is interrupted.
func (r *Reconciler) Wake(id string) { r.rouse(id, true) }

// Nudge makes the reconciler look again without interrupting what it does: what
// the gateway is given has changed, not what is wanted of it.
func (r *Reconciler) Nudge(id string) { r.rouse(id, false) }

func (r *Reconciler) rouse(id string, interrupt bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		return // not running: Run reads the records when it starts
	}
	l := r.loops[id]
	if l == nil {
		l = &loop{id: id, wake: make(chan struct{}, 1), died: make(chan struct{}, 1), cancel: func() {}}
		r.loops[id] = l
		ctx := r.ctx
		r.all.Go(func() { r.tend(ctx, l) })
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	if interrupt {
		l.cancel()
	}
}

// tend is a loop: look, act, wait for news; until nothing is left to wait for.
func (r *Reconciler) tend(ctx context.Context, l *loop) {
	watch, unwatch := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer unwatch()
	for {
		<-l.wake
		for again := true; again; {
			again = false
			step, cancel := context.WithCancel(ctx)
			r.mu.Lock()
			l.cancel = cancel
			r.mu.Unlock()
			wait, err := r.step(step, l)
			interrupted := step.Err() != nil
			cancel()
			switch {
			case ctx.Err() != nil:
				r.leave(l)
				return
			case interrupted:
				again = true
			case err != nil:
				r.log.ErrorContext(ctx, "tending an agent failed", "agent", l.id, "error", err)
				wait = r.timing.Backoff
			}
			if again {
				continue
			}
			if wait == 0 {
				if r.rest(l) {
					return
				}
				again = true
				continue
			}
			r.watch(watch, &watchers, l)
			timer := time.NewTimer(wait)
			select {
			case <-l.wake:
			case <-l.died:
				l.watched = ""
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			again = true
		}
	}
}

// rest ends a loop that has nothing more to wait for, unless it was woken just now.
func (r *Reconciler) rest(l *loop) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-l.wake:
		return false
	default:
		delete(r.loops, l.id)
		return true
	}
}

func (r *Reconciler) leave(l *loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.loops, l.id)
}

// watch tells the loop when the gateway ends, if the driver can. Without it the
// next look finds out.
func (r *Reconciler) watch(ctx context.Context, watchers *sync.WaitGroup, l *loop) {
	w, can := r.driver.(runtime.Watcher)
	a, err := findAny(ctx, r.db, l.id)
	if !can || err != nil || a.Place == "" || a.Place == l.watched || a.Status != client.Running {
		return
	}
	l.watched = a.Place
	watchers.Go(func() {
		if err := w.Watch(ctx, a.Place, a.ID); err != nil || ctx.Err() != nil {
			return
		}
		select {
		case l.died <- struct{}{}:
		default:
		}
	})
}

// step brings one agent one look further. It returns how long to wait before the
// next look; 0 means that nothing is left to look at.
func (r *Reconciler) step(ctx context.Context, l *loop) (time.Duration, error) {
	a, err := findAny(ctx, r.db, l.id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read agent: %w", err)
	case a.Wanted == WantDeleted:
		return 0, r.erase(ctx, a)
	case a.Wanted == WantStopped:
		return 0, r.halt(ctx, a)
	case a.Status == client.Errored && a.Settled == a.Wish:
		return 0, nil // until somebody wishes anew
	}
	return r.keepRunning(ctx, l, a)
}

// erase removes all that an agent ever was.
func (r *Reconciler) erase(ctx context.Context, a Agent) error {
	r.body.forget(a.ID)
	if err := r.driver.Remove(ctx, a.Place, a.ID); err != nil {
		return fmt.Errorf("remove gateway: %w", err)
	}
	return r.db.Tx(ctx, func(tx *database.Tx) error {
		if err := r.body.erase(ctx, tx, a); err != nil {
			return err
		}
		if err := remove(ctx, tx, a.ID); err != nil {
			return fmt.Errorf("remove agent: %w", err)
		}
		return r.events.Append(ctx, tx, event.Event{AccountID: a.AccountID, Topic: topic(a.ID), Kind: "agent.removed", Actor: "system"})
	})
}

// halt stops an agent's gateway; its home stays.
func (r *Reconciler) halt(ctx context.Context, a Agent) error {
	if a.Place != "" {
		r.body.absorb(ctx, a)
		a.Status = client.Stopping
		if ok, err := r.note(ctx, a, ""); !ok || err != nil {
			return err
		}
		if err := r.driver.Stop(ctx, a.Place, a.ID, r.timing.Grace); err != nil {
			return fmt.Errorf("stop gateway: %w", err)
		}
		r.body.absorb(ctx, a) // what it still wrote while it stopped
	}
	if a.Settled == a.Wish && a.Place == "" {
		return nil
	}
	r.body.forget(a.ID)
	a.Status, a.Settled, a.Place, a.StoppedAt, a.LastError, a.ErrorCategory = client.Stopped, a.Wish, "", now(), "", ""
	_, err := r.note(ctx, a, "agent.stopped")
	return err
}

// note writes progress, with an event if kind is given, and tells whoever waits.
// The answer is false if a newer wish has come: then the step is over.
func (r *Reconciler) note(ctx context.Context, a Agent, kind string) (bool, error) {
	var ok bool
	err := r.db.Tx(ctx, func(tx *database.Tx) (err error) {
		if ok, err = a.progress(ctx, tx); err != nil || !ok {
			return err
		}
		tx.AfterCommit(func() { r.events.Bell.Ring(topic(a.ID)) })
		if kind == "" {
			return nil
		}
		data := map[string]any{"status": a.Status}
		if a.LastError != "" {
			data["error"], data["category"] = a.LastError, a.ErrorCategory
		}
		return r.events.Append(ctx, tx, event.Event{AccountID: a.AccountID, Topic: topic(a.ID), Kind: kind, Actor: "system", Data: data})
	})
	if err != nil {
		return false, fmt.Errorf("note status %s: %w", a.Status, err)
	}
	return ok, nil
}

// sweep removes what belongs to no agent, and looks at what runs though its agent
// is to be stopped.
func (r *Reconciler) sweep(ctx context.Context) error {
	found, err := r.driver.List(ctx)
	if err != nil {
		return fmt.Errorf("list gateways: %w", err)
	}
	for _, f := range found {
		a, err := findAny(ctx, r.db, f.ID)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			r.log.WarnContext(ctx, "removing what belongs to no agent", "agent", f.ID, "running", f.Running)
			if err := r.driver.Remove(ctx, f.Place, f.ID); err != nil {
				return fmt.Errorf("remove %s: %w", f.ID, err)
			}
		case err != nil:
			return fmt.Errorf("read agent: %w", err)
		case f.Running && a.Wanted != WantRunning:
			r.stray(ctx, f, a)
		}
	}
	return nil
}

// stray stops a gateway that runs at a place the records do not know.
func (r *Reconciler) stray(ctx context.Context, f runtime.Found, a Agent) {
	if a.Place != "" {
		r.Wake(a.ID)
		return
	}
	if err := r.driver.Stop(ctx, f.Place, f.ID, r.timing.Grace); err != nil {
		r.log.ErrorContext(ctx, "stopping a stray gateway failed", "agent", f.ID, "error", err)
	}
}

func topic(id string) string { return "agent/" + id }
