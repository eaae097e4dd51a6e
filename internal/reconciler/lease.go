package reconciler

import (
	"context"
	"time"

	"agento.host/agento/internal/agent"
)

// renewRegularly renews the leases of this process until ctx ends.
func (r *Reconciler) renewRegularly(ctx context.Context) {
	ticks := time.NewTicker(r.timing.RenewInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if err := r.renew(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "renewing the leases of agents failed", "error", err)
		}
	}
}

// renew extends the leases of this process with one statement, whatever their number.
// If it comes so late that another process may have taken some, it first interrupts
// every step: the next steps read who the holder is.
func (r *Reconciler) renew(ctx context.Context) error {
	began := time.Now()
	r.mu.Lock()
	if !isTrusted(r.renewed.Add(r.timing.LeaseDuration), began) {
		r.renewedUntil = time.Time{}
		for _, l := range r.loops {
			l.cancel()
		}
	}
	idle := len(r.loops) == 0
	r.mu.Unlock()
	until := began.Add(r.timing.LeaseDuration)
	if !idle {
		if err := r.store.RenewLeases(ctx, r.holder, until); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewed, r.renewedUntil = began, until
	return nil
}

// takeAll takes the leases of all agents that have something to do and are free.
func (r *Reconciler) takeAll(ctx context.Context) error {
	if r.exclusive {
		if err := r.store.EndLeases(ctx); err != nil {
			return err
		}
	}
	at := time.Now()
	r.mu.Lock()
	r.renewed = at
	r.mu.Unlock()
	return r.store.TakeLeases(ctx, r.holder, at, at.Add(r.timing.LeaseDuration))
}

// takeLease takes the lease of an agent, if it is free.
func (r *Reconciler) takeLease(ctx context.Context, a agent.Agent) error {
	at := time.Now()
	return r.store.TakeLease(ctx, a, r.holder, at, at.Add(r.timing.LeaseDuration))
}

// leaseUntil returns when the lease that a was read with ends, if this process has it.
func (r *Reconciler) leaseUntil(a agent.Agent) time.Time {
	if a.Lease.Holder != r.holder {
		return time.Time{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.renewedUntil.After(a.Lease.Until) {
		return r.renewedUntil
	}
	return a.Lease.Until
}

// checkLease returns an error unless this process may still act on a. Everything that
// asks a driver to start, stop or remove calls it before. Errors: agent.ErrOutdated.
func (r *Reconciler) checkLease(ctx context.Context, a agent.Agent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !isTrusted(r.leaseUntil(a), time.Now()) {
		return agent.ErrOutdated
	}
	return nil
}

// releaseTimeout bounds how long a server that stops tries to give its leases back.
const releaseTimeout = 5 * time.Second

// releaseAll gives every lease of this process back, also if ctx has ended.
func (r *Reconciler) releaseAll(ctx context.Context) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := r.store.ReleaseLeases(limited, r.holder); err != nil {
		r.log.ErrorContext(ctx, "giving the leases of agents back failed", "error", err)
	}
}
