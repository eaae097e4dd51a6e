package reconciler

import "time"

// Timing are the intervals and limits of a Reconciler. A zero field has the default
// that its comment begins with.
type Timing struct {
	ReadyTimeout     time.Duration // 4 m: from the start of a gateway until it is ready; a loaded machine took 80 s (openclaw.md)
	StallTimeout     time.Duration // 20 s: for which a gateway that boots may use no CPU time and write no log
	SlotTimeout      time.Duration // 1 m: after which a boot gives its slot to the next one, and goes on
	CapacityInterval time.Duration // 5 s: between tries while the driver has no room
	StopGrace        time.Duration // 10 s: from SIGTERM to SIGKILL
	Backoff          time.Duration // 1 s: before the second try; each further one waits twice as long
	FailureWindow    time.Duration // 10 m: failures older than this do not count
	MaxFailures      int           // 5: failures within the window that put an agent into error
	HealthInterval   time.Duration // 20 s: between health checks of a running gateway
	LeaseDuration    time.Duration // 10 s: for which an agent is held
	RenewInterval    time.Duration // 3 s: between renewals of the leases
	Linger           time.Duration // none: for which an agent stays awake after its last turn; zero: agents do not sleep
	DiskAfter        time.Duration // 5 m: after its last turn, the checkpoint of an agent moves to the disk
	OrphanInterval   time.Duration // 10 m: between searches for gateways of no agent
}

func (t Timing) withDefaults() Timing {
	setDefault := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	setDefault(&t.ReadyTimeout, 4*time.Minute)
	setDefault(&t.StallTimeout, 20*time.Second)
	setDefault(&t.SlotTimeout, time.Minute)
	setDefault(&t.CapacityInterval, 5*time.Second)
	setDefault(&t.StopGrace, 10*time.Second)
	setDefault(&t.Backoff, time.Second)
	setDefault(&t.FailureWindow, 10*time.Minute)
	setDefault(&t.HealthInterval, 20*time.Second)
	setDefault(&t.LeaseDuration, 10*time.Second)
	setDefault(&t.RenewInterval, 3*time.Second)
	setDefault(&t.DiskAfter, 5*time.Minute)
	setDefault(&t.OrphanInterval, 10*time.Minute)
	if t.MaxFailures == 0 {
		t.MaxFailures = 5
	}
	return t
}

// maxBackoff bounds the wait between two tries.
const maxBackoff = time.Minute

// backoff returns how long to wait after the nth failure in a row, counted from 1.
func (t Timing) backoff(n int) time.Duration {
	d := min(t.Backoff, maxBackoff)
	for range n - 1 {
		if d *= 2; d >= maxBackoff {
			return maxBackoff
		}
	}
	return d
}
