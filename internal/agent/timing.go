package agent

import "time"

// Timing is how patient this room is. The zero value of a field means the default
// that stands beside it.
type Timing struct {
	Ready    time.Duration // 4 m: from start to ready; a loaded machine took 80 s (openclaw.md)
	Grace    time.Duration // 10 s: from SIGTERM to SIGKILL
	Backoff  time.Duration // 1 s: before the second try, doubled for each further one
	Window   time.Duration // 10 m: failures older than this are forgotten
	Tries    int           // 5: failures in a window that put an agent into error
	Health   time.Duration // 20 s: between looks at a running gateway
	Sweep    time.Duration // 10 m: between looks for gateways of no agent
	Report   time.Duration // 5 s: between reports on running gateways
	Patience time.Duration // 2 m: that a caller waits for an agent to be stopped or removed
}

func (t Timing) withDefaults() Timing {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&t.Ready, 4*time.Minute)
	or(&t.Grace, 10*time.Second)
	or(&t.Backoff, time.Second)
	or(&t.Window, 10*time.Minute)
	or(&t.Health, 20*time.Second)
	or(&t.Sweep, 10*time.Minute)
	or(&t.Report, 5*time.Second)
	or(&t.Patience, 2*time.Minute)
	if t.Tries == 0 {
		t.Tries = 5
	}
	return t
}

// longestBackoff bounds the wait between two tries.
const longestBackoff = time.Minute

// backoff is how long to wait after the nth failure in a row, from 1.
func (t Timing) backoff(n int) time.Duration {
	d := t.Backoff
	for range n - 1 {
		if d *= 2; d >= longestBackoff {
			return longestBackoff
		}
	}
	return d
}
