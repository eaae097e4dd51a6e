// Package runtimetest is the conformance suite of runtime drivers, with the
// small gateway that it starts.
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

	"github.com/google/uuid"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// patience bounds every wait of the suite; it is reached only by failures.
const patience = 60 * time.Second

// Bed is a driver under test with the world it lives in.
type Bed struct {
	Driver runtime.Driver
	// Restart returns a driver made anew over the same world, as after a restart
	// of the server.
	Restart func(t *testing.T) runtime.Driver
	// Processes says that gateways are processes, which Main serves.
	Processes bool
}

// Spec is the test gateway's, for a driver whose command is the test binary.
func Spec(id string) runtime.Spec {
	return runtime.Spec{
		ID:   id,
		Args: []string{"gateway", "-port", runtime.Port, "-home", runtime.HomePath, "-secrets", runtime.SecretsPath},
		Env: map[string]vault.Secret{
			"AGENT":  vault.NewSecret(id),
			"WHERE":  vault.NewSecret("home=" + runtime.HomePath + " port=" + runtime.Port),
			"QUOTES": vault.NewSecret(awkward),
		},
		Files:   map[string][]byte{"conf/deep/app.json": []byte(`{"a":1}`)},
		Secrets: []byte(`{"word":"first"}`),
	}
}

// awkward is a value that a shell would love to change.
const awkward = "it's \"x\" $HOME `id` \\ ~ * \ttab\nline two\n"

// Gateway is a running test gateway, reached as agento reaches one.
type Gateway struct {
	t      *testing.T
	driver runtime.Driver
	ID     string
	Place  string
	client *http.Client
}

// NewID returns a fresh agent id.
func NewID() string { return uuid.NewString() }

// Start places and starts a test gateway and waits until it answers. It is
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
	g.Await()
	return g
}

// At reaches a gateway that runs already.
func At(t *testing.T, d runtime.Driver, id, place string) *Gateway {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx, place, id) }
	g := &Gateway{t: t, driver: d, ID: id, Place: place}
	g.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return g
}

// Await waits until the gateway answers.
func (g *Gateway) Await() {
	g.t.Helper()
	Await(g.t, "the gateway answers", func() bool {
		_, err := g.Try("/boot")
		if err != nil && g.Inspect().Phase == runtime.Exited {
			g.t.Fatalf("the gateway ended with %d: %s", g.Inspect().ExitCode, g.Log(-1))
		}
		return err == nil
	})
}

// Try asks the gateway; arguments are pairs of name and value.
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
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// Ask is Try that must succeed.
func (g *Gateway) Ask(path string, args ...string) string {
	g.t.Helper()
	answer, err := g.Try(path, args...)
	if err != nil {
		g.t.Fatalf("%s %q: %v", path, args, err)
	}
	return answer
}

// Sh runs a shell command beside the gateway; processes only.
func (g *Gateway) Sh(format string, args ...any) string {
	g.t.Helper()
	return g.Ask("/sh", "do", fmt.Sprintf(format, args...))
}

// Inspect looks at the gateway.
func (g *Gateway) Inspect() runtime.State {
	g.t.Helper()
	s, err := g.driver.Inspect(context.WithoutCancel(g.t.Context()), g.Place, g.ID)
	if err != nil {
		g.t.Fatalf("inspect: %v", err)
	}
	return s
}

// AwaitEnd waits until the gateway has ended.
func (g *Gateway) AwaitEnd() runtime.State {
	g.t.Helper()
	Await(g.t, "the gateway ends", func() bool { return g.Inspect().Phase != runtime.Running })
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

// AwaitLog waits until the log holds a text.
func (g *Gateway) AwaitLog(text string) {
	g.t.Helper()
	Await(g.t, "the log holds "+text, func() bool { return strings.Contains(g.Log(-1), text) })
}

// Home opens the agent's home until the test ends.
func (g *Gateway) Home() runtime.Home {
	g.t.Helper()
	h, err := g.driver.Home(g.t.Context(), g.Place, g.ID)
	if err != nil {
		g.t.Fatalf("home: %v", err)
	}
	g.t.Cleanup(func() { _ = h.Close() })
	return h
}

// Await waits for a condition.
func Await(t *testing.T, what string, met func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-deadline.C:
			t.Fatalf("gave up waiting until %s", what)
		case <-tick.C:
		}
	}
}
