package docker

import (
	"context"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Remove implements runtime.Driver.
func (d *Driver) Remove(ctx context.Context, _ runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	err = d.discard(ctx, a, d.removeAll)
	if isErrForeign(err) {
		d.settings.Log.WarnContext(ctx, "what the engine has of a deleted agent is left alone", "agent", id, "reason", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

// Quarantine implements runtime.Driver. The containers get other names, and an empty volume marks that
// of the home, because volumes cannot be renamed.
func (d *Driver) Quarantine(ctx context.Context, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	if err := d.discard(ctx, a, d.setAside); err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	return nil
}

// discard ends the agent's containers, calls do, and forgets the agent. Errors: ErrForeign.
func (d *Driver) discard(ctx context.Context, a agent, do func(context.Context, agent) error) error {
	if _, err := d.homeVolume(ctx, a); err != nil {
		return err
	}
	// Kill before locking: a Stop that waits then returns.
	if err := d.killAll(ctx, a); err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.endFiles(ctx, a); err != nil {
		return err
	}
	if err := d.killAll(ctx, a); err != nil {
		return err
	}
	if err := do(ctx, a); err != nil {
		return err
	}
	d.forget(a.id)
	return a.forgetRecords()
}

func (d *Driver) killAll(ctx context.Context, a agent) error {
	all, err := d.containers(ctx, a)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.State == container.StateExited || c.State == container.StateCreated || c.State == container.StateDead {
			continue
		}
		if err := d.kill(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the connection to a removed agent.
func (d *Driver) forget(id identity.AgentID) {
	d.mu.Lock()
	l := d.links[id]
	delete(d.links, id)
	delete(d.samplers, id)
	d.mu.Unlock()
	if l != nil {
		l.close()
	}
}

func (d *Driver) removeAll(ctx context.Context, a agent) error {
	all, err := d.containers(ctx, a)
	if err != nil {
		return err
	}
	for _, c := range all {
		if err := d.removeContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	v, err := d.homeVolume(ctx, a)
	if err != nil || !v.exists {
		return err
	}
	if _, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.VolumeRemoveResult, error) {
		return c.VolumeRemove(ctx, v.name, client.VolumeRemoveOptions{})
	}); ignoreMissing(err) != nil {
		return fmt.Errorf("remove the volume %s: %w", v.name, err)
	}
	return nil
}

func (d *Driver) setAside(ctx context.Context, a agent) error {
	all, err := d.containers(ctx, a)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.State == container.StateCreated || c.Labels[labelRole] == roleFiles {
			if err := d.removeContainer(ctx, c.ID); err != nil {
				return err
			}
			continue
		}
		name := a.quarantined(strings.TrimPrefix(a.keptName(c.ID), "agento-"+a.installation+"-"))
		if _, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, cl *client.Client) (client.ContainerRenameResult, error) {
			return cl.ContainerRename(ctx, c.ID, client.ContainerRenameOptions{NewName: name})
		}); ignoreMissing(err) != nil {
			return fmt.Errorf("rename the container %s: %w", c.ID, err)
		}
	}
	v, err := d.homeVolume(ctx, a)
	if err != nil || !v.exists {
		return err
	}
	return d.makeVolume(ctx, a, a.quarantined(v.name), roleQuarantine)
}

// removeContainer removes a container, and returns when it is gone.
func (d *Driver) removeContainer(ctx context.Context, containerID string) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	for {
		_, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerRemoveResult, error) {
			return c.ContainerRemove(ctx, containerID, client.ContainerRemoveOptions{Force: true})
		})
		if err == nil || isNotFound(err) {
			return nil
		}
		// The engine may be removing it already.
		if !isConflict(err) || pause(ctx, endInterval) != nil {
			return fmt.Errorf("remove the container %s: %w", containerID, err)
		}
	}
}

var _ interface {
	runtime.Driver
	runtime.Watcher
	runtime.Freezer
	runtime.Runner
	runtime.Examiner
} = (*Driver)(nil)
