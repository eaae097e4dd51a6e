package runtimetest

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"agento.host/agento/internal/runtime"
)

// testNetwork: a gateway calls the server by the listener that belongs to it alone, in
// every life of the server and of the gateway.
func testNetwork(t *testing.T, e Env) {
	d := e.Driver
	s, other := Spec(NewID()), Spec(NewID())
	g, neighbour := Start(t, d, s), Start(t, d, other)
	serve := func(d runtime.Driver, g *Gateway, answer string) (stop func()) {
		t.Helper()
		n, err := d.Network(t.Context(), g.Place, g.ID)
		if err != nil {
			t.Fatalf("network: %v", err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // a test
			_, _ = io.WriteString(w, answer+r.URL.Path)
		})}
		go func() { _ = server.Serve(n.Server) }()
		return func() {
			if err := errors.Join(server.Close(), n.Close()); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	}
	check := func(g *Gateway, want string) {
		t.Helper()
		if got := g.Ask("/call", "path", "hello"); got != want {
			t.Errorf("the gateway's call is answered %q instead of %q", got, want)
		}
	}
	stop, stopOther := serve(d, g, "first"), serve(d, neighbour, "other")
	check(g, "first/hello")
	check(neighbour, "other/hello")
	stop()
	stopOther()
	restarted := e.Restart(t)
	g = At(t, restarted, s.ID, g.Place)
	stop = serve(restarted, g, "second")
	check(g, "second/hello")
	stop()
	g.Stop(0)
	if _, err := restarted.Network(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("network of a stopped gateway: %v", err)
	}
	g = StartAgain(t, restarted, s)
	stop = serve(restarted, g, "third")
	check(g, "third/hello")
	stop()
}
