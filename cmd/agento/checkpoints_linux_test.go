package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/client"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/runtime/process"
)

// storedAgent is an agent whose checkpoint moves to the disk soon after it has fallen asleep.
type storedAgent struct {
	*installation
	id string
}

func newStoredAgent(t *testing.T, data string) *storedAgent {
	t.Helper()
	needsChaos(t)
	t.Setenv("AGENTO_SLEEP", "auto")
	t.Setenv("AGENTO_LINGER", "5s")
	t.Setenv("AGENTO_CHECKPOINT_DISK_AFTER", "1ms")
	a := &storedAgent{installation: newInstallationIn(t, data, "acme")}
	a.start()
	created, err := a.client("acme").CreateAgent(t.Context(), a.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	a.id = created.ID
	firstToken(t, a.client("acme"), a.id) // what is done once
	return a
}

// untilAsleep waits until the agent sleeps.
func (a *storedAgent) untilAsleep(t *testing.T) {
	t.Helper()
	waitUntil(t, "the agent sleeps", func() bool {
		s, err := a.client("acme").AgentStatus(t.Context(), a.id)
		if err != nil {
			t.Fatal(err)
		}
		return s.ContainerStatus == "asleep"
	})
}

// onDisk returns how many checkpoints are on the disk.
func (a *storedAgent) onDisk(t *testing.T) int {
	t.Helper()
	use, err := process.CheckpointUse(process.Settings{Dir: filepath.Join(a.data, agentsDir), Installation: a.installation.id()})
	if err != nil {
		t.Fatal(err)
	}
	if use.Plain {
		t.Error("a checkpoint on the disk is not sealed")
	}
	return use.OnDisk.Count
}

// untilStored waits until the checkpoint is on the disk, and drops it from the page cache.
func (a *storedAgent) untilStored(t *testing.T) {
	t.Helper()
	a.untilAsleep(t)
	waitUntil(t, "the checkpoint is on the disk", func() bool { return a.onDisk(t) == 1 })
	f, err := os.Open(a.stored())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

func (a *storedAgent) stored() string { return filepath.Join(a.data, "checkpoints", a.id) }

// check checks that the agent answers, from one gateway, and that nothing of a checkpoint is left.
func (a *storedAgent) check(t *testing.T, n int) {
	t.Helper()
	killed(t, a.installation, a.id, n)
	waitUntil(t, "nothing is left on the disk", func() bool {
		files, err := filepath.Glob(filepath.Join(a.data, "checkpoints", "*"))
		return err == nil && len(files) == 0 || a.onDisk(t) == 1 // it sleeps again
	})
}

// TestSleepingGatewayOnDisk: a real gateway wakes from a checkpoint on the disk that is not in the
// page cache, many times over. make chaos-checkpoints runs it.
func TestSleepingGatewayOnDisk(t *testing.T) {
	a := newStoredAgent(t, t.TempDir())
	const wakes = 6
	var cold, wake []time.Duration
	for range 2 {
		began := time.Now()
		if _, err := a.client("acme").RestartAgent(t.Context(), a.id); err != nil {
			t.Fatal(err)
		}
		firstToken(t, a.client("acme"), a.id)
		cold = append(cold, time.Since(began))
	}
	place := a.gateways()[0].Place
	for n := range wakes {
		a.untilStored(t)
		wake = append(wake, life(t, a.installation, a.id, n))
	}
	if a.gateways()[0].Place != place {
		t.Error("the gateway was started anew")
	}
	slices.Sort(cold)
	slices.Sort(wake)
	t.Logf("restart to first token %.1f s; message to first token from the disk %.2f to %.2f s, median %.2f s, 1/%.1f of it",
		cold[0].Seconds(), wake[0].Seconds(), wake[wakes-1].Seconds(), wake[wakes/2].Seconds(), cold[0].Seconds()/wake[wakes/2].Seconds())
	if wake[wakes/2] > cold[0]/2 {
		t.Errorf("a wake takes %s, a restart %s", wake[wakes/2], cold[0])
	}
	a.untilStored(t)
	if _, err := a.client("acme").DeleteAgent(t.Context(), a.id); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nothing is left", func() bool { return len(a.gateways()) == 0 })
	if _, err := os.Stat(a.stored()); !os.IsNotExist(err) {
		t.Errorf("the checkpoint of a deleted agent: %v", err)
	}
}

// TestSleepingGatewayKilledOnDisk: a real gateway goes on after its server was killed anywhere in a
// move to the disk, or in a wake from there. make chaos-checkpoints runs it.
func TestSleepingGatewayKilledOnDisk(t *testing.T) {
	a := newStoredAgent(t, t.TempDir())
	// A move takes some seconds.
	for n := range 6 {
		a.untilAsleep(t)
		time.Sleep(time.Duration(n) * 600 * time.Millisecond)
		a.kill()
		a.start()
		if found := a.gateways(); len(found) != 1 || found[0].Running {
			t.Errorf("while it sleeps: %+v", found)
		}
		a.check(t, n)
	}
	// And of a wake.
	for n := range 6 {
		a.untilStored(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range a.client("acme").Chat(t.Context(), a.id, client.ChatRequest{Message: "echo lost with the server"}) {
				continue // it ends with the crash
			}
		}()
		time.Sleep(time.Duration(n) * 300 * time.Millisecond)
		a.kill()
		<-done
		a.start()
		a.check(t, n)
	}
}

// TestSleepingGatewayOnFullDisk: a checkpoint leaves the disk when others fill it, and none comes
// there; no message is lost. make chaos-checkpoints runs it.
func TestSleepingGatewayOnFullDisk(t *testing.T) {
	needsChaos(t)
	disk := databasetest.NewDisk(t, "size=1800m")
	a := newStoredAgent(t, filepath.Join(disk.Dir, "data"))
	a.untilStored(t)
	ballast := filepath.Join(disk.Dir, "others")
	fillBut := func(left int64) {
		var now unix.Statfs_t
		err := unix.Statfs(disk.Dir, &now)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(ballast)
		if err == nil {
			err = unix.Fallocate(int(f.Fd()), 0, 0, int64(now.Bavail)*now.Bsize-left)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	fillBut(300 << 20) // less than checkpoints leave to others, and more than everything else needs
	waitUntil(t, "the checkpoint has left the disk", func() bool { return a.onDisk(t) == 0 })
	a.check(t, 1) // by a new gateway
	a.untilAsleep(t)
	use := func() process.Settings {
		return process.Settings{Dir: filepath.Join(a.data, agentsDir), Installation: a.installation.id()}
	}
	waitUntil(t, "the checkpoint is compressed in memory, where it stays", func() bool {
		now, err := process.CheckpointUse(use())
		if err != nil {
			t.Fatal(err)
		}
		return now.Compressed.Count == 1 && now.OnDisk.Count == 0
	})
	a.check(t, 2)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	a.untilStored(t)
	a.check(t, 3)
}
