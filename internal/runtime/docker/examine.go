package docker

import (
	"context"
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// Examine implements runtime.Examiner. It looks at what the engine says of the containers that run.
func (d *Driver) Examine(ctx context.Context) ([]runtime.Examination, error) {
	found, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []runtime.Examination
	for _, f := range found {
		if !f.Running || f.Owner != runtime.Own {
			continue
		}
		a, err := d.agent(f.ID)
		if err != nil {
			return nil, err
		}
		c, err := d.gateway(ctx, a)
		if err != nil {
			return nil, fmt.Errorf("examine %s: %w", f.ID, err)
		}
		if runs(c) {
			out = append(out, runtime.Examination{ID: f.ID, Checks: examine(c)})
		}
	}
	return out, nil
}

// examine checks one container.
func examine(c *container.InspectResponse) []runtime.Check {
	h := c.HostConfig
	if h == nil || c.Config == nil {
		return []runtime.Check{{Name: "container", State: "the engine does not say what it has"}}
	}
	check := func(name string, ok bool, good, bad string) runtime.Check {
		if ok {
			return runtime.Check{Name: name, State: good, OK: true}
		}
		return runtime.Check{Name: name, State: bad, Fix: "restart the agent; if that does not help, find out who changes containers on this machine"}
	}
	onlyHome := len(h.Binds) == 0 && !slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool {
		return m.Type == mount.TypeBind || m.Type == mount.TypeVolume && m.Destination != relay.VolumePath
	})
	hasProfile := !slices.ContainsFunc(h.SecurityOpt, func(o string) bool {
		return o == "seccomp=unconfined" || o == "seccomp:unconfined" || o == "apparmor=unconfined"
	})
	return []runtime.Check{
		check("network", h.NetworkMode.IsNone(), "none", "it has the network "+string(h.NetworkMode)),
		check("files", h.ReadonlyRootfs && onlyHome, "only its home can be written", "it can write outside of its home, or sees files of the machine"),
		check("capabilities", !h.Privileged && len(h.CapAdd) == 0 && len(h.CapDrop) > 0, "none", "it has capabilities"),
		check("privileges", slices.ContainsFunc(h.SecurityOpt, isNoNewPrivileges), "it cannot get more", "its programs can get more"),
		check("system calls", hasProfile && !h.Privileged, "filtered", "they are not filtered"),
		check("user", c.Config.User == relay.AgentUser, "an ordinary one", "it runs as "+c.Config.User),
		check("namespaces", !h.PidMode.IsHost() && !h.IpcMode.IsHost() && !h.UTSMode.IsHost() && !h.UsernsMode.IsHost(), "its own", "it shares some with the machine"),
	}
}

func isNoNewPrivileges(option string) bool {
	return option == "no-new-privileges" || option == "no-new-privileges:true" || option == "no-new-privileges=true"
}
