package gateway_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/gateway"
)

// TestHold: while a gateway is held it is suspended, messages wait, and nothing is written
// into its home; then everything goes on.
func TestHold(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	release, err := e.Gateways.Hold(e.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Scripts.Suspended.Load() {
		t.Error("the gateway is not suspended")
	}
	answered, synced := make(chan error, 1), make(chan error, 1)
	go func() { _, err := e.Turn(a.ID); answered <- err }()
	go func() { synced <- e.Gateways.SyncHome(e.Context(), a.ID) }()
	limited, cancel := context.WithTimeout(e.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Gateways.Deliver(limited, a.ID); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Deliver in the hold: %v", err)
	}
	select {
	case err := <-answered:
		t.Errorf("a message was answered in the hold: %v", err)
	case err := <-synced:
		t.Errorf("the home was written in the hold: %v", err)
	default:
	}
	if held, err := release(); err != nil || held < 50*time.Millisecond {
		t.Errorf("held %s, %v", held, err)
	}
	if err := errors.Join(<-answered, <-synced, e.Gateways.Deliver(e.Context(), a.ID)); err != nil {
		t.Error(err)
	}
	if e.Scripts.Suspended.Load() {
		t.Error("the gateway is suspended afterwards")
	}
}

// TestHoldOfAStoppedAgent: it needs no gateway, and tells if one was started meanwhile.
func TestHoldOfAStoppedAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Stop(a.ID)
	for _, started := range []bool{false, true} {
		release, err := e.Gateways.Hold(e.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		if started {
			e.Exec(`UPDATE agents SET place = 'another', started_at = 5 WHERE id = $1`, a.ID)
		}
		if _, err := release(); (err != nil) != started {
			t.Errorf("started meanwhile: %v; %v", started, err)
		}
	}
	if release, err := e.Gateways.Hold(e.Context(), "of nobody"); err != nil {
		t.Errorf("an agent that was deleted: %v", err)
	} else if _, err := release(); err != nil {
		t.Error(err)
	}
}

// TestHoldOfABusyGateway: it is left alone, and what waited for it goes on.
func TestHoldOfABusyGateway(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Scripts.Busy.Store(true)
	if _, err := gateway.TryHold(e.Context(), e.Gateways, a.ID); !errors.Is(err, gateway.ErrBusy) {
		t.Errorf("a busy gateway: %v", err)
	}
	if _, err := e.Turn(a.ID); err != nil {
		t.Error(err)
	}
	e.Scripts.Busy.Store(false)
	e.Scripts.RefuseCalls.Store(true)
	if _, err := gateway.TryHold(e.Context(), e.Gateways, a.ID); err == nil || errors.Is(err, gateway.ErrBusy) {
		t.Errorf("a gateway that refuses: %v", err)
	}
	e.Scripts.RefuseCalls.Store(false)
	release, err := gateway.TryHold(e.Context(), e.Gateways, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.TryHold(e.Context(), e.Gateways, a.ID); !errors.Is(err, gateway.ErrBusy) {
		t.Errorf("a second hold: %v", err)
	}
	if _, err := release(); err != nil {
		t.Error(err)
	}
}

// TestAbandonedHoldEnds when the next server adopts the gateway.
func TestAbandonedHoldEnds(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	stopped := e.Create("bob")
	e.Stop(stopped.ID)
	if _, err := e.Gateways.Hold(e.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	e.RestartServer(nil)
	e.Eventually("the gateway goes on", func() bool { return !e.Scripts.Suspended.Load() })
}

// TestMessageEndsAnAbandonedSuspension: a gateway that was suspended by a server that was killed
// gets the message all the same.
func TestMessageEndsAnAbandonedSuspension(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	if _, err := e.Gateways.Hold(e.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	e.RestartServer(nil)
	if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
		t.Errorf("%q, %v", text, err)
	}
	if e.Scripts.Suspended.Load() {
		t.Error("the gateway is suspended")
	}
}
