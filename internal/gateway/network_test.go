package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/vault"
)

// serveCalls serves what gateways call the server for.
func serveCalls(t *testing.T, e *agenttest.Env, h http.HandlerFunc) {
	t.Helper()
	server := &http.Server{Handler: h, ConnContext: gateway.ConnContext}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(e.Gateways.Calls()) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

func ask(t *testing.T, g *fake.Gateway, token string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://server/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	resp, err := g.Client().Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// TestTokenOfAnotherAgentIsRefused: a connection tells whose it is, so a token that was
// stolen is of no use to another agent. A gateway that a new server adopts is connected
// as one that it has started.
func TestTokenOfAnotherAgentIsRefused(t *testing.T) {
	e := agenttest.New(t, func(s *agenttest.Settings) { s.Tools = true })
	ada, bob := e.Create("ada"), e.Create("bob")
	serveCalls(t, e, func(w http.ResponseWriter, r *http.Request) {
		caller, err := e.Gateways.CallerOf(r.Context(), vault.NewSecret(r.Header.Get("Authorization")))
		if err != nil {
			_, _ = fmt.Fprint(w, fault.From(err).Message)
			return
		}
		_, _ = fmt.Fprint(w, "hello ", caller.AgentID)
	})
	token := func(id identity.AgentID) string {
		return e.Token(e.Find(id), "tools").Reveal()
	}
	if got := ask(t, e.Driver.Gateway(ada.ID), token(ada.ID)); got != "hello "+string(ada.ID) {
		t.Errorf("its own token: %q", got)
	}
	if got := ask(t, e.Driver.Gateway(ada.ID), token(bob.ID)); !strings.Contains(got, "another agent") {
		t.Errorf("the token of another agent: %q", got)
	}
	if got := ask(t, e.Driver.Gateway(bob.ID), token(bob.ID)); got != "hello "+string(bob.ID) {
		t.Errorf("its own token: %q", got)
	}
	e.RestartServer(nil)
	serveCalls(t, e, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the next server") })
	if got := ask(t, e.Driver.Gateway(bob.ID), ""); got != "the next server" {
		t.Errorf("after a restart of the server: %q", got)
	}
}

// TestConnectionsOfAnAgentAreLimited: those over the limit are closed, and only those
// of this agent.
func TestConnectionsOfAnAgentAreLimited(t *testing.T) {
	e := agenttest.New(t, nil)
	ada, bob := e.Create("ada"), e.Create("bob")
	release := make(chan struct{})
	var held sync.WaitGroup
	serveCalls(t, e, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "hold" {
			<-release
		}
		_, _ = io.WriteString(w, "done")
	})
	answers := make(chan string, 200)
	for range 100 {
		held.Go(func() { answers <- ask(t, e.Driver.Gateway(ada.ID), "hold") })
	}
	for i := range 36 { // those over the limit of 64
		select {
		case got := <-answers:
			if got == "done" {
				t.Error("a connection over the limit is served")
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("only %d connections were refused", i)
		}
	}
	if got := ask(t, e.Driver.Gateway(bob.ID), ""); got != "done" {
		t.Errorf("another agent: %q", got)
	}
	close(release)
	held.Wait()
	if got := ask(t, e.Driver.Gateway(ada.ID), ""); got != "done" {
		t.Errorf("after the connections ended: %q", got)
	}
}

// TestNetworkEndsWithItsGateway: a stopped agent leaves no open listener.
func TestNetworkEndsWithItsGateway(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	g := e.Driver.Gateway(a.ID)
	e.Stop(a.ID)
	if e.Gateways.HasState(a.ID) {
		t.Error("the network of a stopped gateway is open")
	}
	resp, err := g.Client().Get("http://server/")
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("a call of a stopped gateway: %v", err)
	}
}
