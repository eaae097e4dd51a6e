package reconciler

import (
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/runtime"
)

// observation is what a step sees beside the record. The gateway is only observed if
// decide needs it.
type observation struct {
	halted  bool          // the gateway must not run, although the record cannot say so; see halt
	holder  string        // this process
	until   time.Time     // when this process's lease of the agent ends; zero: it has none
	state   runtime.State // of the gateway at the record's place; Gone if there is no place
	err     error         // why the state is unknown; nil: it is known
	current bool          // the gateway is the one that is desired now
}

// actionKind names what a step does.
type actionKind string

// The kinds of actions.
const (
	actRest        actionKind = "rest"        // nothing, until a notification
	actWait        actionKind = "wait"        // nothing, until action.after has passed
	actHalt        actionKind = "halt"        // stop the gateway, and try to save that the agent should be stopped
	actLease       actionKind = "lease"       // take the lease of the agent
	actRemove      actionKind = "remove"      // remove everything of the agent
	actStop        actionKind = "stop"        // stop the gateway, if there is one, and save that the agent is stopped
	actDiscard     actionKind = "discard"     // stop what is left of the gateway of an agent in error
	actCheck       actionKind = "check"       // check the health of the running gateway
	actAdopt       actionKind = "adopt"       // wait until the gateway that runs is ready
	actBoot        actionKind = "boot"        // stop the old gateway, start a new one and wait until it is ready
	actOrphan      actionKind = "orphan"      // put what the records do not know into quarantine; not for decide
	actReportExit  actionKind = "reportExit"  // count the failure of a gateway that ended
	actReportError actionKind = "reportError" // count the failure to inspect a gateway that should be started
	actDoze        actionKind = "doze"        // leave an agent alone that sleeps
	actWake        actionKind = "wake"        // resume the gateway, or boot a new one, and wait until it is ready
	actRetry       actionKind = "retry"       // try again later: the state of a gateway that ran is unknown
)

// action is what a step does.
type action struct {
	kind  actionKind
	after time.Duration // of actWait
}

// leaseMargin is how long before its end a lease is no longer trusted: the clock of
// another server may be ahead.
const leaseMargin = 2 * time.Second

// isTrusted reports whether a lease that ends at until may be acted on.
func isTrusted(until, now time.Time) bool { return now.Before(until.Add(-leaseMargin)) }

// decide returns what to do next with an agent. It depends on nothing but its arguments.
func decide(a agent.Agent, o observation, now time.Time) action {
	otherHolds := a.Lease.Holder != o.holder && now.Before(a.Lease.Until)
	switch {
	case o.halted && !otherHolds:
		return action{kind: actHalt}
	case isSettled(a):
		return action{kind: actRest}
	case otherHolds:
		return action{kind: actWait, after: a.Lease.Until.Sub(now)}
	case a.Lease.Holder != o.holder || !isTrusted(o.until, now):
		return action{kind: actLease}
	case a.DesiredState == agent.DesiredDeleted:
		return action{kind: actRemove}
	case a.DesiredState == agent.DesiredStopped:
		return action{kind: actStop}
	case a.HasFailed():
		return action{kind: actDiscard}
	}
	return decideRunning(a, o, now)
}

// decideRunning is decide for an agent that should run, by the holder of its lease.
func decideRunning(a agent.Agent, o observation, now time.Time) action {
	started := a.Status == client.Running && a.ObservedGeneration == a.Generation
	switch {
	case o.err != nil && started:
		return action{kind: actRetry}
	case o.err != nil:
		return action{kind: actReportError}
	case (started || o.current) && a.IsAsleep(): // also if it was started again before it was stopped
		return decideAsleep(a, o, now)
	case started && o.state.Sleeps(): // the last server was killed before it saved that
		return action{kind: actDoze}
	case started && o.state.Phase == runtime.Running:
		return action{kind: actCheck}
	case started:
		return action{kind: actReportExit}
	case o.state.Phase == runtime.Running && o.current:
		return action{kind: actAdopt}
	}
	return unlessBackoff(a, now, actBoot)
}

// unlessBackoff returns an action that starts a gateway, or a wait until it may be started.
func unlessBackoff(a agent.Agent, now time.Time, kind actionKind) action {
	// A time that is further away than any back-off was written before the clock was set
	// back.
	if wait := a.Retry.NextTryAt.Sub(now); wait > 0 && wait <= maxBackoff {
		return action{kind: actWait, after: wait}
	}
	return action{kind: kind}
}

// decideAsleep is decide for an agent that sleeps. Its gateway may have been resumed, or booted for
// the wake, by a server that was killed then, and its checkpoint may be gone, which shows only at
// the wake.
func decideAsleep(a agent.Agent, o observation, now time.Time) action {
	wake := a.NextWake()
	switch {
	case bootsForWake(a) && o.state.Phase == runtime.Running && o.current:
		return action{kind: actAdopt}
	case o.state.Phase == runtime.Running:
		return action{kind: actWake}
	case !wake.IsZero() && !wake.After(now):
		return unlessBackoff(a, now, actWake)
	}
	return action{kind: actDoze}
}

// isSettled reports whether nothing is to be done for an agent until its desired state
// changes.
func isSettled(a agent.Agent) bool {
	if a.Place != "" {
		return false
	}
	return a.DesiredState == agent.DesiredStopped && a.ObservedGeneration == a.Generation ||
		a.DesiredState == agent.DesiredRunning && a.HasFailed()
}

// needsObservation reports whether decide needs the state of the gateway.
func needsObservation(a agent.Agent, o observation, now time.Time) bool {
	return !o.halted && a.DesiredState == agent.DesiredRunning && !a.HasFailed() && a.Lease.Holder == o.holder && isTrusted(o.until, now)
}

// isCandidate reports whether a gateway that an interrupted boot or an earlier server
// has left may be adopted, if it has the desired spec. That of an agent that sleeps need not exist.
func isCandidate(a agent.Agent, s runtime.State) bool {
	return (s.Phase == runtime.Running || a.IsAsleep()) && a.GatewayGeneration >= a.RestartGeneration && a.SpecDigest != ""
}

// countFailure returns the record after a failure of the gateway: it is tried again
// after a back-off, or the agent is in error. In both cases the next action stops what
// is left of the gateway.
func (t Timing) countFailure(a agent.Agent, f failure, now time.Time) agent.Agent {
	var counted []time.Time
	for _, at := range a.Retry.Failures {
		// One that lies ahead was counted before the clock was set back.
		if age := now.Sub(at); age >= 0 && age <= t.FailureWindow {
			counted = append(counted, at)
		}
	}
	a.Retry.Failures, a.Retry.MissedHealthChecks = append(counted, now), 0
	a.LastError, a.ErrorCategory = f.message(), f.category
	a.SpecDigest = "" // it must not be adopted
	a.Power, a.Sleep.Suspension = agent.PowerAwake, ""
	n := len(a.Retry.Failures)
	if f.final || !f.server && (n >= t.MaxFailures || a.Retry.Unready >= t.FailureWindow) {
		a.Status, a.ObservedGeneration, a.StoppedAt = client.Errored, a.Generation, now
		return a
	}
	a.Status, a.Retry.NextTryAt = client.Starting, now.Add(t.backoff(n))
	return a
}
