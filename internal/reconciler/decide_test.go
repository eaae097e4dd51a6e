package reconciler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/runtime"
)

// TestDecide has every row of the decision. Each begins with a running agent whose
// lease this process has, and whose gateway runs with the desired spec.
func TestDecide(t *testing.T) {
	at := time.UnixMilli(1_770_000_000_000)
	running := agent.Agent{
		DesiredState: agent.DesiredRunning, Generation: 3, ObservedGeneration: 3, GatewayGeneration: 3, RestartGeneration: 2,
		Status: client.Running, Place: "here", SpecDigest: "digest", Lease: agent.Lease{Holder: "me", Number: 7, Until: at.Add(10 * time.Second)},
	}
	up := observation{holder: "me", until: running.Lease.Until, state: runtime.State{Phase: runtime.Running}, current: true}
	wait := func(d time.Duration) action { return action{kind: actWait, after: d} }
	just := func(kind actionKind) action { return action{kind: kind} }
	type change func(a *agent.Agent, o *observation)
	desired := func(s agent.DesiredState) change { return func(a *agent.Agent, _ *observation) { a.DesiredState = s } }
	status := func(s client.AgentStatus) change { return func(a *agent.Agent, _ *observation) { a.Status = s } }
	observed := func(g int64) change { return func(a *agent.Agent, _ *observation) { a.ObservedGeneration = g } }
	phase := func(p runtime.Phase) change { return func(_ *agent.Agent, o *observation) { o.state.Phase = p } }
	nextTry := func(in time.Duration) change {
		return func(a *agent.Agent, _ *observation) { a.Retry.NextTryAt = at.Add(in) }
	}
	held := func(by string, in time.Duration) change { // until the record's lease ends, which is not trusted longer
		return func(a *agent.Agent, o *observation) {
			a.Lease.Holder, a.Lease.Until, o.until = by, at.Add(in), at.Add(in)
			if by != "me" {
				o.until = time.Time{}
			}
		}
	}
	nowhere := func(a *agent.Agent, o *observation) { a.Place, o.state.Phase, o.current = "", runtime.Gone, false }
	halted := func(_ *agent.Agent, o *observation) { o.halted = true }
	differs := func(_ *agent.Agent, o *observation) { o.current = false }
	unknown := func(_ *agent.Agent, o *observation) { o.err, o.current = errors.New("no answer"), false }
	asleep := func(a *agent.Agent, _ *observation) { a.Power, a.Sleep.Suspension = agent.PowerAsleep, "suspension" }
	frozen := func(a *agent.Agent, _ *observation) { a.Power, a.Sleep.Suspension = agent.PowerFrozen, "suspension" }
	suspension := func(s string) change { return func(a *agent.Agent, _ *observation) { a.Sleep.Suspension = s } }
	wanted := func(a *agent.Agent, _ *observation) { a.Sleep.WakeWanted = at.Add(-time.Millisecond) }
	later := func(a *agent.Agent, _ *observation) { a.Sleep.WakeWanted = at.Add(time.Minute) }
	renewed := func(_ *agent.Agent, o *observation) { o.until = at.Add(9 * time.Second) }
	for i, row := range []struct {
		name    string
		changes []change
		want    action
	}{
		// Running as desired.
		{"runs", nil, just(actCheck)},
		{"runs with another spec, which waits for a restart", []change{differs}, just(actCheck)},
		{"has exited", []change{phase(runtime.Exited)}, just(actReportExit)},
		{"is gone", []change{phase(runtime.Gone)}, just(actReportExit)},
		{"runs somewhere unknown", []change{nowhere}, just(actReportExit)},
		{"cannot be inspected", []change{unknown}, just(actRetry)},
		{"runs, though a try is due later", []change{nextTry(time.Minute)}, just(actCheck)},
		// Asleep, or on the way.
		{"sleeps", []change{asleep, phase(runtime.Suspended)}, just(actDoze)},
		{"sleeps, without a checkpoint", []change{asleep, phase(runtime.Gone)}, just(actDoze)},
		{"sleeps, and its last exit is known", []change{asleep, phase(runtime.Exited)}, just(actDoze)},
		{"sleeps with another spec", []change{asleep, phase(runtime.Suspended), differs}, just(actDoze)},
		{"sleeps and is wanted", []change{asleep, wanted, phase(runtime.Suspended)}, just(actWake)},
		{"sleeps and is wanted later", []change{asleep, later, phase(runtime.Suspended)}, just(actDoze)},
		{"sleeps and is wanted, without a checkpoint", []change{asleep, wanted, phase(runtime.Gone)}, just(actWake)},
		{"sleeps, but its gateway was resumed", []change{asleep, phase(runtime.Running)}, just(actWake)},
		{"sleeps, cannot be inspected", []change{asleep, wanted, unknown}, just(actRetry)},
		{"was suspended, which is not saved", []change{phase(runtime.Suspended)}, just(actDoze)},
		{"sleeps, stop", []change{asleep, phase(runtime.Suspended), desired(agent.DesiredStopped), observed(2)}, just(actStop)},
		{"sleeps, delete", []change{asleep, phase(runtime.Suspended), desired(agent.DesiredDeleted), observed(2)}, just(actRemove)},
		{"sleeps, restart", []change{asleep, phase(runtime.Suspended), observed(2), differs}, just(actBoot)},
		{"sleeps, started again before it was stopped", []change{asleep, phase(runtime.Suspended), observed(2)}, just(actDoze)},
		{"sleeps without a checkpoint, started again before it was stopped", []change{asleep, phase(runtime.Gone), observed(2)}, just(actDoze)},
		{"sleeps, started again with another spec", []change{asleep, phase(runtime.Suspended), observed(2), differs}, just(actBoot)},
		{"sleeps and is wanted, started again before it was stopped", []change{asleep, wanted, observed(2), phase(runtime.Suspended)}, just(actWake)},
		{"sleeps and is wanted, and the driver had no room", []change{asleep, wanted, phase(runtime.Gone), nextTry(time.Second)}, wait(time.Second)},
		{"boots for a wake", []change{asleep, wanted, suspension("")}, just(actAdopt)},
		{"boots for a wake that was withdrawn", []change{asleep, suspension("")}, just(actAdopt)},
		{"boots for a wake with another spec", []change{asleep, wanted, suspension(""), differs}, just(actWake)},
		{"booted for a wake, and exited", []change{asleep, wanted, suspension(""), phase(runtime.Exited)}, just(actWake)},
		{"frozen", []change{frozen, phase(runtime.Frozen)}, just(actDoze)},
		{"frozen, and ended", []change{frozen, phase(runtime.Exited)}, just(actDoze)},
		{"frozen and wanted", []change{frozen, wanted, phase(runtime.Frozen)}, just(actWake)},
		{"frozen, but its gateway was thawed", []change{frozen, phase(runtime.Running)}, just(actWake)},
		{"frozen, stop", []change{frozen, phase(runtime.Frozen), desired(agent.DesiredStopped), observed(2)}, just(actStop)},
		{"frozen, delete", []change{frozen, phase(runtime.Frozen), desired(agent.DesiredDeleted), observed(2)}, just(actRemove)},
		{"frozen, restart", []change{frozen, phase(runtime.Frozen), observed(2), differs}, just(actBoot)},
		{"was frozen, which is not saved", []change{phase(runtime.Frozen)}, just(actDoze)},
		{"a boot was frozen", []change{status(client.Starting), observed(2), phase(runtime.Frozen), differs}, just(actBoot)},
		{"sleeps, held by another", []change{asleep, wanted, held("other", time.Second)}, wait(time.Second)},
		{"sleeps, halted", []change{asleep, halted}, just(actHalt)},
		{"a boot was suspended", []change{status(client.Starting), observed(2), phase(runtime.Suspended)}, just(actBoot)},
		// Being started.
		{"is new", []change{status(client.Provisioning), observed(0), nowhere}, just(actBoot)},
		{"boots", []change{status(client.Starting), observed(2)}, just(actAdopt)},
		{"boots with another spec", []change{status(client.Starting), observed(2), differs}, just(actBoot)},
		{"restart", []change{observed(2), differs}, just(actBoot)},
		{"start of what still runs", []change{observed(2)}, just(actAdopt)},
		{"start after a stop", []change{status(client.Stopped), observed(2), nowhere}, just(actBoot)},
		{"start while it is being stopped", []change{status(client.Stopping), observed(2), differs}, just(actBoot)},
		{"start of a failed one", []change{status(client.Errored), observed(2), nowhere}, just(actBoot)},
		{"boot whose gateway exited", []change{status(client.Starting), observed(2), phase(runtime.Exited), differs}, just(actBoot)},
		{"boot that cannot be inspected", []change{status(client.Starting), observed(2), unknown}, just(actReportError)},
		// After a failure.
		{"backs off", []change{status(client.Starting), phase(runtime.Exited), differs, nextTry(time.Second)}, wait(time.Second)},
		{"backs off, of an earlier start", []change{status(client.Starting), observed(2), nowhere, nextTry(time.Minute)}, wait(time.Minute)},
		{"backs off with what failed running", []change{status(client.Starting), differs, nextTry(time.Second)}, wait(time.Second)},
		{"back-off is over", []change{status(client.Starting), phase(runtime.Exited), differs, nextTry(0)}, just(actBoot)},
		{"gateway of before the back-off is adopted", []change{status(client.Starting), nextTry(time.Minute)}, just(actAdopt)},
		{"back-off of before the clock was set back", []change{status(client.Starting), phase(runtime.Exited), differs, nextTry(24 * time.Hour)}, just(actBoot)},
		{"in error", []change{status(client.Errored), nowhere}, just(actRest)},
		{"in error with a gateway", []change{status(client.Errored)}, just(actDiscard)},
		{"in error, not held", []change{status(client.Errored), nowhere, held("", 0)}, just(actRest)},
		{"in error with a gateway, not held", []change{status(client.Errored), held("", 0)}, just(actLease)},
		// To be stopped.
		{"stop", []change{desired(agent.DesiredStopped), observed(2)}, just(actStop)},
		{"is being stopped", []change{desired(agent.DesiredStopped), observed(2), status(client.Stopping)}, just(actStop)},
		{"stop without a gateway", []change{desired(agent.DesiredStopped), observed(2), status(client.Errored), nowhere}, just(actStop)},
		{"stopped", []change{desired(agent.DesiredStopped), status(client.Stopped), nowhere}, just(actRest)},
		{"stopped, held by another", []change{desired(agent.DesiredStopped), status(client.Stopped), nowhere, held("other", time.Second)}, just(actRest)},
		{"stopped, but a stray runs", []change{desired(agent.DesiredStopped), status(client.Stopped)}, just(actStop)},
		{"stop during a back-off", []change{desired(agent.DesiredStopped), observed(2), nextTry(time.Minute)}, just(actStop)},
		// To be deleted.
		{"delete", []change{desired(agent.DesiredDeleted), observed(2)}, just(actRemove)},
		{"delete without a gateway", []change{desired(agent.DesiredDeleted), nowhere}, just(actRemove)},
		{"delete in error", []change{desired(agent.DesiredDeleted), status(client.Errored), nowhere}, just(actRemove)},
		{"delete, held by another", []change{desired(agent.DesiredDeleted), held("other", time.Second)}, wait(time.Second)},
		{"delete, not held", []change{desired(agent.DesiredDeleted), held("", 0)}, just(actLease)},
		// Halted: stopped, though the record cannot say so.
		{"halted", []change{halted}, just(actHalt)},
		{"halted, own lease has ended", []change{halted, held("me", -time.Second)}, just(actHalt)},
		{"halted without a gateway", []change{halted, nowhere, status(client.Errored)}, just(actHalt)},
		{"halted, held by another", []change{halted, held("other", time.Second)}, wait(time.Second)},
		// The lease.
		{"not held", []change{held("", 0)}, just(actLease)},
		{"held by another", []change{held("other", 4*time.Second)}, wait(4 * time.Second)},
		{"held by another until now", []change{held("other", 0)}, just(actLease)},
		{"held by another before", []change{held("other", -time.Hour)}, just(actLease)},
		{"own lease within the margin", []change{held("me", leaseMargin)}, just(actLease)},
		{"own lease just before the margin", []change{held("me", leaseMargin+time.Millisecond)}, just(actCheck)},
		{"own lease has ended", []change{held("me", -time.Second)}, just(actLease)},
		{"own lease was renewed since", []change{held("me", time.Second), renewed}, just(actCheck)},
		{"stop, own lease has ended", []change{desired(agent.DesiredStopped), observed(2), held("me", 0)}, just(actLease)},
	} {
		t.Run(fmt.Sprint(i, " ", row.name), func(t *testing.T) {
			a, o := running, up
			for _, c := range row.changes {
				c(&a, &o)
			}
			if got := decide(a, o, at); got != row.want {
				t.Errorf("%+v, want %+v", got, row.want)
			}
		})
	}
}

func TestCountFailure(t *testing.T) {
	timing := Timing{}.withDefaults()
	at := time.UnixMilli(1_770_000_000_000)
	ago := func(all ...time.Duration) (times []time.Time) {
		for _, d := range all {
			times = append(times, at.Add(-d))
		}
		return times
	}
	for name, row := range map[string]struct {
		retry    agent.Retry
		final    bool
		server   bool
		status   client.AgentStatus
		failures int
		after    time.Duration
	}{
		"first":                            {status: client.Starting, failures: 1, after: time.Second},
		"third":                            {retry: agent.Retry{Failures: ago(time.Minute, time.Second)}, status: client.Starting, failures: 3, after: 4 * time.Second},
		"fifth":                            {retry: agent.Retry{Failures: ago(4, 3, 2, 1)}, status: client.Errored, failures: 5},
		"old ones":                         {retry: agent.Retry{Failures: ago(time.Hour, 11*time.Minute, time.Minute)}, status: client.Starting, failures: 2, after: 2 * time.Second},
		"of before the clock was set back": {retry: agent.Retry{Failures: ago(-24*time.Hour, -25*time.Hour)}, status: client.Starting, failures: 1, after: time.Second},
		"fifth, of a full disk":            {retry: agent.Retry{Failures: ago(4, 3, 2, 1)}, server: true, status: client.Starting, failures: 5, after: 16 * time.Second},
		"final":                            {final: true, status: client.Errored, failures: 1},
		"unready for long":                 {retry: agent.Retry{Unready: 10 * time.Minute}, status: client.Errored, failures: 1},
		"after missed checks":              {retry: agent.Retry{MissedHealthChecks: 4}, status: client.Starting, failures: 1, after: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			a := agent.Agent{Generation: 2, ObservedGeneration: 1, SpecDigest: "digest", Retry: row.retry}
			a = timing.countFailure(a, failure{text: "It failed.", final: row.final, server: row.server}, at)
			if a.Status != row.status || len(a.Retry.Failures) != row.failures || a.SpecDigest != "" || a.LastError != "It failed." || a.Retry.MissedHealthChecks != 0 {
				t.Errorf("%+v", a)
			}
			if row.status == client.Starting && (!a.Retry.NextTryAt.Equal(at.Add(row.after)) || a.ObservedGeneration != 1) {
				t.Errorf("next try %s, observed %d", a.Retry.NextTryAt.Sub(at), a.ObservedGeneration)
			}
			if row.status == client.Errored && !a.HasFailed() {
				t.Error("it has not failed")
			}
		})
	}
}
