package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

// unwellLimit is how many health checks in a row a gateway may miss before it
// counts as dead: a busy machine makes single ones late.
const unwellLimit = 4

// keepRunning makes the gateway run if it does not, and looks after it if it does.
func (r *Reconciler) keepRunning(ctx context.Context, l *loop, a Agent) (time.Duration, error) {
	state, err := r.inspect(ctx, a)
	if err != nil {
		return 0, err
	}
	alive := state.Phase == runtime.Running
	if alive && a.Booted >= a.Fresh {
		if a.Status == client.Running && a.Settled == a.Wish {
			return r.attend(ctx, l, a)
		}
		return r.awaitReady(ctx, l, a) // one that an interrupted boot, or an earlier server, left behind
	}
	if !alive && a.Status == client.Running && a.Settled == a.Wish {
		return r.failed(ctx, l, a, r.post(ctx, a, state))
	}
	return r.boot(ctx, l, a)
}

func (r *Reconciler) inspect(ctx context.Context, a Agent) (runtime.State, error) {
	if a.Place == "" {
		return runtime.State{Phase: runtime.Gone}, nil
	}
	state, err := r.driver.Inspect(ctx, a.Place, a.ID)
	if err != nil {
		return state, fmt.Errorf("look at gateway: %w", err)
	}
	return state, nil
}

// attend looks after a gateway that runs: gives it what has changed, takes over
// what the agent has written, and sees whether it still answers.
func (r *Reconciler) attend(ctx context.Context, l *loop, a Agent) (time.Duration, error) {
	if err := r.body.sync(ctx, a); err != nil {
		r.log.ErrorContext(ctx, "giving an agent its files failed", "agent", a.ID, "error", err)
	}
	gateway, err := r.body.gateway(ctx, a)
	if err != nil {
		return 0, err
	}
	if l.unwell++; gateway.Alive(ctx) == nil || ctx.Err() != nil {
		l.unwell = 0
	}
	if l.unwell < unwellLimit {
		return r.timing.Health, nil
	}
	return r.failed(ctx, l, a, failure{Runtime, "The agent's gateway runs but no longer answers.", r.tail(ctx, a), false})
}

// boot makes a new gateway: place, save the place, start, wait until it is ready.
func (r *Reconciler) boot(ctx context.Context, l *loop, a Agent) (time.Duration, error) {
	if a.Status != client.Starting && a.Status != client.Provisioning {
		a.Status = client.Starting
		if ok, err := r.note(ctx, a, ""); !ok || err != nil {
			return 0, err
		}
	}
	select {
	case r.boots <- struct{}{}:
		defer func() { <-r.boots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if a.Place != "" {
		r.body.forget(a.ID)
		r.body.absorb(ctx, a)
		if err := r.driver.Stop(ctx, a.Place, a.ID, r.timing.Grace); err != nil {
			return 0, fmt.Errorf("stop the old gateway: %w", err)
		}
	}
	spec, hash, err := r.body.spec(ctx, r.db, a)
	if err != nil {
		return r.failed(ctx, l, a, asFailure(err))
	}
	if a.Place, err = r.driver.Place(ctx, spec); err != nil {
		return r.failed(ctx, l, a, asFailure(err))
	}
	a.Booted, a.RunningHash = a.Wish, hash
	if ok, err := r.note(ctx, a, ""); !ok || err != nil {
		return 0, err
	}
	if err := r.body.deliver(ctx, a); err != nil {
		return r.failed(ctx, l, a, asFailure(err))
	}
	if err := r.driver.Start(ctx, a.Place, spec); err != nil {
		return r.failed(ctx, l, a, asFailure(err))
	}
	return r.awaitReady(ctx, l, a)
}

// awaitReady returns when the gateway of a answers, has died, or has had its time.
func (r *Reconciler) awaitReady(ctx context.Context, l *loop, a Agent) (time.Duration, error) {
	gateway, err := r.body.gateway(ctx, a)
	if err != nil {
		return 0, err
	}
	waiting, stop := context.WithTimeout(ctx, r.timing.Ready)
	defer stop()
	var watched chan struct{}
	if w, can := r.driver.(runtime.Watcher); can {
		watched = make(chan struct{})
		go func() { // ends with waiting, which this function ends and then awaits it
			defer close(watched)
			if w.Watch(waiting, a.Place, a.ID) == nil {
				stop()
			}
		}()
	}
	err = gateway.Ready(waiting)
	stop()
	if watched != nil {
		<-watched
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		return r.notReady(ctx, l, a, err)
	}
	a.Status, a.Settled, a.StartedAt, a.LastError, a.ErrorCategory = client.Running, a.Wish, now(), "", ""
	l.unwell = 0
	if ok, err := r.note(ctx, a, "agent.started"); !ok || err != nil {
		return 0, err
	}
	return r.attend(ctx, l, a)
}

func (r *Reconciler) notReady(ctx context.Context, l *loop, a Agent, cause error) (time.Duration, error) {
	state, err := r.inspect(ctx, a)
	if err != nil {
		return 0, err
	}
	if state.Phase != runtime.Running {
		return r.failed(ctx, l, a, r.post(ctx, a, state))
	}
	text := fmt.Sprintf("The agent's gateway was not ready after %s: %v.", r.timing.Ready, cause)
	return r.failed(ctx, l, a, failure{Runtime, text, r.tail(ctx, a), false})
}

// failure is one way in which an agent's gateway did not come up or stay up.
type failure struct {
	category Category
	text     string // a sentence that the user can act on
	logs     string // the last lines, if they help
	final    bool   // trying again cannot help
}

// asFailure finds the category of an error from before the gateway ran.
func asFailure(err error) failure {
	var f failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, runtime.ErrNoRoom):
		return failure{Capacity, "No server has room for this agent: stop another one, or add a server.", "", true}
	}
	return failure{Runtime, fmt.Sprintf("The agent's gateway could not be started: %v.", err), "", false}
}

// Error implements error, so that the body can say what exactly is wrong.
func (f failure) Error() string { return f.text }

// post says why a gateway ended.
func (r *Reconciler) post(ctx context.Context, a Agent, s runtime.State) failure {
	logs := r.tail(ctx, a)
	switch {
	case s.OOMKilled:
		return failure{Runtime, fmt.Sprintf("The agent's gateway was ended because it needed more than its memory limit of %d MiB.", s.MemoryLimit>>20), logs, false}
	case s.Phase == runtime.Exited && s.ExitCode == openclaw.ExitBadConfig:
		return failure{Config, "OpenClaw refuses the agent's configuration: change config and start the agent again.", logs, true}
	case s.Phase == runtime.Exited && s.ExitCode >= 0:
		return failure{Runtime, fmt.Sprintf("The agent's gateway ended by itself with exit code %d.", s.ExitCode), logs, false}
	}
	return failure{Runtime, "The agent's gateway ended by itself.", logs, false}
}

// failed counts a failure: the gateway is tried again after a while, or the agent
// is put into error.
func (r *Reconciler) failed(ctx context.Context, l *loop, a Agent, f failure) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, ctx.Err() // interrupted, which is no failure of the gateway
	}
	at := time.Now()
	l.failures = append(slices.DeleteFunc(l.failures, func(t time.Time) bool { return at.Sub(t) > r.timing.Window }), at)
	l.unwell = 0
	r.log.WarnContext(ctx, "a gateway failed", "agent", a.ID, "category", f.category, "failures", len(l.failures), "reason", f.text)
	if a.Place != "" { // whatever is left of it must not linger beside the next
		r.body.absorb(ctx, a)
		if err := r.driver.Stop(ctx, a.Place, a.ID, r.timing.Grace); err != nil {
			return 0, fmt.Errorf("stop what is left of the gateway: %w", err)
		}
	}
	r.body.forget(a.ID)
	a.LastError, a.ErrorCategory = f.sentence(), f.category
	if n := len(l.failures); n < r.timing.Tries && !f.final {
		a.Status = client.Starting
		ok, err := r.note(ctx, a, "agent.crashed")
		if !ok || err != nil {
			return 0, err
		}
		return r.pause(ctx, r.timing.Backoff<<(n-1))
	}
	l.failures = nil
	a.Status, a.Settled, a.StoppedAt = client.Errored, a.Wish, now()
	_, err := r.note(ctx, a, "agent.failed")
	return 0, err
}

// pause waits before the next try, unless a new wish interrupts.
func (r *Reconciler) pause(ctx context.Context, d time.Duration) (time.Duration, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return time.Nanosecond, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (f failure) sentence() string {
	if f.logs == "" {
		return f.text
	}
	return f.text + " Its last log lines:\n" + f.logs
}

// tailLines is how much of the log an error shows.
const tailLines = 10

// tail reads the last log lines, masked; an error that cannot show them is still
// an error worth showing.
func (r *Reconciler) tail(ctx context.Context, a Agent) string {
	text, err := r.body.logs(ctx, a, tailLines)
	if err != nil {
		r.log.WarnContext(ctx, "reading the log of a failed gateway failed", "agent", a.ID, "error", err)
	}
	return strings.TrimSpace(text)
}
