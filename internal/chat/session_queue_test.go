package chat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestTurnsOfASessionRunOneAtATimeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newSessionQueue()
		done, err := q.wait(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var order []int // only the turn that runs writes
		for i := range 20 {
			go func() {
				done, err := q.wait(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				done()
			}()
			synctest.Wait() // until it waits
		}
		otherDone, err := q.wait(t.Context(), "b") // another session does not wait
		if err != nil || len(order) != 0 {
			t.Fatalf("%v; turns ran too early: %v", err, order)
		}
		otherDone()
		done()
		synctest.Wait()
		for i := range 20 {
			if len(order) != 20 || order[i] != i {
				t.Fatalf("the order: %v", order)
			}
		}
		if len(q.last) != 0 {
			t.Errorf("sessions without turns are left in the queue: %v", q.last)
		}
	})
}

func TestCancelledTurnDoesNotChangeTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newSessionQueue()
		done, err := q.wait(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := q.wait(cancelled, "a")
				ended <- err
			}()
		}
		synctest.Wait()
		ran := false
		go func() {
			done, err := q.wait(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			ran = true
			done()
		}()
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled turn ended with %v", err)
			}
		}
		synctest.Wait()
		if ran {
			t.Fatal("a turn ran beside the first after those between were cancelled")
		}
		done()
		synctest.Wait()
		if !ran || len(q.last) != 0 {
			t.Errorf("ran: %v; sessions without turns are left in the queue: %v", ran, q.last)
		}
	}) // synctest fails if a goroutine is left
}
