package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

const (
	// killTimeout is how long an engine may take to end a container that was killed. Source: 0.1 s; a
	// machine that swaps needs seconds.
	killTimeout = time.Minute
	// stopSlack is how long a relay may take to end after the grace period.
	stopSlack = 3 * time.Second
	// endInterval is the pause between two looks whether a container has ended, where the engine
	// cannot be waited for.
	endInterval = 20 * time.Millisecond
)

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, _ runtime.Place, id identity.AgentID, grace time.Duration) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	c, err := d.gateway(ctx, a)
	if isErrForeign(err) {
		return nil
	}
	if err == nil && runs(c) {
		err = d.stop(ctx, a, c, grace)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", id, err)
	}
	return nil
}

// stop ends a container, whose gateway has the grace period for it. It does not hold the lock of the
// agent, so that a Remove need not wait.
func (d *Driver) stop(ctx context.Context, a agent, c *container.InspectResponse, grace time.Duration) error {
	place := runtime.Place(c.Config.Labels[labelPlace])
	// A paused gateway has nothing to do, and cannot act on a signal.
	if !c.State.Paused && grace > 0 {
		if err := d.requestStop(ctx, a, place, c.ID, grace); err != nil {
			return err
		}
	}
	if err := d.kill(ctx, c.ID); err != nil {
		return err
	}
	d.link(a.id).closeAt(place)
	return nil
}

// requestStop asks the gateway to end and waits until its container has ended, at most for the grace
// period and what the relay needs.
func (d *Driver) requestStop(ctx context.Context, a agent, place runtime.Place, containerID string, grace time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, grace+stopSlack)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- d.askToStop(limited, a, place, containerID, grace) }()
	ended := make(chan error, 1)
	go func() { ended <- d.awaitEnd(limited, containerID) }()
	select {
	case err := <-ended:
		if err != nil && limited.Err() == nil {
			d.settings.Log.WarnContext(ctx, "waiting for the end of a container failed: it is killed", "agent", a.id, "error", err)
		}
		cancel()
		<-asked //nolint:errcheck // it is not needed any more
	case err := <-asked:
		if err == nil {
			<-ended //nolint:errcheck // it is killed if it has not ended
			break
		}
		cancel()
		<-ended //nolint:errcheck // it is killed
	}
	return ctx.Err()
}

// askToStop asks the gateway to end, by its relay, or by a signal to the relay if that cannot be
// reached.
func (d *Driver) askToStop(ctx context.Context, a agent, place runtime.Place, containerID string, grace time.Duration) error {
	// A relay that does not answer must not use up the grace period.
	connecting, cancel := context.WithTimeout(ctx, max(grace/2, stopSlack))
	s, err := d.session(connecting, a, place)
	cancel()
	if err == nil {
		return s.Stop(ctx, grace)
	}
	if errors.Is(err, runtime.ErrNotRunning) {
		return err
	}
	_, err = call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ContainerKillResult, error) {
		return c.ContainerKill(ctx, containerID, client.ContainerKillOptions{Signal: "SIGTERM"})
	})
	return err
}

// awaitEnd waits until a container does not run.
func (d *Driver) awaitEnd(ctx context.Context, containerID string) error {
	for {
		err := d.waitOnce(ctx, containerID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c, inspectErr := d.inspectContainer(ctx, containerID)
		if inspectErr == nil && !runs(c) {
			return nil
		}
		if err == nil {
			err = inspectErr
		}
		// The wait has ended with the connection to the engine, or with the engine.
		if pause(ctx, 10*endInterval) != nil {
			return ctx.Err()
		}
		if err != nil {
			d.settings.Log.DebugContext(ctx, "waiting for a container again", "container", containerID, "error", err)
		}
	}
}

func (d *Driver) waitOnce(ctx context.Context, containerID string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := open(ctx, d.engine, func(ctx context.Context, c *client.Client) (client.ContainerWaitResult, error) {
		w := c.ContainerWait(ctx, containerID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case err := <-w.Error:
			return w, err
		default:
			return w, nil
		}
	})
	if err != nil {
		return ignoreMissing(err)
	}
	select {
	case err := <-w.Error:
		return ignoreMissing(err)
	case <-w.Result:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends a container, also if it is paused, and returns when it has ended.
func (d *Driver) kill(ctx context.Context, containerID string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for {
		_, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerKillResult, error) {
			return c.ContainerKill(ctx, containerID, client.ContainerKillOptions{Signal: "SIGKILL"})
		})
		// An engine refuses to kill what does not run: only a look tells.
		c, inspectErr := d.inspectContainer(ctx, containerID)
		if inspectErr != nil {
			return errors.Join(err, inspectErr)
		}
		if !runs(c) {
			return nil
		}
		if c.State.Paused && err != nil { // Podman kills no paused container
			_, err = call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerUnpauseResult, error) {
				return c.ContainerUnpause(ctx, containerID, client.ContainerUnpauseOptions{})
			})
		}
		if pause(ctx, endInterval) != nil {
			return errors.Join(fmt.Errorf("the container %s was killed but does not end", containerID), err, ctx.Err())
		}
	}
}

// closeAt ends the session if it is with the gateway of a place.
func (l *link) closeAt(place runtime.Place) {
	l.mu.Lock()
	var s *relay.Session
	if l.place == place {
		s, l.session, l.failures = l.session, nil, 0
	}
	l.mu.Unlock()
	if s != nil {
		_ = s.Close() // its end is all that matters
	}
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		c, err := d.gateway(ctx, a)
		switch {
		case isErrForeign(err) || err == nil && (!runs(c) || !isAt(c, place)):
			return nil
		case err == nil:
			return d.awaitEnd(ctx, c.ID)
		}
		// Unknown is not ended: the engine will answer again.
		if pause(ctx, followInterval) != nil {
			return ctx.Err()
		}
	}
}
