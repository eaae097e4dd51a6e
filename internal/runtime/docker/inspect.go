package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

const (
	// exitKilled is the exit code of a process that SIGKILL ended.
	exitKilled = 128 + 9
	// usageTimeout bounds the question to a relay what its gateway uses: without the answer the state
	// has less in it.
	usageTimeout = 2 * time.Second
)

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	a, err := d.agent(id)
	if err != nil {
		return runtime.State{}, err
	}
	state, err := d.inspect(ctx, a, place)
	if err != nil {
		return runtime.State{}, fmt.Errorf("inspect %s: %w", id, err)
	}
	return state, nil
}

func (d *Driver) inspect(ctx context.Context, a agent, place runtime.Place) (runtime.State, error) {
	gone := runtime.State{Phase: runtime.Gone, ExitCode: -1}
	c, err := d.gateway(ctx, a)
	switch {
	case isErrForeign(err) || err == nil && !isAt(c, place):
		return gone, nil
	case err != nil:
		return gone, err
	case runs(c):
		interrupted, err := a.startInterrupted(c)
		if interrupted || err != nil {
			return gone, err
		}
		return d.runningState(ctx, a, c, place)
	case c.State.Status == container.StateCreated:
		if a.isLocked() { // a start is under way
			return runtime.State{Phase: runtime.Running, ExitCode: -1, MemoryLimit: c.HostConfig.Memory, StartedAt: time.Now()}, nil
		}
		return gone, nil
	}
	return exitedState(c), nil
}

// startInterrupted reports whether a container runs in which no gateway was started, because the server
// was killed meanwhile. The next start replaces it.
func (a agent) startInterrupted(c *container.InspectResponse) (bool, error) {
	for range 2 { // the start may end between the two looks
		rec, err := a.record()
		if err != nil || rec.Launched || rec.Epoch != epochOf(c.Config.Labels) || a.isLocked() {
			return false, err
		}
	}
	return true, nil
}

func exitedState(c *container.InspectResponse) runtime.State {
	code := c.State.ExitCode
	return runtime.State{
		Phase: runtime.Exited, ExitCode: code, OverDisk: code == relay.ExitOverDisk,
		// The engine also says so if only a program of the agent was killed.
		OOMKilled: c.State.OOMKilled && code == exitKilled,
	}
}

func (d *Driver) runningState(ctx context.Context, a agent, c *container.InspectResponse, place runtime.Place) (runtime.State, error) {
	s := runtime.State{Phase: runtime.Running, ExitCode: -1, StartedAt: parseTime(c.State.StartedAt)}
	if c.State.Paused {
		s.Phase = runtime.Frozen
	}
	if c.HostConfig != nil {
		s.MemoryLimit = c.HostConfig.Memory
	}
	u, at, err := d.usageOf(ctx, a, c)
	if errors.Is(err, errEnded) {
		again, err := d.inspectContainer(ctx, c.ID)
		switch {
		case err != nil:
			return s, err
		case again == nil:
			return runtime.State{Phase: runtime.Gone, ExitCode: -1}, nil
		case !runs(again):
			return exitedState(again), nil
		}
	} else if err != nil {
		return s, err
	}
	s.MemoryBytes, s.CPU, s.Processes, s.UsageAt = u.memory, u.cpu, u.processes, at
	if at.IsZero() { // nothing was measured yet, and when it started it had used nothing
		s.UsageAt = s.StartedAt
	}
	if session := d.link(a.id).current(place); session != nil && s.Phase == runtime.Running {
		limited, cancel := context.WithTimeout(ctx, usageTimeout)
		defer cancel()
		if u, err := session.Usage(limited); err == nil {
			s.Disk, s.LoggedAt = u.Disk, u.LoggedAt
		}
	}
	return s, nil
}

func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
