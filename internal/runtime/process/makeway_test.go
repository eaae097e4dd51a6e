package process

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWorkMakesWay: it waits for every gateway that is resumed, and for a while for others.
func TestWorkMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := false
		w := &way{busy: func() bool { return busy }}
		took := func(wait func(context.Context) error) time.Duration {
			t.Helper()
			began := time.Now()
			if err := wait(t.Context()); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if d := took(w.waiter()); d != 0 {
			t.Errorf("without a reason it waits for %s", d)
		}
		first, second := w.resume(), w.resume()
		time.AfterFunc(time.Second, first)
		time.AfterFunc(5*time.Second, func() { second(); second() })
		if d := took(w.waiter()); d != 5*time.Second {
			t.Errorf("it waits %s for two resumes", d)
		}
		busy = true
		wait := w.waiter()
		if d := took(wait); d != wayMost {
			t.Errorf("it waits %s for others", d)
		}
		if d := took(wait); d != 0 {
			t.Errorf("it waits %s more for the next chunk", d)
		}
		defer w.resume()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its context: %v", err)
		}
	})
}
