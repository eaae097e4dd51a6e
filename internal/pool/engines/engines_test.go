package engines_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool/engines"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/multi"
	"agento.host/agento/internal/runtime/runtimetest"
)

// homeOn makes every home one on a server.
type homeOn struct {
	*engines.Servers
	server string
}

func (h homeOn) HomeOf(_ context.Context, _ identity.AgentID) (string, error) { return h.server, nil }

// TestLifeOverSSH: what an agent does in its life, by the connection to its server. Nothing is left in the end.
func TestLifeOverSSH(t *testing.T) {
	socket := sharedSocket(t)
	e := newEnv(t)
	e.connect(newSSHD(t).newServer("alpha", socket, ""))
	api := newAPI(t, socket)
	g := e.start("alpha")
	if e.driver.ServerOf(g.Place) != "alpha" || e.local.RunningCount() != 0 {
		t.Fatalf("it runs at %s", g.Place)
	}
	n, err := e.driver.Network(t.Context(), g.Place, g.ID)
	must(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "you called "+r.URL.Path) })}
	go func() { _ = server.Serve(n.Server) }()
	t.Cleanup(func() { _, _ = server.Close(), n.Close() })
	if got := g.Ask("/call", "path", "v1"); got != "you called /v1" {
		t.Errorf("a call of the agent: %q", got)
	}
	g.Ask("/print", "line", "a line")
	g.WaitLog("a line")
	g.Ask("/write", "name", "notes", "data", "mine")
	must(t, g.Home().WriteFile("given", []byte("by the server")))
	if got := g.Ask("/read", "name", "given"); got != "by the server" {
		t.Errorf("a file of the server: %q", got)
	}
	boot := g.Ask("/boot")
	g.Stop(time.Minute)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 0 {
		t.Errorf("stopped: %+v", state)
	}
	if got, err := g.Home().ReadFile("notes", 100); err != nil || string(got) != "mine" {
		t.Errorf("the home of a stopped agent: %q, %v", got, err)
	}
	e.setPlace(g.ID, "")
	again := runtimetest.StartAgain(t, e.driver, runtimetest.Spec(g.ID))
	if again.Ask("/boot") == boot || again.Ask("/read", "name", "notes") != "mine" {
		t.Error("it was not started again with its files")
	}
	must(t, e.driver.Remove(t.Context(), again.Place, g.ID))
	if left := objects(t, api, g.ID); len(left) > 0 {
		t.Errorf("the engine has %v", left)
	}
	if found, err := e.driver.List(t.Context()); err != nil || hasOwn(found) {
		t.Errorf("listed: %+v, %v", found, err)
	}
}

func hasOwn(found []runtime.Found) bool {
	for _, f := range found {
		if f.Owner == runtime.Own {
			return true
		}
	}
	return false
}

// nowhere is the driver of a machine that has no agents.
type nowhere struct{ *fake.Driver }

func (nowhere) Start(_ context.Context, place runtime.Place, _ runtime.Spec) error {
	return fmt.Errorf("not a place of this machine: %q", place)
}

// TestContract: the drivers of pool servers fulfil the contract of drivers.
func TestContract(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	socket := sharedSocket(t)
	s := newSSHD(t)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(s.Dir + "/log")
			t.Logf("sshd: %s", text)
		}
	})
	runtimetest.Run(t, func(t *testing.T) runtimetest.Env {
		e := newEnv(t)
		e.connect(s.newServer("alpha", socket, ""))
		e.local.SetNoSuspend("the agents are elsewhere")
		open := func(s *engines.Servers) runtime.Driver {
			return multi.New(multi.Settings{Local: nowhere{e.local}, Servers: homeOn{s, "alpha"}})
		}
		installation := e.settings.Docker.Installation
		return runtimetest.Env{
			Driver: open(e.Servers), Processes: true, UsageIsLate: true, NoUnmarked: "the engine labels everything when it is made",
			Restart: func(*testing.T) runtime.Driver { return open(e.open()) },
			SetOwner: func(t *testing.T, id identity.AgentID, owner runtime.Owner) {
				to := map[runtime.Owner]string{runtime.Own: installation, runtime.Foreign: "inst_other"}[owner]
				must(t, dockertest.SetInstallation(t.Context(), "unix://"+socket, installation, string(id), to))
			},
		}
	})
}
