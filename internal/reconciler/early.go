package reconciler

import (
	"context"
	"time"

	"agento.host/agento/internal/agent"
)

// early ends the gateway of an agent that should not run any more beside the step that is
// running. That step was told to end, but may be busy with the agent's files, and then
// the agent would decide how long it takes.
type early struct {
	generation int64
	cancel     func()
	ended      chan struct{} // closed when it does nothing any more
}

// endEarly ends a's gateway in a goroutine of its own, if a should not run any more. The
// next step waits for that, and does the rest. The caller holds mu.
func (r *Reconciler) endEarly(ctx context.Context, l *loop, a agent.Agent) {
	if l.early != nil || a.Damage != "" || a.Place == "" || a.DesiredState == agent.DesiredRunning {
		return
	}
	var grace time.Duration // none for a deletion
	if a.DesiredState == agent.DesiredStopped {
		grace = r.timing.StopGrace
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &early{generation: a.Generation, cancel: cancel, ended: make(chan struct{})}
	l.early = e
	r.running.Go(func() {
		defer close(e.ended)
		defer cancel()
		err := r.checkLease(ctx, a)
		if err == nil {
			err = r.driver.Stop(ctx, a.Place, a.ID, grace)
		}
		if err != nil && ctx.Err() == nil { // the next step tries again
			r.log.WarnContext(ctx, "ending a gateway at once failed", "agent", a.ID, "error", err)
		}
	})
}

// awaitEarly waits until nothing ends the gateway beside the steps, which might be the
// next gateway then.
func (r *Reconciler) awaitEarly(ctx context.Context, l *loop) {
	r.mu.Lock()
	e := l.early
	r.mu.Unlock()
	if e == nil {
		return
	}
	select {
	case <-e.ended:
	case <-ctx.Done():
		e.cancel() // for a newer generation, or the server stops
		<-e.ended
	}
	r.mu.Lock()
	l.early = nil
	r.mu.Unlock()
}
