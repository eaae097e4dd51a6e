package docker

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
)

// maintenanceInterval is the pause between two rounds of the driver's regular work.
const maintenanceInterval = 30 * time.Second

// Run implements runtime.Runner. It tests the engine, and removes what servers that were killed have left.
func (d *Driver) Run(ctx context.Context) error {
	for {
		before := d.CheckIsolation()
		switch err := d.testIsolation(ctx); {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // that is how it ends
		case err != nil && before == nil:
			d.settings.Log.ErrorContext(ctx, "no agent is started until agents can be isolated", "error", err)
		case err == nil && before != nil:
			d.settings.Log.InfoContext(ctx, "agents can be isolated again")
		case err == nil:
			if err := d.removeLeftFiles(ctx); err != nil && ctx.Err() == nil {
				d.settings.Log.WarnContext(ctx, "removing containers that have served files failed", "error", err)
			}
		}
		if pause(ctx, maintenanceInterval) != nil {
			return nil //nolint:nilerr // that is how it ends
		}
	}
}

// removeLeftFiles removes the containers of this installation that only serve files and have ended, or
// were never started. The engine removes those that end, unless it is killed at that moment.
func (d *Driver) removeLeftFiles(ctx context.Context) error {
	all, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ContainerListResult, error) {
		filters := make(client.Filters).Add("label", labelRole+"="+roleFiles, labelInstallation+"="+d.settings.Installation)
		return c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	})
	if err != nil {
		return err
	}
	for _, c := range all.Items {
		a, err := d.agent(identity.AgentID(c.Labels[labelAgent]))
		if err != nil || c.State == container.StateRunning || !a.owns(c.Labels, roleFiles) {
			continue
		}
		if err := d.removeLeft(ctx, a, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) removeLeft(ctx context.Context, a agent, containerID string) error {
	unlock, err := a.lock(ctx) // nobody is about to start it
	if err != nil {
		return err
	}
	defer unlock()
	c, err := d.inspectContainer(ctx, containerID)
	if err != nil || c == nil || runs(c) && !c.State.Paused {
		return err
	}
	return d.removeContainer(ctx, containerID)
}

// after is time.After that also ends with ctx.
func after(ctx context.Context, t time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		_ = pause(ctx, t)
		close(done)
	}()
	return done
}
