package channel

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
)

// maxKnown bounds how many written reports a Recorder remembers. One needs about 300 bytes.
const maxKnown = 20_000

// Recorder writes the states that are reported to it, when they change. It is safe for
// concurrent use.
type Recorder struct {
	store *Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[key]Report // the last of each channel that is not written yet; guarded by mu
	known   map[key]Report // what was written last; guarded by mu
	added   chan struct{}
}

type key struct {
	agent   identity.AgentID
	channel Name
}

// NewRecorder returns a recorder. Its Run writes.
func NewRecorder(s *Store, log *slog.Logger) *Recorder {
	return &Recorder{store: s, log: log, pending: map[key]Report{}, known: map[key]Report{}, added: make(chan struct{}, 1)}
}

// Report takes note of the state of a channel. It does not block.
func (r *Recorder) Report(report Report) {
	k := key{report.Agent, report.Channel}
	r.mu.Lock()
	_, waits := r.pending[k]
	if r.known[k] != report || waits {
		r.pending[k] = report
	}
	r.mu.Unlock()
	r.notify()
}

// retryPause is the pause after a report could not be written.
const retryPause = time.Second

// Run writes reports until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.added:
		}
		if err := r.write(ctx); err != nil && ctx.Err() == nil {
			r.log.ErrorContext(ctx, "writing the states of channels failed; it is tried again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryPause):
				r.notify()
			}
		}
	}
}

func (r *Recorder) notify() {
	select {
	case r.added <- struct{}{}:
	default:
	}
}

// write writes the pending reports. One that cannot be written stays pending, unless there
// is a newer one.
func (r *Recorder) write(ctx context.Context) error {
	r.mu.Lock()
	reports := r.pending
	r.pending = map[key]Report{}
	r.mu.Unlock()
	var failed error
	for k, report := range reports {
		err := r.store.save(ctx, report, time.Now())
		r.mu.Lock()
		switch _, newer := r.pending[k]; {
		case err == nil:
			r.remember(k, report)
		case !newer:
			r.pending[k] = report
		}
		r.mu.Unlock()
		if err != nil {
			failed = err
		}
	}
	return failed
}

// remember keeps what was written. The caller holds mu.
func (r *Recorder) remember(k key, report Report) {
	if _, ok := r.known[k]; !ok && len(r.known) >= maxKnown {
		for other := range r.known { // any one: its next report reads the row
			delete(r.known, other)
			break
		}
	}
	r.known[k] = report
}
