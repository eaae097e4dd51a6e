package sshlink

import (
	"os"
	"sync"
	"time"
)

// deadline is a deadline that can be moved while something waits for it. The zero value has
// not been set.
type deadline struct {
	mu      sync.Mutex
	at      time.Time     // guarded by mu
	changed chan struct{} // closed when at changes; guarded by mu
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

func (d *deadline) get() (at time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.at, d.changed
}

func (d *deadline) passed() bool {
	at, _ := d.get()
	return !at.IsZero() && !time.Now().Before(at)
}

// wait calls try until it is done, or the deadline has passed. try waits for what it is
// about, for the timer of the deadline, and for its change.
func (d *deadline) wait(try func(timer <-chan time.Time, changed <-chan struct{}) (done bool, err error)) error {
	for {
		at, changed := d.get()
		var expires <-chan time.Time
		stop := func() bool { return true }
		if !at.IsZero() {
			if !time.Now().Before(at) {
				return os.ErrDeadlineExceeded
			}
			timer := time.NewTimer(time.Until(at))
			expires, stop = timer.C, timer.Stop
		}
		done, err := try(expires, changed)
		stop()
		if done {
			return err
		}
	}
}
