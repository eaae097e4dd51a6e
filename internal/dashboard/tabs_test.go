package dashboard

import (
	"fmt"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
)

// shows waits until a page shows the name of an agent, without being loaded anew.
func shows(tab *browsertest.Tab, name string) { tab.UntilText(name) }

// mark notes in the page that it was not loaded since.
func mark(tab *browsertest.Tab) { tab.Eval("void (window.notReloaded = true)") }

func unloaded(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	if tab.Eval("window.notReloaded") != true {
		t.Error("the page was loaded anew")
	}
}

func (env *testEnv) rename(t *testing.T, id, name string) {
	t.Helper()
	if _, err := env.Client(env.account).UpdateAgent(t.Context(), id, client.UpdateAgentRequest{Name: client.Some(name)}); err != nil {
		t.Fatal(err)
	}
}

func (s *streams) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, open := range s.open {
		n += open
	}
	return n
}

// TestChaosTwentyTabs: a browser has six connections to a server. Twenty tabs share one stream, all show what changes,
// and when the tab is closed that has the stream, another one takes it.
func TestChaosTwentyTabs(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("First")
	profile := browsertest.Start(t).Profile()
	var tabs []*browsertest.Tab
	for range 20 {
		tab := env.openIn(profile, "owner")
		tab.Open(env.URL + root + "/agents")
		mark(tab)
		tabs = append(tabs, tab)
	}
	for round := range 4 {
		apitest.WaitUntil(t, "one stream", func() bool { return env.pages.streams.count() == 1 })
		name := fmt.Sprint("Round ", round)
		env.rename(t, id, name)
		for _, tab := range tabs {
			shows(tab, name)
			unloaded(t, tab)
			for _, p := range tab.Problems() {
				t.Errorf("the browser says: %s", p)
			}
		}
		tabs[0].Close() // the oldest one has the stream
		tabs = tabs[1:]
	}
	for _, tab := range tabs {
		tab.Close()
	}
	apitest.WaitUntil(t, "the end of the last stream", func() bool { return env.pages.streams.count() == 0 })
}

// TestChaosBufferingProxy: behind a proxy that keeps responses until they are whole, pages still show what changes.
func TestChaosBufferingProxy(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("First")
	url := browsertest.NewBufferingProxy(t, env.URL, 1<<20)
	tab := env.open(browsertest.Start(t), "owner")
	tab.Open(url + root + "/agents")
	mark(tab)
	for round := range 3 {
		name := fmt.Sprint("Round ", round)
		env.rename(t, id, name)
		shows(tab, name)
	}
	unloaded(t, tab)
}

// TestChaosServerRestarts: pages that are open while the server is restarted go on, with what was typed, and show what
// has changed meanwhile.
func TestChaosServerRestarts(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("First")
	line := browsertest.NewLine(t, env.URL)
	b := browsertest.Start(t)
	var tabs []*browsertest.Tab
	for range 4 {
		tab := env.open(b, "owner")
		tab.Open(line.URL + root + "/agents")
		tab.Fill(browsertest.CSS("input[type=search]"), "typed")
		mark(tab)
		tabs = append(tabs, tab)
	}
	for round := range 3 {
		line.Cut()
		env.Close()
		next := newEnvWith(t, apitest.Options{DB: env.DB, Vault: env.Vault, Log: env.Log})
		next.account, env = env.account, next
		name := fmt.Sprint("Round ", round)
		env.rename(t, id, name)
		line.Mend(env.URL)
		for _, tab := range tabs {
			shows(tab, name)
			unloaded(t, tab)
			if typed := tab.Value(browsertest.CSS("input[type=search]")); typed != "typed" {
				t.Errorf("the field has %q", typed)
			}
			if tab.Eval("document.documentElement.classList.contains('lost')") != false {
				t.Error("the page says that the connection is lost")
			}
		}
	}
}
