//go:build linux

package container

import (
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	// maxProofs is how many connections may be at their proof: processes of the agent can
	// connect, too. The agent's user and others have a limit of their own each.
	maxProofs = 8
	// proofTimeout is how long a proof may take.
	proofTimeout = 5 * time.Second
)

// acceptSessions takes connections of the control plane.
func (r *relay) acceptSessions(l *net.UnixListener) {
	agent, others := make(chan struct{}, maxProofs), make(chan struct{}, maxProofs)
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptors are left, perhaps
			continue
		}
		places := others
		if userOf(c) == os.Getuid() {
			places = agent
		}
		select {
		case places <- struct{}{}:
			go func() {
				mux := r.examine(c)
				<-places
				if mux != nil {
					r.serveSession(mux)
				}
			}()
		default:
			_ = c.Close()
		}
	}
}

// userOf returns the user of the process at the other end; -1 if that cannot be told.
func userOf(c *net.UnixConn) int {
	if cred := credentials(c); cred != nil {
		return int(cred.Uid)
	}
	return -1
}

// credentials returns who is at the other end; nil if that cannot be told.
func credentials(c *net.UnixConn) *unix.Ucred {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred
}

// examine returns the session with the other end if it proves who it is; else nil.
func (r *relay) examine(c *net.UnixConn) *wire.Mux {
	_ = c.SetDeadline(time.Now().Add(proofTimeout))
	err := wire.Examine(c, r.claim, r.key, r.paths())
	_ = c.SetDeadline(time.Time{})
	if err != nil {
		_ = c.Close()
		return nil
	}
	mux, err := wire.NewMux(c, false)
	if err != nil {
		_ = c.Close()
		return nil
	}
	return mux
}

// serveSession answers the requests of a session until it ends. An older session ends now.
func (r *relay) serveSession(mux *wire.Mux) {
	r.mu.Lock()
	old := r.session
	r.session = mux
	r.mu.Unlock()
	if old != nil {
		_ = old.Close() // returns no errors
	}
	for {
		stream, err := mux.Accept()
		if err != nil {
			break
		}
		select {
		case r.slots.requests <- struct{}{}:
			go func() {
				defer func() { <-r.slots.requests }()
				r.serve(stream)
			}()
		default:
			_ = stream.Close()
		}
	}
	mux.CloseFor(nil)
	r.mu.Lock()
	if r.session == mux {
		r.session, r.endedAt = nil, time.Now()
	}
	r.mu.Unlock()
}

// current returns the present session; nil if there is none.
func (r *relay) current() *wire.Mux {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.session
}
