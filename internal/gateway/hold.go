package gateway

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

// ErrBusy means that an agent's gateway cannot be held, because it has work to do or boots.
var ErrBusy = errors.New("the gateway is busy")

// Hold limits.
const (
	// holdPatience is how long Hold waits for a gateway that has work to do.
	holdPatience = 30 * time.Second
	// holdPause is the pause between attempts. Source: a gateway answers 30 in a minute.
	holdPause = 3 * time.Second
	// suspendTimeout bounds the call that suspends a gateway, which takes milliseconds.
	suspendTimeout = 5 * time.Second
	// resumeTimeout bounds the attempts to let a gateway go on. Later its suspension ends by
	// itself.
	resumeTimeout = 15 * time.Second
)

// Hold keeps an agent's gateway, and this server, from writing into its home until release is
// called, which returns how long the gateway was held. Messages that come meanwhile wait. The
// home is from one moment if release returns no error. Errors: ErrBusy.
func (m *Manager) Hold(ctx context.Context, id identity.AgentID) (release func() (time.Duration, error), err error) {
	for deadline := time.Now().Add(holdPatience); ; {
		release, err := m.tryHold(ctx, id)
		if !errors.Is(err, ErrBusy) || time.Now().Add(holdPause).After(deadline) {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(holdPause):
		}
	}
}

func (m *Manager) tryHold(ctx context.Context, id identity.AgentID) (_ func() (time.Duration, error), err error) {
	shut, ok := m.activity.shut(id)
	if !ok {
		return nil, ErrBusy
	}
	open := func() { shut(false) }
	undo := []func(){open}
	defer func() {
		if err != nil {
			for _, f := range undo {
				f()
			}
		}
	}()
	unlock, err := m.homes.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	undo = append(undo, unlock)
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // deleted meanwhile: there is nothing to hold
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	resume, err := m.suspend(ctx, a)
	if err != nil {
		return nil, err
	}
	return func() (time.Duration, error) {
		err := resume()
		held := time.Since(began)
		open()
		unlock()
		return held, err
	}, nil
}

// suspend suspends an agent's gateway, if one runs. resume returns an error if that was not so
// all the time.
func (m *Manager) suspend(ctx context.Context, a agent.Agent) (resume func() error, err error) {
	state, err := m.driver.Inspect(ctx, a.Place, a.ID)
	if err != nil {
		return nil, fmt.Errorf("inspect the gateway: %w", err)
	}
	if a.Place == "" || state.Phase != runtime.Running {
		return func() error { return m.checkSame(a) }, nil
	}
	if !a.IsRunning() || !a.HasCurrentGateway() {
		return nil, ErrBusy // it boots or stops
	}
	client, err := m.Client(ctx, a)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	suspension, err := client.Suspend(limited)
	if errors.Is(err, openclaw.ErrBusy) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("suspend the gateway: %w", err)
	}
	return func() error { return m.resume(a, suspension) }, nil
}

// resume lets a gateway go on, also when the context of the hold has ended.
func (m *Manager) resume(a agent.Agent, s *openclaw.Suspension) error {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTimeout)
	defer cancel()
	var err error
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		err = s.Resume(ctx)
		if refused := (*openclaw.CallError)(nil); err == nil || errors.As(err, &refused) || errors.Is(err, openclaw.ErrNotSuspended) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	if errors.Is(err, openclaw.ErrNotSuspended) {
		return err
	}
	if err != nil {
		m.log.Warn("a gateway that was held may be suspended for up to two minutes", "agent", a.ID, "error", err)
		return fmt.Errorf("let the gateway go on: %w", err)
	}
	return m.checkSame(a)
}

// checkSame returns an error if another gateway of the agent was started since its record
// was read.
func (m *Manager) checkSame(a agent.Agent) error {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTimeout)
	defer cancel()
	now, err := m.store.FindByID(ctx, m.db, a.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil && (now.Place != a.Place || !now.StartedAt.Equal(a.StartedAt)) {
		err = errors.New("another gateway was started meanwhile")
	}
	return err
}

// Deliver returns when an agent's gateway may get messages of a channel: it is not held, suspended
// or woken. It is not suspended before it has begun with them. Errors: ctx's.
func (m *Manager) Deliver(ctx context.Context, id identity.AgentID) error {
	if err := m.activity.deliver(ctx, id); err != nil {
		return err
	}
	a, err := m.store.FindByID(ctx, m.db, id)
	if err == nil {
		err = m.store.MarkUsed(ctx, a, time.Now())
	}
	if err != nil && ctx.Err() == nil { // no reason to refuse the message
		m.log.ErrorContext(ctx, "recording that an agent is used failed", "agent", id, "error", err)
	}
	return nil
}

// Replied takes note of a message that an agent writes into a channel.
func (m *Manager) Replied(id identity.AgentID) { m.activity.used(id) }
