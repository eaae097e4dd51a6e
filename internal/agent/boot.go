package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// unwellLimit is how many health checks in a row a gateway may miss before it
// counts as dead: a busy machine makes single ones late.
const unwellLimit = 4

// keepRunning makes the gateway run if it does not, and looks after it if it does.
func (r *Reconciler) keepRunning(ctx context.Context, l *loop, a Agent) (next, error) {
	settled := a.Status == client.Running && a.Settled == a.Wish
	state, err := r.inspect(ctx, a)
	switch {
	case err != nil && settled:
		return next{}, err
	case err != nil:
		return r.failed(ctx, l, a, asFailure(err))
	case settled && state.Phase == runtime.Running:
		return r.attend(ctx, l, a)
	case settled:
		return r.failed(ctx, l, a, r.post(ctx, a, state))
	}
	adopt, err := r.adoptable(ctx, a, state)
	switch {
	case err != nil:
		return next{}, err
	case adopt:
		began := time.Now()
		return r.conclude(ctx, l, a, began, r.ready(ctx, a))
	}
	return r.boot(ctx, l, a)
}

func (r *Reconciler) inspect(ctx context.Context, a Agent) (runtime.State, error) {
	if a.Place == "" {
		return runtime.State{Phase: runtime.Gone}, nil
	}
	state, err := r.driver.Inspect(ctx, runtime.Place(a.Place), identity.AgentID(a.ID))
	if err != nil {
		return state, fmt.Errorf("look at gateway: %w", err)
	}
	return state, nil
}

// adoptable says that the gateway which an interrupted boot or an earlier server
// left behind is the one that is wanted now.
func (r *Reconciler) adoptable(ctx context.Context, a Agent, s runtime.State) (bool, error) {
	if s.Phase != runtime.Running || a.Booted < a.Fresh || a.RunningHash == "" {
		return false, nil
	}
	stale, err := r.body.stale(ctx, r.db, a)
	return !stale, err
}

// attend looks after a gateway that runs: gives it what has changed, takes over
// what the agent has written, and sees whether it still answers.
func (r *Reconciler) attend(ctx context.Context, l *loop, a Agent) (next, error) {
	if err := r.body.sync(ctx, a.ID); err != nil && ctx.Err() == nil {
		r.log.ErrorContext(ctx, "giving an agent its files failed", "agent", a.ID, "error", err)
	}
	gateway, err := r.body.link(ctx, a)
	if err != nil {
		return next{}, err
	}
	switch err := gateway.Alive(ctx); {
	case ctx.Err() != nil:
		return next{}, ctx.Err()
	case err == nil:
		l.unwell = 0
	default:
		l.unwell++
	}
	if l.unwell < unwellLimit {
		return next{after: r.timing.Health, place: a.Place}, nil
	}
	text := "The agent's gateway runs but no longer answers."
	return r.failed(ctx, l, a, failure{category: Runtime, text: text, logs: r.tail(ctx, a)})
}

// boot makes a new gateway and waits until it is ready.
func (r *Reconciler) boot(ctx context.Context, l *loop, a Agent) (next, error) {
	if early := time.Until(l.notYet); early > 0 {
		return next{after: early}, nil
	}
	if err := r.starting(ctx, &a); err != nil {
		return next{}, err
	}
	select {
	case r.boots <- struct{}{}:
	case <-ctx.Done():
		return next{}, ctx.Err()
	}
	began := time.Now()
	err := r.launch(ctx, &a)
	if err == nil {
		err = r.ready(ctx, a)
	}
	<-r.boots
	return r.conclude(ctx, l, a, began, err)
}

// starting shows that the agent is on its way, if its status says something else.
func (r *Reconciler) starting(ctx context.Context, a *Agent) error {
	if a.Status == client.Starting || a.Status == client.Provisioning {
		return nil
	}
	a.Status, a.LastError, a.ErrorCategory = client.Starting, "", "" // what was wrong before the wish is past
	return r.note(ctx, *a, "")
}

// launch puts an old gateway down and starts a new one: it chooses a place, writes
// that down, fills the home, starts.
func (r *Reconciler) launch(ctx context.Context, a *Agent) error {
	if a.Place != "" {
		if err := r.stop(ctx, *a); err != nil {
			return asFailure(err)
		}
	}
	spec, m, err := r.body.spec(ctx, r.db, *a)
	if err != nil {
		return err
	}
	place, err := r.driver.Place(ctx, spec)
	a.Place = string(place)
	if err != nil {
		return asFailure(err)
	}
	a.Booted, a.RunningHash = a.Wish, m.String()
	if err := r.note(ctx, *a, ""); err != nil {
		return err
	}
	r.body.forget(a.ID)
	if err := r.body.deliver(ctx, *a); err != nil {
		return asFailure(err)
	}
	r.body.given.next()
	if err := r.driver.Start(ctx, runtime.Place(a.Place), spec); err != nil {
		return asFailure(err)
	}
	return nil
}

// ready waits until the gateway of a answers. It is a failure if it has ended, or
// had its time.
func (r *Reconciler) ready(ctx context.Context, a Agent) error {
	gateway, err := r.body.link(ctx, a)
	if err != nil {
		return err
	}
	waiting, stop := context.WithTimeout(ctx, r.timing.Ready)
	defer stop()
	ended := r.end(waiting, a.Place, a.ID)
	answered := make(chan error, 1)
	go func() { answered <- gateway.Ready(waiting) }()
	select {
	case err = <-answered:
		stop()
	case <-ended:
		stop()
		err = <-answered
	}
	<-ended
	if err == nil || ctx.Err() != nil {
		return err
	}
	return r.notReady(ctx, a, err)
}

func (r *Reconciler) notReady(ctx context.Context, a Agent, cause error) error {
	state, err := r.inspect(ctx, a)
	switch {
	case err != nil:
		return asFailure(err)
	case state.Phase != runtime.Running:
		return r.post(ctx, a, state)
	}
	text := fmt.Sprintf("The agent's gateway was not ready after %s: %v.", r.timing.Ready, cause)
	return failure{category: Runtime, text: text, logs: r.tail(ctx, a)}
}

// conclude settles what came of a boot that began at some time.
func (r *Reconciler) conclude(ctx context.Context, l *loop, a Agent, began time.Time, err error) (next, error) {
	var f failure
	switch {
	case errors.As(err, &f):
		l.unready += time.Since(began)
		return r.failed(ctx, l, a, f)
	case err != nil:
		return next{}, err
	}
	a.Status, a.Settled, a.StartedAt, a.LastError, a.ErrorCategory = client.Running, a.Wish, now(), "", ""
	l.unready, l.unwell = 0, 0
	if err := r.note(ctx, a, "agent.started"); err != nil {
		return next{}, err
	}
	return r.attend(ctx, l, a)
}
