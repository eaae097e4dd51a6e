package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

// openFreezing returns a driver that can freeze gateways. The test is skipped where it cannot.
func openFreezing(t *testing.T, s process.Settings) *process.Driver {
	t.Helper()
	d := open(t, s)
	if err := d.CheckFreeze(); err != nil {
		t.Skip(err)
	}
	return d
}

func freeze(t *testing.T, d *process.Driver, g *runtimetest.Gateway) {
	t.Helper()
	if err := d.Freeze(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
}

// TestFrozenStandsStill with everything that it has started, and goes on as a whole.
func TestFrozenStandsStill(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	d := openFreezing(t, s)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	g.Shell("for n in 1 2 3; do (while :; do echo >>$HOME/ticks-$n; sleep 0.01; done) >/dev/null 2>&1 & done")
	ticks := func() (sizes string) {
		for n := 1; n <= 3; n++ {
			st, err := os.Stat(filepath.Join(s.Dir, string(g.ID), "home", fmt.Sprintf("ticks-%d", n)))
			if err == nil {
				sizes += fmt.Sprint(st.Size(), " ")
			}
		}
		return sizes
	}
	runtimetest.WaitUntil(t, "all three write", func() bool { return len(strings.Fields(ticks())) == 3 })
	freeze(t, d, g)
	before, cpu := ticks(), g.Inspect().CPU
	time.Sleep(100 * time.Millisecond) // for them to go on, if they did
	if after := ticks(); after != before {
		t.Errorf("a frozen gateway has written: %s, then %s", before, after)
	}
	if state := g.Inspect(); state.CPU != cpu || state.MemoryBytes == 0 || state.Phase != runtime.Frozen {
		t.Errorf("a frozen gateway has used %s of CPU time: %+v", state.CPU-cpu, state)
	}
	if err := d.Thaw(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	old := strings.Fields(before)
	runtimetest.WaitUntil(t, "all three write again", func() bool {
		for n, size := range strings.Fields(ticks()) {
			if size == old[n] {
				return false
			}
		}
		return true
	})
}

// TestServerKilledInFreeze: a gateway that stands still as a whole is frozen, another one goes on.
func TestServerKilledInFreeze(t *testing.T) {
	for frozen, want := range map[bool]runtime.Phase{true: runtime.Frozen, false: runtime.Running} {
		t.Run(string(want), func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openFreezing(t, s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			boot := g.Ask("/boot")
			if err := process.LeaveFreeze(t.Context(), d, g.ID, frozen); err != nil {
				t.Fatal(err)
			}
			next := open(t, s)
			state, err := next.Inspect(t.Context(), g.Place, g.ID)
			if err != nil || state.Phase != want {
				t.Fatalf("for the next server the gateway is %s, %v", state.Phase, err)
			}
			if err := next.Thaw(t.Context(), g.Place, g.ID); (err == nil) != frozen {
				t.Errorf("Thaw: %v", err)
			}
			if got := runtimetest.At(t, next, g.ID, g.Place).Ask("/boot"); got != boot {
				t.Error("the gateway has restarted")
			}
		})
	}
}

// TestFrozenByServerThatWasKilledEnds: nothing of it is left, whether or not anybody has looked at it.
func TestFrozenByServerThatWasKilledEnds(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *process.Driver, *runtimetest.Gateway) error{
		"stop": func(t *testing.T, d *process.Driver, g *runtimetest.Gateway) error {
			return d.Stop(t.Context(), g.Place, g.ID, time.Hour)
		},
		"remove": func(t *testing.T, d *process.Driver, g *runtimetest.Gateway) error {
			return d.Remove(t.Context(), g.Place, g.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSettings(t)
			d := openFreezing(t, s)
			g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
			pid := shimOf(t, s, g)
			below := process.Descendants(pid)
			if err := process.LeaveFreeze(t.Context(), d, g.ID, true); err != nil {
				t.Fatal(err)
			}
			if err := end(t, open(t, s), g); err != nil {
				t.Fatal(err)
			}
			for _, pid := range append(below, pid) {
				if process.IsRunning(pid) {
					t.Errorf("process %d still runs", pid)
				}
			}
		})
	}
}

// TestGatewayWithoutFreezer: one that an earlier version has started runs on.
func TestGatewayWithoutFreezer(t *testing.T) {
	t.Parallel()
	d := openFreezing(t, newSettings(t))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	if err := process.ForgetFreezer(d, g.ID); err != nil {
		t.Fatal(err)
	}
	cannot := (*runtime.SuspendError)(nil)
	if err := d.Freeze(t.Context(), g.Place, g.ID); !errors.As(err, &cannot) || cannot.Fix == "" {
		t.Errorf("Freeze: %v", err)
	}
	g.Ask("/boot")
}

// TestFreezeWithoutGroups says why it is not possible.
func TestFreezeWithoutGroups(t *testing.T) {
	t.Parallel()
	s := newSettings(t)
	s.NoGroups = true
	cannot := (*runtime.SuspendError)(nil)
	if err := open(t, s).CheckFreeze(); !errors.As(err, &cannot) || !strings.Contains(cannot.Missing, "control groups") || cannot.Fix == "" {
		t.Errorf("CheckFreeze without control groups: %v", err)
	}
}

// TestReclaim gives the memory of a frozen gateway to the swap, from where it comes back.
func TestReclaim(t *testing.T) {
	t.Parallel()
	d := openFreezing(t, newSettings(t))
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	g.Ask("/use-memory", "bytes", "50000000")
	boot := g.Ask("/boot")
	freeze(t, d, g)
	before := g.Inspect().MemoryBytes
	if err := process.Reclaim(d, g.ID); err != nil {
		t.Fatal(err)
	}
	free, err := process.FreeSwap()
	if err != nil {
		t.Fatal(err)
	}
	if after := g.Inspect().MemoryBytes; free > 100_000_000 && after > before/2 || free == 0 && after < before/2 {
		t.Errorf("with %d bytes of swap the gateway has %d bytes after %d", free, after, before)
	}
	if err := d.Thaw(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
}
