package process_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
)

func uidOf(st os.FileInfo) uint32 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Uid
	}
	return 0
}

// serverConfig is the configuration of a server that a test starts as a process.
type serverConfig struct {
	Dir, RunDir string
	ID          identity.AgentID
	Command     []string
	NoSandbox   bool
	Files       int // descriptors that are passed to it
}

// runServer places an agent, prints the place, starts the agent and prints
// "started".
func runServer(text string) error {
	var c serverConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	d, err := process.New(process.Settings{Installation: testInstallation, Dir: c.Dir, RunDir: c.RunDir, Command: c.Command, Sandbox: os.Getenv("AGENTO_TEST_SANDBOX"), NoSandbox: c.NoSandbox})
	if err != nil {
		return err
	}
	s := runtimetest.Spec(c.ID)
	place, err := d.Place(context.Background(), s)
	if err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString(string(place) + "\n")
	if err := d.Start(context.Background(), place, s); err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString("started\n")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	return err
}

// TestServerKilledDuringStart kills a server at every stage of a start. The next
// server must know every process that exists, and a second start must not make a
// second gateway.
func TestServerKilledDuringStart(t *testing.T) {
	for _, noSandbox := range []bool{false, true} {
		if noSandbox && os.Getuid() == 0 {
			continue
		}
		for stage := range 14 {
			name := "sandboxed"
			if noSandbox {
				name = "unsandboxed"
			}
			t.Run(name+" "+strconv.Itoa(stage), func(t *testing.T) {
				testServerKilled(t, noSandbox, time.Duration(stage)*700*time.Microsecond, stage == 13)
			})
		}
	}
}

func testServerKilled(t *testing.T, noSandbox bool, after time.Duration, started bool) {
	s := newSettings(t)
	s.NoSandbox = noSandbox
	id := runtimetest.NewID()
	place := killServer(t, serverConfig{Dir: s.Dir, RunDir: s.RunDir, ID: id, Command: s.Command, NoSandbox: noSandbox}, after, started)

	d := open(t, s)
	spec := runtimetest.Spec(id)
	t.Cleanup(func() { _ = d.Remove(context.WithoutCancel(t.Context()), place, id) })
	// A process that exists must be known once its shim has written its pid.
	if commands := commandLines(); strings.Contains(commands, string(id)) {
		runtimetest.WaitUntil(t, "the next server knows the gateway", func() bool {
			found, err := d.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(found) == 1 && found[0].Running && found[0].Place == place || !strings.Contains(commandLines(), string(id))
		})
	}
	if err := d.Start(t.Context(), place, spec); err != nil {
		t.Fatal(err)
	}
	g := runtimetest.At(t, d, id, place)
	g.WaitReady()
	g.WaitLog("boot " + g.Ask("/boot"))
	if n := strings.Count(g.Log(-1), "boot "); n != 1 {
		t.Errorf("%d gateways:\n%s", n, g.Log(-1))
	}
	if n := countShims(id); n != 1 {
		t.Errorf("%d shims", n)
	}
	if err := d.Remove(t.Context(), place, id); err != nil {
		t.Fatal(err)
	}
	if commands := commandLines(); strings.Contains(commands, string(id)) {
		t.Errorf("processes are left: %s", commands)
	}
}

// killServer starts a server, kills it some time after it has placed its agent, and
// returns the place. With started it first waits until the agent has started.
func killServer(t *testing.T, c serverConfig, after time.Duration, started bool) (place runtime.Place) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.Command[0], "server", string(text))
	cmd.ExtraFiles = make([]*os.File, c.Files)
	for i := range cmd.ExtraFiles {
		f, err := os.Create(filepath.Join(t.TempDir(), "passed-"+strconv.Itoa(i)))
		must(t, err)
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles[i] = f
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if started && err == nil {
		_, err = lines.ReadString('\n')
	}
	if err != nil {
		t.Fatalf("the server failed: %v: %s", err, stderr.String())
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	<-timer.C
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return runtime.Place(strings.TrimSpace(line))
}

// countShims counts the shims of an agent.
func countShims(id identity.AgentID) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil && bytes.HasPrefix(data, []byte("/bin/sh\x00-c\x00")) && bytes.Contains(data, []byte("\x00agento-gateway\x00")) && bytes.Contains(data, []byte(id)) {
			n++
		}
	}
	return n
}

// TestRemoveDuringStart: at every stage of the start of a sandbox, Remove leaves no
// process.
func TestRemoveDuringStart(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		s := newSettings(t)
		s.NoGroups = noGroups
		d := open(t, s)
		for i := range 40 {
			spec := runtimetest.Spec(runtimetest.NewID())
			place, err := d.Place(t.Context(), spec)
			must(t, err)
			must(t, d.Start(t.Context(), place, spec))
			timer := time.NewTimer(time.Duration(i) * 200 * time.Microsecond)
			<-timer.C
			must(t, d.Remove(t.Context(), place, spec.ID))
			if commands := commandLines(); strings.Contains(commands, string(spec.ID)) {
				t.Errorf("processes are left: %s", commands)
			}
		}
	}
}

// TestRemoveByASecondServer: two servers use the same directory, as during a wrong
// upgrade.
func TestRemoveByASecondServer(t *testing.T) {
	s := newSettings(t)
	a, b := open(t, s), open(t, s)
	g := runtimetest.Start(t, a, runtimetest.Spec(runtimetest.NewID()))
	if err := b.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("state in the first server: %+v", state)
	}
}
