//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	// measureEntries is how many entries are counted at a time.
	measureEntries = 2000
	// measureShare is how many times as long as it counted the relay pauses.
	measureShare = 3
	// measureEvery is the longest pause between two rounds.
	measureEvery = time.Minute
	// lookEvery is the pause between two looks at the free space of the disk, and the shortest
	// one between two rounds.
	lookEvery = 3 * time.Second
	// growth is how much free space may be lost, to whomever on this disk, until the files are
	// measured again; in bytes, and in files.
	growth, growthFiles = 256 << 20, 20_000
)

// measurement is what the agent's files used when they were last measured.
type measurement struct {
	mu   sync.Mutex
	used home.Used
	at   time.Time // zero: not yet
}

func (m *measurement) last() (home.Used, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used, m.at
}

func (m *measurement) set(u home.Used) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used, m.at = u, time.Now()
}

// overDisk means that the agent's files exceed a limit.
type overDisk struct{ used home.Used }

func (e *overDisk) Error() string {
	return fmt.Sprintf("the agent's files exceed its limits: %d bytes in %d files", e.used.Bytes, e.used.Files)
}

func exceeds(u home.Used, l wire.Launch) bool {
	return l.DiskBytes > 0 && u.Bytes > l.DiskBytes || l.Files > 0 && u.Files > l.Files || u.Hidden && (l.DiskBytes > 0 || l.Files > 0)
}

// measure measures the whole volume. pause is how many times as long as it counts it rests.
// Errors: *overDisk.
func (r *relay) measure(ctx context.Context, l wire.Launch, pause int) error {
	m := home.NewMeter(r.volume)
	defer m.Close()
	for done := false; !done; {
		began := time.Now()
		var err error
		done, err = m.Step(ctx, measureEntries)
		u := m.Used()
		u.Files = max(0, u.Files-2) // the directories of the home and of the trash
		if exceeds(u, l) {
			r.measured.set(u)
			return &overDisk{u}
		}
		if err != nil {
			return err
		}
		if done {
			r.measured.set(u)
		}
		time.Sleep(time.Duration(pause) * time.Since(began))
	}
	return nil
}

// measureBefore measures the files before a start. Errors: *overDisk.
func (r *relay) measureBefore(ctx context.Context, l wire.Launch) error { return r.measure(ctx, l, 0) }

// measureRegularly measures the files while the gateway runs, and has the relay end when they
// exceed a limit.
func (r *relay) measureRegularly(l wire.Launch) {
	before := r.free()
	for {
		for waited := time.Duration(0); waited < measureEvery; waited += lookEvery {
			time.Sleep(lookEvery)
			if r.free().less(before, l) {
				break
			}
		}
		before = r.free()
		err := r.measure(context.Background(), l, measureShare)
		if over := (*overDisk)(nil); errors.As(err, &over) {
			r.log.print("the container is ended: %v", over)
			r.over <- struct{}{}
			return
		}
		if err != nil {
			r.log.print("the agent's files cannot be measured: %v", err)
		}
	}
}

// space is what is free on a disk.
type space struct{ bytes, files int64 }

func (r *relay) free() space {
	var st syscall.Statfs_t
	if err := syscall.Statfs(r.volume, &st); err != nil {
		return space{}
	}
	return space{int64(st.Bavail) * st.Bsize, int64(st.Ffree)}
}

// less reports whether so much less is free than before that the agent may be over a limit.
func (s space) less(before space, l wire.Launch) bool {
	bytes, files := int64(growth), int64(growthFiles)
	if l.DiskBytes > 0 {
		bytes = min(bytes, l.DiskBytes/4)
	}
	if l.Files > 0 {
		files = min(files, l.Files/4)
	}
	return before.bytes-s.bytes > bytes || before.files-s.files > files
}
