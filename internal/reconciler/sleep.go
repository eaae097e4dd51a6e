package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	// moveInterval is the pause between two looks at a checkpoint that moves to the disk. Source: a
	// move takes 1 to 3 s.
	moveInterval = time.Second / 2
	// tellInterval is the pause before an agent is told again to make room.
	tellInterval = 2 * time.Second
	// messageTime is how long the message that a gateway was woken for takes at most until it has it, on a
	// busy machine. Source: 20 ms.
	messageTime = 5 * time.Second
	// diskInterval is the pause between two looks at the disk of checkpoints. Source: what they leave
	// free lasts so long while an agent fills the disk.
	diskInterval = 5 * time.Second
)

// eviction is what an agent is told that should make room.
type eviction int

const (
	leaveMemory eviction = iota + 1 // suspend the gateway, or move its checkpoint to the disk
	leaveDisk                       // give up the checkpoint that is there
)

// doze leaves an agent alone that sleeps, until a message wants it. Its checkpoint moves to the disk
// when it was not used for a while, or at once if another agent needs the memory, and is given up
// if there is no room for it; its frozen processes end if another one needs the memory.
func (r *Reconciler) doze(ctx context.Context, a agent.Agent, s runtime.State) (next, error) {
	var k power.Kept
	if s.Sleeps() {
		k = power.Kept{Bytes: s.MemoryBytes, Frozen: s.Phase == runtime.Frozen, Wake: s.ExtraBytes, Stored: s.StoredBytes}
	}
	changed := false
	if r.isHere(a) {
		changed = r.admission.sleeps(a.ID, k, latest(a.StartedAt, a.Sleep.WokeAt))
		r.keepRoom()
	} else {
		r.occupy(a, s.MemoryBytes)
	}
	sleeps := agent.PowerAsleep
	if k.Frozen {
		sleeps = agent.PowerFrozen
	}
	if a.Power != sleeps || a.ObservedGeneration != a.Generation || a.ErrorCategory == agent.CategoryCapacity {
		return next{}, r.saveAsleep(ctx, a, sleeps)
	}
	r.asleep(a)
	rest := next{after: asleepInterval}
	if !k.Frozen && (changed || k.Wake < k.Bytes) {
		rest.after = compactionInterval
	}
	if wake := a.NextWake(); !wake.IsZero() {
		rest.after = min(rest.after, time.Until(wake))
	}
	return r.keepOrMove(ctx, a, k, rest)
}

// keepOrMove leaves what an agent takes that sleeps where it is, or makes it take less. rest is the
// next step if nothing is to be done.
func (r *Reconciler) keepOrMove(ctx context.Context, a agent.Agent, k power.Kept, rest next) (next, error) {
	c, wanted := r.lastUsed(checkpointOf(a.ID, k, latest(a.StartedAt, a.Sleep.WokeAt))), r.takeEviction(a.ID)
	moveIn := r.policy().MoveIn(c, time.Now())
	if c.Stored > 0 || c.Bytes == 0 {
		r.setMoving(a.ID, false)
	}
	switch {
	case c.Bytes == 0 && c.Stored == 0 || c.Stored > 0 && wanted != leaveDisk || k.Frozen && wanted != leaveMemory:
		return rest, nil
	case c.Stored > 0 || k.Frozen:
		return next{}, r.giveUp(ctx, a)
	case wanted != leaveMemory && moveIn > 0 && !r.isMoving(a.ID):
		return next{after: min(rest.after, moveIn)}, nil
	}
	moves, err := r.moveToDisk(ctx, a, c)
	switch {
	case err != nil:
		return next{}, err
	case moves:
		return next{after: moveInterval}, nil
	case wanted == leaveMemory:
		return next{}, r.giveUp(ctx, a)
	}
	return rest, nil
}

// giveUp removes the checkpoint of an agent, or ends its frozen processes. The agent sleeps on.
func (r *Reconciler) giveUp(ctx context.Context, a agent.Agent) error {
	r.log.InfoContext(ctx, "an agent that sleeps makes room: its next message starts its gateway anew", "agent", a.ID)
	return r.stopGateway(ctx, a)
}

// moveToDisk moves a checkpoint to the disk. It returns true if that is under way, or begins when
// others there have made room.
func (r *Reconciler) moveToDisk(ctx context.Context, a agent.Agent, c power.Checkpoint) (bool, error) {
	d, ok := r.driver.(runtime.Suspender)
	if !ok {
		return false, nil
	}
	if !r.isMoving(a.ID) { // one that is under way ends, even if there is no room any more
		room, err := d.DiskRoom(ctx)
		if err != nil {
			return false, err
		}
		giveUp, ok := power.Store(c, room, r.checkpoints())
		if !ok || len(giveUp) > 0 {
			r.evict(giveUp, leaveDisk)
			return ok, nil
		}
	}
	err := d.MoveToDisk(ctx, a.Place, a.ID)
	r.setMoving(a.ID, err == nil)
	switch {
	case errors.Is(err, runtime.ErrNoDiskRoom), errors.Is(err, runtime.ErrNoCheckpoint):
		return false, nil
	case err != nil && ctx.Err() == nil:
		r.log.WarnContext(ctx, "the checkpoint of an agent cannot be moved to the disk", "agent", a.ID, "error", err)
		return false, nil
	}
	return err == nil, err
}

// isMoving reports whether the move of an agent's checkpoint to the disk has begun, and is not known to
// have ended.
func (r *Reconciler) isMoving(id identity.AgentID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.moves[id]
}

func (r *Reconciler) setMoving(id identity.AgentID, moving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if moving {
		r.moves[id] = true
	} else {
		delete(r.moves, id)
	}
}

// keepDiskRegularly gives checkpoints on the disk up when they use too much of it, or others do,
// until ctx ends.
func (r *Reconciler) keepDiskRegularly(ctx context.Context) {
	d, ok := r.driver.(runtime.Suspender)
	if !ok {
		return
	}
	ticks := time.NewTicker(diskInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		room, err := d.DiskRoom(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "looking for the room of checkpoints failed", "error", err)
			}
			continue
		}
		r.evict(power.GiveUp(-room, r.checkpoints()), leaveDisk)
	}
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
	if !policy.IsDue(g, r.takeEviction(a.ID) == leaveMemory, now) {
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
	end, missing, ok := func() {}, int64(0), true
	if r.isHere(a) {
		end, missing, ok = r.admission.beginSuspend(a.ID)
	}
	if !ok {
		r.evict(power.Leave(missing, r.checkpoints()), leaveMemory)
		r.mu.Lock()
		r.evictions[a.ID] = leaveMemory // for the next step, whether or not the gateway lingers
		r.mu.Unlock()
		rest.after = min(rest.after, roomInterval)
		return rest, nil
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
	case err == nil: // the next step counts the checkpoint
		ended(SleepDone)
		r.forgetUse(a.ID)
		r.takeEviction(a.ID) // it has made room
		r.log.InfoContext(ctx, "an agent sleeps", "agent", a.ID, "power", a.Power, "seconds", time.Since(began).Seconds())
		return next{}, nil
	case errors.Is(err, agent.ErrOutdated) || ctx.Err() != nil:
		end()
		return next{}, err
	case errors.Is(err, gateway.ErrBusy):
		end()
		ended(SleepBusy)
		rest.after = min(rest.after, r.timing.Linger)
		return rest, nil
	}
	end()
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
	r.setMoving(a.ID, false)
	a.ObservedGeneration = a.Generation
	if err := r.admitWake(ctx, &a, s); errors.Is(err, errWithdrawn) {
		return r.sleepOn(ctx, a)
	} else if err != nil {
		return next{}, err
	}
	if err := r.checkLease(ctx, a); err != nil {
		return next{}, err
	}
	deleted := func() {}
	if r.isHere(a) {
		deleted = r.admission.resumed(a.ID)
		r.keepRoom()
	}
	if s.Sleeps() || s.Phase == runtime.Running {
		limited, cancel := context.WithTimeout(ctx, resumeTimeout)
		defer cancel()
		err := r.gateways.Wake(limited, a, s.Phase)
		r.running.Go(func() { r.awaitDiscard(ctx, a.ID, deleted) })
		if err == nil {
			return r.awake(ctx, a, began, s.Phase)
		}
		if ctx.Err() != nil {
			return next{}, ctx.Err()
		}
		r.log.WarnContext(ctx, "an agent could not be resumed: its gateway is started anew", "agent", a.ID, "error", err)
	} else {
		deleted()
	}
	return r.boot(ctx, a)
}

// awaitDiscard calls deleted when the checkpoint of an agent that was woken takes no memory any more.
func (r *Reconciler) awaitDiscard(ctx context.Context, id identity.AgentID, deleted func()) {
	defer deleted()
	if d, ok := r.driver.(runtime.Suspender); ok {
		// The step that has woken it ends before the files are deleted.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTimeout)
		defer cancel()
		if err := d.AwaitDiscard(limited, id); err != nil {
			r.log.WarnContext(ctx, "a checkpoint that was used is not deleted yet", "agent", id, "error", err)
		}
	}
}

// admitWake waits until there is room for the gateway of an agent that is to wake. One that runs
// has room. Errors: errWithdrawn.
func (r *Reconciler) admitWake(ctx context.Context, a *agent.Agent, s runtime.State) error {
	if s.Phase == runtime.Running {
		r.occupy(*a, s.MemoryBytes)
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
	r.useOf(a) // it makes room for others as soon as it has answered
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
func (r *Reconciler) policy() power.Policy {
	return power.Policy{Linger: r.timing.Linger, DiskAfter: r.timing.DiskAfter}
}

// useOf returns what the policy wants to know of the gateway of an agent, and remembers it for
// makeRoom. What keeps the gateway awake is asked for anew.
func (r *Reconciler) useOf(a agent.Agent) power.Gateway {
	return r.inUse(r.changeUse(a.ID, func(g *power.Gateway) {
		g.ID, g.Used, g.Woke, g.KeepAwake = a.ID, latest(a.StartedAt, a.Sleep.WokeAt), a.Sleep.WokeAt, false
	}))
}

// inUse adds the turns of a gateway to what is known of it.
func (r *Reconciler) inUse(g power.Gateway) power.Gateway {
	last, busy := r.gateways.LastUse(g.ID)
	if !g.Used.IsZero() {
		g.Used = latest(g.Used, last)
	}
	g.Busy = busy || last.Before(g.Woke) && time.Since(g.Woke) < messageTime
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
	missing, waiting := r.admission.missingForMany(id, bytes)
	if !r.free(missing, waiting) { // those of others that wait are all that there is
		r.free(r.admission.missing(id, bytes), map[identity.AgentID]bool{id: true})
	}
}

// free frees memory, as far as it can, but that of some agents. It reports whether there is some.
func (r *Reconciler) free(missing int64, but map[identity.AgentID]bool) bool {
	asleep := slices.DeleteFunc(r.checkpoints(), func(c power.Checkpoint) bool { return but[c.ID] })
	suspend, leave := r.policy().MakeRoom(missing, r.awakeGateways(), asleep, time.Now())
	r.evict(suspend, leaveMemory)
	r.evict(leave, leaveMemory)
	return len(suspend)+len(leave) > 0
}

// awakeGateways returns what the policy wants to know of gateways that do not boot.
func (r *Reconciler) awakeGateways() (all []power.Gateway) {
	rooms := r.admission.gateways()
	r.mu.Lock()
	known := maps.Clone(r.uses)
	r.mu.Unlock()
	for id, frees := range rooms {
		if g, ok := known[id]; ok {
			g = r.inUse(g)
			g.Frees = frees
			all = append(all, g)
		}
	}
	return all
}

// keepRoom makes checkpoints leave the memory if they and the gateways use too much: one gateway
// always gets room, and its checkpoint can be the one that does not fit. And it makes room for the
// next wake, so that this need not wait.
func (r *Reconciler) keepRoom() {
	if r.timing.Linger == 0 || r.admission.unlimited() {
		return
	}
	if over := r.admission.missing("", 0); over > 0 {
		r.evict(power.Leave(over, r.checkpoints()), leaveMemory)
		return
	}
	if missing := r.admission.missingSpare(); missing > 0 {
		r.free(missing, r.admission.waiting())
	}
}

// checkpoints returns what the policy wants to know of checkpoints.
func (r *Reconciler) checkpoints() []power.Checkpoint {
	all := r.admission.checkpoints()
	for i, c := range all {
		all[i] = r.lastUsed(c)
	}
	return all
}

// lastUsed adds the turns of a gateway to what is known of its checkpoint.
func (r *Reconciler) lastUsed(c power.Checkpoint) power.Checkpoint {
	last, _ := r.gateways.LastUse(c.ID)
	c.Used = latest(c.Used, last)
	return c
}

// evict tells agents that they should make room. What they were just told they are about to do.
func (r *Reconciler) evict(ids []identity.AgentID, e eviction) {
	for _, id := range ids {
		if r.tellEviction(id, e) {
			r.events.Notify(event.ReconcileTopic(id))
		}
	}
}

func (r *Reconciler) tellEviction(id identity.AgentID, e eviction) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.told[id]; last.eviction == e && time.Since(last.at) < tellInterval {
		return false
	}
	r.evictions[id], r.told[id] = e, telling{e, time.Now()}
	return true
}

// telling is when an agent was told last to make room.
type telling struct {
	eviction eviction
	at       time.Time
}

// takeEviction returns how an agent should make room, once; 0: it need not.
func (r *Reconciler) takeEviction(id identity.AgentID) eviction {
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
	delete(r.told, id)
	delete(r.moves, id)
}
