package dashboard

import (
	"testing"

	"agento.host/agento/internal/dashboard/browsertest"
)

// TestPagesInABrowser: what the scripts of every page add.
func TestPagesInABrowser(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	tab := env.open(browsertest.Start(t), "owner")

	// Signing in leads to the page that was asked for.
	stranger := env.open(browsertest.Start(t), "")
	stranger.Open(env.URL + root + "/agents?sort=name")
	stranger.Fill(browsertest.Label("E-mail address"), "owner@example.com")
	stranger.Fill(browsertest.Label("Password"), "wrong wrong wrong")
	stranger.Click(browsertest.Button("Sign in"))
	stranger.UntilText("address or the password is wrong")
	stranger.Fill(browsertest.Label("Password"), testPassword)
	stranger.Navigates(func() { stranger.Click(browsertest.Button("Sign in")) })
	stranger.Until(`location.search === "?sort=name"`)

	// The list follows what changes, and keeps what was chosen.
	tab.Open(env.URL + root + "/agents")
	mark(tab)
	tab.Click(browsertest.CSS(`input[name=agent]`))
	env.rename(t, id, "Customer support")
	shows(tab, "Customer support")
	unloaded(t, tab)
	tab.Until(`document.querySelector("input[name=agent]").checked`)

	// The palette reaches the agent by the keyboard.
	tab.Press("Control+k")
	tab.Type("customer")
	tab.Until(`document.querySelector("#palette [aria-selected=true]")?.textContent.startsWith("Customer support")`)
	tab.Navigates(func() { tab.Press("Enter") })
	tab.UntilText("What it is")

	// A dialog says what will happen; Escape closes it; its form stops the agent, which the page shows by itself.
	tab.Click(browsertest.CSS(`details.confirm summary`))
	tab.UntilText("An answer that is being written ends unfinished")
	tab.Press("Escape")
	tab.Until(`!document.querySelector("dialog:modal")`)
	tab.Click(browsertest.Text("Stop…"))
	tab.Navigates(func() { tab.Click(browsertest.CSS(`dialog:modal button[type=submit]`)) })
	tab.UntilText("stopped")

	// A request whose outcome is not known says so, and is not sent again.
	tab.Until(`!!agento.refresh`)
	tab.Eval(`(() => { const real = window.fetch; window.sent = 0; window.fetch = (to, options) => options?.method === "POST" ? (window.sent++, Promise.reject(new TypeError("lost"))) : real(to, options); })()`)
	tab.Click(browsertest.Button("Start"))
	tab.UntilText("it is not known whether “Start” was done")
	tab.Until(`window.sent === 1`)

	// Whose session ends is led to the sign-in page.
	tab.Navigates(func() { env.as("owner").post("/sign-out").leads("/sign-in") })
	tab.Until(`location.pathname.endsWith("/sign-in")`)
	for _, p := range append(tab.Problems(), stranger.Problems()...) {
		t.Log(p)
	}
}
