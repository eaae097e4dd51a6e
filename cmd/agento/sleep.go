package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"agento.host/agento/internal/admin"
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
	if f.CheckpointDiskAfter <= 0 {
		return errors.New("--checkpoint-disk-after must be more than 0")
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

// checkpointUse returns what the checkpoints of a driver take.
func checkpointUse(d runtime.Driver) func(context.Context) (admin.Checkpoints, error) {
	return func(ctx context.Context) (admin.Checkpoints, error) {
		s, ok := d.(runtime.Suspender)
		if !ok {
			return admin.Checkpoints{}, nil
		}
		return checkpointsOf(s.Checkpoints(ctx))
	}
}

func checkpointsOf(use runtime.CheckpointUse, err error) (admin.Checkpoints, error) {
	return admin.Checkpoints{
		Fresh: admin.CheckpointForm(use.Fresh), Compressed: admin.CheckpointForm(use.Compressed), OnDisk: admin.CheckpointForm(use.OnDisk),
		Budget: use.Budget, Plain: use.Plain,
	}, err
}

// checkpoints reports the checkpoints of sleeping agents.
func (c doctorCommand) checkpoints(ctx context.Context) []finding {
	var found []finding
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		use, err := api.Checkpoints(ctx)
		if err == nil {
			found = append(found, checkpointFinding(use))
		}
		return err
	})
	if err != nil {
		return nil // the database's own check says so
	}
	return found
}

func checkpointFinding(use admin.Checkpoints) finding {
	f := finding{Part: "checkpoints", OK: true, State: "none"}
	if use.Fresh.Count+use.Compressed.Count+use.OnDisk.Count > 0 {
		f.State = fmt.Sprintf("in memory %d as they were made, %s, and %d compressed, %s; on the disk %d, %s", use.Fresh.Count, formatMiB(use.Fresh.Bytes),
			use.Compressed.Count, formatMiB(use.Compressed.Bytes), use.OnDisk.Count, formatMiB(use.OnDisk.Bytes))
	}
	if use.Budget > 0 {
		f.State += "; on the disk they may take " + formatMiB(use.Budget)
	}
	if use.Plain {
		f.Warning = true
		f.State += "; those on the disk are not sealed: whoever reads it has the secrets and conversations of sleeping agents"
		f.Fix = "agento serve --checkpoint-encryption auto, which also removes those that are there"
	}
	return f
}
