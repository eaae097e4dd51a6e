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

// sleepAuto is the value of --sleep with which agents sleep where that is possible.
const sleepAuto = "auto"

// minLinger is the shortest time that an agent can stay awake: the next message of a
// conversation should not have to wake it.
const minLinger = 5 * time.Second

// linger returns how long agents stay awake after their last turn; 0: for ever.
func (f serveFlags) linger() time.Duration {
	if f.Sleep != sleepAuto {
		return 0
	}
	return f.Linger
}

// checkSleep checks the flags of the agents' sleep, and logs why they do not sleep although they
// should.
func (f serveFlags) checkSleep(d runtime.Driver, log *slog.Logger) error {
	if f.Sleep != sleepAuto {
		return nil
	}
	if f.Linger < minLinger {
		return errors.New("--linger must be at least 5s")
	}
	s, ok := d.(runtime.Suspender)
	if !ok {
		log.Warn("agents do not sleep: the driver cannot suspend gateways")
		return nil
	}
	err := s.CheckSuspend()
	if missing := (*runtime.SuspendError)(nil); errors.As(err, &missing) {
		log.Warn("agents do not sleep: their gateways cannot be suspended", "missing", missing.Missing, "fix", missing.Fix, "cause", missing.Cause)
		return nil
	}
	return err
}

// whyAwake returns what the status says of agents that stay awake; nil if all do.
func whyAwake(f serveFlags, m *gateway.Manager) func(context.Context, agent.Agent) (string, error) {
	if f.Sleep != sleepAuto {
		return nil
	}
	return m.WhyAwake
}
