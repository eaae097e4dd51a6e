package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// Home implements runtime.Driver. The files are reached through the relay of the gateway, or through a
// container that only serves them.
func (d *Driver) Home(ctx context.Context, _ runtime.Place, id identity.AgentID) (runtime.Home, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	h := &agentHome{driver: d, agent: a, ctx: ctx}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.open(); err != nil {
		return nil, fmt.Errorf("open the home of %s: %w", id, err)
	}
	return h, nil
}

// agentHome is an open home. It opens the files again when their relay has ended, as when the gateway is
// started or stopped: all its methods may be repeated.
type agentHome struct {
	driver *Driver
	agent  agent
	ctx    context.Context // of Home: it bounds all that the caller does with the home

	mu      sync.Mutex
	home    runtime.Home   // guarded by mu; nil: not open
	session *relay.Session // of home; guarded by mu
	release func()         // gives back the session; guarded by mu
	closed  bool           // guarded by mu
}

var errHomeClosed = errors.New("the home is closed")

// open makes home usable. The caller holds mu.
func (h *agentHome) open() error {
	if h.closed {
		return errHomeClosed
	}
	if err := h.ctx.Err(); err != nil {
		return err
	}
	if h.home != nil && !isLost(h.session) {
		return nil
	}
	h.shut()
	s, release, err := h.driver.filesSession(h.ctx, h.agent)
	if err != nil {
		return err
	}
	home, err := s.Home(h.ctx)
	if err != nil {
		release()
		return err
	}
	h.home, h.session, h.release = home, s, release
	return nil
}

// shut closes home. The caller holds mu.
func (h *agentHome) shut() {
	if h.home == nil {
		return
	}
	_ = h.home.Close() // its session may be lost
	h.release()
	h.home, h.session, h.release = nil, nil, nil
}

// do calls do with the home, and again if its session is lost meanwhile.
func (h *agentHome) do(do func(runtime.Home) error) error {
	for again := true; ; again = false {
		h.mu.Lock()
		err := h.open()
		home, session := h.home, h.session
		h.mu.Unlock()
		if err != nil {
			return err
		}
		if err = do(home); err == nil || !again || !failedBy(session, err) {
			return err
		}
	}
}

// ReadFile implements runtime.Home.
func (h *agentHome) ReadFile(path string, limit int64) (data []byte, err error) {
	err = h.do(func(home runtime.Home) error {
		data, err = home.ReadFile(path, limit)
		return err
	})
	return data, err
}

// WriteFile implements runtime.Home.
func (h *agentHome) WriteFile(path string, data []byte) error {
	return h.do(func(home runtime.Home) error { return home.WriteFile(path, data) })
}

// ReadDir implements runtime.Home.
func (h *agentHome) ReadDir(path string) (entries []runtime.Entry, err error) {
	err = h.do(func(home runtime.Home) error {
		entries, err = home.ReadDir(path)
		return err
	})
	return entries, err
}

// RemoveAll implements runtime.Home.
func (h *agentHome) RemoveAll(path string) error {
	return h.do(func(home runtime.Home) error { return home.RemoveAll(path) })
}

// Close implements runtime.Home.
func (h *agentHome) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.shut()
	return nil
}
