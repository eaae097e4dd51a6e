package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
	"agento.host/agento/internal/runtime"
)

const (
	// asleepInterval is how often the record of an agent that sleeps is read without a reason,
	// and compactionInterval while the size of its checkpoint changes: drivers compress
	// checkpoints after a minute.
	asleepInterval     = 10 * time.Minute
	compactionInterval = 90 * time.Second
	// resumeTimeout bounds a wake, after which the gateway is started anew. Source: 0.6-3.5 s,
	// and the deadlines of the driver and of the gateway.
	resumeTimeout = 40 * time.Second
)

// doze leaves an agent alone that sleeps, until a message wants it. It removes the agent's
// checkpoint, or ends its frozen processes, if another one needs the room.
func (r *Reconciler) doze(ctx context.Context, a agent.Agent, s runtime.State) (next, error) {
	frozen := s.Phase == runtime.Frozen
	if !s.Sleeps() {
		s.MemoryBytes = 0
	}
	changed := r.admission.sleeps(a.ID, s.MemoryBytes, frozen)
	r.keepBudget()
	power := agent.PowerAsleep
	if frozen {
		power = agent.PowerFrozen
	}
	if a.Power != power || a.ObservedGeneration != a.Generation || a.ErrorCategory == agent.CategoryCapacity {
		return next{}, r.saveAsleep(ctx, a, power)
	}
	r.asleep(a)
	if r.takeEviction(a.ID) && s.MemoryBytes > 0 {
		r.log.InfoContext(ctx, "an agent that sleeps makes room: its next message starts its gateway anew", "agent", a.ID)
		return next{}, r.stopGateway(ctx, a)
	}
	rest := asleepInterval
	if changed && !frozen {
		rest = compactionInterval
	}
	if wake := a.NextWake(); !wake.IsZero() {
		rest = min(rest, time.Until(wake))
	}
	return next{after: rest}, nil
}

// saveAsleep saves how an agent sleeps, which the last server may not have done.
func (r *Reconciler) saveAsleep(ctx context.Context, a agent.Agent, power agent.Power) error {
	event := ""
	if !a.IsAsleep() {
		event = "agent.slept"
	}
	if a.ErrorCategory == agent.CategoryCapacity { // it waits for no room any more
		a.LastError, a.ErrorCategory = "", ""
	}
	a.Power, a.ObservedGeneration = power, a.Generation
	return r.store.SaveStatus(ctx, a, event)
}

// sleepOn lets an agent sleep on which nobody wants awake any more.
func (r *Reconciler) sleepOn(ctx context.Context, a agent.Agent) (next, error) {
	return next{}, r.saveAsleep(ctx, a, a.Power)
}

// bootsForWake reports whether a message wakes the agent by a new gateway, which boots.
func bootsForWake(a agent.Agent) bool { return a.IsAsleep() && a.Sleep.Suspension == "" }

// linger returns when the next step of an agent is due whose gateway is healthy. It suspends the
// gateway if the agent was not used for a while.
func (r *Reconciler) linger(ctx context.Context, a agent.Agent) (next, error) {
	rest := next{after: r.timing.HealthInterval, place: a.Place}
	if r.timing.Linger == 0 {
		return rest, nil
	}
	g, policy, now := r.useOf(a), r.policy(), time.Now()
	if !policy.IsDue(g, r.takeEviction(a.ID), now) {
		if left := policy.Left(g, now); left > 0 {
			rest.after = min(rest.after, left)
		}
		return rest, nil
	}
	why, err := r.gateways.WhyAwake(ctx, a)
	if err != nil {
		return rest, err
	}
	if why != "" {
		r.changeUse(a.ID, func(g *power.Gateway) { g.KeepAwake = true })
		return rest, nil
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
	}, func(power agent.Power) error {
		a.Power = power
		return r.store.SaveStatus(context.WithoutCancel(ctx), a, "agent.slept")
	})
	ended := func(result SleepResult) { r.slept(Sleep{Agent: a.ID, Result: result, Took: time.Since(began)}) }
	switch {
	case err == nil:
		ended(SleepDone)
		r.forgetUse(a.ID)
		r.log.InfoContext(ctx, "an agent sleeps", "agent", a.ID, "power", a.Power, "seconds", time.Since(began).Seconds())
		return next{}, nil
	case errors.Is(err, agent.ErrOutdated) || ctx.Err() != nil:
		return next{}, err
	case errors.Is(err, gateway.ErrBusy):
		ended(SleepBusy)
		rest.after = min(rest.after, r.timing.Linger)
		return rest, nil
	}
	ended(SleepFailed)
	failed := r.changeUse(a.ID, func(g *power.Gateway) { g.Failures, g.Failed = g.Failures+1, time.Now() })
	if failed.Failures == 1 {
		r.log.WarnContext(ctx, "an agent could not be suspended and stays awake", "agent", a.ID, "error", err)
	}
	return next{}, nil // looks whether the gateway runs
}

// wake wakes an agent for a message. Whatever fails on the way is no failure of the agent: the
// gateway is started anew then.
func (r *Reconciler) wake(ctx context.Context, a agent.Agent, s runtime.State) (next, error) {
	began := time.Now()
	r.takeEviction(a.ID) // it was used longest ago no more
	a.ObservedGeneration = a.Generation
	if err := r.admitWake(ctx, &a, s); errors.Is(err, errWithdrawn) {
		return r.sleepOn(ctx, a)
	} else if err != nil {
		return next{}, err
	}
	r.admission.resumed(a.ID)
	r.keepBudget()
	if err := r.checkLease(ctx, a); err != nil {
		return next{}, err
	}
	if s.Sleeps() || s.Phase == runtime.Running {
		limited, cancel := context.WithTimeout(ctx, resumeTimeout)
		defer cancel()
		err := r.gateways.Wake(limited, a, s.Phase)
		if err == nil {
			return r.awake(ctx, a, began, s.Phase)
		}
		if ctx.Err() != nil {
			return next{}, ctx.Err()
		}
		r.log.WarnContext(ctx, "an agent could not be resumed: its gateway is started anew", "agent", a.ID, "error", err)
	}
	return r.boot(ctx, a)
}

// admitWake waits until there is room for the gateway of an agent that is to wake. One that runs
// has room. Errors: errWithdrawn.
func (r *Reconciler) admitWake(ctx context.Context, a *agent.Agent, s runtime.State) error {
	if s.Phase == runtime.Running {
		r.admission.occupy(a.ID, r.expect(s.MemoryBytes))
		return r.waited(ctx, a)
	}
	return r.admit(ctx, a)
}

// awake saves that an agent is awake whose gateway was in a phase.
func (r *Reconciler) awake(ctx context.Context, a agent.Agent, began time.Time, phase runtime.Phase) (next, error) {
	kind := WakeFromCheckpoint
	if phase == runtime.Frozen || phase == runtime.Running && a.Power == agent.PowerFrozen {
		kind = WakeFromFreeze
	}
	a = woken(a, began, time.Now())
	now, err := r.store.FindByID(ctx, r.db, a.ID)
	if err != nil {
		return next{}, fmt.Errorf("read agent: %w", err)
	}
	a.SpecDigest = now.SpecDigest // it has got its secrets
	if err := r.store.SaveStatus(ctx, a, "agent.woke"); err != nil {
		return next{}, err
	}
	r.woke(Wake{Agent: a.ID, Kind: kind, Took: a.Sleep.WakeTook})
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
	a.Sleep = agent.Sleep{WokeAt: now.UTC().Truncate(time.Millisecond), WakeTook: now.Sub(began), Wakes: a.Sleep.Wakes + 1}
	return a
}

// policy decides what sleeps.
func (r *Reconciler) policy() power.Policy { return power.Policy{Linger: r.timing.Linger} }

// useOf returns what the policy wants to know of the gateway of an agent, and remembers it for
// makeRoom. What keeps the gateway awake is asked for anew.
func (r *Reconciler) useOf(a agent.Agent) power.Gateway {
	return r.inUse(r.changeUse(a.ID, func(g *power.Gateway) {
		g.ID, g.Used, g.KeepAwake = a.ID, latest(a.StartedAt, a.Sleep.WokeAt), false
	}))
}

// inUse adds the turns of a gateway to what is known of it.
func (r *Reconciler) inUse(g power.Gateway) power.Gateway {
	last, busy := r.gateways.LastUse(g.ID)
	if !g.Used.IsZero() {
		g.Used = latest(g.Used, last)
	}
	g.Busy = busy
	return g
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// makeRoom makes room for the gateway of an agent that waits for bytes, as far as it can: it tells
// the agents that the policy names.
func (r *Reconciler) makeRoom(id identity.AgentID, bytes int64) {
	missing, rooms, kept, frees := r.admission.missing(id, bytes)
	delete(kept, id)
	r.mu.Lock()
	known := maps.Clone(r.uses)
	r.mu.Unlock()
	var awake []power.Gateway
	for id, room := range rooms {
		g, ok := known[id]
		if !ok {
			continue // it boots
		}
		g = r.inUse(g)
		g.Frees = int64(frees * float64(room))
		awake = append(awake, g)
	}
	suspend, giveUp := r.policy().MakeRoom(missing, awake, r.checkpoints(kept), time.Now())
	r.evict(suspend)
	r.evict(giveUp)
}

// keepBudget gives checkpoints up if they and the gateways use too much: one gateway always gets
// room, and its checkpoint can be the one that does not fit.
func (r *Reconciler) keepBudget() {
	if r.admission.memory == 0 {
		return
	}
	over, _, kept, _ := r.admission.missing("", 0)
	r.evict(power.GiveUp(over, r.checkpoints(kept)))
}

// checkpoints returns what the policy wants to know of checkpoints.
func (r *Reconciler) checkpoints(kept map[identity.AgentID]int64) (asleep []power.Checkpoint) {
	for id, bytes := range kept {
		last, _ := r.gateways.LastUse(id)
		asleep = append(asleep, power.Checkpoint{ID: id, Used: last, Bytes: bytes})
	}
	return asleep
}

// evict tells agents that they should make room.
func (r *Reconciler) evict(ids []identity.AgentID) {
	for _, id := range ids {
		r.mu.Lock()
		r.evictions[id] = true
		r.mu.Unlock()
		r.events.Notify(event.ReconcileTopic(id))
	}
}

// takeEviction reports whether an agent should make room, once.
func (r *Reconciler) takeEviction(id identity.AgentID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := r.evictions[id]
	delete(r.evictions, id)
	return wanted
}

// changeUse changes what is known of a gateway.
func (r *Reconciler) changeUse(id identity.AgentID, change func(*power.Gateway)) power.Gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.uses[id]
	change(&g)
	r.uses[id] = g
	return g
}

// forgetUse drops what is known of a gateway that is suspended or gone.
func (r *Reconciler) forgetUse(id identity.AgentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.uses, id)
}
