package dashboard

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/dashboard/browsertest"
)

// TestChaosTour makes the pictures of docs/dashboard.md, in AGENTO_TOUR (make pictures) or beside the other pictures.
func TestChaosTour(t *testing.T) {
	needsChaos(t)
	dir := cmp.Or(os.Getenv("AGENTO_TOUR"), filepath.Join(picturesDir(t), "tour"))
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // they are published
		t.Fatal(err)
	}
	env := newEnv(t)
	w := newWorld(t, env, plainTexts())
	tab := env.open(browsertest.Start(t), "owner")
	agent := "/agents/" + w.agent
	for _, picture := range []struct {
		name, path string
		screen     browsertest.Screen
	}{
		{"needs-you", "/", tourScreen},
		{"agents", "/agents", tourScreen},
		{"new-agent", "/agents/new", tourScreen},
		{"agent", agent, tourScreen},
		{"chat", agent + "/chat?session=" + w.session, tourScreen.Dark()},
		{"logs", agent + "/logs", tourScreen.Dark()},
		{"personality", agent + "/personality", tourScreen},
		{"network", agent + "/network", tourScreen},
		{"knowledge", "/knowledge", tourScreen},
		{"keys", "/keys", tourScreen},
		{"usage", "/usage", tourScreen},
		{"phone", "/agents", browsertest.Phone},
	} {
		tab.SetScreen(picture.screen)
		tab.Open(env.URL + root + picture.path)
		if tab.Has(browsertest.CSS(".problem")) { // the page is missing
			t.Errorf("%s: %v", picture.path, tab.Eval("document.querySelector('.problem').innerText"))
			continue
		}
		tab.SaveScreen(filepath.Join(dir, picture.name+".webp"))
	}
}

var tourScreen = browsertest.Screen{Width: 1120, Height: 720, Theme: "light"}
