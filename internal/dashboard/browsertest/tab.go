package browsertest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Tab is a page of a browser.
type Tab struct {
	t       testing.TB
	browser *Browser
	target  string
	session string
	screen  Screen

	mu       sync.Mutex
	loads    int                 // how often a page was loaded; guarded by mu
	problems []string            // guarded by mu
	dialogs  []string            // guarded by mu
	requests []*Request          // guarded by mu
	byID     map[string]*Request // guarded by mu
}

// Screen is what a page is shown on.
type Screen struct {
	Width, Height int
	Theme         string // light or dark
}

// The screens that pages are looked at on.
var (
	Phone = Screen{390, 844, "light"}
	Desk  = Screen{1440, 900, "light"}
)

// Dark returns the screen of somebody who prefers dark pages.
func (s Screen) Dark() Screen {
	s.Theme = "dark"
	return s
}

// String returns width and theme, for the names of pictures.
func (s Screen) String() string { return fmt.Sprintf("%d-%s", s.Width, s.Theme) }

// Screens are all that each page is looked at on.
func Screens() []Screen { return []Screen{Phone, Phone.Dark(), Desk, Desk.Dark()} }

// Tab opens a tab on a desk.
func (p *Profile) Tab() *Tab {
	b := p.browser
	b.t.Helper()
	tab := &Tab{t: b.t, browser: b, byID: map[string]*Request{}}
	var target struct{ TargetID string }
	var attached struct{ SessionID string }
	err := b.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": p.context}, &target)
	if err == nil {
		err = b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	tab.target, tab.session = target.TargetID, attached.SessionID
	b.mu.Lock()
	b.tabs[tab.session] = tab.handle
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Log", "Runtime", "Network", "DOM", "Accessibility"} {
		tab.call(domain+".enable", nil, nil)
	}
	tab.SetScreen(Desk)
	return tab
}

// Close closes the tab, as a person does who does not wait.
func (tab *Tab) Close() {
	tab.t.Helper()
	if err := tab.browser.call("", "Target.closeTarget", map[string]any{"targetId": tab.target}, nil); err != nil {
		tab.t.Fatal(err)
	}
}

func (tab *Tab) call(method string, params, result any) {
	tab.t.Helper()
	if err := tab.browser.call(tab.session, method, params, result); err != nil {
		tab.t.Fatal(err)
	}
}

// handle notes what the browser says of the page.
func (tab *Tab) handle(m browserMessage) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		tab.loads++
	case "Log.entryAdded":
		var said struct{ Entry struct{ Level string } }
		if _ = json.Unmarshal(m.Params, &said); said.Entry.Level != "verbose" {
			tab.problems = append(tab.problems, m.Method+" "+string(m.Params))
		}
	case "Runtime.exceptionThrown":
		tab.problems = append(tab.problems, m.Method+" "+string(m.Params))
	case "Runtime.consoleAPICalled":
		var said struct{ Type string }
		if _ = json.Unmarshal(m.Params, &said); said.Type == "error" || said.Type == "warning" || said.Type == "assert" {
			tab.problems = append(tab.problems, m.Method+" "+string(m.Params))
		}
	case "Page.javascriptDialogOpening":
		var dialog struct{ Type, Message string }
		_ = json.Unmarshal(m.Params, &dialog)
		if dialog.Type != "beforeunload" {
			tab.dialogs = append(tab.dialogs, dialog.Type+": "+dialog.Message)
		}
		// Nothing goes on in the page until it is answered. beforeunload asks whether to leave.
		_, _ = tab.browser.send(tab.session, "Page.handleJavaScriptDialog", map[string]any{"accept": dialog.Type == "beforeunload"})
	default:
		if strings.HasPrefix(m.Method, "Network.") {
			tab.handleNetwork(m)
		}
	}
}

// Problems returns what the browser complained about since the last call: errors of scripts, violations of the
// Content-Security-Policy, resources that failed, console.error and console.warn.
func (tab *Tab) Problems() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	all := tab.problems
	tab.problems = nil
	return all
}

// Dialogs returns the dialogs of scripts (alert, confirm, prompt) since the last call. They were dismissed.
func (tab *Tab) Dialogs() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	all := tab.dialogs
	tab.dialogs = nil
	return all
}

// SetScreen changes what the page is shown on.
func (tab *Tab) SetScreen(s Screen) {
	tab.t.Helper()
	tab.screen = s
	tab.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": s.Width, "height": s.Height, "deviceScaleFactor": 1, "mobile": s.Width < 500}, nil)
	tab.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": s.Theme}}}, nil)
}

// SetZone changes the time zone of the page, such as Asia/Tokyo.
func (tab *Tab) SetZone(zone string) {
	tab.t.Helper()
	tab.call("Emulation.setTimezoneOverride", map[string]any{"timezoneId": zone}, nil)
}

// SetScripts says whether pages run scripts.
func (tab *Tab) SetScripts(on bool) {
	tab.t.Helper()
	tab.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// Open opens an address and waits until the page is loaded.
func (tab *Tab) Open(address string) {
	tab.t.Helper()
	tab.load("open "+address, func() {
		var navigated struct{ ErrorText string }
		tab.call("Page.navigate", map[string]any{"url": address}, &navigated)
		if navigated.ErrorText != "" && navigated.ErrorText != "net::ERR_HTTP_RESPONSE_CODE_FAILURE" {
			tab.t.Fatalf("open %s: %s", address, navigated.ErrorText)
		}
	})
}

// Reload loads the page again.
func (tab *Tab) Reload() {
	tab.t.Helper()
	tab.load("reload", func() { tab.call("Page.reload", nil, nil) })
}

// Navigates does what makes the browser load another page, and waits until that is loaded.
func (tab *Tab) Navigates(do func()) {
	tab.t.Helper()
	tab.load("another page", do)
}

func (tab *Tab) load(what string, do func()) {
	tab.t.Helper()
	count := func() int {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		return tab.loads
	}
	before := count()
	do()
	tab.wait("the page to load: "+what, func() bool { return count() > before })
}

// wait waits until a condition holds.
func (tab *Tab) wait(what string, condition func() bool) {
	tab.t.Helper()
	for deadline := time.Now().Add(Timeout); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tab.t.Fatalf("timed out waiting for %s; the page is %s, and says: %.2000s", what, tab.URL(), tab.Text())
		}
	}
}

// URL returns the address of the page.
func (tab *Tab) URL() string {
	tab.t.Helper()
	return fmt.Sprint(tab.Eval("location.href"))
}

// Text returns what a person can read on the page.
func (tab *Tab) Text() string {
	tab.t.Helper()
	return fmt.Sprint(tab.Eval("document.body ? document.body.innerText : ''"))
}

// Eval returns the value of an expression in the page; of a promise, what it resolves to.
func (tab *Tab) Eval(expression string) any {
	tab.t.Helper()
	value, err := tab.evaluate(expression)
	if err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (tab *Tab) evaluate(expression string) (any, error) {
	var evaluated struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	if err := tab.browser.call(tab.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &evaluated); err != nil {
		return nil, err
	}
	if evaluated.ExceptionDetails != nil {
		return nil, fmt.Errorf("it throws: %s", evaluated.ExceptionDetails)
	}
	return evaluated.Result.Value, nil
}

// Until waits until an expression is true in the page. An expression that throws is not true.
func (tab *Tab) Until(expression string) {
	tab.t.Helper()
	tab.wait(expression, func() bool {
		value, _ := tab.evaluate(expression) // fails while the page is replaced by another one
		return value == true
	})
}

// UntilText waits until a person can read a text on the page.
func (tab *Tab) UntilText(text string) {
	tab.t.Helper()
	tab.Until(fmt.Sprintf("document.body.innerText.includes(%s)", quote(text)))
}

// quote returns a string of JavaScript.
func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // no string fails
	}
	return string(text)
}

// MaxPicture is how much of a page a picture has, in pixels from the top.
const MaxPicture = 2600

// Save writes a picture of the page, which is PNG or, by the name's end, WebP.
func (tab *Tab) Save(path string) {
	tab.t.Helper()
	width, _ := tab.Eval("innerWidth").(float64)
	height, _ := tab.Eval("Math.max(innerHeight, document.documentElement.scrollHeight)").(float64)
	whole := tab.screen // what stays at the edge of the screen is at the edge of the picture
	whole.Height = int(min(height, MaxPicture))
	defer tab.SetScreen(tab.screen)
	tab.SetScreen(whole)
	tab.save(path, map[string]any{
		"captureBeyondViewport": true, "clip": map[string]any{"x": 0, "y": 0, "width": width, "height": min(height, MaxPicture), "scale": 1},
	})
}

// SaveScreen is Save for what the screen shows.
func (tab *Tab) SaveScreen(path string) {
	tab.t.Helper()
	tab.save(path, map[string]any{})
}

func (tab *Tab) save(path string, params map[string]any) {
	tab.t.Helper()
	if strings.HasSuffix(path, ".webp") {
		params["format"], params["quality"] = "webp", 75
	}
	var picture struct{ Data string }
	tab.call("Page.captureScreenshot", params, &picture)
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		tab.t.Fatal(err)
	}
}
