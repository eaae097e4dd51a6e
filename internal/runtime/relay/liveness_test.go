//go:build linux

package relay_test

import (
	"io"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"agento.host/agento/internal/runtime/relay"
)

// stalling is a connection that can stop without a word, as one whose packets are dropped.
type stalling struct {
	io.ReadWriteCloser
	stalled chan struct{} // closed: nothing passes any more
	closed  chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	select {
	case <-s.stalled:
		<-s.closed
		return 0, io.EOF
	default:
		return n, err
	}
}

func (s *stalling) Write(p []byte) (int, error) {
	select {
	case <-s.stalled:
		return len(p), nil
	default:
		return s.ReadWriteCloser.Write(p)
	}
}

func (s *stalling) Close() error {
	close(s.closed)
	return nil // the other end hears nothing of it
}

// TestDeadConnectionIsNoticed: bytes stop, and nothing closes the connection.
func TestDeadConnectionIsNoticed(t *testing.T) {
	skiptest.UnlessChaos(t, "containers") // it waits for silence
	t.Parallel()
	r := start(t)
	p := r.pipe()
	c := &stalling{p, make(chan struct{}), make(chan struct{})}
	s, err := relay.Connect(t.Context(), c, r.who)
	must(t, err)
	must(t, s.Start(t.Context(), launchOf(programs.gateway)))
	r.awaitGateway(s)
	near, err := s.Dial(t.Context())
	must(t, err)
	close(c.stalled)
	began := time.Now()
	noticed := func(what string, ended <-chan struct{}) {
		t.Helper()
		select {
		case <-ended:
			t.Logf("%s noticed it after %v", what, time.Since(began).Round(time.Millisecond))
		case <-time.After(20*time.Second - time.Since(began)):
			t.Errorf("%s has not noticed it", what)
		}
	}
	noticed("the control plane", s.Done())
	noticed("the relay", p.ended) // it has closed its socket
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of an ended session")
	}
	if ask(t, r.connect(), "pid") == "" {
		t.Error("no new session")
	}
}

// TestPausedRelayGoesOn: a container that stood still for a short time keeps its session, and one
// that did for long takes another.
func TestPausedRelayGoesOn(t *testing.T) {
	skiptest.UnlessChaos(t, "containers") // it waits for silence
	t.Parallel()
	r := start(t)
	s := r.launch()
	pid := ask(t, s, "pid")
	must(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	time.Sleep(7 * time.Second) // what the relay's own clock takes for a pause
	must(t, r.cmd.Process.Signal(syscall.SIGCONT))
	if got := ask(t, s, "pid"); got != pid {
		t.Errorf("after a short pause: %q", got)
	}
	must(t, r.cmd.Process.Signal(syscall.SIGSTOP))
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Error("the control plane has not noticed it")
	}
	must(t, r.cmd.Process.Signal(syscall.SIGCONT))
	if got := ask(t, r.connect(), "pid"); got != pid {
		t.Errorf("after a long pause: %q", got)
	}
}
