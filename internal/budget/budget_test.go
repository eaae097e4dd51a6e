package budget

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/fault"
)

func mustAcquire(t *testing.T, b *Budget, name string, n int64) func() {
	t.Helper()
	release, err := b.Acquire(t.Context(), name, n)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return release
}

func TestHolderIsRefusedAndNamed(t *testing.T) {
	var log bytes.Buffer
	b := New(Settings{Resource: "memory", Total: 100, Each: 60, Refusal: "Send fewer at once", Log: slog.New(slog.NewTextHandler(&log, nil))})
	release := mustAcquire(t, b, "hog", 50)
	for range 3 {
		_, err := b.Acquire(t.Context(), "hog", 20)
		f := fault.From(err)
		if f.Code != fault.RateLimited || f.RetryAfter == 0 || !strings.HasPrefix(f.Message, "Send fewer at once") {
			t.Errorf("%v, retry after %v", f, f.RetryAfter)
		}
	}
	other := mustAcquire(t, b, "other", 50)
	if _, err := b.Acquire(t.Context(), "third", 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("of a budget that is used up: %v", err)
	}
	release()
	release() // has no effect
	other()
	mustAcquire(t, b, "hog", 60)()
	mustAcquire(t, b, "hog", 1000)() // all that it may have
	if n := strings.Count(log.String(), "holder=hog"); n != 1 || !strings.Contains(log.String(), "holder=third") {
		t.Errorf("the hog is named %d times in:\n%s", n, log.String())
	}
	if len(b.holders) > 0 || len(b.waiting) > 0 || b.used != 0 {
		t.Errorf("left: %v, %v, %d", b.holders, b.waiting, b.used)
	}
}

// TestHoldersTakeTurns: the one that waits for a single turn gets it after one of the hog
// that waits for many.
func TestHoldersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{Total: 1, Wait: time.Hour})
		var mu sync.Mutex
		var order []string
		wait := func(name string) {
			go func() {
				release, err := b.Acquire(t.Context(), name, 1)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				release()
			}()
			synctest.Wait()
		}
		release := mustAcquire(t, b, "first", 1)
		for range 3 {
			wait("hog")
		}
		wait("victim")
		release()
		synctest.Wait()
		if want := []string{"hog", "victim", "hog", "hog"}; !slices.Equal(order, want) {
			t.Errorf("%v", order)
		}
	})
}

// TestLargeTakerIsNotStarved by small ones that come after it.
func TestLargeTakerIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{Total: 10, Wait: time.Minute})
		first := mustAcquire(t, b, "first", 8)
		large, small := acquireLater(t, b, "large", 4), acquireLater(t, b, "small", 1)
		if large() || small() {
			t.Error("one did not wait, although the large one has its turn")
		}
		first()
		if synctest.Wait(); !large() || !small() {
			t.Error("one still waits")
		}
	})
}

// TestHolderThatHasAllIsPassedOver: it does not keep the others waiting.
func TestHolderThatHasAllIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{Total: 10, Each: 8, Wait: time.Minute})
		release := mustAcquire(t, b, "hog", 8)
		hog, other := acquireLater(t, b, "hog", 1), acquireLater(t, b, "other", 1)
		if hog() || !other() {
			t.Errorf("hog %v, other %v", hog(), other())
		}
		release()
		if synctest.Wait(); !hog() {
			t.Error("the hog still waits")
		}
	})
}

// acquireLater acquires in the background. got reports whether it has.
func acquireLater(t *testing.T, b *Budget, name string, n int64) (got func() bool) {
	var done atomic.Bool
	go func() {
		if _, err := b.Acquire(t.Context(), name, n); err != nil {
			t.Error(name, err)
		}
		done.Store(true)
	}()
	synctest.Wait()
	return done.Load
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Settings{Total: 1, Each: 1, Wait: time.Second})
		release := mustAcquire(t, b, "a", 1)
		began := time.Now()
		if _, err := b.Acquire(t.Context(), "b", 1); !fault.Is(err, fault.Unavailable) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Acquire(ctx, "b", 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		release()
		if b.used != 0 || len(b.holders) > 0 || len(b.waiting) > 0 {
			t.Errorf("left: %d, %v, %v", b.used, b.holders, b.waiting)
		}
	})
}

func TestNilBudgetHasNoLimits(t *testing.T) {
	var b *Budget
	mustAcquire(t, b, "a", 1<<40)()
}
