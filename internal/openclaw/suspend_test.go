package openclaw_test

import (
	"errors"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
)

// TestGatewaySuspends on the real gateway: it refuses turns while it is suspended, is busy
// while it has one, and goes on after both. Who has suspended it can do so again.
func TestGatewaySuspends(t *testing.T) {
	g := sharedGateway(t)
	g.turn(t, "hold", "c", "", "echo before")
	var s *openclaw.Suspension
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) { // work after a turn is work too
		var err error
		if s, err = g.Suspend(testTimeout(t)); err == nil {
			break
		}
		if !errors.Is(err, openclaw.ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	var got answer
	request := openclaw.TurnRequest{Entry: openclaw.Guest, SessionKey: openclaw.SessionKey(openclaw.Guest, "hold", "c"), Message: "echo meanwhile"}
	if _, err := g.Turn(testTimeout(t), request, got.add); err == nil {
		t.Errorf("a turn of a suspended gateway: %q", got.String())
	}
	again, err := g.Suspend(testTimeout(t)) // as after a crash of whoever has suspended it
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := again.Resume(testTimeout(t)); err != nil {
		t.Fatal(err)
	}
	t.Logf("resumed within %s", time.Since(began))
	if err := s.Resume(testTimeout(t)); !errors.Is(err, openclaw.ErrNotSuspended) {
		t.Errorf("resumed twice: %v", err)
	}
	gate := make(chan struct{})
	defer g.model.Script(devmodel.When("wait for it", devmodel.Reply{Chunks: []string{"one ", "two"}, Gate: gate}))()
	done := make(chan error, 1)
	go func() {
		request.Message = "wait for it"
		_, err := g.Turn(testTimeout(t), request, func(string) error { return nil })
		done <- err
	}()
	gate <- struct{}{}
	if _, err := g.Suspend(testTimeout(t)); !errors.Is(err, openclaw.ErrBusy) {
		t.Errorf("in a turn: %v", err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
