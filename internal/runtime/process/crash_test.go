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

// world is what a server of the tests is told.
type world struct {
	Dir, RunDir, ID string
	Command         []string
	NoSandbox       bool
}

// serve is a server that places an agent, says where, and starts it.
func serve(text string) error {
	var w world
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return err
	}
	d, err := process.New(process.Settings{Dir: w.Dir, RunDir: w.RunDir, Command: w.Command, NoSandbox: w.NoSandbox})
	if err != nil {
		return err
	}
	s := runtimetest.Spec(w.ID)
	place, err := d.Place(context.Background(), s)
	if err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString(place + "\n")
	if err := d.Start(context.Background(), place, s); err != nil {
		return err
	}
	_, _ = os.Stdout.WriteString("started\n")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	return err
}

// TestServerKilled kills a server at every stage of a start. Its successor must
// know of whatever process there is, and a second start must not make a second.
func TestServerKilled(t *testing.T) {
	for _, noSandbox := range []bool{false, true} {
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

func testServerKilled(t *testing.T, noSandbox bool, after time.Duration, whole bool) {
	s := settings(t)
	s.NoSandbox = noSandbox
	id := runtimetest.NewID()
	place := killServer(t, world{Dir: s.Dir, RunDir: s.RunDir, ID: id, Command: s.Command, NoSandbox: noSandbox}, after, whole)

	d := open(t, s)
	spec := runtimetest.Spec(id)
	t.Cleanup(func() { _ = d.Remove(context.WithoutCancel(t.Context()), place, id) })
	// Whatever runs is known, now or when its first line has run.
	if commands := commandLines(); strings.Contains(commands, id) {
		runtimetest.Await(t, "the successor knows the gateway", func() bool {
			found, err := d.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(found) == 1 && found[0].Running && found[0].Place == place || !strings.Contains(commandLines(), id)
		})
	}
	if err := d.Start(t.Context(), place, spec); err != nil {
		t.Fatal(err)
	}
	g := runtimetest.At(t, d, id, place)
	g.Await()
	g.AwaitLog("boot " + g.Ask("/boot"))
	if n := strings.Count(g.Log(-1), "boot "); n != 1 {
		t.Errorf("%d gateways:\n%s", n, g.Log(-1))
	}
	if n := shims(id); n != 1 {
		t.Errorf("%d shims", n)
	}
	if err := d.Remove(t.Context(), place, id); err != nil {
		t.Fatal(err)
	}
	if commands := commandLines(); strings.Contains(commands, id) {
		t.Errorf("processes are left: %s", commands)
	}
}

// killServer runs a server until it has placed its agent, and a moment longer.
func killServer(t *testing.T, w world, after time.Duration, whole bool) (place string) {
	t.Helper()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(w.Command[0], "server", string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	lines := bufio.NewReader(stdout)
	place, err = lines.ReadString('\n')
	if whole && err == nil {
		_, err = lines.ReadString('\n')
	}
	if err != nil {
		t.Fatalf("the server says %v: %s", err, stderr.String())
	}
	timer := time.NewTimer(after)
	defer timer.Stop()
	<-timer.C
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	return strings.TrimSpace(place)
}

// shims counts the shims of an agent.
func shims(id string) int {
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

// TestRemovedWhileStarting: whatever stage the sandbox is at, nothing of it
// stays.
func TestRemovedWhileStarting(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		s := settings(t)
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
			if commands := commandLines(); strings.Contains(commands, spec.ID) {
				t.Errorf("processes are left: %s", commands)
			}
		}
	}
}

// TestStopAcrossServers: two servers at once, as during a careless upgrade.
func TestStopAcrossServers(t *testing.T) {
	s := settings(t)
	a, b := open(t, s), open(t, s)
	g := runtimetest.Start(t, a, runtimetest.Spec(runtimetest.NewID()))
	if err := b.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("seen by the first: %+v", state)
	}
}

// TestAsOrdinaryUser runs the tests once more as nobody.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "agento-nobody-*")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(self)
	must(t, err)
	program := filepath.Join(dir, "process.test")
	must(t, os.WriteFile(program, data, 0o755))
	temp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(temp, 0o755))
	must(t, os.Chown(temp, nobody, nobody))

	cmd := exec.Command(program, "-test.run", "^Test(Contract|Sandbox|Memory|Process|ServerKilled|ShimKilled|Removed|Hostile|Impostor|NoSecret|Stale|Logs)", "-test.v")
	cmd.Dir = temp
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, "HOME=" + temp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestSandbox/files")) {
		t.Errorf("%v\n%s", err, out)
	}
}
