package runtimetest

import (
	"context"
	"errors"
	"testing"

	"agento.host/agento/internal/runtime"
)

// suspender returns the driver's optional interface. The test is skipped if gateways cannot be
// suspended here.
func suspender(t *testing.T, d runtime.Driver) runtime.Suspender {
	t.Helper()
	s, ok := d.(runtime.Suspender)
	if !ok {
		t.Skip("the driver suspends no gateways")
	}
	if err := s.CheckSuspend(); err != nil {
		t.Skip(err)
	}
	return s
}

func phase(t *testing.T, d runtime.Driver, g *Gateway) runtime.Phase {
	t.Helper()
	state, err := d.Inspect(t.Context(), g.Place, g.ID)
	if err != nil {
		t.Fatal(err)
	}
	return state.Phase
}

func testSuspend(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	boot := g.Ask("/boot")
	g.Ask("/write", "name", "kept", "data", "in-the-home")
	for life := range 3 {
		if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
			t.Fatalf("suspend %d: %v", life, err)
		}
		if p := phase(t, e.Driver, g); p != runtime.Suspended {
			t.Fatalf("a suspended gateway is %s", p)
		}
		if err := e.Driver.(runtime.Watcher).Watch(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Driver.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
			t.Fatalf("Dial of a suspended gateway: %v", err)
		}
		if found := findAgent(t, e.Driver, g.ID); found == nil || found.Running {
			t.Fatalf("List of a suspended gateway: %+v", found)
		}
		if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
			t.Fatalf("resume %d: %v", life, err)
		}
		if p := phase(t, e.Driver, g); p != runtime.Running {
			t.Fatalf("a resumed gateway is %s", p)
		}
		if got := g.Ask("/boot"); got != boot {
			t.Fatalf("the resumed gateway is another one: it has started as %s, not %s", got, boot)
		}
		if got := g.Ask("/read", "name", "kept"); got != "in-the-home" {
			t.Fatalf("the home of the resumed gateway has %q", got)
		}
		g.Ask("/print", "line", "alive")
	}
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, waitTimeout); err != nil {
		t.Fatal(err)
	}
	if p := phase(t, e.Driver, g); p == runtime.Running || p == runtime.Suspended {
		t.Fatalf("a stopped gateway is %s", p)
	}
}

func testCheckpointOnce(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("a second resume while it runs: %v", err)
	}
	g.Ask("/boot")
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("a second resume after it has ended: %v", err)
	}
	if err := s.Resume(t.Context(), g.Place, NewID()); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of an unknown agent: %v", err)
	}
}

func testSuspendedEnds(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	boot := g.Ask("/boot")
	suspend := func() {
		t.Helper()
		if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
	}
	suspend()
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	if got := g.Ask("/boot"); got == boot {
		t.Error("Start has resumed the gateway")
	}
	suspend()
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, waitTimeout); err != nil {
		t.Fatal(err)
	}
	if p := phase(t, e.Driver, g); p == runtime.Suspended {
		t.Error("a stopped gateway is still suspended")
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of a stopped gateway: %v", err)
	}
	if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
		t.Fatal(err)
	}
	g.WaitReady()
	g.Ask("/boot")
	suspend()
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if found := findAgent(t, e.Driver, g.ID); found != nil {
		t.Errorf("after Remove: %+v", *found)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("resume of a removed gateway: %v", err)
	}
}

func testSuspendedSecrets(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	const changed = `{"word":"changed in its sleep"}`
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(changed)); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/secrets"); got != changed {
		t.Errorf("the resumed gateway has the secrets %s", got)
	}
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(`{"word":"later"}`)); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/secrets"); got != `{"word":"later"}` {
		t.Errorf("after the resume its secrets are %s", got)
	}
}

func testSuspendErrors(t *testing.T, e Env) {
	s := suspender(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	boot := g.Ask("/boot")
	other, err := e.Driver.Place(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context(), other, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend at another place: %v", err)
	}
	if err := s.Suspend(t.Context(), g.Place, NewID()); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend of an unknown agent: %v", err)
	}
	if got := g.Ask("/boot"); got != boot {
		t.Error("the gateway has restarted")
	}
	if err := e.Driver.Stop(t.Context(), g.Place, g.ID, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("suspend of a stopped gateway: %v", err)
	}
}

func testSuspendedServerRestart(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	s := suspender(t, e.Driver)
	boot := g.Ask("/boot")
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	d := e.Restart(t)
	if p := phase(t, d, g); p != runtime.Suspended {
		t.Fatalf("for the next server the gateway is %s", p)
	}
	if err := d.(runtime.Suspender).Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if got := At(t, d, g.ID, g.Place).Ask("/boot"); got != boot {
		t.Error("the next server has started another gateway")
	}
}

// storing returns the driver's optional interface, and runs the driver until end is called. The
// test is skipped if checkpoints cannot be on a disk here.
func storing(t *testing.T, d runtime.Driver) (s runtime.Suspender, end func()) {
	t.Helper()
	s = suspender(t, d)
	use, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if use.Budget == 0 {
		t.Skip("the driver has no disk for checkpoints")
	}
	runner, ok := d.(runtime.Runner)
	if !ok {
		return s, func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	end = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil // for the next call
	}
	t.Cleanup(end)
	return s, end
}

// store suspends a gateway and moves its checkpoint to the disk.
func store(t *testing.T, d runtime.Driver, g *Gateway) {
	t.Helper()
	s := d.(runtime.Suspender)
	if err := s.Suspend(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	before, err := d.Inspect(t.Context(), g.Place, g.ID)
	if err != nil || before.StoredBytes != 0 || before.MemoryBytes == 0 {
		t.Fatalf("a checkpoint in memory: %+v, %v", before, err)
	}
	room, err := s.DiskRoom(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.MoveToDisk(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	WaitUntil(t, "the checkpoint is on the disk", func() bool {
		now, err := d.Inspect(t.Context(), g.Place, g.ID)
		if err != nil || now.Phase != runtime.Suspended {
			t.Fatalf("during the move: %+v, %v", now, err)
		}
		return now.StoredBytes > 0 && now.MemoryBytes < 1<<20
	})
	WaitUntil(t, "it takes room", func() bool {
		left, err := s.DiskRoom(t.Context())
		return err == nil && left < room
	})
	if use, err := s.Checkpoints(t.Context()); err != nil || use.OnDisk.Count == 0 || use.OnDisk.Bytes == 0 {
		t.Errorf("%+v, %v", use, err)
	}
	if err := s.MoveToDisk(t.Context(), g.Place, g.ID); err != nil {
		t.Errorf("a move of what is there: %v", err)
	}
}

func testMoveToDisk(t *testing.T, e Env) {
	s, end := storing(t, e.Driver)
	g := Start(t, e.Driver, Spec(NewID()))
	boot := g.Ask("/boot")
	if err := s.MoveToDisk(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
		t.Errorf("a move without a checkpoint: %v", err)
	}
	for range 2 {
		store(t, e.Driver, g)
		if err := s.Resume(t.Context(), g.Place, g.ID); err != nil {
			t.Fatal(err)
		}
		if got := g.Ask("/boot"); got != boot {
			t.Fatal("the resumed gateway is another one")
		}
		if err := s.AwaitDiscard(t.Context(), g.ID); err != nil {
			t.Error(err)
		}
		if use, err := s.Checkpoints(t.Context()); err != nil || use.Fresh.Count+use.Compressed.Count+use.OnDisk.Count > 0 {
			t.Errorf("after the checkpoint is deleted: %+v, %v", use, err)
		}
		if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
			t.Errorf("a second resume: %v", err)
		}
	}
	store(t, e.Driver, g)
	const changed = `{"word":"changed in its sleep"}`
	if err := e.Driver.PutSecrets(t.Context(), g.Place, g.ID, []byte(changed)); err != nil {
		t.Fatal(err)
	}
	end()
	d := e.Restart(t)
	storing(t, d)
	if now, err := d.Inspect(t.Context(), g.Place, g.ID); err != nil || now.Phase != runtime.Suspended || now.StoredBytes == 0 {
		t.Fatalf("for the next server: %+v, %v", now, err)
	}
	if err := d.(runtime.Suspender).Resume(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	resumed := At(t, d, g.ID, g.Place)
	if got := resumed.Ask("/boot"); got != boot {
		t.Error("the next server has started another gateway")
	}
	if got := resumed.Ask("/secrets"); got != changed {
		t.Errorf("the resumed gateway has the secrets %s", got)
	}
}

func testStoredEnds(t *testing.T, e Env) {
	s, _ := storing(t, e.Driver)
	spec := Spec(NewID())
	g := Start(t, e.Driver, spec)
	g.WaitReady()
	for name, discard := range map[string]func() error{
		"stop":  func() error { return e.Driver.Stop(t.Context(), g.Place, g.ID, 0) },
		"start": func() error { return e.Driver.Start(t.Context(), g.Place, spec) },
	} {
		store(t, e.Driver, g)
		if err := discard(); err != nil {
			t.Fatal(err)
		}
		if err := s.Resume(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNoCheckpoint) {
			t.Errorf("resume after %s: %v", name, err)
		}
		if err := e.Driver.Start(t.Context(), g.Place, spec); err != nil {
			t.Fatal(err)
		}
		g.WaitReady()
	}
	store(t, e.Driver, g)
	if err := e.Driver.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if use, err := s.Checkpoints(t.Context()); err != nil || use.OnDisk.Count != 0 {
		t.Errorf("after Remove: %+v, %v", use, err)
	}
}
