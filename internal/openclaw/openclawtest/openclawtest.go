// Package openclawtest runs a real gateway for tests: the pinned runtime in a
// temporary home, without a sandbox.
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

// bootTimeout is enough on a machine that is busy with other tests. A boot takes 15 s
// on an idle one.
const bootTimeout = 4 * time.Minute

// Process is a running gateway.
type Process struct {
	*openclaw.Gateway
	Home        string // on this machine
	SecretsPath string
	Port        int

	dir   string // the temporary folder of the home and the secrets
	stdin io.Closer
	cmd   *exec.Cmd
	log   logBuffer
	ended chan struct{}
}

// Start installs the runtime if it is missing, starts a gateway in a new home with the
// files of spec and files, and waits until it is ready. The gateway runs until Stop or
// until the test process ends.
func Start(ctx context.Context, spec runtime.Spec, token vault.Secret, files map[string][]byte) (*Process, error) {
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
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	go func() { // do not wait for a gateway that has ended
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := p.Ready(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%w; its output:\n%s", err, p.Log())
	}
	return p, nil
}

func (p *Process) prepare(spec runtime.Spec, files map[string][]byte) (err error) {
	if p.dir, err = os.MkdirTemp("", "agento-gateway-"); err != nil {
		return err
	}
	p.Home, p.SecretsPath = filepath.Join(p.dir, "home"), filepath.Join(p.dir, "run", "secrets.json")
	if err := os.Mkdir(filepath.Dir(p.SecretsPath), 0o700); err != nil {
		return err
	}
	if p.Port, err = freePort(); err != nil {
		return err
	}
	if err := p.WriteSpecFiles(spec); err != nil {
		return err
	}
	for name, data := range files {
		if err := writeFile(filepath.Join(p.Home, name), data); err != nil {
			return err
		}
	}
	return os.WriteFile(p.SecretsPath, spec.Secrets, 0o600)
}

// WriteSpecFiles writes the files of a spec into the home, as a driver does.
func (p *Process) WriteSpecFiles(spec runtime.Spec) error {
	for name, data := range spec.Files {
		if err := writeFile(filepath.Join(p.Home, name), []byte(p.placeholders().Replace(string(data)))); err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) placeholders() *strings.Replacer {
	return strings.NewReplacer(runtime.HomePath, p.Home, runtime.Port, strconv.Itoa(p.Port), runtime.SecretsPath, p.SecretsPath)
}

func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}

// start runs the gateway under a shell, which kills the process group when the
// gateway ends or when the shell's standard input is closed, as happens when this
// process ends.
func (p *Process) start(command []string, spec runtime.Spec) error {
	expand := p.placeholders()
	const guard = `exec 3<&0; (read -r _ <&3; kill -9 0) & "$@" </dev/null 3<&-; kill -9 0`
	args := append([]string{"-c", guard, "gateway"}, command...)
	for _, arg := range spec.Args {
		args = append(args, expand.Replace(arg))
	}
	p.cmd = exec.Command("/bin/sh", args...)
	p.cmd.Dir = p.Home
	temp := filepath.Join(p.dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	p.cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + p.Home, "TMPDIR=" + temp}
	for name, value := range spec.Env {
		p.cmd.Env = append(p.cmd.Env, name+"="+expand.Replace(value.Reveal()))
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
		_ = p.cmd.Wait() // always an error: the shell kills itself
	}()
	return nil
}

func (p *Process) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port)))
}

// PutSecrets replaces the secrets file atomically, as a driver does.
func (p *Process) PutSecrets(secrets []byte) error {
	next := p.SecretsPath + ".next"
	if err := os.WriteFile(next, secrets, 0o600); err != nil {
		return err
	}
	return os.Rename(next, p.SecretsPath)
}

// Log returns the gateway's output so far.
func (p *Process) Log() string { return p.log.String() }

// Stop kills the gateway and its children and deletes its home.
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
