package api_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/dashboard/browsertest"
)

// TestScreens looks at the pages of the reference in Chromium, as make chaos-screens: on a
// phone and on a desk, light and dark. No page may be wider than the screen, or break its
// Content-Security-Policy. The pictures are for people, in SCREENS_DIR.
func TestScreens(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("it needs Chromium: make chaos-screens")
	}
	dir := os.Getenv("SCREENS_DIR")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "agento-screens-"); err != nil { // stays for those who look at it
			t.Fatal(err)
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{})
	tab := browsertest.Start(t).Tab()
	for _, page := range []string{"/docs", "/docs/api/agents", "/docs/api/chat", "/docs/api/skills", "/docs/guides/chat", "/docs/guides/errors", "/docs/guides/streams", "/docs/guides/operations"} {
		for _, screen := range browsertest.Screens() {
			tab.SetScreen(screen)
			tab.Open(env.URL + page)
			if wide := tab.Eval("document.documentElement.scrollWidth"); wide != float64(screen.Width) {
				t.Errorf("%s is %v wide on a screen of %d", page, wide, screen.Width)
			}
			if tab.Eval("document.querySelectorAll('button.copy').length > 0 || document.querySelectorAll('pre.code').length == 0") != true {
				t.Errorf("%s has no buttons that copy", page)
			}
			tab.Save(filepath.Join(dir, fmt.Sprintf("%s-%s.png", strings.ReplaceAll(strings.Trim(page, "/"), "/", "-"), screen)))
		}
	}
	tab.SetScreen(browsertest.Desk)
	tab.Open(env.URL + "/docs")
	tab.Eval("document.getElementById('search').value = 'cancel turn'; document.getElementById('search').dispatchEvent(new Event('input'))")
	tab.Until("document.querySelector('#found a')?.getAttribute('href') == '/docs/api/chat#cancelTurn'")
	tab.Save(filepath.Join(dir, "search-1440-light.png"))
	tab.Eval("document.getElementById('theme').click()")
	if tab.Eval("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" {
		t.Error("the switch does not make the page dark")
	}
	tab.Open(env.URL + "/docs/api/chat")
	if tab.Eval("document.documentElement.dataset.theme") != "dark" {
		t.Error("the theme is not remembered")
	}
	tab.Eval("document.querySelector('.samples input[value=python]').click()")
	if tab.Eval("[...document.querySelectorAll('.samples')].every(s => getComputedStyle(s.querySelector('.pane.python')).display == 'block')") != true {
		t.Error("the language is not that of every example")
	}
	for _, problem := range tab.Problems() {
		t.Errorf("the browser says: %s", problem)
	}
	t.Logf("the pictures are in %s", dir)
}
