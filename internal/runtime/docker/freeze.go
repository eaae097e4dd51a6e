package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// CheckFreeze implements runtime.Freezer. Every engine can pause containers; one that refuses says so
// when it is asked.
func (d *Driver) CheckFreeze() error { return nil }

// Freeze implements runtime.Freezer. The connection to the relay ends before, because a relay that
// stands still would look like one that is lost: so do the gateway's connections to the outside.
func (d *Driver) Freeze(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c, rec, err := d.running(ctx, a, place)
	if err == nil && !rec.Launched {
		err = runtime.ErrNotRunning
	}
	if err == nil {
		d.link(id).close()
		err = d.pauseContainer(ctx, a, c.ID)
	}
	if err != nil {
		return fmt.Errorf("freeze %s: %w", id, err)
	}
	return nil
}

// Thaw implements runtime.Freezer.
func (d *Driver) Thaw(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.frozen(ctx, a, place)
	if err == nil {
		err = d.unpauseContainer(ctx, a, c.ID)
	}
	if err != nil {
		return fmt.Errorf("thaw %s: %w", id, err)
	}
	d.link(id).wakeNetwork()
	return nil
}

// frozen returns the container of the frozen gateway of a place. Errors: ErrNotRunning.
func (d *Driver) frozen(ctx context.Context, a agent, place runtime.Place) (*container.InspectResponse, error) {
	c, err := d.gateway(ctx, a)
	if isErrForeign(err) || err == nil && (!runs(c) || !c.State.Paused || !isAt(c, place)) {
		err = runtime.ErrNotRunning
	}
	return c, err
}

// Docker says for a moment that a container is paused that was let go on just now, or the other way
// round, when the events of both come late: moby, daemon/monitor.go. For settleTime after a change the
// driver looks again.
const (
	settleTime     = 2 * time.Second
	settleInterval = 50 * time.Millisecond
)

// agrees reports whether what the engine says of the container can be true: it agrees with what the
// driver has done last, or that was a while ago.
func (l *link) agrees(paused bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return paused == l.paused || time.Since(l.pausedAt) > settleTime
}

// setPaused says what the driver has done last.
func (l *link) setPaused(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused, l.pausedAt = paused, time.Now()
}

func (d *Driver) pauseContainer(ctx context.Context, a agent, containerID string) error {
	_, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerPauseResult, error) {
		return c.ContainerPause(ctx, containerID, client.ContainerPauseOptions{})
	})
	return d.settlePaused(ctx, a, containerID, true, err)
}

func (d *Driver) unpauseContainer(ctx context.Context, a agent, containerID string) error {
	_, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerUnpauseResult, error) {
		return c.ContainerUnpause(ctx, containerID, client.ContainerUnpauseOptions{})
	})
	return d.settlePaused(ctx, a, containerID, false, err)
}

// settlePaused ends a call that should have paused a container or let it go on.
func (d *Driver) settlePaused(ctx context.Context, a agent, containerID string, paused bool, err error) error {
	if err = d.checkPaused(ctx, containerID, paused, err); err == nil {
		d.link(a.id).setPaused(paused)
	}
	return err
}

// checkPaused returns the error of a call that should have paused a container or let it go on, unless it
// is so: the answer of the call may be lost.
func (d *Driver) checkPaused(ctx context.Context, containerID string, paused bool, err error) error {
	if err == nil {
		return nil
	}
	for began := time.Now(); ; {
		c, inspectErr := d.inspectContainer(ctx, containerID)
		switch {
		case inspectErr != nil:
			return err
		case c == nil || !runs(c):
			return runtime.ErrNotRunning
		case c.State.Paused == paused:
			return nil
		case time.Since(began) < settleTime && pause(ctx, settleInterval) == nil:
			continue
		case paused:
			return &runtime.SuspendError{Missing: "the container engine does not pause its container", Fix: "use an engine with control groups v2, or as root", Cause: err}
		}
		return err
	}
}

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(ctx context.Context, place runtime.Place, id identity.AgentID, secrets []byte) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.frozen(ctx, a, place)
	if err == nil {
		err = d.putFrozenSecrets(ctx, a, place, c.ID, secrets)
	} else if isNotRunning(err) {
		err = d.putSecrets(ctx, a, place, secrets)
	}
	if err != nil {
		return fmt.Errorf("put secrets of %s: %w", id, err)
	}
	return nil
}

// putFrozenSecrets lets the gateway go on for the moment that its relay needs to write them.
func (d *Driver) putFrozenSecrets(ctx context.Context, a agent, place runtime.Place, containerID string, secrets []byte) error {
	if err := d.unpauseContainer(ctx, a, containerID); err != nil {
		return err
	}
	err := d.putSecrets(ctx, a, place, secrets)
	d.link(a.id).close()
	if paused := d.pauseContainer(context.WithoutCancel(ctx), a, containerID); err == nil {
		err = paused
	}
	return err
}

func (d *Driver) putSecrets(ctx context.Context, a agent, place runtime.Place, secrets []byte) error {
	return d.withSession(ctx, a, place, func(ctx context.Context, s *relay.Session) error { return s.PutSecrets(ctx, secrets) })
}
