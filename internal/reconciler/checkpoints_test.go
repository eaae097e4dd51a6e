package reconciler_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
)

// checkpointBytes is what a checkpoint takes in these tests.
const checkpointBytes = 1 << 28

// checkpointsOf returns which of some agents have a checkpoint in memory and on the disk.
func checkpointsOf(t *testing.T, e *agenttest.Env, ids []identity.AgentID) (inMemory, onDisk []identity.AgentID) {
	t.Helper()
	for _, id := range ids {
		s, err := e.Driver.Inspect(t.Context(), e.Find(id).Place, id)
		switch {
		case err != nil:
			t.Error(err)
		case s.Phase == runtime.Suspended && s.StoredBytes > 0:
			onDisk = append(onDisk, id)
		case s.Phase == runtime.Suspended:
			inMemory = append(inMemory, id)
		}
	}
	return inMemory, onDisk
}

// sleepers creates agents that are used and fall asleep one after the other.
func sleepers(e *agenttest.Env, names string) (ids []identity.AgentID) {
	for _, name := range strings.Split(names, "") {
		a := e.Create(name)
		e.Until(a.ID, isAsleep)
		ids = append(ids, a.ID)
	}
	return ids
}

// checkAnswers checks that an agent answers, by its old gateway or by a new one.
func checkAnswers(t *testing.T, e *agenttest.Env, id identity.AgentID, anew bool) {
	t.Helper()
	starts := e.Driver.Starts(id)
	text, err := e.Turn(id)
	if err != nil || !strings.HasPrefix(text, "I am at ") {
		t.Errorf("%q, %v", text, err)
	}
	if got := e.Driver.Starts(id) > starts; got != anew {
		t.Errorf("%s was started anew: %t", id, got)
	}
	if a := e.Find(id); len(a.Retry.Failures) > 0 {
		t.Errorf("%s has failed: %+v", id, a.Retry)
	}
}

// TestCheckpointMovesToDisk when it was not used for some minutes, and is used from there.
func TestCheckpointMovesToDisk(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(checkpointBytes)
		e.Driver.SetCheckpointDisk(1<<30, 0)
		ids := sleepers(e, "a")
		time.Sleep(4 * time.Minute)
		if inMemory, _ := checkpointsOf(t, e, ids); len(inMemory) != 1 {
			t.Error("it was moved although it was just used")
		}
		time.Sleep(2 * time.Minute)
		if _, onDisk := checkpointsOf(t, e, ids); len(onDisk) != 1 {
			t.Error("it is still in memory")
		}
		checkAnswers(t, e, ids[0], false)
		e.Until(ids[0], isAsleep)
		time.Sleep(time.Hour)
		e.RestartServer(sleeping)
		time.Sleep(time.Minute)
		if _, onDisk := checkpointsOf(t, e, ids); len(onDisk) != 1 {
			t.Error("the next server has lost it")
		}
		checkAnswers(t, e, ids[0], false)
	})
}

// TestCheckpointsMoveBeforeTheyAreGivenUp: a disk is there to keep what does not fit the memory.
func TestCheckpointsMoveBeforeTheyAreGivenUp(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(1)+checkpointBytes }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(checkpointBytes)
		e.Driver.SetCheckpointDisk(1<<40, 0)
		ids := sleepers(e, "abcdef")
		inMemory, onDisk := checkpointsOf(t, e, ids)
		if len(inMemory)+len(onDisk) != len(ids) || !slices.Equal(onDisk, ids[:len(onDisk)]) || len(onDisk) == 0 {
			t.Errorf("in memory %v, on the disk %v of %v", inMemory, onDisk, ids)
		}
		for _, id := range ids {
			checkAnswers(t, e, id, false)
			e.Until(id, isAsleep)
		}
	})
}

// TestCheckpointsOnDiskStayWithinTheBudget: the one used longest ago is given up for a newer one.
func TestCheckpointsOnDiskStayWithinTheBudget(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(checkpointBytes)
		e.Driver.SetCheckpointDisk(3*checkpointBytes+checkpointBytes/2, 0)
		ids := sleepers(e, "abcde")
		time.Sleep(time.Hour)
		if inMemory, onDisk := checkpointsOf(t, e, ids); len(inMemory) != 0 || !slices.Equal(onDisk, ids[2:]) {
			t.Errorf("in memory %v, on the disk %v of %v", inMemory, onDisk, ids)
		}
		checkAnswers(t, e, ids[0], true)
		checkAnswers(t, e, ids[4], false)
	})
}

// TestCheckpointsLeaveADiskThatFillsUp, those used longest ago first, and new ones stay in memory.
func TestCheckpointsLeaveADiskThatFillsUp(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(checkpointBytes)
		e.Driver.SetCheckpointDisk(10*checkpointBytes, 0)
		ids := sleepers(e, "abc")
		time.Sleep(time.Hour)
		if _, onDisk := checkpointsOf(t, e, ids); len(onDisk) != 3 {
			t.Fatalf("on the disk %v", onDisk)
		}
		e.Driver.SetCheckpointDisk(10*checkpointBytes, 8*checkpointBytes)
		time.Sleep(10 * time.Second)
		if _, onDisk := checkpointsOf(t, e, ids); !slices.Equal(onDisk, ids[1:]) {
			t.Errorf("on a disk that fills up: %v of %v", onDisk, ids)
		}
		e.Driver.SetCheckpointDisk(10*checkpointBytes, 11*checkpointBytes)
		time.Sleep(10 * time.Second)
		if _, onDisk := checkpointsOf(t, e, ids); len(onDisk) != 0 {
			t.Errorf("on a full disk: %v", onDisk)
		}
		checkAnswers(t, e, ids[2], true)
		e.Until(ids[2], isAsleep)
		time.Sleep(time.Hour)
		if inMemory, _ := checkpointsOf(t, e, ids); !slices.Equal(inMemory, ids[2:]) {
			t.Errorf("in memory: %v", inMemory)
		}
	})
}

// TestCheckpointCannotMove: it stays in memory as long as nobody needs that.
func TestCheckpointCannotMove(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(2) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(checkpointBytes)
		e.Driver.SetCheckpointDisk(1<<40, 0)
		e.Driver.FailMove(1000, errors.New("input/output error"))
		ids := sleepers(e, "a")
		time.Sleep(time.Hour)
		if inMemory, _ := checkpointsOf(t, e, ids); len(inMemory) != 1 {
			t.Error("it was lost")
		}
		// Two gateways and the checkpoint do not fit.
		for _, name := range []string{"b", "c"} {
			in := agenttest.NewAgent(name)
			in.Config = map[string]any{"keepAwake": true}
			e.UntilHours(e.CreateFrom(in).ID, isAwake)
		}
		if inMemory, onDisk := checkpointsOf(t, e, ids); len(inMemory)+len(onDisk) > 0 {
			t.Error("it takes the room of a gateway")
		}
		if a := e.Find(ids[0]); !a.IsAsleep() || len(a.Retry.Failures) > 0 {
			t.Errorf("%+v", a)
		}
	})
}

// TestBurst: messages to forty agents that sleep at once. Each is answered, and gateways and
// checkpoints never use more than they may. Before and after it there is room for the next wake.
func TestBurst(t *testing.T) {
	const (
		agents   = 40
		gateway  = 11 << 30 / 10
		image    = 1 << 30
		memory   = 15 * gateway
		isEnough = gateway + image // for a suspend, or the next wake
	)
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, memory }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(image)
		e.Driver.SetCheckpointDisk(1<<40, 0)
		var ids []identity.AgentID
		for range agents {
			ids = append(ids, createAs(e, agenttest.Account, "a"))
		}
		for _, id := range ids {
			e.UntilHours(id, isAsleep)
		}
		used := func() (bytes int64) {
			for _, id := range ids {
				switch s, err := e.Driver.Inspect(t.Context(), e.Find(id).Place, id); {
				case err != nil:
					t.Error(err)
				case s.Phase == runtime.Running:
					bytes += gateway
				default:
					bytes += s.MemoryBytes
				}
			}
			return bytes
		}
		time.Sleep(moveTime)
		if left := memory - used(); left < isEnough {
			t.Errorf("%d MiB are left for the next wake", left>>20)
		}
		done := make(chan struct{})
		var peak int64
		var watch, messages sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(100 * time.Millisecond):
					peak = max(peak, used())
				}
			}
		})
		for _, id := range ids {
			messages.Go(func() {
				if text, err := e.TurnFor(10*time.Minute, id); err != nil || !strings.HasPrefix(text, "I am at ") {
					t.Errorf("%q, %v", text, err)
				}
			})
		}
		messages.Wait()
		time.Sleep(moveTime)
		close(done)
		watch.Wait()
		if peak > memory || peak < memory/2 {
			t.Errorf("%d MiB of %d were used", peak>>20, int64(memory)>>20)
		}
		if left := memory - used(); left < isEnough {
			t.Errorf("afterwards %d MiB are left for the next wake", left>>20)
		}
	})
}

// moveTime is longer than checkpoints take until they are on the disk that have to leave the memory.
const moveTime = 10 * time.Second

// slowMoves is a driver whose moves to the disk end when the test says so.
type slowMoves struct{ *fake.Driver }

func (d slowMoves) MoveToDisk(context.Context, runtime.Place, identity.AgentID) error { return nil }

// TestMoveThatEndsOnAFullDisk: others fill the disk while a checkpoint moves there. It arrives, is known
// to be there, and is given up.
func TestMoveThatEndsOnAFullDisk(t *testing.T) {
	adjust := func(s *agenttest.Settings) {
		s.Timing.Linger, s.Timing.DiskAfter = linger, time.Millisecond
		if d, ok := s.Driver.(*fake.Driver); ok {
			s.Driver = slowMoves{d}
		}
	}
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		const disk = 1 << 30
		e.Driver.SetCheckpointMemory(disk / 4)
		e.Driver.SetCheckpointDisk(disk, 0)
		a := e.Create("ada")
		e.Until(a.ID, isAsleep)
		time.Sleep(time.Second) // the move has begun
		e.Driver.SetCheckpointDisk(disk, disk)
		time.Sleep(moveTime) // steps see that there is no room, and no end of the move
		e.Driver.SetCheckpointDisk(disk, 0)
		e.Must(e.Driver.MoveToDisk(t.Context(), a.Place, a.ID))
		e.Driver.SetCheckpointDisk(disk, disk)
		time.Sleep(moveTime)
		if s, err := e.Driver.Inspect(t.Context(), a.Place, a.ID); err != nil || s.StoredBytes > 0 {
			t.Errorf("%d bytes are on a full disk, %v", s.StoredBytes, err)
		}
		if _, err := e.Turn(a.ID); err != nil {
			t.Error(err)
		}
	})
}
