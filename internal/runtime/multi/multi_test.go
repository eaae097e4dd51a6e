package multi_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/multi"
	"agento.host/agento/internal/runtime/runtimetest"
)

// servers are fake drivers by their names, and what the records say of homes.
type servers struct {
	drivers map[string]*fake.Driver

	mu    sync.Mutex
	homes map[identity.AgentID]string // guarded by mu
	all   string                      // where every other home is; guarded by mu
	lost  string                      // a server that cannot be reached; guarded by mu
}

var errLost = errors.New("the server cannot be reached")

func (s *servers) Driver(_ context.Context, name string) (runtime.Driver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.drivers[name]
	if d == nil || name == s.lost {
		return nil, errLost
	}
	return d, nil
}

func (s *servers) Names(context.Context) ([]string, error) { return []string{"b", "c"}, nil }

func (s *servers) HomeOf(_ context.Context, id identity.AgentID) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if home, ok := s.homes[id]; ok {
		return home, nil
	}
	return s.all, nil
}

func newFake(t *testing.T) *fake.Driver {
	t.Helper()
	d := fake.New(fake.Settings{Dir: t.TempDir(), Handler: func(g *fake.Gateway) http.Handler { return runtimetest.Handler(g) }})
	t.Cleanup(d.Close)
	d.SetCheckpointMemory(1 << 20)
	d.SetCheckpointDisk(1<<30, 0)
	return d
}

func open(t *testing.T, all string) (*multi.Driver, *servers) {
	t.Helper()
	s := &servers{drivers: map[string]*fake.Driver{"b": newFake(t), "c": newFake(t), multi.Local: newFake(t)}, homes: map[identity.AgentID]string{}, all: all}
	return multi.New(multi.Settings{Local: s.drivers[multi.Local], Servers: s}), s
}

func TestContract(t *testing.T) {
	for _, server := range []string{"", "b"} {
		t.Run("home on "+server, func(t *testing.T) {
			runtimetest.Run(t, func(t *testing.T) runtimetest.Env {
				d, s := open(t, server)
				if server != "" {
					s.drivers[multi.Local].SetNoSuspend("it is elsewhere")
				}
				return runtimetest.Env{Driver: d, Restart: func(*testing.T) runtime.Driver { return d }, SetOwner: func(_ *testing.T, id identity.AgentID, owner runtime.Owner) {
					for _, f := range s.drivers {
						if listed, err := f.List(t.Context()); err == nil && slices.ContainsFunc(listed, func(f runtime.Found) bool { return f.ID == id }) {
							f.SetOwner(id, owner)
						}
					}
				}}
			})
		})
	}
}

// TestCallsGoToTheServerOfTheHome: an agent's calls reach one server, also without a place, and
// another one that is lost disturbs nothing.
func TestCallsGoToTheServerOfTheHome(t *testing.T) {
	d, s := open(t, "")
	ids := map[string]identity.AgentID{"b": runtimetest.NewID(), "c": runtimetest.NewID(), multi.Local: runtimetest.NewID()}
	gateways := map[string]*runtimetest.Gateway{}
	for server, id := range ids {
		spec := runtimetest.Spec(id)
		spec.Server = server
		g := runtimetest.Start(t, d, spec)
		gateways[server] = g
		if got := d.ServerOf(g.Place); got != server {
			t.Errorf("the place %s is on %q, not %q", g.Place, got, server)
		}
		s.mu.Lock()
		s.homes[id] = server
		s.mu.Unlock()
		if running := s.drivers[server].Running(); !slices.Equal(running, []identity.AgentID{id}) {
			t.Errorf("%s runs %v", server, running)
		}
		home, err := d.Home(t.Context(), "", id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := home.ReadFile("conf/where", 1000); err != nil {
			t.Errorf("home on %s: %v", server, err)
		}
		_ = home.Close()
	}
	found, err := d.List(t.Context())
	if err != nil || len(found) != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, f := range found {
		if server := d.ServerOf(f.Place); ids[server] != f.ID || f.Place != gateways[server].Place {
			t.Errorf("listed at %s: %+v", server, f)
		}
	}
	lose := func(name string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lost = name
	}
	lose("c")
	t.Cleanup(func() { lose("") })
	if found, err = d.List(t.Context()); err != nil || len(found) != 2 {
		t.Errorf("with a lost server: %+v, %v", found, err)
	}
	gateways["b"].Ask("/boot")
	if _, err := d.Inspect(t.Context(), gateways["c"].Place, ids["c"]); !errors.Is(err, errLost) {
		t.Errorf("a gateway of a lost server: %v", err)
	}
	if err := d.Remove(t.Context(), gateways["c"].Place, ids["c"]); !errors.Is(err, errLost) {
		t.Errorf("what is on a lost server counts as removed: %v", err)
	}
	if err := d.Quarantine(t.Context(), ids["b"]); err != nil {
		t.Errorf("quarantine: %v", err)
	}
	if n := s.drivers["b"].RunningCount(); n != 0 {
		t.Errorf("%d gateways after the quarantine", n)
	}
}

// TestIsolationAnywhere: agents can be created while some server can isolate them.
func TestIsolationAnywhere(t *testing.T) {
	d, s := open(t, "")
	for _, name := range []string{multi.Local, "b"} {
		s.drivers[name].SetMissing("nothing works")
		if err := d.CheckIsolation(); err != nil {
			t.Errorf("without %s: %v", name, err)
		}
	}
	s.drivers["c"].SetMissing("nothing works")
	if err := d.CheckIsolation(); err == nil {
		t.Error("no server can isolate gateways")
	}
}

// TestRemoveOnBothServers: an agent is also removed where its home is, if a gateway of it was found elsewhere.
func TestRemoveOnBothServers(t *testing.T) {
	d, s := open(t, "")
	id := runtimetest.NewID()
	found := runtimetest.StartAgain(t, s.drivers["b"], runtimetest.Spec(id))
	spec := runtimetest.Spec(id)
	spec.Server = "c"
	runtimetest.StartAgain(t, d, spec)
	s.homes[id] = "c"
	if err := d.Remove(t.Context(), multi.PlaceOn("b", found.Place), id); err != nil {
		t.Fatal(err)
	}
	if left, err := d.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// TestQuarantineBesideAnotherInstallation: what another installation has of the same id on one server does
// not keep ours on another one from the quarantine.
func TestQuarantineBesideAnotherInstallation(t *testing.T) {
	d, s := open(t, "")
	id := runtimetest.NewID()
	for _, name := range []string{"b", "c"} {
		g := runtimetest.StartAgain(t, s.drivers[name], runtimetest.Spec(id))
		g.Stop(0)
	}
	s.drivers["b"].SetOwner(id, runtime.Foreign)
	if err := d.Quarantine(t.Context(), id); err != nil {
		t.Error(err)
	}
	left, err := d.List(t.Context())
	if err != nil || len(left) != 1 || left[0].Owner != runtime.Foreign {
		t.Errorf("%+v, %v", left, err)
	}
	if err := d.Quarantine(t.Context(), id); !errors.Is(err, runtime.ErrForeign) {
		t.Errorf("only another installation has it: %v", err)
	}
}

// TestSlowServerHoldsUpNoOther: while one server does not answer, the others are asked.
func TestSlowServerHoldsUpNoOther(t *testing.T) {
	_, s := open(t, "")
	runtimetest.Start(t, s.drivers["c"], runtimetest.Spec(runtimetest.NewID()))
	asked := make(chan struct{})
	slow := slowServers{servers: s, asked: asked}
	d := multi.New(multi.Settings{Local: s.drivers[multi.Local], Servers: slow})
	if found, err := d.List(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
}

// slowServers open b only when c was asked for.
type slowServers struct {
	*servers
	asked chan struct{}
}

func (s slowServers) Driver(ctx context.Context, name string) (runtime.Driver, error) {
	switch name {
	case "b":
		select {
		case <-s.asked:
		case <-time.After(30 * time.Second):
			return nil, errLost
		}
	case "c":
		close(s.asked)
	}
	return s.servers.Driver(ctx, name)
}
