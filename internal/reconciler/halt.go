package reconciler

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/runtime"
)

// haltInterval is how often a halt tries to store the desired state.
const haltInterval = time.Second

// halt is a request to stop an agent whose record cannot be written. It is kept in
// memory until record succeeds, or the record has a newer generation.
type halt struct {
	generation int64
	record     func(context.Context) error // stores the desired state
	ended      chan struct{}               // closed when the gateway has ended
	err        error                       // why it has not; read it after ended
}

// StopUnrecorded implements agent.Stopper.
func (r *Reconciler) StopUnrecorded(ctx context.Context, a agent.Agent, record func(context.Context) error) error {
	r.mu.Lock()
	h := r.halts[a.ID]
	if h == nil || h.generation != a.Generation || h.failed() {
		h = &halt{generation: a.Generation, record: record, ended: make(chan struct{})}
		r.halts[a.ID] = h
		if l := r.loops[a.ID]; l != nil {
			l.cancel() // the running step may be starting the gateway
		}
	}
	r.mu.Unlock()
	r.events.Notify(event.ReconcileTopic(a.ID))
	select {
	case <-h.ended:
		return h.err
	case <-ctx.Done():
		return fmt.Errorf("wait until the gateway has ended: %w", ctx.Err())
	}
}

// haltOf returns the halt of an agent, or nil. It drops one that a newer request has
// replaced.
func (r *Reconciler) haltOf(a agent.Agent) *halt {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.halts[a.ID]
	if h != nil && h.generation < a.Generation {
		r.endHalt(a, h, agent.ErrOutdated)
		return nil
	}
	return h
}

// endHalt drops a halt. The caller holds mu.
func (r *Reconciler) endHalt(a agent.Agent, h *halt, err error) {
	if r.halts[a.ID] == h {
		delete(r.halts, a.ID)
	}
	h.answer(err)
}

// answer ends the wait of StopUnrecorded. Only the loop of the agent calls it.
func (h *halt) answer(err error) {
	select {
	case <-h.ended: // it has been answered
	default:
		h.err = err
		close(h.ended)
	}
}

// failed reports whether the gateway could not be ended. The halt goes on trying, and a
// newer one replaces it.
func (h *halt) failed() bool {
	select {
	case <-h.ended:
		return h.err != nil
	default:
		return false
	}
}

// halt stops the gateway of an agent and tries to store that it should be stopped. It
// needs no lease: this process could not renew it in the database, and no other can take
// it. Without a lease the record says what it said before.
func (r *Reconciler) halt(ctx context.Context, a agent.Agent) (next, error) {
	h := r.haltOf(a)
	if h == nil {
		return next{}, nil
	}
	if err := r.endGateway(ctx, a); err != nil {
		if ctx.Err() == nil {
			h.answer(err)
		}
		return next{}, err
	}
	h.answer(nil)
	if err := h.record(ctx); err != nil {
		if _, ok := database.Diagnose(err); ok { // the database has logged it
			return next{after: haltInterval}, nil
		}
		return next{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.endHalt(a, h, nil)
	return next{}, nil
}

// endGateway stops the gateway of an agent. It succeeds if the gateway does not run any
// more, also if the driver cannot remove what belongs to it.
func (r *Reconciler) endGateway(ctx context.Context, a agent.Agent) error {
	if a.Place == "" {
		return nil
	}
	stopErr := r.gateways.Stop(ctx, a, r.timing.StopGrace)
	if stopErr == nil {
		return nil
	}
	state, err := r.inspect(ctx, a)
	if err != nil || state.Phase == runtime.Running {
		return stopErr
	}
	r.log.WarnContext(ctx, "a gateway was stopped, but not all of it could be removed", "agent", a.ID, "error", stopErr)
	return nil
}
