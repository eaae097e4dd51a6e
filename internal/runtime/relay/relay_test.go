//go:build linux

package relay_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
	"agento.host/agento/internal/vault"
)

// raceEnabled is set in race_test.go.
var raceEnabled bool

// programs are the relay and a gateway for tests, built once.
var programs struct{ dir, relay, static, gateway string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "agento-relay")
	if err == nil {
		err = build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) error {
	p := &programs
	p.dir, p.relay, p.static, p.gateway = dir, filepath.Join(dir, "relay"), filepath.Join(dir, "agento-relay"), filepath.Join(dir, "gateway")
	for _, b := range []struct {
		out, pkg string
		flags    []string
	}{
		{p.static, "agento.host/agento/cmd/agento-relay", []string{"-trimpath", "-ldflags", "-s -w"}},
		{p.gateway, "./testdata/gateway", nil},
		{p.relay, "agento.host/agento/cmd/agento-relay", []string{"-race"}},
	} {
		if b.out == p.relay && !raceEnabled {
			p.relay = p.static
			continue
		}
		cmd := exec.Command("go", append(append([]string{"build", "-o", b.out}, b.flags...), b.pkg)...)
		if b.out != p.relay {
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", b.pkg, err, out)
		}
	}
	return os.Chmod(dir, 0o755)
}

// running is a relay that runs as a child process, without a container.
type running struct {
	t      *testing.T
	who    relay.Identity
	cmd    *exec.Cmd
	dir    string
	socket string
	port   int
	server string
	proxy  string
	output *buffer
	exited chan struct{}
}

// start starts a relay.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	key, err := relay.NewKey()
	must(t, err)
	r := &running{
		t: t, who: relay.Identity{Agent: "a1", Place: "p1", Epoch: 3, Key: key}, dir: t.TempDir(),
		socket: fmt.Sprintf("@agento-relay-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")), output: &buffer{}, exited: make(chan struct{}),
		port: freePort(t), server: fmt.Sprintf("127.0.0.1:%d", freePort(t)), proxy: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
	}
	for _, d := range []string{"volume", "run"} {
		must(t, os.Mkdir(filepath.Join(r.dir, d), 0o700))
	}
	if len(args) == 0 {
		args = []string{"run"}
	}
	r.cmd = exec.Command(programs.relay, append([]string{args[0], "-socket", r.socket, "-volume", filepath.Join(r.dir, "volume"), "-run", filepath.Join(r.dir, "run"),
		"-gateway-port", strconv.Itoa(r.port), "-server", r.server, "-proxy", r.proxy}, args[1:]...)...)
	r.cmd.Env = append(r.who.Environment(), "GORACE=atexit_sleep_ms=0")
	r.cmd.Stdout, r.cmd.Stderr = r.output, r.output
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // also if the tests are killed
	must(t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait() // exitCode has it
		close(r.exited)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGCONT)
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // it kills what is below it
		select {
		case <-r.exited:
		case <-time.After(40 * time.Second):
			_ = r.cmd.Process.Kill()
			<-r.exited
			t.Error("the relay did not end")
		}
		if text := r.output.String(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "goroutine ") {
			t.Errorf("the relay prints:\n%s", text)
		}
	})
	return r
}

// pipe executes connect.
func (r *running) pipe() *process { return execute(r.t, r.connectArgs()...) }

func (r *running) connectArgs() []string {
	return []string{programs.relay, "connect", "-socket", r.socket, "-pid", strconv.Itoa(r.cmd.Process.Pid)}
}

// connect opens a session.
func (r *running) connect() *relay.Session {
	r.t.Helper()
	s, err := relay.Connect(r.t.Context(), r.pipe(), r.who)
	must(r.t, err)
	r.t.Cleanup(func() { _ = s.Close() })
	return s
}

// launch opens a session and launches the gateway for tests.
func (r *running) launch() *relay.Session {
	r.t.Helper()
	s := r.connect()
	must(r.t, s.Start(r.t.Context(), launchOf(programs.gateway)))
	r.awaitGateway(s)
	return s
}

func launchOf(gateway string) relay.Launch {
	return relay.Launch{
		Command: []string{gateway}, Args: []string{"serve", runtime.Port},
		Env:     map[string]vault.Secret{"WHERE": vault.NewSecret(runtime.HomePath + " " + runtime.ServerAddr), "TOKEN": vault.NewSecret("s3cret")},
		Files:   map[string][]byte{"conf/app.json": []byte(`{"home":"` + runtime.HomePath + `"}`)},
		Secrets: []byte(`{"a":1}`),
	}
}

func (r *running) awaitGateway(s *relay.Session) {
	r.t.Helper()
	await(r.t, func() bool {
		c, err := s.Dial(r.t.Context())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// exitCode waits for the end of the relay.
func (r *running) exitCode() int {
	r.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(30 * time.Second):
		r.t.Fatalf("the relay does not end; it prints:\n%s", r.output)
	}
	return r.cmd.ProcessState.ExitCode()
}

// ask sends a command to the gateway and returns the answer.
func ask(t *testing.T, s *relay.Session, command string) string {
	t.Helper()
	c, err := s.Dial(t.Context())
	must(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, command+"\n")
	must(t, err)
	answer, err := io.ReadAll(c)
	if err != nil && !strings.HasPrefix(command, "exit") && !strings.HasPrefix(command, "signal") {
		t.Errorf("%s: %v", command, err)
	}
	return string(answer)
}

// process is a command whose standard input and output are a connection.
type process struct {
	io.WriteCloser
	io.Reader
	cmd    *exec.Cmd
	stderr buffer
	ended  chan struct{}
}

func execute(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	p := &process{cmd: cmd, ended: make(chan struct{})}
	var err error
	p.WriteCloser, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	p.Reader = out
	cmd.Stderr = &p.stderr
	must(t, cmd.Start())
	go func() {
		_, _ = cmd.Process.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		_ = out.Close()
	})
	return p
}

// Close ends the process, as an engine ends one whose connection is closed.
func (p *process) Close() error {
	_ = p.WriteCloser.Close()
	if c, ok := p.Reader.(io.Closer); ok {
		_ = c.Close()
	}
	return nil
}

// buffer is a bytes.Buffer for many goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func withTimeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func otherKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	key, err := relay.NewKey()
	must(t, err)
	return key
}
