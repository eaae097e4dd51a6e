package reconciler

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime"
)

// failure is one way in which an agent's gateway did not start or did not stay up.
type failure struct {
	category agent.ErrorCategory
	text     string // a sentence that says what the user can do
	logs     string // the last lines, if they help
	final    bool   // trying again cannot help
	server   bool   // the server lacks something: trying again helps when it has it, however long that takes
}

// Error implements error.
func (f failure) Error() string { return f.text }

// message returns the failure as Agent.LastError shows it.
func (f failure) message() string {
	if f.logs == "" {
		return f.text
	}
	return f.text + " Its last log lines:\n" + f.logs
}

// asFailure returns the failure for an error from before the gateway ran.
func asFailure(err error) failure {
	var f failure
	var none *pool.NoRoomError
	var unreachable *runtime.UnreachableError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &unreachable):
		text := fmt.Sprintf("The server %s, where this agent's files are, cannot be reached. The agent's gateway starts by itself when it can be.", unreachable.Server)
		return failure{category: agent.CategoryCapacity, text: text, server: true}
	case errors.As(err, &none) && none.Home != "":
		text := fmt.Sprintf("The server %s, where this agent's files are, cannot be reached or has no room for it. The agent's gateway starts by itself when that has changed.", none.Home)
		return failure{category: agent.CategoryCapacity, text: text, server: true}
	case errors.As(err, &none):
		text := fmt.Sprintf("No server of the region %s has room for this agent. It starts by itself when one has: stop another agent of the region that is not needed, or ask the operator for more servers.", none.Region)
		return failure{category: agent.CategoryCapacity, text: text, server: true}
	case errors.Is(err, runtime.ErrNoCapacity):
		return failure{category: agent.CategoryCapacity, text: noRoomText, server: true}
	case errors.Is(err, runtime.ErrForeign):
		text := "The agent's files belong to another installation: the operator must use the database that they belong to, or move them away."
		return failure{category: agent.CategoryRuntime, text: text, final: true}
	}
	if over := (*runtime.DiskError)(nil); errors.As(err, &over) {
		return overDisk(over.Used)
	}
	if missing := (*runtime.IsolationError)(nil); errors.As(err, &missing) {
		text := "The agent's gateway is started as soon as it can be isolated. At the moment it cannot: " + missing.Missing + "."
		return failure{category: agent.CategoryRuntime, text: text, server: true}
	}
	if p, ok := database.Diagnose(err); ok {
		return diskFailure(p)
	}
	return failure{category: agent.CategoryRuntime, text: fmt.Sprintf("The agent's gateway could not be started: %v.", err)}
}

// diskFailure returns the failure of a gateway that could not start or did not stay up
// because of the server's disk.
func diskFailure(p database.Problem) failure {
	return failure{category: agent.CategoryRuntime, text: fmt.Sprintf("The agent's gateway is started as soon as the disk allows it. %s", p), server: true}
}

// overDisk returns the failure of an agent whose files exceed a limit.
func overDisk(d runtime.Disk) failure {
	const remedy = " Its gateway does not run until there is less: delete the agent, or ask the operator to delete files of it or to raise its limits, and then start it."
	text := fmt.Sprintf("The agent has too many or too large files: %d MiB in %d files and directories.", d.Bytes>>20, d.Files)
	if d.Hidden {
		text = "The agent has directories that cannot be measured: they are unreadable, or nested too deeply."
	}
	return failure{category: agent.CategoryDisk, text: text + remedy, final: true}
}

// specFailure turns a gateway.SpecError into a failure, and returns other errors as
// they are.
func specFailure(err error) error {
	if invalid := (*gateway.SpecError)(nil); errors.As(err, &invalid) {
		return failure{category: invalid.Category, text: invalid.Message, final: true}
	}
	return err
}

// diagnoseExit returns the failure for a gateway that ended.
func (r *Reconciler) diagnoseExit(ctx context.Context, a agent.Agent, s runtime.State) failure {
	if s.OverDisk {
		return overDisk(s.Disk)
	}
	f := failure{category: agent.CategoryRuntime, text: "The agent's gateway ended by itself.", logs: r.logTail(ctx, a)}
	switch {
	case s.OOMKilled:
		f.text = "The agent's gateway was ended because it needed more memory than it may have."
		if limit := max(s.MemoryLimit, r.gateways.Limits().MemoryBytes); limit > 0 {
			f.text = fmt.Sprintf("The agent's gateway was ended because it needed more than its memory limit of %d MiB.", limit>>20)
		}
	case s.Phase == runtime.Exited && s.ExitCode == openclaw.ExitBadConfig:
		f.category, f.final = agent.CategoryConfig, true
		f.text = "OpenClaw refuses the agent's configuration: change config and start the agent again."
	case s.Phase == runtime.Exited && s.ExitCode >= 0:
		f.text = fmt.Sprintf("The agent's gateway ended by itself with exit code %d.", s.ExitCode)
	}
	return f
}

// diagnoseNotReady returns the failure for a gateway that did not become ready.
func (r *Reconciler) diagnoseNotReady(ctx context.Context, a agent.Agent, stalled bool, cause error) failure {
	state, err := r.inspect(ctx, a)
	switch {
	case err != nil:
		return asFailure(err)
	case state.Phase != runtime.Running:
		return r.diagnoseExit(ctx, a, state)
	}
	text := fmt.Sprintf("The agent's gateway was not ready after %s: %v.", r.timing.ReadyTimeout, cause)
	if stalled {
		text = fmt.Sprintf("The agent's gateway did nothing for %s while it was starting, and was ended. A file in the agent's home may block it.", r.timing.StallTimeout)
	}
	return failure{category: agent.CategoryRuntime, text: text, logs: r.logTail(ctx, a)}
}

// failed saves the outcome of a failure, as countFailure has it.
func (r *Reconciler) failed(ctx context.Context, a agent.Agent, f failure) (next, error) {
	if ctx.Err() != nil {
		return next{}, ctx.Err() // the step was interrupted, the gateway has not failed
	}
	if p, ok := database.Diagnose(r.db.Health(ctx)); ok && !f.final {
		f = diskFailure(p)
	}
	if f.category == agent.CategoryCapacity {
		return r.awaitCapacity(ctx, a, f)
	}
	a = r.timing.countFailure(a, f, now())
	r.log.WarnContext(ctx, "a gateway failed", "agent", a.ID, "category", f.category, "failures", len(a.Retry.Failures), "reason", f.text)
	kind := "agent.crashed"
	if a.Status == client.Errored {
		kind = "agent.failed"
	}
	return next{}, r.store.SaveStatus(ctx, a, kind)
}

// awaitCapacity saves that the driver has no room for a's gateway, which is tried again.
// That is no failure of the agent.
func (r *Reconciler) awaitCapacity(ctx context.Context, a agent.Agent, f failure) (next, error) {
	kind := ""
	if a.ErrorCategory != f.category {
		kind = "agent.waiting"
		r.log.WarnContext(ctx, "an agent waits: the driver has no room", "agent", a.ID)
	}
	a.LastError, a.ErrorCategory, a.Retry.NextTryAt = f.text, f.category, now().Add(r.timing.CapacityInterval)
	return next{}, r.store.SaveStatus(ctx, a, kind)
}

// tailLines is how many lines of the log an error shows.
const tailLines = 10

// logTail returns the last log lines, masked. If they cannot be read, it returns none:
// the error is worth showing without them.
func (r *Reconciler) logTail(ctx context.Context, a agent.Agent) string {
	text, err := r.logs.TailOf(ctx, a, tailLines)
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "reading the log of a failed gateway failed", "agent", a.ID, "error", err)
	}
	return strings.TrimSpace(text)
}
