package process

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/home"
)

const (
	// measureEntries is how many entries are counted at a time.
	measureEntries = 2000
	// measureShare is how many times as long as it counted Run pauses. Source: 500,000 entries
	// a second, so that an agent with a million occupies a quarter of a core for eight seconds.
	measureShare = 3
	// measurePause is the pause between two rounds. Source: a disk takes 1 GB a second, so an
	// agent is over its limit by a few GB when it is ended.
	measurePause = 3 * time.Second
)

// diskUse is what the files of an agent used when they were last measured.
type diskUse struct {
	used  runtime.Disk
	ended string // the nonce of the gateway that was ended because of that; empty: none
}

// newMeter returns a meter of what an agent can write to on the disk. Its log has a size
// of its own.
func (a agent) newMeter() *home.Meter { return home.NewMeter(a.home, a.path("trash"), a.path("tmp")) }

// checkDisk returns an error if the files of an agent exceed the limits that its next
// gateway will have. Errors: *runtime.DiskError.
func (d *Driver) checkDisk(ctx context.Context, a agent, limits runtime.Limits) error {
	m := a.newMeter()
	defer m.Close()
	for {
		done, err := m.Step(ctx, measureEntries)
		if runtime.Disk(m.Used()).Exceeds(limits) {
			return &runtime.DiskError{Used: runtime.Disk(m.Used())}
		}
		if done || err != nil {
			return err
		}
	}
}

// measureRegularly measures the files of every agent that runs, one after the other, and
// ends the gateways of those that exceed their limits.
func (d *Driver) measureRegularly(ctx context.Context) {
	for pause(ctx, measurePause) == nil {
		for _, id := range d.supervisedAgents() {
			a, err := d.agent(id)
			if err == nil {
				err = d.measure(ctx, a)
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				d.settings.Log.Error("measuring the files of an agent failed", "agent", id, "error", err)
			}
		}
	}
}

// measure measures the files of an agent if its gateway runs.
func (d *Driver) measure(ctx context.Context, a agent) error {
	rec, err := a.record()
	if err != nil {
		return err
	}
	if _, alive := d.alive(a, rec); !alive {
		return nil
	}
	limits := runtime.Limits{DiskBytes: rec.DiskLimit, Files: rec.FileLimit}
	m := a.newMeter()
	defer m.Close()
	for done := false; !done; {
		began := time.Now()
		if done, err = m.Step(ctx, measureEntries); err != nil {
			return err
		}
		if runtime.Disk(m.Used()).Exceeds(limits) {
			return d.endOverDisk(a, rec, runtime.Disk(m.Used()))
		}
		if err := pause(ctx, measureShare*time.Since(began)); err != nil {
			return err
		}
	}
	d.setDisk(a.id, diskUse{used: runtime.Disk(m.Used())})
	return nil
}

// endOverDisk kills a gateway whose agent has too many files.
func (d *Driver) endOverDisk(a agent, rec record, used runtime.Disk) error {
	d.settings.Log.Warn("agent killed: its files exceed a limit", "agent", a.id, "bytes", used.Bytes, "limit", rec.DiskLimit, "files", used.Files, "fileLimit", rec.FileLimit)
	defer d.lock(a.id)()
	now, err := a.record()
	if err != nil || now.Nonce != rec.Nonce {
		return err
	}
	d.setDisk(a.id, diskUse{used: used, ended: rec.Nonce})
	d.kill(withoutShim(d.processes(a, now), 0))
	return nil
}

func (d *Driver) setDisk(id identity.AgentID, use diskUse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disks[id] = use
}

// disk returns what the files of an agent used when they were last measured.
func (d *Driver) disk(id identity.AgentID) diskUse {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disks[id]
}

// supervisedAgents returns the agents that Run maintains.
func (d *Driver) supervisedAgents() []identity.AgentID {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := make([]identity.AgentID, 0, len(d.supervised))
	for id := range d.supervised {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
