package docker

import (
	"maps"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

const (
	// overheadProcesses is what a container has beside the gateway: the relay and the program that
	// connects to it, with their threads. The limit of a gateway does not include it.
	overheadProcesses = 48
	// runBytes is the size of the memory file system for the secrets.
	runBytes = 16 << 20
	// filesBytes and filesProcesses are the limits of a container that only serves files.
	filesBytes, filesProcesses = 256 << 20, 64
	// sharesOfWeight is the number of CPU shares for a weight of 100, which is the default of both.
	sharesOfWeight = 1024
	// minShares is the least that an engine takes.
	minShares = 2
)

// gatewayConfig returns the container of a gateway. Nothing in it is secret: whoever may use the engine
// reads it.
func (d *Driver) gatewayConfig(a agent, rec record, volume string, l runtime.Limits) client.ContainerCreateOptions {
	labels := a.labels(roleGateway)
	maps.Copy(labels, map[string]string{labelPlace: string(rec.Place), labelEpoch: strconv.FormatInt(rec.Epoch, 10)})
	who := relay.Identity{Agent: a.id, Place: rec.Place, Epoch: rec.Epoch, Key: rec.Key}
	o := d.config(volume, relay.RunCommand(), who, labels)
	o.Name = a.container()
	o.HostConfig.Resources = d.resources(l)
	return o
}

// filesConfig returns the container that serves the files of an agent whose gateway does not run. The
// engine removes it when it ends.
func (d *Driver) filesConfig(a agent, who relay.Identity, volume string) client.ContainerCreateOptions {
	o := d.config(volume, relay.FilesCommand(), who, a.labels(roleFiles))
	o.Name = a.filesContainer()
	o.HostConfig.AutoRemove = true
	o.HostConfig.Resources = limited(filesBytes, filesProcesses)
	return o
}

// config returns what all containers have. They reach nothing but their volume and their own memory.
func (d *Driver) config(volume string, command []string, who relay.Identity, labels map[string]string) client.ContainerCreateOptions {
	uid, gid, _ := strings.Cut(relay.AgentUser, ":")
	owner := "uid=" + uid + ",gid=" + gid
	return client.ContainerCreateOptions{
		Config: &container.Config{
			Image: d.settings.Image, Hostname: "agent", User: relay.AgentUser, WorkingDir: "/", Entrypoint: command[:1], Cmd: command[1:],
			Env: who.Environment(), Labels: labels, NetworkDisabled: true,
		},
		HostConfig: &container.HostConfig{
			NetworkMode: "none", ReadonlyRootfs: true, Runtime: d.settings.Runtime,
			CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
			Tmpfs: map[string]string{
				"/tmp":        "rw,nosuid,nodev,mode=1777,size=" + strconv.FormatInt(d.settings.TempBytes, 10),
				relay.RunPath: "rw,nosuid,nodev,noexec,mode=0700," + owner + ",size=" + strconv.Itoa(runBytes),
			},
			Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: volume, Target: relay.VolumePath}},
			LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{
				"max-size": strconv.FormatInt(d.settings.LogMaxBytes, 10), "max-file": "3", "compress": "false",
			}},
		},
	}
}

// resources returns the limits of a gateway as the engine has them.
func (d *Driver) resources(l runtime.Limits) container.Resources {
	r := limited(l.MemoryBytes, l.Processes)
	r.NanoCPUs = int64(l.CPUs * 1e9)
	if l.CPUWeight > 0 {
		r.CPUShares = max(l.CPUWeight*sharesOfWeight/100, minShares)
	}
	return r
}

// limited returns limits of memory, without any swap, and of processes; 0: none.
func limited(memory, processes int64) container.Resources {
	noDumps := &container.Ulimit{Name: "core"} // which would leave the container
	r := container.Resources{Ulimits: []*container.Ulimit{noDumps}}
	if memory > 0 {
		r.Memory, r.MemorySwap = memory, memory
	}
	if processes > 0 {
		n := processes + overheadProcesses
		r.PidsLimit = &n
	}
	return r
}
