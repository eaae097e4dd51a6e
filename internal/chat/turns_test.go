package chat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestTurnsOfASessionGoOneByOneInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes()
		leave, err := l.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var order []int // only whoever is in the lane writes
		for i := range 20 {
			go func() {
				leave, err := l.enter(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				leave()
			}()
			synctest.Wait() // it stands in line
		}
		other, err := l.enter(t.Context(), "b") // does not stand in that line
		if err != nil || len(order) != 0 {
			t.Fatalf("%v; went before their turn: %v", err, order)
		}
		other()
		leave()
		synctest.Wait()
		for i := range 20 {
			if len(order) != 20 || order[i] != i {
				t.Fatalf("the order: %v", order)
			}
		}
		if len(l.last) != 0 {
			t.Errorf("lanes that nobody is in: %v", l.last)
		}
	})
}

func TestATurnThatGivesUpLeavesTheOrderAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes()
		leave, err := l.enter(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		impatient, giveUp := context.WithCancel(t.Context())
		gaveUp := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := l.enter(impatient, "a")
				gaveUp <- err
			}()
		}
		synctest.Wait()
		entered := false
		go func() {
			leave, err := l.enter(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			entered = true
			leave()
		}()
		synctest.Wait()
		giveUp()
		for range 2 {
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				t.Errorf("gave up with %v", err)
			}
		}
		synctest.Wait()
		if entered {
			t.Fatal("a turn went beside the first, since those between gave up")
		}
		leave()
		synctest.Wait()
		if !entered || len(l.last) != 0 {
			t.Errorf("entered: %v; lanes that nobody is in: %v", entered, l.last)
		}
	}) // the bubble fails if a goroutine is left
}
