package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime"
)

// TestWhyNoCheckpoint: each thing that can be missing has words of its own, and says what to do.
func TestWhyNoCheckpoint(t *testing.T) {
	failed := errors.New("exit status 1")
	for name, test := range map[string]struct {
		version, output string
		privileged      bool
		missing, fix    string
	}{
		"too old":      {"Version: 3.17.1\n", "Error (criu/vdso.c:429): vdso: Unexpected rt vDSO area bounds\nLooks bad.", true, "criu 3.17.1 is too old", "install criu 4.1.1"},
		"a little":     {"Version: 4.0\n", "Looks bad.", true, "criu 4.0 is too old", "install criu 4.1.1"},
		"new":          {"Version: 4.1.1\nGitID: 0\n", "Error: no CONFIG_CHECKPOINT_RESTORE", true, "criu 4.1.1 does not work on this kernel", "criu check"},
		"unknown":      {"", "", true, "criu does not work on this kernel", "criu check"},
		"no privilege": {"Version: 4.1.1\n", "Error (criu/util.c): CAP_SYS_ADMIN", false, "without CAP_SYS_ADMIN", "outside of the container"},
	} {
		t.Run(name, func(t *testing.T) {
			e := checkFailure(test.version, test.output, test.privileged, failed)
			if !strings.Contains(e.Missing, test.missing) || !strings.Contains(e.Fix, test.fix) || !errors.Is(e.Cause, failed) {
				t.Errorf("%+v", e)
			}
		})
	}
	log := filepath.Join(t.TempDir(), "dump.log")
	if err := os.WriteFile(log, []byte("(00.01) Error (criu/sockets.c:500): Can't get 1:16 opt: Operation not supported\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := dumpFailure(log, failed); !strings.Contains(e.Missing, "cannot save TCP sockets") || !strings.Contains(e.Fix, "library") {
		t.Errorf("%+v", e)
	}
}

// TestTryDump finds out by a dump whether this criu saves TCP sockets on this kernel.
func TestTryDump(t *testing.T) {
	path := DefaultCRIU()
	c := findCRIU(Settings{CRIU: path})
	if c.err != nil {
		t.Skip(c.err)
	}
	if err := c.tryDump(); err != nil {
		t.Error(err)
	}
	script, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(script), `--preload "$dir/compat.so"`) {
		t.Skip("this criu needs no library")
	}
	bare := filepath.Join(t.TempDir(), "criu")
	without := strings.NewReplacer(`--preload "$dir/compat.so"`, "", "$dir/", filepath.Dir(path)+"/").Replace(string(script))
	if err := os.WriteFile(bare, []byte(without), 0o700); err != nil {
		t.Fatal(err)
	}
	missing := (*runtime.SuspendError)(nil)
	if err := (criu{path: bare}).tryDump(); err != nil && (!errors.As(err, &missing) || !strings.Contains(missing.Missing, "TCP sockets")) {
		t.Errorf("without its library: %v", err)
	}
	t.Logf("without its library: %+v", missing)
}

func TestCheckSwap(t *testing.T) {
	if c := checkSwap(0, 16<<30, nil); !c.OK || !strings.Contains(c.State, "in memory") || !strings.Contains(c.Fix, "--size 8192M") || !strings.Contains(c.Fix, "swapon") {
		t.Errorf("without swap: %+v", c)
	}
	if c := checkSwap(1<<30, 16<<30, nil); !c.OK || !strings.Contains(c.State, "1024 MiB") || c.Fix != "" {
		t.Errorf("with swap: %+v", c)
	}
}

func TestWayToSleep(t *testing.T) {
	cannot := &runtime.SuspendError{Missing: "the kernel has no time namespaces", Fix: "use Linux 5.6 or later"}
	for _, test := range []struct {
		err  error
		want runtime.Check
	}{
		{nil, runtime.Check{Name: "checkpoint", State: "it can", OK: true}},
		{cannot, runtime.Check{Name: "checkpoint", State: "not possible: the kernel has no time namespaces", OK: true, Fix: "use Linux 5.6 or later"}},
		{errors.New("no space left"), runtime.Check{Name: "checkpoint", State: "no space left"}},
	} {
		if got := wayToSleep("checkpoint", "it can", test.err); got != test.want {
			t.Errorf("%+v, want %+v", got, test.want)
		}
	}
}
