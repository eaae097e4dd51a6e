//go:build linux

package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/runtime/relay/wire"
)

// terminateGrace is how long the gateway may take to end when somebody else than the control
// plane ends the container, as docker stop does.
const terminateGrace = 30 * time.Second

// relay is a running relay.
type relay struct {
	config
	log  *messages
	home *home.Dir

	stop chan time.Duration // grace; the control plane ends the container
	over chan struct{}      // the agent's files exceed a limit

	starting sync.Mutex // held by a start

	mu       sync.Mutex
	session  *wire.Mux // the present one; nil: none; guarded by mu
	endedAt  time.Time // when the last session ended; guarded by mu
	gateway  *gateway  // nil: none was launched; guarded by mu
	reapLock sync.Mutex

	measured measurement
	caller   callers
	slots    slots
}

func run(mode string, args []string, stderr *os.File) (code int, err error) {
	if err := hide(); err != nil {
		return 0, fmt.Errorf("hide from the agent: %w", err)
	}
	c, err := parse(mode, args)
	if err != nil {
		return 0, err
	}
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, err
		}
	}
	syscall.Umask(0o077)
	r := &relay{config: c, log: newMessages(stderr), stop: make(chan time.Duration, 1), over: make(chan struct{}, 1), endedAt: time.Now(), slots: newSlots()}
	children, terminate := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	ignoreOthers()
	if err := r.open(); err != nil {
		return 0, err
	}
	code = r.wait(children, terminate)
	r.end()
	return code, nil
}

// ignoreOthers ignores all other signals. The agent may send them, and some would end this
// process with the traces of its goroutines. Children have the default for those that are
// notified, and would keep ignoring those that are ignored.
func ignoreOthers() {
	var others []os.Signal
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGURG: // Go itself sends SIGURG
		default:
			others = append(others, s)
		}
	}
	signal.Notify(make(chan os.Signal, 1), others...)
}

// open prepares everything before the first session.
func (r *relay) open() error {
	for _, dir := range []string{r.config.home(), r.trash()} {
		if err := makeDirectory(dir); err != nil {
			return fmt.Errorf("%w: the volume must be writable for user %d", err, os.Getuid())
		}
	}
	var err error
	if r.home, err = home.Open(context.Background(), home.Settings{Dir: r.config.home(), Trash: r.trash()}); err != nil {
		return err
	}
	if !r.filesOnly {
		if err := r.serveAgent(); err != nil {
			return err
		}
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for the control plane: %w", err)
	}
	go r.acceptSessions(socket)
	return nil
}

// makeDirectory makes a directory if there is none. What the agent has put in its place is moved
// aside.
func makeDirectory(dir string) error {
	st, err := os.Lstat(dir)
	if err == nil && !st.IsDir() {
		if err := os.Rename(dir, fmt.Sprintf("%s.moved-%d", dir, time.Now().UnixNano())); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// wait waits until the relay has to end, and returns its exit code.
func (r *relay) wait(children, terminate <-chan os.Signal) int {
	var kill <-chan time.Time // when the gateway's grace is over
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-children:
			r.reap()
		case <-terminate:
			if !r.terminate() {
				return 128 + int(syscall.SIGTERM)
			}
			if kill == nil {
				kill = time.After(terminateGrace)
			}
		case grace := <-r.stop:
			if !r.terminate() {
				return 128 + int(syscall.SIGTERM)
			}
			kill = time.After(grace)
		case <-kill:
			return 128 + int(syscall.SIGKILL)
		case <-r.over:
			return wire.ExitOverDisk
		case <-tick.C:
			if r.filesOnly && r.idle() > r.filesIdle {
				return 0
			}
		}
		if g := r.running(); g != nil {
			if code, ended := g.exitCode(); ended {
				return code
			}
		}
	}
}

// idle returns how long there has been no session.
func (r *relay) idle() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.session != nil {
		return 0
	}
	return time.Since(r.endedAt)
}

// running returns the gateway that was launched, also after its end; nil if there is none.
func (r *relay) running() *gateway {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gateway
}

// end writes out what the gateway and the relay have printed. The kernel kills what is left in
// the container when its first process has ended; elsewhere, in tests, end does.
func (r *relay) end() {
	if g := r.running(); g != nil {
		g.drain()
	}
	r.log.flush()
	if os.Getpid() != 1 {
		killDescendants(r.reap)
	}
}

// putSecrets replaces the secrets file atomically.
func (r *relay) putSecrets(data []byte) error {
	temp, err := os.CreateTemp(r.run, ".secrets-")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Close())
	if err == nil {
		if err = os.Rename(temp.Name(), r.secrets()); errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR) { // the agent has made a directory
			err = errors.Join(os.Rename(r.secrets(), filepath.Join(r.run, fmt.Sprintf("moved-%d", time.Now().UnixNano()))), os.Rename(temp.Name(), r.secrets()))
		}
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write the secrets: %w", err)
	}
	return nil
}
