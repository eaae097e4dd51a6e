package door_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
)

// policy is a strict one: the page of a customer allows the widget's script and its requests, and
// no style, frame or image of another origin.
const policy = "default-src 'none'; script-src %[1]s; connect-src 'self' %[1]s; img-src data:; require-trusted-types-for 'script'"

// website is a page of a customer on another origin than agento's.
type website struct {
	*apitest.Env
	t      *testing.T
	url    string // of the page
	api    *client.Client
	widget client.WidgetSecret
	line   *browsertest.Line // to agento
	tokens atomic.Int64      // how many were signed
	peer   atomic.Pointer[string]
}

func newWebsite(t *testing.T, attributes string) *website {
	t.Helper()
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("it needs Chromium: make chaos-widget")
	}
	s := &website{t: t, Env: apitest.New(t, apitest.Options{})}
	s.line = browsertest.NewLine(t, s.URL)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", fmt.Sprintf(policy, s.line.URL))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Shop</title><link rel="icon" href="data:,"><main><h1>The shop</h1><p>Welcome.</p></main><script src="%s/widget.js" data-widget="%s" async %s></script></html>`, s.line.URL, s.widget.Key, attributes)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, _ *http.Request) {
		s.tokens.Add(1)
		peer := s.peer.Load()
		if peer == nil {
			http.Error(w, "sign in", http.StatusUnauthorized)
			return
		}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"aud": s.widget.ID, "exp": time.Now().Add(10 * time.Minute).Unix(), "peerId": *peer, "name": "Alice", "context": map[string]any{"plan": "Pro"},
		}).SignedString([]byte(s.widget.Secret))
		if err != nil {
			t.Error(err)
		}
		_, _ = fmt.Fprintf(w, `{"token":%q}`, token)
	})
	page := httptest.NewServer(mux)
	t.Cleanup(page.Close)
	s.url = strings.Replace(page.URL, "127.0.0.1", "localhost", 1) // another site, not only another port
	s.api = s.Client(s.NewAccount("Shop", ""))
	agent := s.NewAgent(s.api, "Support")
	greeting := client.Some("Hello! How can I help?")
	w, err := s.api.CreateWidget(t.Context(), client.CreateWidgetRequest{Name: "Support", AgentID: string(agent), Origins: []string{s.url}, Greeting: greeting})
	if err != nil {
		t.Fatal(err)
	}
	s.widget = w
	return s
}

// inside is an expression for the first element in the widget that a selector matches.
func inside(selector string) string {
	return fmt.Sprintf("document.querySelector('agento-widget').shadowRoot.querySelector(%q)", selector)
}

const logText = "document.querySelector('agento-widget').shadowRoot.querySelector('.m').innerText"

// open opens the page and the chat.
func (s *website) open(tab *browsertest.Tab) {
	s.t.Helper()
	tab.Open(s.url)
	tab.Click(browsertest.Button("Open chat"))
}

func (s *website) clean(tab *browsertest.Tab) {
	s.t.Helper()
	for _, p := range tab.Problems() {
		s.t.Errorf("the browser says: %s", p)
	}
	for _, d := range tab.Dialogs() {
		s.t.Errorf("a dialog: %s", d)
	}
	for _, f := range tab.Axe() {
		s.t.Errorf("axe: %s", f)
	}
	for _, c := range tab.Cookies() {
		s.t.Errorf("a cookie: %+v", c)
	}
}

func pictures(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SCREENS_DIR")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "agento-widget-"); err != nil {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(dir, "widget")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Logf("the pictures are in %s", dir)
	return dir
}

const markdown = "# Your order\n\nIt is **on its way**, see [the *tracking*](https://track.example/42) or https://shop.example/orders.\n\n1. packed\n2. shipped\n   - by truck\n\n```js\nconst a = 1 < 2;\n\nb();\n```\n\n| day | place |\n|---|---|\n| Mon | Bern |\n\n> Quoted `code`.\n\n---\n\nBye."

// A visitor reads, writes and resumes in a page with a strict policy.
func TestChaosWidget(t *testing.T) {
	s, dir := newWebsite(t, ""), pictures(t)
	s.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		for i := 0; i < len(markdown); i += 7 {
			if send(markdown[i:min(i+7, len(markdown))]) != nil {
				return
			}
		}
	})
	tab := browsertest.Start(t).Tab()
	tab.SetScreen(browsertest.Desk)
	s.open(tab)
	tab.Until(logText + ".includes('How can I help?')")
	field := browsertest.Role("textbox", "Write a message")
	tab.Fill(field, "Where is my order?")
	tab.Press("Enter")
	tab.Until(logText + ".includes('Bye.')")
	tab.Until(inside(".f button") + ".textContent == 'Send'")
	for expression, want := range map[string]any{
		inside(".b:last-child h3") + ".textContent":                                 "Your order",
		inside(".b:last-child strong") + ".textContent":                             "on its way",
		inside(".b:last-child a") + ".href":                                         "https://track.example/42",
		inside(".b:last-child a") + ".rel":                                          "noopener noreferrer nofollow",
		inside(".b:last-child pre code") + ".textContent":                           "const a = 1 < 2;\n\nb();",
		inside(".b:last-child ol li ul li") + ".textContent":                        "by truck",
		inside(".b:last-child td:last-child") + ".textContent":                      "Bern",
		inside(".b:last-child blockquote code") + ".textContent":                    "code",
		inside(".v[aria-live]") + ".textContent.slice(0, 11)":                       "Assistant: ",
		inside(".p") + ".getAttribute('role')":                                      "dialog",
		"document.querySelector('agento-widget').shadowRoot.activeElement.nodeName": "TEXTAREA",
	} {
		if got := tab.Eval(expression); got != want {
			t.Errorf("%s is %v, want %v", expression, got, want)
		}
	}
	for _, screen := range browsertest.Screens() {
		tab.SetScreen(screen)
		tab.Save(filepath.Join(dir, "open-"+screen.String()+".png"))
		if wide := tab.Eval("document.documentElement.scrollWidth"); wide != float64(screen.Width) {
			t.Errorf("on %s the page is %v wide", screen, wide)
		}
		s.clean(tab)
	}
	tab.SetScreen(browsertest.Desk)

	tab.Press("Escape")
	if tab.Eval("document.querySelector('agento-widget').shadowRoot.activeElement.getAttribute('aria-label')") != "Open chat" {
		t.Error("Escape does not lead back to the button")
	}
	tab.Save(filepath.Join(dir, "closed.png"))

	// The same visitor, after a reload.
	s.open(tab)
	tab.Until(logText + ".includes('Where is my order?') && " + logText + ".includes('Bye.')")
	s.clean(tab)
}

// An answer goes on after the connection was lost; a message whose outcome is unknown is not sent again.
func TestChaosWidgetResumes(t *testing.T) {
	s := newWebsite(t, "")
	next := make(chan struct{})
	s.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		for i := range 6 {
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
			if send(fmt.Sprintf("word%d ", i)) != nil {
				return
			}
		}
	})
	tab := browsertest.Start(t).Tab()
	s.open(tab)
	field := browsertest.Role("textbox", "Write a message")
	tab.Fill(field, "Count")
	tab.Press("Enter")
	next <- struct{}{}
	next <- struct{}{}
	tab.Until(logText + ".includes('word1')")
	s.line.Cut()
	tab.Until(inside(".s") + ".textContent == 'Reconnecting…'")
	next <- struct{}{}
	s.line.Mend("")
	tab.Until(logText + ".includes('word2')")
	// In the middle of the answer the page is loaded again.
	s.open(tab)
	tab.Until(logText + ".includes('word0 word1 word2')")
	for range 3 {
		next <- struct{}{}
	}
	tab.Until(logText + ".includes('word5')")
	tab.Until(inside(".f button") + ".textContent == 'Send'")
	if got := tab.Eval("(" + logText + ".match(/word2/g) || []).length"); got != 1.0 {
		t.Errorf("word2 is there %v times", got)
	}
	if n := len(s.Gateways.Turns()); n != 1 {
		t.Errorf("%d turns", n)
	}

	// Nothing arrives: it says so, and sends it when the visitor wants.
	s.Gateways.SetScript(apitest.Echo)
	s.line.Cut()
	tab.Fill(field, "Hello?")
	tab.Press("Enter")
	tab.Until(inside(".s") + ".textContent.includes('Checking')")
	s.line.Mend("")
	tab.Click(browsertest.Button("Send again"))
	tab.Until(logText + ".includes('You said: Hello?')")
	if n := len(s.Gateways.Turns()); n != 2 {
		t.Errorf("%d turns", n)
	}

	// Stop.
	s.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("Endless")
		<-ctx.Done()
	})
	tab.Fill(field, "Go")
	tab.Press("Enter")
	tab.Until(logText + ".includes('Endless')")
	tab.Click(browsertest.Button("Stop the answer"))
	tab.Until(logText + ".includes('Stopped.')")
}

// The page gets tokens of its backend, and the visitor is another one when it has signed out.
func TestChaosWidgetTokens(t *testing.T) {
	s := newWebsite(t, `data-token-url="/token" data-color="#fde047" data-mode="dark" data-position="left"`)
	alice, bob := "alice", "bob"
	s.peer.Store(&alice)
	tab := browsertest.Start(t).Tab()
	s.open(tab)
	field := browsertest.Role("textbox", "Write a message")
	tab.Fill(field, "I am Alice")
	tab.Press("Enter")
	tab.Until(logText + ".includes('You said: I am Alice')")
	if got := s.Gateways.LastTurn(t); !strings.Contains(got.Context, "plan: Pro") || !strings.Contains(got.Context, "name: Alice") {
		t.Errorf("the agent is told %q", got.Context)
	}
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d tokens were signed", n)
	}
	tab.Save(filepath.Join(pictures(t), "themed.png"))
	s.clean(tab)
	s.peer.Store(&bob)
	s.open(tab)
	tab.Until(logText + ".includes('How can I help?')")
	if tab.Eval(logText+".includes('Alice')") != false {
		t.Error("bob reads what alice has said")
	}
	if stored := tab.Eval("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"); strings.Contains(fmt.Sprint(stored), "eyJ") {
		t.Errorf("the page stores %v", stored)
	}
}

// Enter of an input method chooses a word and sends nothing, in both orders of events.
func TestChaosWidgetInputMethod(t *testing.T) {
	s := newWebsite(t, "")
	tab := browsertest.Start(t).Tab()
	s.open(tab)
	tab.Until(logText + ".includes('How can I help?')")
	tab.Fill(browsertest.Role("textbox", "Write a message"), "nihao")
	field := inside("textarea")
	for _, events := range []string{
		`f.dispatchEvent(new CompositionEvent('compositionstart')); f.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, cancelable: true})); f.dispatchEvent(new CompositionEvent('compositionend'));`,
		`f.dispatchEvent(new CompositionEvent('compositionstart')); f.dispatchEvent(new CompositionEvent('compositionend')); f.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229, cancelable: true}));`,
		`f.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', shiftKey: true, cancelable: true}));`,
	} {
		if got := tab.Eval("(f => { " + events + " return f.value })(" + field + ")"); got != "nihao" {
			t.Errorf("after %s the field has %q", events, got)
		}
	}
	tab.Press("Enter")
	tab.Until(logText + ".includes('You said: nihao')")
	if n := len(s.Gateways.Turns()); n != 1 {
		t.Errorf("%d turns", n)
	}
}

// hostile are texts that an agent or a visitor may write.
var hostile = []string{
	`<img src=x onerror=alert(1)>`, `<script>alert(1)</script>`, `<svg onload=alert(1)>`, `[x](javascript:alert(1))`, `[x]( javascript:alert(1))`, `[x](JaVaScRiPt:alert(1))`, `[x](data:text/html,<script>alert(1)</script>)`,
	`![x](https://evil.example/pixel.png)`, `![x](javascript:alert(1))`, `<a href="javascript:alert(1)">x</a>`, "```\n</code><img src=x onerror=alert(1)>\n```", `[<img src=x onerror=alert(1)>](https://a.example)`,
	`https://a.example/"onmouseover="alert(1)`, `**<iframe src=javascript:alert(1)>**`, `[x](https://a.example "><script>alert(1)</script>")`, strings.Repeat("*_", 500) + "x", strings.Repeat("> ", 500) + "x", strings.Repeat("[", 500), strings.Repeat("`", 501),
	strings.Repeat("- ", 200) + "x", "|" + strings.Repeat("-|", 400) + "\n|-|", "\u202eevil", `</div></agento-widget><script>alert(1)</script>`,
}

func TestChaosWidgetHostileTexts(t *testing.T) {
	s := newWebsite(t, "")
	name := `"><img src=x onerror=alert(1)>`
	if _, err := s.api.UpdateWidget(t.Context(), s.widget.ID, client.UpdateWidgetRequest{
		Name: &name, Greeting: client.Some(strings.Join(hostile[:3], " ")), Theme: &client.WidgetThemeRequest{Title: client.Some(`<b onclick=alert(1)>T</b>`)},
	}); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(hostile, "\n\n")
	s.Gateways.SetScript(apitest.AnswerOnce(text + "\n\nThe end."))
	tab := browsertest.Start(t).Tab()
	s.open(tab)
	tab.Until(inside(".f button") + ".textContent == 'Send'")
	tab.Fill(browsertest.Role("textbox", "Write a message"), strings.Join(hostile[:5], " "))
	tab.Press("Enter")
	tab.Until(logText + ".includes('The end.')")
	if got := tab.Eval(`[...document.querySelector('agento-widget').shadowRoot.querySelectorAll('*')].filter(e => /^(IMG|SCRIPT|SVG|IFRAME|OBJECT|STYLE|LINK)$/i.test(e.nodeName) || [...e.attributes].some(a => /^on/i.test(a.name) || a.name == 'style' && e.nodeName != 'TEXTAREA' || /javascript:|data:/i.test(a.value))).map(e => e.outerHTML).join()`); got != "" {
		t.Errorf("the widget has %v", got)
	}
	for _, u := range tab.Elsewhere(s.url) {
		if !strings.HasPrefix(u, s.line.URL) {
			t.Errorf("a request to %s", u)
		}
	}
	s.clean(tab)
}

// A page that shows the widget and nothing else, in a frame of the website too.
func TestChaosWidgetFrame(t *testing.T) {
	s := newWebsite(t, "")
	tab := browsertest.Start(t).Tab()
	tab.Open(s.URL + "/widget/frame/" + s.widget.Key)
	tab.Until(logText + ".includes('How can I help?')")
	tab.Fill(browsertest.Role("textbox", "Write a message"), "Hi")
	tab.Press("Enter")
	tab.Until(logText + ".includes('You said: Hi')")
	tab.Save(filepath.Join(pictures(t), "frame.png"))
	s.clean(tab)
}
