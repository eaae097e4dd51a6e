package engines_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/runtimetest"
)

// containerState returns the state of the container of an agent's gateway, as the engine says.
func containerState(t *testing.T, socket string, id identity.AgentID) string {
	t.Helper()
	filters := make(client.Filters).Add("label", "agento.agent="+string(id), "agento.role=gateway")
	found, err := newAPI(t, socket).ContainerList(context.WithoutCancel(t.Context()), client.ContainerListOptions{All: true, Filters: filters})
	must(t, err)
	if len(found.Items) != 1 {
		t.Fatalf("%d containers", len(found.Items))
	}
	return string(found.Items[0].State)
}

// TestGatewaysWithSuccessorsEnd: what a server runs that has a successor is ended before anything else is
// done on it, also by a driver that was open before. The rest runs on.
func TestGatewaysWithSuccessorsEnd(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	s := newSSHD(t)
	e := newEnv(t)
	e.connect(s.newServer("alpha", socket, ""))
	moved, frozen, again, present, placeless, unknown := e.start("alpha"), e.start("alpha"), e.start("alpha"), e.start("alpha"), e.start("alpha"), e.start("alpha")
	must(t, e.driver.Freeze(t.Context(), frozen.Place, frozen.ID))
	settings := e.settings.Docker
	settings.Host, settings.Dir, settings.Installation = "unix://"+socket, t.TempDir(), "inst_"+strings.ReplaceAll(uuid.NewString(), "-", "")
	theirs, err := docker.New(settings)
	must(t, err)
	t.Cleanup(theirs.Close)
	foreign := runtimetest.Start(t, theirs, runtimetest.Spec(runtimetest.NewID()))
	e.record(foreign.ID, "beta", "server/beta/docker/beta/x")
	inner, err := e.Driver(t.Context(), "alpha")
	must(t, err)
	boots := map[*runtimetest.Gateway]string{}
	for _, g := range []*runtimetest.Gateway{present, placeless, unknown, foreign} {
		boots[g] = g.Ask("/boot")
	}

	s.Stop()
	e.waitLost("alpha")
	e.exec(`UPDATE agents SET server = 'beta' WHERE id = $1`, moved.ID)
	e.setPlace(moved.ID, "server/beta/docker/beta/x")
	e.setPlace(frozen.ID, "docker/local/x")
	e.setPlace(again.ID, "server/alpha/docker/alpha/newer")
	e.setPlace(placeless.ID, "")
	e.exec(`DELETE FROM agents WHERE id = $1`, unknown.ID)
	// The first call that succeeds comes after the end, whoever makes it.
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			runtimetest.WaitUntil(t, "a call succeeds", func() bool {
				var err error
				if i%2 == 0 {
					_, err = inner.List(t.Context())
				} else {
					_, err = e.Driver(t.Context(), "alpha")
				}
				return err == nil
			})
			for name, g := range map[string]*runtimetest.Gateway{"moved": moved, "frozen": frozen, "started again": again} {
				if state := containerState(t, socket, g.ID); state != "exited" {
					t.Errorf("caller %d: the agent that was %s: %s", i, name, state)
				}
			}
		})
	}
	s.Run("MaxStartups 200")
	callers.Wait()
	for g, boot := range boots {
		if got := g.Ask("/boot"); got != boot {
			t.Errorf("%s is another gateway", g.ID)
		}
	}
	// What is put back so that the test can remove it.
	e.exec(`UPDATE agents SET server = 'alpha', place = ''`)
	e.record(unknown.ID, "alpha", "")
}

// TestNewProcessEndsSuccessors: a process that begins ends what has a successor, although it has seen no
// connection that was lost, and nobody asks for it.
func TestNewProcessEndsSuccessors(t *testing.T) {
	t.Parallel()
	socket := sharedSocket(t)
	e := newEnv(t)
	e.connect(newSSHD(t).newServer("alpha", socket, ""))
	g := e.start("alpha")
	e.setPlace(g.ID, "server/beta/docker/beta/x")
	if state := containerState(t, socket, g.ID); state != "running" {
		t.Errorf("it is %s before anything has happened", state)
	}
	e.open()
	runtimetest.WaitUntil(t, "it ends", func() bool { return containerState(t, socket, g.ID) == "exited" })
	e.setPlace(g.ID, "")
	again := runtimetest.StartAgain(t, e.driver, runtimetest.Spec(g.ID))
	again.Ask("/boot")
	again.Stop(time.Minute)
}
