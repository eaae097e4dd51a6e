package process

import (
	"context"
	"sync"
	"time"
)

const (
	// wayPause is the pause between two looks whether others still want the processors, and wayMost
	// for how long the work on one checkpoint waits for them in all: on a machine that is always busy
	// the memory that it frees is wanted too. Source: it takes 1 to 2 s itself.
	wayPause = 20 * time.Millisecond
	wayMost  = 3 * time.Second
)

// way lets the work on checkpoints make way for gateways that are resumed, and for everything else
// that wants processors, such as turns. The zero value is ready to use.
type way struct {
	busy func() bool // reports whether others want all processors; nil: they do not

	mu       sync.Mutex
	resuming int           // gateways that are being resumed; guarded by mu
	free     chan struct{} // is closed when there are none; guarded by mu; nil: there are none
}

// resume says that a gateway is being resumed until end is called.
func (w *way) resume() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.resuming++; w.resuming == 1 {
		w.free = make(chan struct{})
	}
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.resuming--; w.resuming == 0 {
			close(w.free)
			w.free = nil
		}
	})
}

// waiter returns what the work on one checkpoint calls between its chunks. It waits as long as
// gateways are being resumed, which has its own deadline, and for a while as long as others want all
// processors. Errors: ctx's.
func (w *way) waiter() func(ctx context.Context) error {
	left := wayMost
	return func(ctx context.Context) error {
		for {
			w.mu.Lock()
			free := w.free
			w.mu.Unlock()
			switch {
			case free != nil:
				select {
				case <-free:
				case <-ctx.Done():
					return ctx.Err()
				}
			case w.busy == nil || left <= 0 || !w.busy():
				return ctx.Err()
			default:
				left -= wayPause
				if err := pause(ctx, wayPause); err != nil {
					return err
				}
			}
		}
	}
}
