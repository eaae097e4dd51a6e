package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/runtime"
)

// The values of --sleep with which agents sleep.
const (
	sleepAuto   = "auto"   // suspended, or frozen where that is not possible
	sleepFreeze = "freeze" // frozen
)

// minLinger is the shortest time that an agent can stay awake: the next message of a
// conversation should not have to wake it.
const minLinger = 5 * time.Second

func (f serveFlags) sleeps() bool { return f.Sleep == sleepAuto || f.Sleep == sleepFreeze }

// linger returns how long agents stay awake after their last turn; 0: for ever.
func (f serveFlags) linger() time.Duration {
	if !f.sleeps() {
		return 0
	}
	return f.Linger
}

// checkSleep checks the flags of the agents' sleep, and logs why they do not sleep as they should.
func (f serveFlags) checkSleep(d runtime.Driver, log *slog.Logger) error {
	if !f.sleeps() {
		return nil
	}
	if f.Linger < minLinger {
		return errors.New("--linger must be at least 5s")
	}
	missing := (*runtime.SuspendError)(nil)
	err := runtime.CheckSleep(d)
	if errors.As(err, &missing) {
		log.Warn("agents do not sleep", "missing", missing.Missing, "fix", missing.Fix, "cause", missing.Cause)
		return nil
	}
	if s, ok := d.(runtime.Suspender); ok && err == nil && f.Sleep == sleepAuto && errors.As(s.CheckSuspend(), &missing) {
		log.Warn("agents that nobody uses are frozen: their gateways cannot be suspended", "missing", missing.Missing, "fix", missing.Fix, "cause", missing.Cause)
	}
	return err
}

// whyAwake returns what the status says of agents that stay awake; nil if all do.
func whyAwake(f serveFlags, m *gateway.Manager) func(context.Context, agent.Agent) (string, error) {
	if !f.sleeps() {
		return nil
	}
	return m.WhyAwake
}
