package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// openStoring returns a driver that can move checkpoints to a disk.
func openStoring(t *testing.T, s *process.Settings) *process.Driver {
	t.Helper()
	if s.CheckpointBudget == 0 {
		s.CheckpointBudget = 1 << 30
	}
	return openSuspending(t, *s)
}

func move(t *testing.T, d *process.Driver, g *runtimetest.Gateway) {
	t.Helper()
	if err := process.Move(t.Context(), d, g.ID); err != nil {
		t.Fatal(err)
	}
	if s := g.Inspect(); s.Phase != runtime.Suspended || s.StoredBytes == 0 || s.MemoryBytes > 1<<20 {
		t.Fatalf("after the move: %+v", s)
	}
}

// checkResumes resumes a gateway that started as boot says. Nothing of its checkpoint is left.
func checkResumes(t *testing.T, d *process.Driver, g *runtimetest.Gateway, boot string) {
	t.Helper()
	if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := runtimetest.At(t, d, g.ID, g.Place).Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
	checkNoCheckpoint(t, d, g)
}

func checkNoCheckpoint(t *testing.T, d *process.Driver, g *runtimetest.Gateway) {
	t.Helper()
	runtimetest.WaitUntil(t, "the checkpoint is deleted, which no wake waits for", func() bool {
		inMemory, err := filepath.Glob(filepath.Join(process.CheckpointDir(d), string(g.ID)+"*"))
		return err == nil && len(inMemory)+len(process.StoredCheckpoints(d)) == 0
	})
	if err := d.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resumed again: %v", err)
	}
}

// TestCheckpointOnDiskDamaged: what was changed on the disk is no checkpoint, and another gateway
// can be started.
func TestCheckpointOnDiskDamaged(t *testing.T) {
	for name, damage := range map[string]func(path string, data []byte) error{
		"gone":      func(path string, _ []byte) error { return os.Remove(path) },
		"shortened": func(path string, data []byte) error { return os.Truncate(path, int64(len(data)-1)) },
		"a bit": func(path string, data []byte) error {
			data[len(data)/2] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"the last bit": func(path string, data []byte) error {
			data[len(data)-1] ^= 1
			return os.WriteFile(path, data, 0o600)
		},
		"replaced": func(path string, data []byte) error { return os.WriteFile(path, make([]byte, len(data)), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openStoring(t, &s)
			spec := runtimetest.Spec(runtimetest.NewID())
			g := runtimetest.Start(t, d, spec)
			boot := g.Ask("/boot")
			suspend(t, d, g)
			move(t, d, g)
			path := process.StoredCheckpoint(d, g.ID)
			data, err := os.ReadFile(path)
			must(t, err)
			must(t, damage(path, data))
			if err := d.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
				t.Errorf("Resume: %v", err)
			}
			checkNoCheckpoint(t, d, g)
			must(t, d.Start(t.Context(), g.Place, spec))
			g.WaitReady()
			if g.Ask("/boot") == boot {
				t.Error("it was resumed")
			}
		})
	}
}

// TestServerKilledInMove: there is exactly one checkpoint afterwards, or none if it was taken.
func TestServerKilledInMove(t *testing.T) {
	for name, step := range map[string]int{
		"written": process.MoveWritten, "renamed": process.MoveRenamed, "valid": process.MoveValid, "taken": process.MoveTaken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openStoring(t, &s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			suspend(t, d, g)
			must(t, process.LeaveMove(t.Context(), d, g.ID, step))
			next := openStoring(t, &s)
			run(t, next)
			runtimetest.WaitUntil(t, "what is left is removed", func() bool {
				inMemory, err := filepath.Glob(filepath.Join(process.CheckpointDir(d), string(g.ID)+"*", "pages-1.img"))
				must(t, err)
				want := map[int][2]int{process.MoveWritten: {1, 0}, process.MoveRenamed: {1, 0}, process.MoveValid: {0, 1}, process.MoveTaken: {0, 0}}[step]
				return [2]int{len(inMemory), len(process.StoredCheckpoints(d))} == want
			})
			if step == process.MoveTaken {
				checkNoCheckpoint(t, next, g)
				return
			}
			checkResumes(t, next, g, boot)
		})
	}
}

// TestMachineRestarts: the keys are gone, so what is on the disk is removed.
func TestMachineRestarts(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openStoring(t, &s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	move(t, d, g)
	must(t, os.RemoveAll(process.CheckpointDir(d)))
	next := openStoring(t, &s)
	run(t, next)
	runtimetest.WaitUntil(t, "the checkpoint is removed", func() bool { return len(process.StoredCheckpoints(next)) == 0 })
	checkNoCheckpoint(t, next, g)
}

// TestPlainCheckpointsAreRemoved by a server that is to seal them.
func TestPlainCheckpointsAreRemoved(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	s.PlainCheckpoints = true
	d := openStoring(t, &s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	move(t, d, g)
	s.PlainCheckpoints = false
	next := openStoring(t, &s)
	run(t, next)
	runtimetest.WaitUntil(t, "the checkpoint is removed", func() bool { return len(process.StoredCheckpoints(next)) == 0 })
	checkNoCheckpoint(t, next, g)
}

// TestNoRoomForAMove leaves the checkpoint in memory, whatever there is no room in.
func TestNoRoomForAMove(t *testing.T) {
	for name, limit := range map[string]func(s *process.Settings, d func() *process.Driver, disk *databasetest.Disk) *process.Driver{
		"the budget": func(s *process.Settings, d func() *process.Driver, _ *databasetest.Disk) *process.Driver {
			s.CheckpointBudget = 1 << 20
			return d()
		},
		"the reserve of the disk": func(_ *process.Settings, d func() *process.Driver, _ *databasetest.Disk) *process.Driver {
			return d() // the disk is smaller than what is left free
		},
		"the disk, in the middle": func(_ *process.Settings, d func() *process.Driver, disk *databasetest.Disk) *process.Driver {
			opened := d()
			process.SetDiskReserve(opened, -1<<30) // as if others were faster
			disk.Fill()
			return opened
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := databasetest.NewDisk(t, "size=64m")
			s := newSettings(t)
			s.Dir = filepath.Join(disk.Dir, "data", "agents")
			d := limit(&s, func() *process.Driver { return openStoring(t, &s) }, disk)
			disk.Free()
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			suspend(t, d, g)
			disk.Fill()
			if err := process.Move(t.Context(), d, g.ID); !errors.Is(err, runtime.ErrNoDiskRoom) && !errors.Is(err, unix.ENOSPC) {
				t.Errorf("Move: %v", err)
			}
			disk.Free()
			if s := g.Inspect(); s.Phase != runtime.Suspended || s.StoredBytes != 0 || s.MemoryBytes == 0 {
				t.Errorf("after a move that failed: %+v", s)
			}
			checkResumes(t, d, g, boot)
		})
	}
}

// TestFailedMoveIsTold once, and then tried again.
func TestFailedMoveIsTold(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openStoring(t, &s)
	run(t, d)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	suspend(t, d, g)
	in := filepath.Dir(process.StoredCheckpoint(d, g.ID))
	must(t, os.WriteFile(in, []byte("in the way"), 0o600))
	runtimetest.WaitUntil(t, "the failure is told", func() bool { return d.MoveToDisk(t.Context(), g.Place, g.ID) != nil })
	must(t, os.Remove(in))
	runtimetest.WaitUntil(t, "the checkpoint is on the disk", func() bool {
		if err := d.MoveToDisk(t.Context(), g.Place, g.ID); err != nil {
			t.Log(err) // of a move that began before
		}
		return g.Inspect().StoredBytes > 0
	})
}

// TestResumeDuringAMove does not wait for it, and ends it.
func TestResumeDuringAMove(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openStoring(t, &s)
	run(t, d)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	boot := g.Ask("/boot")
	g.Ask("/use-memory", "bytes", "100000000")
	for range 3 {
		suspend(t, d, g)
		must(t, d.MoveToDisk(t.Context(), g.Place, g.ID))
		if err := d.Resume(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
		if got := g.Ask("/boot"); got != boot {
			t.Fatal("the gateway has restarted")
		}
	}
	runtimetest.WaitUntil(t, "nothing is left on the disk", func() bool { return len(process.StoredCheckpoints(d)) == 0 })
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	suspend(t, d, g)
	if err := process.Move(canceled, d, g.ID); err != nil || g.Inspect().StoredBytes > 0 {
		t.Errorf("an interrupted move: %v, %+v", err, g.Inspect())
	}
	checkResumes(t, d, g, boot)
}

// TestMemoryFullInADump: the gateway goes on.
func TestMemoryFullInADump(t *testing.T) {
	t.Parallel()
	memory := databasetest.NewDisk(t, "size=64m")
	s := newSettings(t)
	s.RunDir = filepath.Join(memory.Dir, "run")
	s.CRIU = filepath.Join(t.TempDir(), "criu")
	must(t, os.WriteFile(s.CRIU, []byte("#!/bin/sh\n[ \"$1\" = dump ] && head -c 1G /dev/zero >"+memory.Dir+"/fill\nexec "+process.DefaultCRIU()+" \"$@\"\n"), 0o700))
	d := open(t, s)
	if err := d.CheckSuspend(); err != nil {
		t.Skip(err)
	}
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	boot := g.Ask("/boot")
	err := d.Suspend(t.Context(), g.Place, g.ID)
	if err == nil {
		t.Fatal("Suspend succeeds")
	}
	must(t, os.Remove(filepath.Join(memory.Dir, "fill")))
	if got := g.Ask("/boot"); got != boot || g.Inspect().Phase != runtime.Running {
		t.Errorf("after %v the gateway is %s", err, g.Inspect().Phase)
	}
	checkNoCheckpoint(t, d, g)
	g.Ask("/use-memory", "bytes", "100000000")
	if err := d.Suspend(t.Context(), g.Place, g.ID); !errors.As(err, new(*runtime.SuspendError)) {
		t.Errorf("a checkpoint that does not fit: %v", err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
}

// TestMachineParts: a checkpoint fits only what has made it, whatever of that was updated.
func TestMachineParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("1"), 0o700))
		return path
	}
	criu, s := file("criu"), process.Settings{Bubblewrap: file("bwrap"), Command: []string{file("node"), file("openclaw.mjs")}, ReadOnly: []string{dir}}
	before := process.MachineParts(criu, s)
	var names []string
	for name, text := range before {
		if text == "" {
			t.Errorf("nothing is known of %s", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"command", "criu", "filter", "kernel", "processor", "runtime", "sandbox"}; !slices.Equal(names, want) {
		t.Errorf("the parts are %v", names)
	}
	for name, part := range map[string]string{"criu": "criu", "bwrap": "sandbox", "node": "runtime", "openclaw.mjs": "runtime"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("22"), 0o700))
		after := process.MachineParts(criu, s)
		if after[part] == before[part] {
			t.Errorf("%s was updated, and %s is the same", name, part)
		}
		before = after
	}
	s.TempBytes = 1
	if process.MachineParts(criu, s)["sandbox"] == before["sandbox"] {
		t.Error("another sandbox is the same")
	}
}

// TestLibraryUpdated: a checkpoint fits only the libraries that its processes have mapped.
func TestLibraryUpdated(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openStoring(t, &s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	g.Shell("sleep 1000 >/dev/null 2>&1 & until grep -q libc /proc/$!/maps; do :; done")
	suspend(t, d, g)
	path := filepath.Join(process.CheckpointDir(d), string(g.ID), "agento.json")
	data, err := os.ReadFile(path)
	must(t, err)
	var meta struct {
		Libraries map[string]struct{ MTime int64 }
	}
	must(t, json.Unmarshal(data, &meta))
	changed := false
	for library, state := range meta.Libraries {
		if strings.Contains(library, "/libc") {
			data = bytes.ReplaceAll(data, fmt.Append(nil, state.MTime), fmt.Append(nil, state.MTime+1))
			changed = true
		}
	}
	if !changed {
		t.Fatalf("the C library is not among %v", meta.Libraries)
	}
	must(t, os.WriteFile(path, data, 0o600))
	move(t, d, g)
	if err := d.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("Resume: %v", err)
	}
	checkNoCheckpoint(t, d, g)
}
