package reconciler

import (
	"context"
	"errors"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// asleepInterval is how often the record of an agent that sleeps is read without a reason.
	asleepInterval = 10 * time.Minute
	// sleepRetry is the pause after a suspend that failed; it doubles with each further one, up
	// to maxSleepRetry.
	sleepRetry    = time.Minute
	maxSleepRetry = time.Hour
	// resumeTimeout bounds a wake, after which the gateway is started anew. Source: 0.6-3.5 s,
	// and the deadlines of the driver and of the gateway.
	resumeTimeout = 40 * time.Second
)

// sleepless is what is remembered of an agent whose suspend failed, until it succeeds.
type sleepless struct {
	failures int
	until    time.Time
}

// doze leaves an agent alone that sleeps, until a message wants it.
func (r *Reconciler) doze(ctx context.Context, a agent.Agent, s runtime.State) (next, error) {
	r.admission.leave(a.ID)
	r.admission.keep(a.ID, s.MemoryBytes)
	if a.Power == agent.PowerAsleep {
		return next{after: asleepInterval}, nil
	}
	// The last server was killed before it saved that.
	a.Power = agent.PowerAsleep
	return next{}, r.store.SaveStatus(ctx, a, "agent.slept")
}

// linger returns when the next step of an agent is due whose gateway is healthy. It suspends the
// gateway if the agent was not used for a while.
func (r *Reconciler) linger(ctx context.Context, a agent.Agent) (next, error) {
	rest := next{after: r.timing.HealthInterval, place: a.Place}
	if r.timing.Linger == 0 {
		return rest, nil
	}
	last, busy := r.gateways.LastUse(a.ID)
	for _, at := range []time.Time{a.StartedAt, a.Sleep.WokeAt} {
		if at.After(last) {
			last = at
		}
	}
	left := r.timing.Linger - time.Since(last)
	evict := r.takeEviction(a.ID)
	switch {
	case busy || left > 0 && !evict:
		if left > 0 {
			rest.after = min(rest.after, left)
		}
		return rest, nil
	case time.Now().Before(r.sleeplessUntil(a.ID)):
		return rest, nil
	}
	why, err := r.gateways.WhyAwake(ctx, a)
	if err != nil || why != "" {
		return rest, err
	}
	return r.sleep(ctx, a, rest)
}

// sleep suspends the gateway of an idle agent. rest is the next step if that is not possible.
func (r *Reconciler) sleep(ctx context.Context, a agent.Agent, rest next) (next, error) {
	if err := r.checkLease(ctx, a); err != nil {
		return next{}, err
	}
	began := time.Now()
	err := r.gateways.Suspend(ctx, a, func(suspension string) error {
		a.Sleep.Suspension = suspension
		return r.store.SaveStatus(ctx, a, "")
	}, func() error {
		a.Power = agent.PowerAsleep
		return r.store.SaveStatus(context.WithoutCancel(ctx), a, "agent.slept")
	})
	switch {
	case err == nil:
		r.sleptWell(a.ID)
		r.log.InfoContext(ctx, "an agent sleeps", "agent", a.ID, "seconds", time.Since(began).Seconds())
		return next{}, nil
	case errors.Is(err, agent.ErrOutdated) || ctx.Err() != nil:
		return next{}, err
	case errors.Is(err, gateway.ErrBusy):
		rest.after = min(rest.after, r.timing.Linger)
		return rest, nil
	}
	if failures := r.sleptBadly(a.ID); failures == 1 {
		r.log.WarnContext(ctx, "an agent could not be suspended and stays awake", "agent", a.ID, "error", err)
	}
	return next{}, nil // looks whether the gateway runs
}

// wake wakes an agent for a message. Whatever fails on the way is no failure of the agent: the
// gateway is started anew then.
func (r *Reconciler) wake(ctx context.Context, a agent.Agent, s runtime.State) (next, error) {
	began := time.Now()
	if err := r.admit(ctx, &a); err != nil {
		return next{}, err
	}
	r.admission.keep(a.ID, 0)
	if err := r.checkLease(ctx, a); err != nil {
		return next{}, err
	}
	if s.Phase == runtime.Suspended || s.Phase == runtime.Running {
		limited, cancel := context.WithTimeout(ctx, resumeTimeout)
		defer cancel()
		err := r.gateways.Wake(limited, a, s.Phase == runtime.Running)
		if err == nil {
			return r.awake(ctx, a, began)
		}
		if ctx.Err() != nil {
			return next{}, ctx.Err()
		}
		r.log.WarnContext(ctx, "an agent could not be resumed: its gateway is started anew", "agent", a.ID, "error", err)
	}
	return r.boot(ctx, a)
}

// awake saves that an agent is awake.
func (r *Reconciler) awake(ctx context.Context, a agent.Agent, began time.Time) (next, error) {
	a = woken(a, began, time.Now())
	if err := r.store.SaveStatus(ctx, a, "agent.woke"); err != nil {
		return next{}, err
	}
	r.log.InfoContext(ctx, "an agent is awake", "agent", a.ID, "seconds", time.Since(began).Seconds())
	return next{after: r.nextCheck(), place: a.Place}, nil
}

// nextCheck is when a gateway is checked that has just answered.
func (r *Reconciler) nextCheck() time.Duration {
	if r.timing.Linger > 0 {
		return min(r.timing.HealthInterval, r.timing.Linger)
	}
	return r.timing.HealthInterval
}

// woken returns the record of an agent that is awake again. The wake began when a message wanted
// it, which can be a little before the step that woke it.
func woken(a agent.Agent, began, now time.Time) agent.Agent {
	if wanted := a.Sleep.WakeWanted; !wanted.IsZero() && wanted.Before(began) && began.Sub(wanted) < time.Minute {
		began = wanted
	}
	a.Power = agent.PowerAwake
	a.Sleep = agent.Sleep{WokeAt: now.UTC().Truncate(time.Millisecond), WakeTook: now.Sub(began)}
	return a
}

// makeRoom suspends the gateway that was used longest ago and has no turn, if there is one: another
// one has no room.
func (r *Reconciler) makeRoom() {
	if r.timing.Linger == 0 {
		return
	}
	var oldest identity.AgentID
	var at time.Time
	for _, id := range r.admission.occupants() {
		last, busy := r.gateways.LastUse(id)
		if !busy && (oldest == "" || last.Before(at)) {
			oldest, at = id, last
		}
	}
	if oldest == "" {
		return
	}
	r.mu.Lock()
	r.evictions[oldest] = true
	r.mu.Unlock()
	r.events.Notify(event.ReconcileTopic(oldest))
}

// takeEviction reports whether an agent should make room, once.
func (r *Reconciler) takeEviction(id identity.AgentID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := r.evictions[id]
	delete(r.evictions, id)
	return wanted
}

func (r *Reconciler) sleeplessUntil(id identity.AgentID) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sleepless[id].until
}

// sleptBadly counts a suspend that failed, and returns how many have in a row.
func (r *Reconciler) sleptBadly(id identity.AgentID) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sleepless[id]
	s.failures++
	s.until = time.Now().Add(min(sleepRetry<<min(s.failures-1, 10), maxSleepRetry))
	r.sleepless[id] = s
	return s.failures
}

func (r *Reconciler) sleptWell(id identity.AgentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sleepless, id)
}
