package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/runtime"
)

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

	// Known to the loop's goroutine alone.
	wish     int64         // that the tries below are made for
	failures []time.Time   // of the gateway within the window, oldest first
	unready  time.Duration // spent on boots since the gateway was ready last
	notYet   time.Time     // when it may be booted again
	unwell   int           // health checks missed in a row
	errors   int           // steps in a row that could not be finished
}

// next says when a loop looks at its agent again; the zero next is at once.
type next struct {
	after time.Duration
	place string // if not empty, the end of the gateway there is a reason to look too
	rest  bool   // only when woken
}

var (
	// errNewer says that a newer wish has come, so that the step is over.
	errNewer = errors.New("a newer wish has come")
	// errInterrupted says that a step was cut short and the records must be read anew.
	errInterrupted = errors.New("interrupted")
)

// Run tends every agent until ctx ends, and returns when all loops have. Gateways
// go on running: the next Run adopts them.
func (r *Reconciler) Run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	r.mu.Unlock()
	defer r.body.hangUp() // nothing is left that could call a gateway again
	defer r.all.Wait()
	changes := r.events.SubscribePrefix(event.ReconcilePrefix)
	defer changes.Close()
	defer func() {
		r.mu.Lock()
		r.ctx = nil
		r.mu.Unlock()
	}()
	ids, err := open(ctx, r.db)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list agents to tend: %w", err)
	}
	for _, id := range ids {
		r.Nudge(id)
	}
	r.all.Go(func() { r.followChanges(ctx, changes) })
	sweeps := time.NewTicker(r.timing.Sweep)
	defer sweeps.Stop()
	for {
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "looking for gateways of no agent failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-sweeps.C:
		}
	}
}

// followChanges nudges the agents whose topics are notified, until ctx ends.
func (r *Reconciler) followChanges(ctx context.Context, changes *event.PrefixSubscription) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes.Ready():
			for _, topic := range changes.Take() {
				r.Nudge(topic.ID())
			}
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
		l = &loop{id: id, wake: make(chan struct{}, 1), cancel: func() {}}
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
	for {
		n, err := r.look(ctx, l)
		switch {
		case ctx.Err() != nil:
			r.leave(l)
			return
		case errors.Is(err, errInterrupted):
			continue
		case err != nil:
			l.errors++
			r.log.ErrorContext(ctx, "tending an agent failed", "agent", l.id, "error", err, "tries", l.errors)
			n = next{after: r.timing.backoff(l.errors)}
		default:
			l.errors = 0
		}
		if n.rest {
			if r.rest(l) {
				return
			}
			continue
		}
		r.idle(ctx, l, n)
	}
}

// look makes one step, which Wake can interrupt.
func (r *Reconciler) look(ctx context.Context, l *loop) (next, error) {
	step, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	l.cancel = cancel
	r.mu.Unlock()
	select {
	case <-l.wake: // the step reads what it announced
	default:
	}
	n, err := r.step(step, l)
	if step.Err() != nil || errors.Is(err, errNewer) {
		return n, errInterrupted
	}
	return n, err
}

// idle waits until there is a reason to look again.
func (r *Reconciler) idle(ctx context.Context, l *loop, n next) {
	ctx, stop := context.WithTimeout(ctx, n.after)
	var ended <-chan struct{}
	if n.place != "" {
		ended = r.end(ctx, n.place, l.id)
	}
	select {
	case <-l.wake:
	case <-ended:
	case <-ctx.Done():
	}
	stop()
	if ended != nil {
		<-ended
	}
}

// end returns a channel that closes when the gateway at a place has ended, or ctx.
// Whoever calls it waits for that.
func (r *Reconciler) end(ctx context.Context, place, id string) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if w, can := r.driver.(runtime.Watcher); can && w.Watch(ctx, place, id) == nil {
			return
		}
		r.poll(ctx, place, id)
	}()
	return ended
}

// pollTime is how often a gateway is looked at whose driver cannot watch it.
const pollTime = 2 * time.Second

func (r *Reconciler) poll(ctx context.Context, place, id string) {
	again := time.NewTicker(pollTime)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		if state, err := r.driver.Inspect(ctx, place, id); err == nil && state.Phase != runtime.Running {
			return
		}
	}
}

// rest ends a loop that has nothing more to wait for, unless it was woken just now.
func (r *Reconciler) rest(l *loop) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.wake) > 0 {
		return false
	}
	delete(r.loops, l.id)
	return true
}

func (r *Reconciler) leave(l *loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.loops, l.id)
}
