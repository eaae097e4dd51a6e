//go:build linux

package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/relay/wire"
)

// searchPath is PATH of the gateway.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// drainTimeout is how long the relay waits for the rest of the gateway's output. Programs that
// outlive the gateway may hold it open.
const drainTimeout = time.Second

// gateway is the gateway that was launched.
type gateway struct {
	pid       int
	startedAt time.Time
	output    []*os.File
	copying   sync.WaitGroup
	loggedAt  atomic.Int64 // when it last printed something, in nanoseconds; 0: never

	mu     sync.Mutex
	status *syscall.WaitStatus // guarded by mu; nil: it runs
}

// launch starts the gateway. starting is held, and there is none.
func (r *relay) launch(l wire.Launch) error {
	program, err := find(l.Command[0])
	if err != nil {
		return err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	g := &gateway{startedAt: time.Now()}
	files := []uintptr{null.Fd()}
	for _, to := range []*os.File{os.Stdout, os.Stderr} {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		defer func() { _ = unix.Close(p[1]) }()
		_ = unix.SetNonblock(p[0], true)
		from := os.NewFile(uintptr(p[0]), "output of the gateway")
		g.output = append(g.output, from)
		files = append(files, uintptr(p[1]))
		g.copying.Go(func() { g.copyOutput(to, from) })
	}
	// The lock keeps reap from seeing the end of a process before its pid is known.
	r.reapLock.Lock()
	defer r.reapLock.Unlock()
	g.pid, err = syscall.ForkExec(program, l.Command, &syscall.ProcAttr{
		Dir: r.config.home(), Env: r.environment(l.Env), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	// When memory is full, the kernel kills the agent's processes before others.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", g.pid), []byte("500"), 0)
	r.mu.Lock()
	r.gateway = g
	r.mu.Unlock()
	return nil
}

// find returns the path of a program.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(searchPath, ":") {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("the image has no program %s: %w", wire.Printable(name, 100), os.ErrNotExist)
}

// environment returns the whole environment of the gateway.
func (r *relay) environment(env map[string]string) []string {
	proxy, socks := "http://"+r.proxy, "socks5h://"+r.proxy
	all := map[string]string{}
	for name, value := range map[string]string{
		"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": socks, "NO_PROXY": "127.0.0.1,localhost",
	} {
		all[name], all[strings.ToLower(name)] = value, value
	}
	all["NODE_USE_ENV_PROXY"] = "1"
	for name, value := range env {
		all[name] = value
	}
	all["PATH"], all["HOME"], all["TMPDIR"] = searchPath, r.config.home(), "/tmp"
	out := make([]string, 0, len(all))
	for name, value := range all {
		out = append(out, name+"="+value)
	}
	slices.Sort(out)
	return out
}

// copyOutput passes on what the gateway prints.
func (g *gateway) copyOutput(to io.Writer, from *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			g.loggedAt.Store(time.Now().UnixNano())
			if _, err := to.Write(buf[:n]); err != nil {
				continue // nobody reads the log, and the gateway must not wait for that
			}
		}
		if err != nil {
			return
		}
	}
}

// drain waits until the gateway's output is passed on, or nearly so.
func (g *gateway) drain() {
	for _, f := range g.output {
		_ = f.SetReadDeadline(time.Now().Add(drainTimeout))
	}
	done := make(chan struct{})
	go func() {
		g.copying.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * drainTimeout): // the reader of the log does not read
	}
}

// terminate asks the gateway to end. It reports false if none runs.
func (r *relay) terminate() bool {
	r.reapLock.Lock() // so that the pid is not another's
	defer r.reapLock.Unlock()
	g := r.running()
	if g == nil {
		return false
	}
	if _, ended := g.exitCode(); !ended {
		_ = syscall.Kill(g.pid, syscall.SIGTERM)
	}
	return true
}

// runs reports whether the gateway has not ended.
func (g *gateway) runs() bool {
	if g == nil {
		return false
	}
	_, ended := g.exitCode()
	return !ended
}

// exitCode returns the exit code that the relay has because of the gateway's end.
func (g *gateway) exitCode() (code int, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.status == nil:
		return 0, false
	case g.status.Signaled():
		return 128 + int(g.status.Signal()), true
	case g.status.ExitStatus() == wire.ExitOverDisk: // only the relay says so
		return 1, true
	}
	return g.status.ExitStatus(), true
}

// reap takes the exit of every child that has ended: the gateway's, and those of orphans.
func (r *relay) reap() {
	r.reapLock.Lock()
	defer r.reapLock.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if g := r.running(); g != nil && g.pid == pid && (status.Exited() || status.Signaled()) {
			g.mu.Lock()
			g.status = &status
			g.mu.Unlock()
		}
	}
}

// killDescendants kills all processes below this one, which is the reaper of all their orphans.
func killDescendants(reap func()) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		below := descendants(os.Getpid())
		for _, pid := range below {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		reap()
		if len(below) == 0 {
			return
		}
	}
}

// descendants returns the processes below a process.
func descendants(pid int) []int {
	var out []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		text, _ := os.ReadFile(t)
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				out = append(append(out, child), descendants(child)...)
			}
		}
	}
	return out
}
