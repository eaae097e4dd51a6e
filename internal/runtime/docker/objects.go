package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime"
)

// findContainer returns the container of a name, or nil if there is none. Errors: ErrForeign, if it
// is not this agent's.
func (d *Driver) findContainer(ctx context.Context, a agent, name, role string) (*container.InspectResponse, error) {
	c, err := d.inspectContainer(ctx, name)
	if err != nil || c == nil {
		return nil, err
	}
	if c.Config == nil || !a.owns(c.Config.Labels, role) {
		return nil, fmt.Errorf("the container %s was not made by this installation: rename it or remove it: %w", name, runtime.ErrForeign)
	}
	return c, nil
}

// inspectContainer returns a container by its name or id, whosever it is, or nil if there is none.
func (d *Driver) inspectContainer(ctx context.Context, name string) (*container.InspectResponse, error) {
	found, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ContainerInspectResult, error) {
		return c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at the container %s: %w", name, err)
	}
	if found.Container.State == nil {
		return nil, fmt.Errorf("look at the container %s: the engine does not tell its state", name)
	}
	return &found.Container, nil
}

// gateway returns the container of the agent's present gateway, which may have ended, or nil.
func (d *Driver) gateway(ctx context.Context, a agent) (*container.InspectResponse, error) {
	for {
		c, err := d.findContainer(ctx, a, a.container(), roleGateway)
		if err != nil || !runs(c) || d.link(a.id).agrees(c.State.Paused) {
			return c, err
		}
		if err := pause(ctx, settleInterval); err != nil {
			return nil, err
		}
	}
}

// runs reports whether the processes of a container exist, at work or paused.
func runs(c *container.InspectResponse) bool {
	return c != nil && (c.State.Running || c.State.Paused || c.State.Status == container.StateRestarting)
}

// isAt reports whether a container was made for a place.
func isAt(c *container.InspectResponse, place runtime.Place) bool {
	return c != nil && c.Config != nil && c.Config.Labels[labelPlace] == string(place)
}

// containers lists the agent's containers, oldest first, without those in quarantine.
func (d *Driver) containers(ctx context.Context, a agent) ([]container.Summary, error) {
	all, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ContainerListResult, error) {
		filters := make(client.Filters).Add("label", labelInstallation+"="+a.installation, labelAgent+"="+string(a.id))
		return c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	})
	if err != nil {
		return nil, fmt.Errorf("list the containers of %s: %w", a.id, err)
	}
	return slices.DeleteFunc(all.Items, func(c container.Summary) bool {
		return inQuarantine(a.installation, c.Names) || c.Labels[labelInstallation] != a.installation || c.Labels[labelAgent] != string(a.id)
	}), nil
}

// gateways lists the containers of the agent's gateways, oldest first: those that are kept for their
// logs, and the present one.
func (d *Driver) gateways(ctx context.Context, a agent) ([]container.Summary, error) {
	all, err := d.containers(ctx, a)
	all = slices.DeleteFunc(all, func(c container.Summary) bool { return c.Labels[labelRole] != roleGateway })
	slices.SortFunc(all, func(x, y container.Summary) int {
		return cmp.Or(cmp.Compare(epochOf(x.Labels), epochOf(y.Labels)), cmp.Compare(x.Created, y.Created))
	})
	return all, err
}

func inQuarantine(installation string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(strings.TrimPrefix(name, "/"), quarantinePrefix(installation))
	})
}

// home is the volume of an agent's files.
type homeVolume struct {
	name   string
	exists bool
}

// homeVolume returns the volume that the agent uses or will use. Errors: ErrForeign, if it is not this
// agent's.
func (d *Driver) homeVolume(ctx context.Context, a agent) (homeVolume, error) {
	all, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.VolumeListResult, error) {
		return c.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("name", string(a.id))})
	})
	if err != nil {
		return homeVolume{}, fmt.Errorf("list the volumes of %s: %w", a.id, err)
	}
	labels := map[string]map[string]string{} // of the volumes by their names
	for _, v := range all.Items {
		labels[v.Name] = v.Labels
	}
	for n := 1; ; n++ {
		name := a.volume(n)
		if mark, ok := labels[a.quarantined(name)]; ok && a.owns(mark, roleQuarantine) {
			continue
		}
		found, exists := labels[name]
		if exists && !a.owns(found, roleHome) {
			return homeVolume{}, fmt.Errorf("the volume %s belongs to another installation: %w", name, runtime.ErrForeign)
		}
		return homeVolume{name: name, exists: exists}, nil
	}
}

// makeHome returns the name of the volume of the agent's home, which it makes if there is none.
func (d *Driver) makeHome(ctx context.Context, a agent) (string, error) {
	v, err := d.homeVolume(ctx, a)
	if err != nil || v.exists {
		return v.name, err
	}
	if err := d.makeVolume(ctx, a, v.name, roleHome); err != nil {
		return "", err
	}
	return v.name, nil
}

// makeVolume makes a volume. It succeeds if the agent has it already.
func (d *Driver) makeVolume(ctx context.Context, a agent, name, role string) error {
	made, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.VolumeCreateResult, error) {
		return c.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: a.labels(role)})
	})
	if err != nil {
		return fmt.Errorf("make the volume %s: %w", name, err)
	}
	if !a.owns(made.Volume.Labels, role) { // it existed
		return fmt.Errorf("the volume %s belongs to another installation: %w", name, runtime.ErrForeign)
	}
	return nil
}

// isForeign reports whether what the engine has under the agent's names belongs to another
// installation.
func (d *Driver) isForeign(ctx context.Context, a agent) (bool, error) {
	_, err := d.homeVolume(ctx, a)
	if isErrForeign(err) {
		return true, nil
	}
	return false, err
}
