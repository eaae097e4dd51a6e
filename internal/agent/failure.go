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

// failure is one way in which an agent's gateway did not come up or stay up.
type failure struct {
	category Category
	text     string // a sentence that the user can act on
	logs     string // the last lines, if they help
	final    bool   // trying again cannot help
}

// Error implements error.
func (f failure) Error() string { return f.text }

// asFailure finds the category of an error from before the gateway ran.
func asFailure(err error) failure {
	var f failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, runtime.ErrNoCapacity):
		return failure{category: Capacity, text: "No server has room for this agent: stop another one, or add a server.", final: true}
	}
	return failure{category: Runtime, text: fmt.Sprintf("The agent's gateway could not be started: %v.", err)}
}

// post says why a gateway ended.
func (r *Reconciler) post(ctx context.Context, a Agent, s runtime.State) failure {
	f := failure{category: Runtime, text: "The agent's gateway ended by itself.", logs: r.tail(ctx, a)}
	switch {
	case s.OOMKilled:
		f.text = "The agent's gateway was ended because it needed more memory than it may have."
		if limit := max(s.MemoryLimit, r.body.Limits.MemoryBytes); limit > 0 {
			f.text = fmt.Sprintf("The agent's gateway was ended because it needed more than its memory limit of %d MiB.", limit>>20)
		}
	case s.Phase == runtime.Exited && s.ExitCode == openclaw.ExitBadConfig:
		f.category, f.final = Config, true
		f.text = "OpenClaw refuses the agent's configuration: change config and start the agent again."
	case s.Phase == runtime.Exited && s.ExitCode >= 0:
		f.text = fmt.Sprintf("The agent's gateway ended by itself with exit code %d.", s.ExitCode)
	}
	return f
}

// failed counts a failure: the gateway is tried again after a while, or the agent
// is put into error. Either way what is left of it is stopped next.
func (r *Reconciler) failed(ctx context.Context, l *loop, a Agent, f failure) (next, error) {
	if ctx.Err() != nil {
		return next{}, ctx.Err() // interrupted, which is no failure of the gateway
	}
	at := time.Now()
	l.failures = append(slices.DeleteFunc(l.failures, func(t time.Time) bool { return at.Sub(t) > r.timing.Window }), at)
	l.unwell = 0
	n := len(l.failures)
	r.log.WarnContext(ctx, "a gateway failed", "agent", a.ID, "category", f.category, "failures", n, "reason", f.text)
	a.LastError, a.ErrorCategory = f.sentence(), f.category
	a.RunningHash = "" // it must not be adopted
	if f.final || n >= r.timing.Tries || l.unready >= r.timing.Window {
		a.Status, a.Settled, a.StoppedAt = client.Errored, a.Wish, now()
		return next{}, r.note(ctx, a, "agent.failed")
	}
	a.Status = client.Starting
	l.notYet = at.Add(r.timing.backoff(n))
	return next{}, r.note(ctx, a, "agent.crashed")
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
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "reading the log of a failed gateway failed", "agent", a.ID, "error", err)
	}
	return strings.TrimSpace(text)
}
