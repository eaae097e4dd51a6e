package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/power"
	"agento.host/agento/internal/runtime"
)

// maxMissed is how many health checks in a row a gateway may miss before it counts as
// dead: on a busy machine single ones are late.
const maxMissed = 4

func (r *Reconciler) inspect(ctx context.Context, a agent.Agent) (runtime.State, error) {
	if a.Place == "" {
		return runtime.State{Phase: runtime.Gone}, nil
	}
	state, err := r.driver.Inspect(ctx, a.Place, a.ID)
	if err != nil {
		return state, fmt.Errorf("inspect gateway: %w", err)
	}
	return state, nil
}

// checkHealth syncs the home of an agent whose gateway runs, and checks that the
// gateway answers.
func (r *Reconciler) checkHealth(ctx context.Context, a agent.Agent) (next, error) {
	adopted, attachErr := r.attach(ctx, a)
	if adopted || a.Sleep.Suspension != "" {
		if err := r.gateways.EndSuspension(ctx, a); err == nil && a.Sleep.Suspension != "" {
			a.Sleep.Suspension = ""
			return next{}, r.store.SaveStatus(ctx, a, "")
		}
	}
	err := r.gateways.SyncHome(ctx, a.ID)
	if f := (failure{}); errors.As(specFailure(err), &f) {
		return r.failed(ctx, a, f)
	}
	if err != nil && ctx.Err() == nil {
		r.log.ErrorContext(ctx, "syncing an agent's home failed", "agent", a.ID, "error", err)
	}
	g, err := r.gateways.Client(ctx, a)
	if err != nil {
		return next{}, err
	}
	missed := a.Retry.MissedHealthChecks
	switch err := errors.Join(attachErr, g.Alive(ctx)); {
	case ctx.Err() != nil:
		return next{}, ctx.Err()
	case err == nil:
		a.Retry.MissedHealthChecks = 0
	default:
		a.Retry.MissedHealthChecks++
	}
	if a.Retry.MissedHealthChecks != missed {
		if err := r.store.SaveMissedHealthChecks(ctx, a); err != nil {
			return next{}, err
		}
	}
	if a.Retry.MissedHealthChecks == 0 {
		return r.linger(ctx, a)
	}
	if a.Retry.MissedHealthChecks < maxMissed {
		return next{after: r.timing.HealthInterval, place: a.Place}, nil
	}
	text := "The agent's gateway runs but no longer answers."
	return r.failed(ctx, a, failure{category: agent.CategoryRuntime, text: text, logs: r.logTail(ctx, a)})
}

// attach opens the network of a gateway, which is open already unless this server has
// adopted the gateway, which it reports.
func (r *Reconciler) attach(ctx context.Context, a agent.Agent) (adopted bool, err error) {
	opened, err := r.gateways.Attach(ctx, a)
	if opened {
		r.log.InfoContext(ctx, "a gateway that ran was adopted", "agent", a.ID, "place", a.Place)
	}
	if err != nil && ctx.Err() == nil {
		r.log.ErrorContext(ctx, "an agent cannot reach the server", "agent", a.ID, "error", err)
	}
	return opened, err
}

// boot starts a new gateway and waits until it is ready. The old one is stopped before
// the boot takes a slot: it may take long to end.
func (r *Reconciler) boot(ctx context.Context, a agent.Agent) (next, error) {
	if err := r.saveStarting(ctx, &a); err != nil {
		return next{}, err
	}
	r.changeUse(a.ID, func(g *power.Gateway) { g.Used = time.Time{} }) // it makes no room for others
	if err := r.admit(ctx, &a); err != nil {
		return next{}, err
	}
	began := time.Now()
	if err := r.stopOld(ctx, a); err != nil {
		return r.finishBoot(ctx, a, began, err)
	}
	release, err := r.takeSlot(ctx, &a)
	if errors.Is(err, errWithdrawn) {
		return r.sleepOn(ctx, a)
	}
	if err != nil {
		return next{}, err
	}
	defer release()
	began = time.Now()
	err = r.startGateway(ctx, &a)
	if err == nil {
		err = r.awaitReady(ctx, a)
	}
	release()
	return r.finishBoot(ctx, a, began, err)
}

// saveStarting sets and saves the status starting, if the status does not say so yet. An agent that
// a message wakes stays running.
func (r *Reconciler) saveStarting(ctx context.Context, a *agent.Agent) error {
	if isBooting(*a) || a.IsAsleep() && a.ObservedGeneration == a.Generation {
		return nil
	}
	a.Power = agent.PowerAwake
	a.Status, a.LastError, a.ErrorCategory = client.Starting, "", "" // the error was that of an earlier request
	return r.store.SaveStatus(ctx, *a, "")
}

// stopOld stops the gateway that the next one replaces.
func (r *Reconciler) stopOld(ctx context.Context, a agent.Agent) error {
	if a.Place == "" {
		return nil
	}
	err := r.stopGateway(ctx, a)
	if err == nil || errors.Is(err, agent.ErrOutdated) {
		return err
	}
	return asFailure(err)
}

// startGateway starts a new gateway. It saves the place before the start: after a crash
// between the two the record knows where a gateway may run.
func (r *Reconciler) startGateway(ctx context.Context, a *agent.Agent) error {
	if err := r.gateways.RaiseTokens(ctx, *a); err != nil {
		return err
	}
	spec, digest, err := r.gateways.Spec(ctx, *a)
	if err != nil {
		return specFailure(err)
	}
	a.Server = cmp.Or(a.Server, r.server)
	if r.pool != nil {
		spec.Server = a.Server
	}
	if a.Place, err = r.driver.Place(ctx, spec); err != nil {
		return asFailure(err)
	}
	a.GatewayGeneration, a.SpecDigest, a.Sleep.Suspension = a.Generation, digest, ""
	if err := r.store.SaveStatus(ctx, *a, "agent.placed"); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "a gateway was placed", "agent", a.ID, "account", a.AccountID, "place", a.Place)
	if err := r.gateways.Prepare(ctx, *a); err != nil {
		return asFailure(err)
	}
	if err := r.checkLease(ctx, *a); err != nil {
		return err
	}
	if err := r.gateways.Start(ctx, *a, spec); err != nil {
		return asFailure(err)
	}
	r.log.InfoContext(ctx, "a gateway boots", "agent", a.ID)
	return nil
}

// awaitReady waits until a's gateway answers. It returns a failure if the gateway ends,
// makes no progress for Timing.StallTimeout, or is not ready within Timing.ReadyTimeout.
func (r *Reconciler) awaitReady(ctx context.Context, a agent.Agent) error {
	g, err := r.gateways.Client(ctx, a)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, r.timing.ReadyTimeout)
	defer cancel()
	ended := r.watch(limited, a.Place, a.ID)
	stalled := make(chan bool, 1)
	go func() { stalled <- r.awaitStall(limited, a) }()
	answered := make(chan error, 1)
	go func() { answered <- g.Ready(limited) }()
	isStalled := false
	select {
	case err = <-answered:
		cancel()
		<-stalled
	case <-ended:
		cancel()
		err = <-answered
		<-stalled
	case isStalled = <-stalled:
		cancel()
		err = <-answered
	}
	<-ended
	if err == nil || ctx.Err() != nil {
		return err
	}
	return r.diagnoseNotReady(ctx, a, isStalled, err)
}

// minProgress is the CPU time within Timing.StallTimeout that shows that a gateway boots.
// Source: a boot burns 10 s and more; one that waits for a file that never comes burns
// nothing.
const minProgress = 20 * time.Millisecond

// awaitStall returns true when a's gateway has made no progress for Timing.StallTimeout: it
// has used no CPU time and written nothing to its log. It returns false when ctx ends.
func (r *Reconciler) awaitStall(ctx context.Context, a agent.Agent) bool {
	ticks := time.NewTicker(r.timing.StallTimeout / 10)
	defer ticks.Stop()
	var last runtime.State
	progress := time.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-ticks.C:
		}
		now, err := r.driver.Inspect(ctx, a.Place, a.ID)
		if ctx.Err() != nil {
			return false
		}
		if err != nil || (now.CPU-last.CPU).Abs() >= minProgress || !now.LoggedAt.Equal(last.LoggedAt) {
			last, progress = now, time.Now()
		}
		if time.Since(progress) >= r.timing.StallTimeout {
			return true
		}
	}
}

// finishBoot saves the outcome of a boot.
func (r *Reconciler) finishBoot(ctx context.Context, a agent.Agent, began time.Time, err error) (next, error) {
	var f failure
	switch {
	case errors.As(err, &f):
		r.booted(Boot{Agent: a.ID, Took: time.Since(began)})
		a.Retry.Unready += time.Since(began)
		return r.failed(ctx, a, f)
	case err != nil:
		return next{}, err
	}
	a.Status, a.ObservedGeneration, a.StartedAt, a.StoppedAt, a.LastError, a.ErrorCategory = client.Running, a.Generation, now(), time.Time{}, "", ""
	a.Retry.Unready, a.Retry.MissedHealthChecks, a.Retry.NextTryAt = 0, 0, time.Time{}
	cold := !a.Sleep.WakeWanted.IsZero() // a message waits for it
	if cold {
		a = woken(a, began, time.Now())
	}
	a.Power, a.Sleep.Suspension = agent.PowerAwake, ""
	if err := r.store.SaveStatus(ctx, a, "agent.started"); err != nil {
		return next{}, err
	}
	if cold {
		r.woke(Wake{Agent: a.ID, Kind: WakeCold, Took: a.Sleep.WakeTook})
	}
	r.log.InfoContext(ctx, "a gateway is ready", "agent", a.ID, "seconds", math.Round(time.Since(began).Seconds()*10)/10)
	r.booted(Boot{Agent: a.ID, Ready: true, Took: time.Since(began)})
	return r.checkHealth(ctx, a)
}
