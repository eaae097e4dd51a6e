package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
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

// WhyAwake returns why the gateway of an agent must not sleep, as a clause; empty: it may.
// What cannot be woken by what arrives for it stays awake.
func (m *Manager) WhyAwake(ctx context.Context, a agent.Agent) (string, error) {
	if err := runtime.CheckSleep(m.driver); err != nil {
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
	if a.Config.UsesSlack(has) {
		return "messages of Slack come to the gateway itself", nil
	}
	if a.Config.UsesTelegram(has) {
		listens, err := m.mayListen(ctx, a)
		if err != nil || !listens {
			return "its gateway has not asked Telegram for messages yet", err
		}
	}
	return "", nil
}

// mayListen reports whether the Bot API proxy may ask for the messages of an agent in place of its
// gateway: one that does not ask for them, because it needs a restart, would not take them.
func (m *Manager) mayListen(ctx context.Context, a agent.Agent) (bool, error) {
	if m.channels == nil {
		return false, nil
	}
	states, err := m.channels.List(ctx, m.db, a.AccountID, a.ID, a.GatewayGeneration)
	_, ok := states[channel.Telegram]
	return ok, err
}

// Suspend suspends the gateway of an agent that has no turn, or freezes it where that is not
// possible. Messages wait meanwhile. It calls prepared before anything happens that cannot be undone,
// and sleeps before messages go on: the record must say then how the agent sleeps. If Suspend fails,
// the gateway works on, or has ended. Errors: ErrBusy; those of runtime.Suspender and
// runtime.Freezer.
func (m *Manager) Suspend(ctx context.Context, a agent.Agent, prepared func(suspension string) error, sleeps func(agent.Power) error) error {
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
	// What has begun is ended: the driver has its own deadlines.
	power, err := m.putToSleep(context.WithoutCancel(ctx), a)
	if err != nil {
		return undo(err)
	}
	done = true
	return sleeps(power)
}

// putToSleep suspends a gateway, or freezes one that cannot be suspended.
func (m *Manager) putToSleep(ctx context.Context, a agent.Agent) (agent.Power, error) {
	why := error(&runtime.SuspendError{Missing: "the driver cannot suspend gateways"})
	if s, ok := m.driver.(runtime.Suspender); ok {
		if why = s.CheckSuspend(); why == nil {
			why = s.Suspend(ctx, a.Place, a.ID)
			m.logNotSuspended(ctx, a, why)
		}
		if why == nil {
			return agent.PowerAsleep, nil
		}
	}
	f, ok := m.driver.(runtime.Freezer)
	if cannot := (*runtime.SuspendError)(nil); !ok || !errors.As(why, &cannot) {
		return "", why
	}
	err := f.CheckFreeze()
	if err == nil {
		err = f.Freeze(ctx, a.Place, a.ID)
	}
	if err != nil {
		return "", errors.Join(why, err)
	}
	return agent.PowerFrozen, nil
}

// logNotSuspended logs why a gateway alone cannot be suspended, once for each reason.
func (m *Manager) logNotSuspended(ctx context.Context, a agent.Agent, err error) {
	cannot := (*runtime.SuspendError)(nil)
	if !errors.As(err, &cannot) {
		return
	}
	if _, told := m.notSuspended.LoadOrStore(cannot.Missing, true); !told {
		m.log.WarnContext(ctx, "a gateway cannot be suspended", "agent", a.ID, "missing", cannot.Missing, "fix", cannot.Fix, "cause", cannot.Cause)
	}
}

// letGoOn resumes or thaws a gateway, of which phase is the state.
func (m *Manager) letGoOn(ctx context.Context, a agent.Agent, phase runtime.Phase) error {
	switch phase {
	case runtime.Suspended:
		return m.driver.(runtime.Suspender).Resume(ctx, a.Place, a.ID)
	case runtime.Frozen:
		return m.driver.(runtime.Freezer).Thaw(ctx, a.Place, a.ID)
	}
	return nil // it runs already
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

// EndSuspension makes a gateway take work again that may have been suspended, for a sleep or a
// backup, by a server that was killed then, or that could not undo it. Otherwise it would refuse
// messages for up to two minutes. Errors: ErrBusy, if the agent has a turn or is held by this server.
func (m *Manager) EndSuspension(ctx context.Context, a agent.Agent) error {
	open, ok := m.activity.shut(a.ID)
	if !ok {
		return ErrBusy
	}
	defer open(false)
	return m.endSuspension(ctx, a)
}

// endSuspension is EndSuspension for a caller that knows that this server does not hold the gateway.
func (m *Manager) endSuspension(ctx context.Context, a agent.Agent) error {
	limited, cancel := context.WithTimeout(ctx, suspendTimeout)
	defer cancel()
	g, err := m.Client(limited, a)
	if err != nil {
		return err
	}
	s, err := g.Suspend(limited) // returns the suspension that there is
	if err == nil {
		err = s.Resume(limited)
	}
	if errors.Is(err, openclaw.ErrBusy) || errors.Is(err, openclaw.ErrNotSuspended) {
		return nil // it works
	}
	return err
}

// goOnFilled resumes or thaws the gateway of an agent, of which phase is the state, and fills its
// home meanwhile. The gateway has none of the files open that are written, and takes no work before
// its suspension ends. The caller holds the lock of the home.
func (m *Manager) goOnFilled(ctx context.Context, a agent.Agent, phase runtime.Phase) error {
	m.drop(a.ID)
	var all errgroup.Group
	all.Go(func() error { return m.writeWholeHome(ctx, a) })
	all.Go(func() error { return m.letGoOn(ctx, a, phase) })
	return all.Wait()
}

// Wake resumes or thaws the gateway of an agent that sleeps, of which phase is the state, or goes on
// with one that runs already. When it returns nil, the gateway has what has changed meanwhile in its home and its secrets,
// and has answered. Otherwise the caller starts another gateway.
func (m *Manager) Wake(ctx context.Context, a agent.Agent, phase runtime.Phase) error {
	steps := newSteps()
	defer func() { m.log.DebugContext(ctx, "the steps of a wake", append([]any{"agent", a.ID}, steps.took...)...) }()
	open, err := m.activity.awaitShut(ctx, a.ID)
	if err != nil {
		return err
	}
	defer open(false)
	steps.end("door")
	unlock, err := m.homes.lock(ctx, a.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if phase != runtime.Running {
		if err := m.goOnFilled(ctx, a, phase); err != nil {
			return err
		}
	}
	steps.end("processes")
	limited, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	if err := m.continueWork(limited, a, a.Sleep.Suspension); err != nil {
		return fmt.Errorf("continue the gateway's work: %w", err)
	}
	steps.end("continue")
	if err := m.syncSecrets(limited, a); err != nil {
		return err
	}
	steps.end("secrets")
	g, err := m.Client(limited, a)
	if err != nil {
		return err
	}
	defer steps.end("ready")
	return g.Ready(limited)
}

// steps measures how long the steps of something take.
type steps struct {
	last time.Time
	took []any // names, with _ms, and milliseconds
}

func newSteps() *steps { return &steps{last: time.Now()} }

// end ends a step.
func (s *steps) end(name string) {
	now := time.Now()
	s.took = append(s.took, name+"_ms", now.Sub(s.last).Milliseconds())
	s.last = now
}
