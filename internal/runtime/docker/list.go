package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// List implements runtime.Driver. It lists what the engine has of any installation, and records of agents
// of which the engine has nothing.
func (d *Driver) List(ctx context.Context) ([]runtime.Found, error) {
	byOwner := foundAgents{own: map[identity.AgentID]*runtime.Found{}, foreign: map[identity.AgentID]*runtime.Found{}}
	volumes, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.VolumeListResult, error) {
		return c.VolumeList(ctx, client.VolumeListOptions{Filters: make(client.Filters).Add("label", labelInstallation)})
	})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	names := map[string]bool{}
	for _, v := range volumes.Items {
		names[v.Name] = true
	}
	for _, v := range volumes.Items {
		installation := v.Labels[labelInstallation]
		if v.Labels[labelRole] == roleHome && !names[quarantinePrefix(installation)+v.Name] {
			byOwner.of(d.owner(installation), v.Labels)
		}
	}
	containers, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ContainerListResult, error) {
		return c.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", labelInstallation)})
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, c := range containers.Items {
		installation := c.Labels[labelInstallation]
		if inQuarantine(installation, c.Names) || c.Labels[labelRole] != roleGateway {
			continue
		}
		owner := d.owner(installation)
		f := byOwner.of(owner, c.Labels)
		if f == nil || owner == runtime.Foreign {
			continue
		}
		alive := c.State == container.StateRunning || c.State == container.StatePaused || c.State == container.StateRestarting
		main := agent{id: f.ID, installation: installation}.container()
		if d.settings.Installation != "" && d.checkPlace(runtime.Place(c.Labels[labelPlace])) != nil {
			continue // of this machine and a pool server that are one, or of two names of a server
		}
		if alive || hasName(c, main) && !f.Running {
			f.Place, f.Running = runtime.Place(c.Labels[labelPlace]), alive
		}
	}
	return byOwner.list(d.recorded())
}

// owner returns whose the objects of an installation are. To a driver without one all are its own.
func (d *Driver) owner(installation string) runtime.Owner {
	if d.settings.Installation == "" || installation == d.settings.Installation {
		return runtime.Own
	}
	return runtime.Foreign
}

// foundAgents are the agents of which the engine has something.
type foundAgents struct {
	own, foreign map[identity.AgentID]*runtime.Found
}

// of returns the entry of the agent that the labels of an object name, or nil if they name none.
func (f foundAgents) of(owner runtime.Owner, labels map[string]string) *runtime.Found {
	id := identity.AgentID(labels[labelAgent])
	if !validName.MatchString(string(id)) {
		return nil
	}
	to := f.own
	if owner == runtime.Foreign {
		to = f.foreign
	}
	if to[id] == nil {
		to[id] = &runtime.Found{ID: id, Owner: owner, Shared: owner == runtime.Foreign}
	}
	return to[id]
}

// list returns all agents. If the engine has something of an agent of this installation and of another
// one, which has the same id because one of the two was restored from a backup, it is this one's.
func (f foundAgents) list(recorded []runtime.Found, err error) ([]runtime.Found, error) {
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Found, 0, len(f.own)+len(f.foreign)+len(recorded))
	for _, own := range f.own {
		out = append(out, *own)
	}
	for id, foreign := range f.foreign {
		if f.own[id] == nil {
			out = append(out, *foreign)
		}
	}
	for _, r := range recorded {
		if f.own[r.ID] == nil && f.foreign[r.ID] == nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// recorded lists the agents that have a record.
func (d *Driver) recorded() ([]runtime.Found, error) {
	entries, err := os.ReadDir(d.settings.Dir)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var out []runtime.Found
	for _, e := range entries {
		a, err := d.agent(identity.AgentID(e.Name()))
		if !e.IsDir() || err != nil || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		rec, err := a.record()
		if errors.Is(err, fs.ErrNotExist) || err == nil && rec.Place == "" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", a.id, err)
		}
		out = append(out, runtime.Found{ID: a.id, Place: rec.Place, Owner: runtime.Own})
	}
	return out, nil
}
