// Package openclawtest runs a real gateway for tests: the pinned runtime, without
// a sandbox, in a temporary home.
package openclawtest

import (
	"bytes"
	"context"
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
	"time"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// bootTime is enough on a machine that is busy with other tests: 15 s when idle.
const bootTime = 4 * time.Minute

// Process is a running gateway.
type Process struct {
	*openclaw.Gateway
	Home        string // its home on this machine
	SecretsPath string // its secrets file
	Port        int

	dir   string // holds both
	stdin io.Closer
	cmd   *exec.Cmd
	log   logBuffer
	ended chan struct{}
}

// Boot installs the runtime if need be, starts a gateway in a fresh home with
// spec's files and the given ones, and waits until it is ready. Stop ends it; the
// death of the test process ends it too.
func Boot(ctx context.Context, spec runtime.Spec, token vault.Secret, files map[string][]byte) (*Process, error) {
	rt, err := install.Install(ctx, install.Settings{Progress: os.Stderr})
	if err != nil {
		return nil, err
	}
	p := &Process{ended: make(chan struct{})}
	if err := p.prepare(spec, files); err != nil {
		p.Stop()
		return nil, err
	}
	if err := p.start(rt.Command(false), spec); err != nil {
		p.Stop()
		return nil, err
	}
	p.Gateway = openclaw.NewGateway(p.dial, token)
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	go func() { // a gateway that ends will not get ready
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := p.Ready(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%w; it printed:\n%s", err, p.Log())
	}
	return p, nil
}

func (p *Process) prepare(spec runtime.Spec, files map[string][]byte) (err error) {
	if p.dir, err = os.MkdirTemp("", "agento-gateway-"); err != nil {
		return err
	}
	p.Home, p.SecretsPath = filepath.Join(p.dir, "home"), filepath.Join(p.dir, "secrets.json")
	for _, set := range []map[string][]byte{spec.Files, files} {
		for name, data := range set {
			if err := write(filepath.Join(p.Home, name), data); err != nil {
				return err
			}
		}
	}
	if p.Port, err = freePort(); err != nil {
		return err
	}
	return os.WriteFile(p.SecretsPath, spec.Secrets, 0o600)
}

func write(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}

// start runs the gateway below a shell that kills the process group when the
// gateway ends, or when its own input does, as it will if this process dies.
func (p *Process) start(command []string, spec runtime.Spec) error {
	fill := strings.NewReplacer(runtime.HomePath, p.Home, runtime.Port, strconv.Itoa(p.Port), runtime.SecretsPath, p.SecretsPath)
	const guard = `exec 3<&0; (read -r _ <&3; kill -9 0) & "$@" </dev/null 3<&-; kill -9 0`
	args := append([]string{"-c", guard, "gateway"}, command...)
	for _, arg := range spec.Args {
		args = append(args, fill.Replace(arg))
	}
	p.cmd = exec.Command("/bin/sh", args...)
	p.cmd.Dir = p.Home
	temp := filepath.Join(p.dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + p.Home, "TMPDIR=" + temp}
	for name, value := range spec.Env {
		p.cmd.Env = append(p.cmd.Env, name+"="+fill.Replace(value.Reveal()))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = 5 * time.Second
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // killed, always
	}()
	return nil
}

func (p *Process) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)))
}

// PutSecrets replaces the secrets file in one step, as a driver does.
func (p *Process) PutSecrets(secrets []byte) error {
	next := p.SecretsPath + ".next"
	if err := os.WriteFile(next, secrets, 0o600); err != nil {
		return err
	}
	return os.Rename(next, p.SecretsPath)
}

// Log is what the gateway printed so far.
func (p *Process) Log() string { return p.log.String() }

// Stop kills the gateway with all its children and deletes its home.
func (p *Process) Stop() {
	if p.Gateway != nil {
		p.Close()
	}
	if p.cmd != nil && p.cmd.Process != nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.ended
		_ = p.stdin.Close()
	}
	_ = os.RemoveAll(p.dir)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

type logBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer // guarded by mu
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
