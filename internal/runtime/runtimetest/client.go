package runtimetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Gateway is a client of a test gateway. It connects through the driver, as agento
// does.
type Gateway struct {
	t      *testing.T
	driver runtime.Driver
	ID     identity.AgentID
	Place  runtime.Place
	client *http.Client
}

// Start starts a test gateway at a new place and waits until it answers. It is
// removed when the test ends.
func Start(t *testing.T, d runtime.Driver, s runtime.Spec) *Gateway {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Remove(context.WithoutCancel(t.Context()), "", s.ID); err != nil {
			t.Errorf("remove after the test: %v", err)
		}
	})
	return StartAgain(t, d, s)
}

// StartAgain is Start without the removal.
func StartAgain(t *testing.T, d runtime.Driver, s runtime.Spec) *Gateway {
	t.Helper()
	place, err := d.Place(t.Context(), s)
	if err != nil {
		t.Fatalf("place: %v", err)
	}
	if err := d.Start(t.Context(), place, s); err != nil {
		t.Fatalf("start: %v", err)
	}
	g := At(t, d, s.ID, place)
	g.WaitReady()
	return g
}

// At returns a client of a gateway that may run already.
func At(t *testing.T, d runtime.Driver, id identity.AgentID, place runtime.Place) *Gateway {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx, place, id) }
	g := &Gateway{t: t, driver: d, ID: id, Place: place}
	g.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return g
}

// WaitReady waits until the gateway answers.
func (g *Gateway) WaitReady() {
	g.t.Helper()
	WaitUntil(g.t, "the gateway answers", func() bool {
		_, err := g.Try("/boot")
		if err != nil && g.Inspect().Phase == runtime.Exited {
			g.t.Fatalf("the gateway exited with code %d: %s", g.Inspect().ExitCode, g.Log(-1))
		}
		return err == nil
	})
}

// Try sends a request to the gateway. args are pairs of name and value.
func (g *Gateway) Try(path string, args ...string) (string, error) {
	q := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		q.Set(args[i], args[i+1])
	}
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://gateway"+path+"?"+q.Encode(), nil)
	if err != nil {
		return "", err
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return string(text), err
}

// Ask is Try; the test fails if the request does.
func (g *Gateway) Ask(path string, args ...string) string {
	g.t.Helper()
	answer, err := g.Try(path, args...)
	if err != nil {
		g.t.Fatalf("%s %q: %v", path, args, err)
	}
	return answer
}

// Shell runs a shell command where the gateway runs and returns its output. It works
// only if gateways are processes.
func (g *Gateway) Shell(format string, args ...any) string {
	g.t.Helper()
	return g.Ask("/sh", "do", fmt.Sprintf(format, args...))
}

// Inspect returns the gateway's state.
func (g *Gateway) Inspect() runtime.State {
	g.t.Helper()
	s, err := g.driver.Inspect(context.WithoutCancel(g.t.Context()), g.Place, g.ID)
	if err != nil {
		g.t.Fatalf("inspect: %v", err)
	}
	return s
}

// WaitExit waits until the gateway has ended, and returns its state.
func (g *Gateway) WaitExit() runtime.State {
	g.t.Helper()
	WaitUntil(g.t, "the gateway ends", func() bool { return g.Inspect().Phase != runtime.Running })
	return g.Inspect()
}

// Stop stops the gateway.
func (g *Gateway) Stop(grace time.Duration) {
	g.t.Helper()
	if err := g.driver.Stop(g.t.Context(), g.Place, g.ID, grace); err != nil {
		g.t.Fatalf("stop: %v", err)
	}
}

// Log returns the last lines of the log.
func (g *Gateway) Log(tail int) string {
	g.t.Helper()
	r, err := g.driver.Logs(g.t.Context(), g.Place, g.ID, tail, false)
	if err != nil {
		g.t.Fatalf("logs: %v", err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		g.t.Fatalf("read logs: %v", err)
	}
	return string(data)
}

// WaitLog waits until the log contains text.
func (g *Gateway) WaitLog(text string) {
	g.t.Helper()
	WaitUntil(g.t, "the log contains "+text, func() bool { return strings.Contains(g.Log(-1), text) })
}

// Home opens the agent's home. It is closed when the test ends.
func (g *Gateway) Home() runtime.Home {
	g.t.Helper()
	h, err := g.driver.Home(g.t.Context(), g.Place, g.ID)
	if err != nil {
		g.t.Fatalf("home: %v", err)
	}
	g.t.Cleanup(func() { _ = h.Close() })
	return h
}
