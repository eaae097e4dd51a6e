package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/runtime"
)

const (
	// prepareTimeout bounds how long a gateway says whether it is idle. Source: 5-84 ms.
	prepareTimeout = 10 * time.Second
	// wakeTimeout bounds how long a gateway that was resumed takes until it answers. Source: 20-30
	// ms, and up to 1.7 s while the secrets are replaced.
	wakeTimeout = 15 * time.Second
)

// LastUse returns when the last turn of an agent on this server ended, and whether it has one
// now.
func (m *Manager) LastUse(id identity.AgentID) (last time.Time, busy bool) {
	return m.activity.lastUse(id)
}

// WhyAwake returns why the gateway of an agent must not be suspended, as a clause; empty: it may
// be. What cannot be woken by what arrives for it stays awake.
func (m *Manager) WhyAwake(ctx context.Context, a agent.Agent) (string, error) {
	s, ok := m.driver.(runtime.Suspender)
	if !ok {
		return "the driver cannot suspend gateways", nil
	}
	if err := s.CheckSuspend(); err != nil {
		cannot := (*runtime.SuspendError)(nil)
		if errors.As(err, &cannot) {
			return cannot.Missing, nil
		}
		return "", err
	}
	if a.Config.KeepAwake() {
		return "config.keepAwake is set", nil
	}
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return "", err
	}
	has := func(name provider.SecretName) bool { _, ok := c.secrets[name]; return ok }
	switch {
	case a.Config.UsesTelegram(has):
		return "messages of Telegram come to the gateway itself", nil
	case a.Config.UsesSlack(has):
		return "messages of Slack come to the gateway itself", nil
	}
	return "", nil
}

// Suspend suspends the gateway of an agent that has no turn. Messages wait meanwhile. It calls
// prepared before anything happens that cannot be undone, and suspended before messages go on: the
// record must say then that the agent sleeps. If Suspend fails, the gateway works on, or has ended.
// Errors: ErrBusy; those of runtime.Suspender.
func (m *Manager) Suspend(ctx context.Context, a agent.Agent, prepared func(suspension string) error, suspended func() error) error {
	open, ok := m.activity.shut(a.ID)
	if !ok {
		return ErrBusy
	}
	done := false
	defer func() { open(done) }()
	unlock, err := m.homes.lock(ctx, a.ID) // nothing is given to the gateway meanwhile
	if err != nil {
		return err
	}
	defer unlock()
	g, err := m.Client(ctx, a)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	held, err := g.Suspend(limited)
	if errors.Is(err, openclaw.ErrBusy) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	suspension := held.ID()
	undo := func(err error) error {
		// Not with ctx: the gateway would refuse all work until its lease ends.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeTimeout)
		defer cancel()
		return errors.Join(err, m.continueWork(limited, a, suspension))
	}
	if err := prepared(suspension); err != nil {
		return undo(err)
	}
	m.drop(a.ID)
	// A suspend that has begun is ended: the driver has its own deadline.
	if err := m.driver.(runtime.Suspender).Suspend(context.WithoutCancel(ctx), a.Place, a.ID); err != nil {
		return undo(err)
	}
	done = true
	return suspended()
}

// continueWork makes a gateway that runs take work again.
func (m *Manager) continueWork(ctx context.Context, a agent.Agent, suspension string) error {
	if _, err := m.Attach(ctx, a); err != nil {
		return err
	}
	g, err := m.Client(ctx, a)
	if err != nil {
		return err
	}
	err = g.ContinueSuspension(suspension).Resume(ctx)
	if errors.Is(err, openclaw.ErrNotSuspended) { // its lease has ended meanwhile
		return nil
	}
	return err
}

// Continue makes a gateway take work again whose suspend was not ended: its server was killed, or
// it failed.
func (m *Manager) Continue(ctx context.Context, a agent.Agent) error {
	limited, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	return m.continueWork(limited, a, a.Sleep.Suspension)
}

// resumeFilled resumes the gateway of an agent and fills its home meanwhile. The gateway has none of the
// files open that are written, and takes no work before its suspension ends. The caller holds the
// lock of the home.
func (m *Manager) resumeFilled(ctx context.Context, a agent.Agent) error {
	m.drop(a.ID)
	var all errgroup.Group
	all.Go(func() error { return m.writeWholeHome(ctx, a) })
	all.Go(func() error { return m.driver.(runtime.Suspender).Resume(ctx, a.Place, a.ID) })
	return all.Wait()
}

// Wake resumes the suspended gateway of an agent, or goes on with one that was resumed already.
// When it returns nil, the gateway has what has changed meanwhile in its home and its secrets,
// and has answered. Otherwise the caller starts another gateway.
func (m *Manager) Wake(ctx context.Context, a agent.Agent, resumed bool) error {
	open, err := m.activity.awaitShut(ctx, a.ID)
	if err != nil {
		return err
	}
	defer open(false)
	unlock, err := m.homes.lock(ctx, a.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if !resumed {
		if err := m.resumeFilled(ctx, a); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	if err := m.continueWork(limited, a, a.Sleep.Suspension); err != nil {
		return fmt.Errorf("continue the gateway's work: %w", err)
	}
	if err := m.syncSecrets(limited, a); err != nil {
		return err
	}
	g, err := m.Client(limited, a)
	if err != nil {
		return err
	}
	return g.Ready(limited)
}
