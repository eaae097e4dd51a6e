// Package dockertest starts Docker engines for tests, and makes a small image in which the test gateway
// of package runtimetest runs.
package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startTimeout is how long an engine may take until it answers. Source: 0.5 s on an idle machine.
	startTimeout = time.Minute
	// stopTimeout is how long an engine may take to end. Source: 0.2 s without containers.
	stopTimeout = 30 * time.Second
	// pollInterval is the pause between two looks at something that changes soon.
	pollInterval = 10 * time.Millisecond
)

// Engine is a dockerd with everything in a temporary directory.
type Engine struct {
	dir    string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	output *bytes.Buffer // of the process; read it when it has ended
	thread chan struct{} // closed to end the thread that the process depends on
}

// Unavailable is why no engine can run on this machine.
type Unavailable string

// Error implements error.
func (u Unavailable) Error() string { return "no Docker engine can run here: " + string(u) }

// New starts an engine. The caller closes it. Errors: Unavailable.
func New() (*Engine, error) {
	if goruntime.GOOS != "linux" {
		return nil, Unavailable("the system is " + goruntime.GOOS)
	}
	if os.Getuid() != 0 {
		return nil, Unavailable("the tests do not run as root")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, Unavailable("dockerd is not installed (scripts/needs.sh test installs docker.io)")
	}
	dir, err := os.MkdirTemp("/tmp", "agento-dockerd-") // the path of a socket must be short
	if err != nil {
		return nil, err
	}
	e := &Engine{dir: dir}
	if err := e.start(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Host returns the address of the engine.
func (e *Engine) Host() string { return "unix://" + e.socket() }

func (e *Engine) socket() string { return e.path("docker.sock") }

func (e *Engine) path(name string) string { return filepath.Join(e.dir, name) }

// start starts the process and waits until it answers.
func (e *Engine) start() error {
	// Containers have no network, so that the engine needs none either.
	e.cmd = exec.Command("dockerd", "--data-root", e.path("data"), "--exec-root", e.path("exec"), "--pidfile", e.path("docker.pid"), "-H", e.Host(),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--shutdown-timeout", "5")
	e.output, e.ended, e.thread = &bytes.Buffer{}, make(chan struct{}), make(chan struct{})
	e.cmd.Stdout, e.cmd.Stderr = e.output, e.output
	// If the test is killed, the engine ends its containers and itself.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd, ended, thread := e.cmd, e.ended, e.thread // a restart makes others
	started := make(chan error)
	go func() { // the signal is sent at the end of the thread
		goruntime.LockOSThread()
		started <- cmd.Start()
		<-thread
	}()
	if err := <-started; err != nil {
		close(e.thread)
		return err
	}
	go func() {
		_ = cmd.Wait() // how it ended does not matter
		close(ended)
	}()
	for deadline := time.Now().Add(startTimeout); !e.answers(); {
		select {
		case <-e.ended:
			return Unavailable("dockerd ends: " + lastLines(e.output.String()))
		case <-time.After(pollInterval):
		}
		if time.Now().After(deadline) {
			return errors.New("dockerd does not answer")
		}
	}
	return nil
}

func (e *Engine) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", e.socket())
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = conn.Write([]byte("GET /_ping HTTP/1.0\r\n\r\n"))
	answer := make([]byte, 15)
	if err == nil {
		_, err = conn.Read(answer)
	}
	return err == nil && strings.Contains(string(answer), "200")
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Restart ends the engine, by SIGKILL or so that it ends its containers, and starts it again.
func (e *Engine) Restart(kill bool) error {
	signal := syscall.SIGTERM
	if kill {
		signal = syscall.SIGKILL
	}
	if err := e.end(signal); err != nil {
		return err
	}
	if err := e.endContainerd(); err != nil {
		return err
	}
	if err := os.Remove(e.path("docker.pid")); err != nil && !os.IsNotExist(err) {
		return err
	}
	return e.start()
}

// endContainerd waits until the containerd of a killed engine has ended, which dies with it, and removes
// its file: the next engine would use it while it ends.
func (e *Engine) endContainerd() error {
	path := e.path("exec/containerd/containerd.pid")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(stopTimeout); isAlive(pid); time.Sleep(pollInterval) {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		if time.Now().After(deadline) {
			return fmt.Errorf("containerd %d does not end", pid)
		}
	}
	return os.Remove(path)
}

// isAlive reports whether a process exists and is not a zombie.
func isAlive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	return !bytes.HasPrefix(data[bytes.LastIndexByte(data, ')')+1:], []byte(" Z"))
}

// end ends the process.
func (e *Engine) end(signal syscall.Signal) error {
	if e.cmd == nil || e.cmd.Process == nil {
		return nil
	}
	defer func() { e.cmd = nil }()
	defer close(e.thread)
	_ = e.cmd.Process.Signal(signal) // it may have ended
	select {
	case <-e.ended:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = e.cmd.Process.Kill()
	select {
	case <-e.ended:
		return nil
	case <-time.After(stopTimeout):
		return fmt.Errorf("dockerd %d does not end", e.cmd.Process.Pid)
	}
}

// Close ends the engine with all its containers and deletes everything.
func (e *Engine) Close() error {
	err := e.end(syscall.SIGTERM)
	return errors.Join(err, e.endLeft(), e.unmount(), os.RemoveAll(e.dir))
}

// endLeft ends what a killed engine has left: containerd and the parents of containers, which have the
// directory on their command lines, and the processes in the containers.
func (e *Engine) endLeft() error {
	for deadline := time.Now().Add(stopTimeout); ; time.Sleep(pollInterval) {
		left := e.processes()
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of the engine do not end", left)
		}
	}
}

// processes lists the processes that the engine has started, and their descendants.
func (e *Engine) processes() []int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	found, children := []int{}, map[int][]int{}
	for _, f := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil || pid == os.Getpid() || !isAlive(pid) {
			continue
		}
		children[parentOf(pid)] = append(children[parentOf(pid)], pid)
		line, err := os.ReadFile(f)
		if err == nil && bytes.Contains(line, []byte(e.dir+"/")) && (bytes.Contains(line, []byte("containerd")) || bytes.Contains(line, []byte("dockerd"))) {
			found = append(found, pid)
		}
	}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

func parentOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data[bytes.LastIndexByte(data, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// unmount unmounts everything in the directory.
func (e *Engine) unmount() error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // what is mounted on another mount comes after it
		fields := strings.Fields(lines[i])
		if len(fields) > 4 && strings.HasPrefix(fields[4], e.dir+"/") {
			err = errors.Join(err, unix.Unmount(fields[4], unix.MNT_DETACH))
		}
	}
	return err
}
