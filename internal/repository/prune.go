package repository

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// pruneGrace is how old a chunk is before Prune deletes it. The lock keeps others from
// writing meanwhile; the grace is for a writer that has lost it.
const pruneGrace = time.Hour

// Prune deletes the chunks of a home that used does not name. The caller holds the lock.
func (h *Home) Prune(ctx context.Context, used func(chunk string) bool) (bytes int64, err error) {
	return h.repository.deleteChunks(ctx, h.name, pruneGrace, used)
}

func (r *Repository) deleteChunks(ctx context.Context, home string, grace time.Duration, used func(chunk string) bool) (bytes int64, err error) {
	found, err := r.bucket.list(ctx, chunksPrefix+home+"/")
	if err != nil {
		return 0, fmt.Errorf("list the chunks of the home %s: %w", home, err)
	}
	for _, o := range found {
		if used(chunkID(o.key)) || time.Since(o.since) < grace {
			continue
		}
		if err := r.bucket.delete(ctx, o.key); err != nil {
			return bytes, fmt.Errorf("delete a chunk of the home %s: %w", home, err)
		}
		bytes += o.size
	}
	return bytes, nil
}

// Lock is the right to write. It is an object that its holder writes again and again; one
// that has not changed for lockStale belongs to a process that is gone.
type Lock struct {
	repository *Repository
	token      string
	stop       context.CancelFunc
	done       chan struct{}
}

const (
	lockRenew = 10 * time.Second
	lockStale = time.Minute
	lockPoll  = time.Second
)

// ErrLocked means that another process writes into the repository.
var ErrLocked = errors.New("another backup writes into the repository")

// Lock takes the lock. A lock whose holder was killed is taken after a minute; ErrLocked
// means that its holder is alive. No clock but this machine's is used.
func (r *Repository) Lock(ctx context.Context) (*Lock, error) {
	l := &Lock{repository: r, token: fmt.Sprintf("%x", randomBytes(16)), done: make(chan struct{})}
	var seen string
	since := time.Now()
	for {
		err := r.bucket.putNew(ctx, lockKey, l.content(0))
		if err == nil {
			break
		}
		if !errors.Is(err, errExists) {
			return nil, fmt.Errorf("lock the repository: %w", err)
		}
		now, err := r.bucket.get(ctx, lockKey)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return nil, fmt.Errorf("lock the repository: %w", err)
		case seen != "" && string(now) != seen:
			return nil, ErrLocked
		case time.Since(since) > lockStale:
			if err := r.bucket.delete(ctx, lockKey); err != nil {
				return nil, fmt.Errorf("lock the repository: %w", err)
			}
			continue
		}
		seen = string(now)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go l.renew(renewing)
	return l, nil
}

func (l *Lock) content(n int) []byte { return fmt.Appendf(nil, "%s %d\n", l.token, n) }

func (l *Lock) renew(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(lockRenew)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.Check(ctx) != nil {
			return // Check tells the holder
		}
		_ = l.repository.bucket.put(ctx, lockKey, l.content(n)) // the next time may succeed
	}
}

// Check returns ErrLocked if the lock was lost, because this process was stopped for long.
// What is stored last must come after a Check.
func (l *Lock) Check(ctx context.Context) error {
	now, err := l.repository.bucket.get(ctx, lockKey)
	if errors.Is(err, ErrNotFound) || err == nil && !strings.HasPrefix(string(now), l.token+" ") {
		return fmt.Errorf("the lock was lost: %w", ErrLocked)
	}
	if err != nil {
		return fmt.Errorf("look at the lock of the repository: %w", err)
	}
	return nil
}

// Unlock ends the lock.
func (l *Lock) Unlock(ctx context.Context) error {
	l.stop()
	<-l.done
	err := l.Check(ctx)
	if errors.Is(err, ErrLocked) {
		return nil // it is another's
	}
	if err == nil {
		err = l.repository.bucket.delete(ctx, lockKey)
	}
	return err
}
