package docker_test

import (
	"context"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/runtimetest"
)

// points are the places in a start at which the server may be killed.
var points = []string{"recorded", "volume", "created", "started", "connected", "launched"}

// interrupt starts a gateway with a driver that ends at a point, as a server that is killed.
func interrupt(t *testing.T, s docker.Settings, at string, place runtime.Place, spec runtime.Spec) {
	t.Helper()
	reached := false
	s.AtPoint(func(name string) {
		if name == at {
			reached = true
			goruntime.Goexit()
		}
	})
	d := openDriver(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Start(t.Context(), place, spec); err != nil {
			t.Errorf("start: %v", err)
		}
	}()
	<-done
	d.Close()
	if !reached {
		t.Fatalf("the start has not come to %q", at)
	}
}

// objects lists what an engine has of an agent: containers and volumes.
func objects(t *testing.T, api *client.Client, id identity.AgentID) (containers, volumes []string) {
	t.Helper()
	filters := make(client.Filters).Add("label", "agento.agent="+string(id))
	ctx := context.WithoutCancel(t.Context())
	all, err := api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	must(t, err)
	for _, c := range all.Items {
		containers = append(containers, fmt.Sprintf("%s %s", strings.TrimPrefix(c.Names[0], "/"), c.State))
	}
	found, err := api.VolumeList(ctx, client.VolumeListOptions{Filters: filters})
	must(t, err)
	for _, v := range found.Items {
		volumes = append(volumes, v.Name)
	}
	return containers, volumes
}

// Whatever a start has left that was interrupted, every method of the next server copes with it.
func TestInterruptedStart(t *testing.T) {
	skiptest.UnlessChaos(t, "containers")
	host := sharedHost(t)
	api := newAPI(t, host)
	for _, at := range points {
		for name, repair := range map[string]func(t *testing.T, d *docker.Driver, place runtime.Place, s runtime.Spec){
			"start":           startOnce,
			"start elsewhere": startElsewhere,
			"stop":            stopInterrupted,
			"remove":          func(*testing.T, *docker.Driver, runtime.Place, runtime.Spec) {},
		} {
			t.Run(at+", "+name, func(t *testing.T) {
				t.Parallel()
				settings := newSettings(t, host)
				d := openDriver(t, settings)
				s := runtimetest.Spec(runtimetest.NewID())
				place, err := d.Place(t.Context(), s)
				must(t, err)
				interrupt(t, settings, at, place, s)
				if state, err := d.Inspect(t.Context(), place, s.ID); err != nil || state.Phase != runtime.Gone {
					t.Errorf("after the crash: %+v, %v", state, err)
				}
				repair(t, d, place, s)
				must(t, d.Remove(t.Context(), place, s.ID))
				if c, v := objects(t, api, s.ID); len(c)+len(v) > 0 {
					t.Errorf("after the removal: %v %v", c, v)
				}
				if found, err := d.List(t.Context()); err != nil || len(ownAgents(found)) > 0 {
					t.Errorf("after the removal: %+v, %v", found, err)
				}
			})
		}
	}
}

func ownAgents(found []runtime.Found) (own []runtime.Found) {
	for _, f := range found {
		if f.Owner == runtime.Own {
			own = append(own, f)
		}
	}
	return own
}

func startOnce(t *testing.T, d *docker.Driver, place runtime.Place, s runtime.Spec) {
	t.Helper()
	must(t, d.Start(t.Context(), place, s))
	g := runtimetest.At(t, d, s.ID, place)
	g.WaitReady()
	if n := strings.Count(g.Log(-1), "boot "); n != 1 {
		t.Errorf("%d gateways were started:\n%s", n, g.Log(-1))
	}
}

func startElsewhere(t *testing.T, d *docker.Driver, _ runtime.Place, s runtime.Spec) {
	t.Helper()
	g := runtimetest.StartAgain(t, d, s)
	if found := ownAgents(list(t, d)); len(found) != 1 || !found[0].Running || found[0].Place != g.Place {
		t.Errorf("listed: %+v", found)
	}
}

func stopInterrupted(t *testing.T, d *docker.Driver, place runtime.Place, s runtime.Spec) {
	t.Helper()
	must(t, d.Stop(t.Context(), place, s.ID, 10*time.Second))
	for _, f := range ownAgents(list(t, d)) {
		if f.Running {
			t.Errorf("after the stop: %+v", f)
		}
	}
}

func list(t *testing.T, d *docker.Driver) []runtime.Found {
	t.Helper()
	found, err := d.List(t.Context())
	must(t, err)
	return found
}
