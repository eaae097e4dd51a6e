package dashboard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/internal/dashboard/browsertest"
	"agento.host/agento/internal/database"
)

// needsChaos skips a test outside make chaos-dashboard.
func needsChaos(t *testing.T) {
	t.Helper()
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("it is long: make chaos-dashboard")
	}
}

// picturesDir is where pictures go: SCREENS_DIR, or a temporary directory, which stays for those who look at them.
func picturesDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("SCREENS_DIR"); dir != "" {
		return dir
	}
	dir, err := os.MkdirTemp("", "agento-dashboard-")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the pictures are in %s", dir)
	return dir
}

// TestChaosEveryPage looks at every page of the table in Chromium: on a phone and on a desk, light and dark.
func TestChaosEveryPage(t *testing.T) {
	needsChaos(t)
	dir := picturesDir(t)
	b := browsertest.Start(t)
	for name, say := range map[string]texts{"filled": plainTexts(), "long": longTexts()} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t)
			w := newWorld(t, env, say)
			tab := env.open(b, "owner")
			for _, path := range w.pages(t) {
				lookAt(t, tab, env.URL, path, w.secrets, filepath.Join(dir, name))
			}
			tab = b.Tab()
			for _, path := range w.publicPages() {
				lookAt(t, tab, env.URL, path, w.secrets, filepath.Join(dir, name))
			}
		})
	}
	t.Run("operator", func(t *testing.T) {
		env := newOperatorEnv(t)
		tab := env.operator(t).openIn(b.Profile())
		for _, path := range []string{"/operator", "/operator/accounts", "/operator/gateways", "/operator/servers", "/operator/accounts?search=none", "/profile"} {
			lookAt(t, tab, env.URL, path, nil, filepath.Join(dir, "operator"))
		}
	})
	t.Run("empty", func(t *testing.T) {
		env := newEnv(t)
		empty := &world{env: env}
		tab := env.open(b, "owner")
		for _, r := range env.pages.table {
			if path, isGet := strings.CutPrefix(r.pattern, "GET "); isGet && !strings.Contains(path, "{") {
				if html, _ := empty.isPage(t, path); html {
					lookAt(t, tab, env.URL, path, nil, filepath.Join(dir, "empty"))
				}
			}
		}
	})
}

// TestChaosManyAgents looks at the pages that list agents, with 1,000 of them.
func TestChaosManyAgents(t *testing.T) {
	needsChaos(t)
	dir := filepath.Join(picturesDir(t), "many")
	env := newEnv(t)
	w := newWorld(t, env, plainTexts())
	w.copyAgents(t, w.stopped, 1000)
	tab := env.open(browsertest.Start(t), "owner")
	for _, path := range w.pages(t) {
		if !strings.Contains(path, w.agent) || strings.HasSuffix(path, w.agent) {
			lookAt(t, tab, env.URL, path, w.secrets, dir)
		}
	}
	lookAt(t, tab, env.URL, "/agents?page=21", w.secrets, dir)
	tab.Press("Control+k")
	tab.Until("document.querySelector('#palette[open]') != null")
	tab.Type("agent 0777")
	tab.Until("document.querySelector('#palette li[aria-selected=true]')?.innerText.includes('Agent 0777')")
	tab.Navigates(func() { tab.Press("Enter") })
	if !strings.HasSuffix(tab.URL(), "000000000777") {
		t.Errorf("the palette leads to %s", tab.URL())
	}
}

// copyAgents makes copies of the row of an agent that is at rest: a thousand real ones take minutes.
func (w *world) copyAgents(t *testing.T, id string, n int) {
	t.Helper()
	db := w.env.DB
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM pragma_table_info('agents') WHERE name NOT IN ('id', 'name', 'search_name', 'created_at')`)
	if err != nil {
		t.Fatal(err)
	}
	var columns []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		columns = append(columns, name)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(columns, ", ")
	err = db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
			INSERT INTO agents (id, name, search_name, created_at, `+all+`)
			SELECT printf('00000000-0000-7000-8000-%012d', i), printf('Agent %04d', i), printf('agent %04d', i), created_at + i, `+all+` FROM agents, n WHERE id = $2`, n, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var unsafeInNames = regexp.MustCompile(`[^a-z0-9-]+`)

// pictureName returns the name of the picture of a page.
func pictureName(path string, s browsertest.Screen) string {
	path = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|(sess|key|turn|user|wk|widget)_[0-9A-Za-z]+`).ReplaceAllString(path, "ID")
	path, token, has := strings.Cut(path, "?token")
	if has && token == "=none" {
		path += "-unknown"
	}
	path = regexp.MustCompile(`/check/[A-Z0-9]+`).ReplaceAllString(path, "/check")
	name := strings.Trim(unsafeInNames.ReplaceAllString(strings.ToLower(path), "-"), "-")
	if name == "" {
		name = "needs-you"
	}
	return fmt.Sprintf("%s-%s.png", name, s)
}

// lookAt opens a page on every screen, and checks what must hold for every page.
func lookAt(t *testing.T, tab *browsertest.Tab, base, path string, secrets []string, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{} // one complaint for a page, not for each screen
	complain := func(screen browsertest.Screen, format string, args ...any) {
		t.Helper()
		text := fmt.Sprintf(format, args...)
		if !told[text] {
			t.Errorf("%s on %s: %s", path, screen, text)
		}
		told[text] = true
	}
	for i, screen := range browsertest.Screens() {
		tab.SetScreen(screen)
		tab.ForgetRequests()
		tab.SetCache(i > 0)
		tab.Open(base + root + path)
		if i == 0 {
			if all, scripts := tab.Transferred("Document", "Stylesheet", "Script", "Image", "Font"), tab.Transferred("Script"); all > 100<<10 || scripts > 40<<10 {
				complain(screen, "%d bytes are transferred, %d of scripts", all, scripts)
			}
		}
		if wide := tab.Eval("document.documentElement.scrollWidth"); wide != float64(screen.Width) {
			complain(screen, "it is %v wide: %v", wide, tab.Eval(widest))
		}
		for _, p := range tab.Problems() {
			if !strings.Contains(p, "Failed to load resource") || !strings.Contains(p, root+path+`"`) { // the page of an error has its status
				complain(screen, "the browser says: %s", p)
			}
		}
		for _, d := range tab.Dialogs() {
			complain(screen, "a dialog: %s", d)
		}
		for _, u := range tab.Elsewhere(base) {
			complain(screen, "a request to %s", u)
		}
		for _, cut := range tab.Eval(cutLabels).([]any) {
			complain(screen, "cut without a way to read it: %v", cut)
		}
		all := fmt.Sprint(tab.Eval("document.documentElement.outerHTML + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href"))
		for _, secret := range secrets {
			if strings.Contains(all, secret) {
				complain(screen, "it has the secret %q", secret)
			}
		}
		for _, f := range tab.Axe() {
			complain(screen, "axe: %s", f)
		}
		tab.Save(filepath.Join(dir, pictureName(path, screen)))
	}
}

// widest names the elements that make a page wider than the screen.
const widest = `[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 && !e.closest('.quiet, .skip')).slice(-3).map(e => e.outerHTML.slice(0, 150)).join('\n')`

// cutLabels lists the texts that are cut and that nobody can read whole.
const cutLabels = `[...document.querySelectorAll('body *')].filter(e => {
	const style = getComputedStyle(e);
	return e.checkVisibility() && style.overflowX == 'hidden' && e.scrollWidth > e.clientWidth + 1 && e.innerText?.trim() && !e.closest('.quiet, .skip') && !e.closest('[title]');
}).map(e => e.outerHTML.slice(0, 200))`

// TestChaosSecretsShownOnce makes a key and a chat widget as a person does, and looks at the pages that show a secret once.
func TestChaosSecretsShownOnce(t *testing.T) {
	needsChaos(t)
	dir := filepath.Join(picturesDir(t), "once")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	env := newEnv(t)
	env.agent("Support")
	tab := env.open(browsertest.Start(t), "owner")
	look := func(name string) {
		t.Helper()
		for _, screen := range browsertest.Screens() {
			tab.SetScreen(screen)
			tab.Save(filepath.Join(dir, fmt.Sprintf("%s-%s.png", name, screen)))
			if wide := tab.Eval("document.documentElement.scrollWidth"); wide != float64(screen.Width) {
				t.Errorf("%s on %s is %v wide", name, screen, wide)
			}
			for _, f := range tab.Axe() {
				t.Errorf("%s on %s: axe: %s", name, screen, f)
			}
		}
		tab.SetScreen(browsertest.Desk)
		for _, p := range tab.Problems() {
			t.Errorf("%s: the browser says: %s", name, p)
		}
		if kept := fmt.Sprint(tab.Eval("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")); strings.Contains(kept, "ak_live_") || strings.Contains(kept, "wks_") {
			t.Errorf("%s keeps a secret: %s", name, kept)
		}
	}
	tab.Open(env.URL + root + "/keys/new")
	tab.Fill(browsertest.Label("Purpose"), "Shop")
	tab.Click(browsertest.Button("Create the key"))
	tab.UntilText("This is the only time")
	look("key")
	tab.Navigates(func() { tab.Click(browsertest.Link("I have copied the key")) })
	tab.UntilText("Change it")
	if strings.Contains(tab.Text(), "This is the only time") {
		t.Error("the key is shown again")
	}

	tab.Open(env.URL + root + "/widgets/new")
	tab.Fill(browsertest.Label("Name"), "Shop chat")
	tab.Fill(browsertest.Label("Greeting"), "Welcome")
	if got := tab.Get(browsertest.CSS(".stage .they"), "function() { return this.textContent }"); got != "Welcome" {
		t.Errorf("the preview says %v", got)
	}
	tab.Click(browsertest.Button("Create the widget"))
	tab.UntilText("Put this tag into your pages")
	look("widget")
}
