package process_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/runtime/runtimetest"
	"agento.host/agento/internal/vault"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "server" {
		if err := runServer(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "call" {
		makeCall(os.Args[2:])
		syscall.Exit(0) // os.Exit waits a second in a program with the race detector
	}
	runtimetest.Main(m.Run)
}

const testInstallation = "inst_test"

// newSettings returns settings with directories of their own.
func newSettings(t *testing.T) process.Settings {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return process.Settings{
		Installation: testInstallation,
		Dir:          filepath.Join(t.TempDir(), "data", "agents"), RunDir: memoryDir(t), Command: []string{self}, Sandbox: os.Getenv("AGENTO_TEST_SANDBOX"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// memoryDir returns a directory on a memory file system, if the system has one.
func memoryDir(t *testing.T) string {
	t.Helper()
	if goruntime.GOOS != "linux" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "agento-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open(t *testing.T, s process.Settings) *process.Driver {
	t.Helper()
	d, err := process.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run runs the driver's Run until the test ends.
func run(t *testing.T, d *process.Driver) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- d.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func testContract(t *testing.T, change func(*process.Settings)) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Env {
		s := newSettings(t)
		change(&s)
		var broken func(*testing.T) func()
		if !s.NoSandbox {
			broken = breakable(t, &s, "exit 1")
		}
		return runtimetest.Env{
			Driver: open(t, s), Processes: true, Break: broken,
			Restart: func(t *testing.T) runtime.Driver { return open(t, s) },
			SetOwner: func(t *testing.T, id identity.AgentID, owner runtime.Owner) {
				mark := filepath.Join(s.Dir, string(id), "installation")
				text := map[runtime.Owner]string{runtime.Own: testInstallation, runtime.Foreign: "inst_other"}[owner]
				must(t, os.WriteFile(mark, []byte(text), 0o600))
			},
		}
	})
}

// TestContractSandboxed runs gateways that can be suspended, if the machine can do that.
func TestContractSandboxed(t *testing.T) {
	testContract(t, func(s *process.Settings) { s.CRIU, s.CheckpointBudget = process.DefaultCRIU(), 1<<30 })
}

func TestContractUnsandboxed(t *testing.T) {
	if os.Getuid() == 0 { // TestAsUnprivilegedUser runs it
		return
	}
	testContract(t, func(s *process.Settings) { s.NoSandbox = true })
}

func TestContractWithoutGroups(t *testing.T) {
	testContract(t, func(s *process.Settings) { s.NoGroups = true })
}

func TestInvalidSettingsAreRejected(t *testing.T) {
	s := newSettings(t)
	s.NoSandbox = true
	if _, err := process.New(s); os.Getuid() == 0 && err == nil {
		t.Error("root runs agents without a sandbox")
	}
	s = newSettings(t)
	s.ReadOnly = []string{filepath.Dir(s.Dir)}
	if _, err := process.New(s); err == nil {
		t.Error("a read-only path that contains the data directory was accepted")
	}
	s = newSettings(t)
	s.Command = []string{"/no/such/program"}
	if _, err := process.New(s); err == nil {
		t.Error("a command that does not exist was accepted")
	}
	d := open(t, newSettings(t))
	if _, inMemory := d.SecretsDir(); !inMemory && goruntime.GOOS == "linux" {
		t.Error("secrets are not in memory")
	}
}

// Another user could have created the directory with our name.
func TestRunDirOfAnotherUserIsRejected(t *testing.T) {
	s := newSettings(t)
	target := t.TempDir()
	s.RunDir = filepath.Join(t.TempDir(), "run")
	if err := os.Symlink(target, s.RunDir); err != nil {
		t.Fatal(err)
	}
	if _, err := process.New(s); err == nil {
		t.Error("secrets would be written through a link")
	}
}

func TestNoSecretOnCommandLines(t *testing.T) {
	s := runtimetest.Spec(runtimetest.NewID())
	s.Env["TOKEN"] = secret("token-that-stays-hidden")
	s.Secrets = []byte("file-that-stays-hidden")
	settings := newSettings(t)
	g := runtimetest.Start(t, open(t, settings), s)
	if g.Ask("/env", "name", "TOKEN") != "token-that-stays-hidden" {
		t.Fatal("the gateway has no token")
	}
	lines := commandLines()
	if !strings.Contains(lines, string(s.ID)) {
		t.Fatal("no command line of the agent was found")
	}
	if strings.Contains(lines, "that-stays-hidden") || strings.Contains(lines, "line two") {
		t.Error("a secret is on a command line")
	}
	// Nor in any file on the disk.
	out, err := exec.Command("grep", "-rl", "that-stays-hidden", filepath.Dir(settings.Dir)).CombinedOutput()
	if len(out) > 0 {
		t.Errorf("a secret is on the disk: %s %v", out, err)
	}
}

// commandLines returns the command lines of all processes.
func commandLines() string {
	var all strings.Builder
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err == nil {
			all.Write(bytes.ReplaceAll(data, []byte{0}, []byte(" ")))
			all.WriteByte('\n')
		}
	}
	return all.String()
}

func TestMemoryLimitKillsTheGateway(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		t.Run(fmt.Sprintf("without groups %v", noGroups), func(t *testing.T) {
			settings := newSettings(t)
			settings.NoGroups = noGroups
			d := open(t, settings)
			run(t, d)
			s := runtimetest.Spec(runtimetest.NewID())
			s.Limits.MemoryBytes = 256 << 20
			g := runtimetest.Start(t, d, s)
			_, _ = g.Try("/use-memory", "bytes", strconv.Itoa(512<<20)) // there is no answer
			if state := g.WaitExit(); state.Phase != runtime.Exited || !state.OOMKilled || state.ExitCode != 137 {
				t.Errorf("over its memory: %+v", state)
			}
			g.Stop(0)
			if state := g.Inspect(); !state.OOMKilled {
				t.Errorf("after the stop: %+v", state)
			}
			g = runtimetest.StartAgain(t, d, s)
			if _, err := g.Try("/exit", "code", "137"); err == nil {
				t.Log("the request returned")
			}
			if state := g.WaitExit(); state.OOMKilled || state.ExitCode != 137 {
				t.Errorf("the next gateway, killed otherwise: %+v", state)
			}
		})
	}
}

func TestProcessLimitStopsForks(t *testing.T) {
	for _, noGroups := range []bool{false, true} {
		t.Run(fmt.Sprintf("without groups %v", noGroups), func(t *testing.T) {
			settings := newSettings(t)
			settings.NoGroups = noGroups
			s := runtimetest.Spec(runtimetest.NewID())
			s.Limits.Processes = 60
			g := runtimetest.Start(t, open(t, settings), s)
			out := g.Shell(`i=0; while [ $i -lt 200 ]; do sleep 100 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; echo all`)
			if n := g.Inspect().Processes; n > 70 || strings.HasSuffix(out, "all\n") {
				t.Errorf("%d processes, output %q", n, out)
			}
			g.Stop(0)
		})
	}
}

// A reader follows over a rotation, and over a restart after it. The older files are sealed.
func TestLogsFollowOverRotationAndRestart(t *testing.T) {
	settings := newSettings(t)
	settings.LogMaxBytes = 200 << 10
	db := databasetest.New(t)
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Tx(t.Context(), "process.test", func(ctx context.Context, tx *database.Tx) error { return v.Put(ctx, tx, "acct_1", "agent", nil) })
	if err != nil {
		t.Fatal(err)
	}
	settings.LogKey = func(ctx context.Context, _ identity.AgentID) (vault.TextKey, error) {
		return v.TextKey(ctx, db, "acct_1", "agent")
	}
	d := open(t, settings)
	run(t, d)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	r, err := d.Logs(t.Context(), g.Place, g.ID, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	lines := bufio.NewScanner(r)
	next := 0
	read := func(to int) {
		for ; next < to; next++ {
			for {
				if !lines.Scan() {
					t.Fatalf("the log ended before line %d", next)
				}
				if strings.HasPrefix(lines.Text(), "flood ") {
					break
				}
			}
			if want := fmt.Sprintf("flood %07d", next); lines.Text() != want {
				t.Fatalf("line %d is %q", next, lines.Text())
			}
		}
	}
	g.Ask("/flood", "from", "0", "to", "30000")
	read(30_000)
	runtimetest.WaitUntil(t, "the log is rotated", func() bool {
		_, err := os.Stat(filepath.Join(settings.Dir, string(s.ID), "log", "gateway.log.1.sealed"))
		return err == nil
	})
	g.Ask("/flood", "from", "30000", "to", "31000")
	read(31_000)
	g.Stop(0)
	g = runtimetest.StartAgain(t, d, s)
	g.Ask("/flood", "from", "31000", "to", "32000")
	read(32_000)
	if got := strings.Count(g.Log(2_000), "flood "); got < 1_900 {
		t.Errorf("%d lines of the end", got)
	}
}

// The pid of a dead gateway now belongs to another process.
func TestStalePidIsNotTheGateway(t *testing.T) {
	settings := newSettings(t)
	d := open(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	g.Stop(0)
	var rec struct{ Nonce string }
	data, err := os.ReadFile(filepath.Join(settings.Dir, string(s.ID), "gateway.json"))
	if err = errors.Join(err, json.Unmarshal(data, &rec)); err != nil {
		t.Fatal(err)
	}
	pid := []byte(fmt.Sprintf("%d %s\n", os.Getpid(), rec.Nonce))
	if err := os.WriteFile(filepath.Join(settings.Dir, string(s.ID), "pid"), pid, 0o600); err != nil {
		t.Fatal(err)
	}
	if state := g.Inspect(); state.Phase != runtime.Exited {
		t.Errorf("another process: %+v", state)
	}
	g.Stop(0) // it must not kill this process
}

// The process that holds a sandbox together is killed from outside.
func TestShimKilledEndsTheSandbox(t *testing.T) {
	settings := newSettings(t)
	d := open(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	g.Shell("setsid sleep 1000 </dev/null >/dev/null 2>&1 &")
	data, err := os.ReadFile(filepath.Join(settings.Dir, string(s.ID), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err = errors.Join(err, unix.Kill(pid, unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if state := g.WaitExit(); state.Phase != runtime.Exited || state.ExitCode != -1 {
		t.Errorf("without its shim: %+v", state)
	}
	if err := d.Start(t.Context(), g.Place, s); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	if n := countShims(s.ID); n != 1 {
		t.Errorf("%d shims", n)
	}
}
