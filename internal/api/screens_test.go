package api_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
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
	}
	env := newEnv(t, options{})
	b := startBrowser(t)
	for _, page := range []string{"/docs", "/docs/api/agents", "/docs/api/chat", "/docs/api/skills", "/docs/guides/chat", "/docs/guides/errors", "/docs/guides/streams", "/docs/guides/operations"} {
		for _, screen := range []struct{ width, height int }{{390, 844}, {1440, 900}} {
			for _, theme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%d-%s.png", strings.ReplaceAll(strings.Trim(page, "/"), "/", "-"), screen.width, theme)
				b.show(env.URL+page, screen.width, screen.height, theme)
				if wide := b.evaluate("document.documentElement.scrollWidth"); wide != float64(screen.width) {
					t.Errorf("%s is %v wide on a screen of %d", page, wide, screen.width)
				}
				if b.evaluate("document.querySelectorAll('button.copy').length > 0 || document.querySelectorAll('pre.code').length == 0") != true {
					t.Errorf("%s has no buttons that copy", page)
				}
				b.save(filepath.Join(dir, name))
			}
		}
	}
	b.show(env.URL+"/docs", 1440, 900, "light")
	b.evaluate("document.getElementById('search').value = 'cancel turn'; document.getElementById('search').dispatchEvent(new Event('input'))")
	b.until("document.querySelector('#found a')?.getAttribute('href') == '/docs/api/chat#cancelTurn'")
	b.save(filepath.Join(dir, "search-1440-light.png"))
	b.evaluate("document.getElementById('theme').click()")
	if b.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" {
		t.Error("the switch does not make the page dark")
	}
	b.show(env.URL+"/docs/api/chat", 1440, 900, "light")
	if b.evaluate("document.documentElement.dataset.theme") != "dark" {
		t.Error("the theme is not remembered")
	}
	b.evaluate("document.querySelector('.samples input[value=python]').click()")
	if b.evaluate("[...document.querySelectorAll('.samples')].every(s => getComputedStyle(s.querySelector('.pane.python')).display == 'block')") != true {
		t.Error("the language is not that of every example")
	}
	for _, problem := range b.problems {
		t.Errorf("the browser says: %s", problem)
	}
	t.Logf("the pictures are in %s", dir)
}

// browser is a Chromium that is driven over a pipe by the DevTools protocol.
type browser struct {
	t        *testing.T
	in       io.Writer
	out      *bufio.Reader
	session  string
	last     int
	loaded   bool
	problems []string // what pages have reported
}

type browserMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params any             `json:"params,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`

	SessionID string `json:"sessionId,omitempty"`
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	c.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	if err := c.Start(); err != nil {
		t.Fatalf("start Chromium (on Debian: apt-get install chromium): %v", err)
	}
	_ = toBrowser.Close() // the browser has its own
	_ = fromBrowser.Close()
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close() // it ends with its pipe
		_ = c.Wait()
		_ = out.Close()
	})
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = fmt.Sprint(b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"])
	for _, domain := range []string{"Page", "Log", "Runtime"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// call sends a command and returns its result.
func (b *browser) call(method string, params map[string]any) map[string]any {
	b.t.Helper()
	b.last++
	text, err := json.Marshal(browserMessage{ID: b.last, Method: method, Params: params, SessionID: b.session})
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		m := b.read()
		if m.ID != b.last {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		var result map[string]any
		if err := json.Unmarshal(m.Result, &result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		return result
	}
}

// read returns the next message of the browser, and notes what it says of the page.
func (b *browser) read() browserMessage {
	b.t.Helper()
	text, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("read from Chromium: %v", err)
	}
	text = text[:len(text)-1]
	var m browserMessage
	if err := json.Unmarshal(text, &m); err != nil {
		b.t.Fatalf("read from Chromium: %v", err)
	}
	switch m.Method {
	case "Page.loadEventFired":
		b.loaded = true
	case "Log.entryAdded", "Runtime.exceptionThrown":
		b.problems = append(b.problems, string(text))
	}
	return m
}

// show opens a page on a screen of that size, in pixels.
func (b *browser) show(address string, width, height int, theme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": theme}}})
	b.loaded = false
	b.call("Page.navigate", map[string]any{"url": address})
	for !b.loaded {
		b.read()
	}
}

// evaluate returns the value of an expression in the page.
func (b *browser) evaluate(expression string) any {
	b.t.Helper()
	result, _ := b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})["result"].(map[string]any)
	return result["value"]
}

// until waits until an expression is true in the page.
func (b *browser) until(expression string) {
	b.t.Helper()
	apitest.WaitUntil(b.t, expression, func() bool { return b.evaluate(expression) == true })
}

// maxPicture is how much of a page a picture has, in pixels from the top.
const maxPicture = 2600

// save writes a picture of the page.
func (b *browser) save(path string) {
	b.t.Helper()
	width, height := b.evaluate("innerWidth").(float64), b.evaluate("document.documentElement.scrollHeight").(float64)
	picture := b.call("Page.captureScreenshot", map[string]any{
		"captureBeyondViewport": true, "clip": map[string]any{"x": 0, "y": 0, "width": width, "height": min(height, maxPicture), "scale": 1},
	})
	png, err := base64.StdEncoding.DecodeString(fmt.Sprint(picture["data"]))
	if err == nil {
		err = os.WriteFile(path, png, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
