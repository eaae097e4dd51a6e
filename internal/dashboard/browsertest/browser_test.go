package browsertest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/dashboard/browsertest"
)

const page = `<!doctype html><html lang="en"><title>Test</title><link rel="icon" href="data:,"><main>
<h1>A page</h1>
<label for="name">Name</label> <input id="name">
<label for="kind">Kind</label> <select id="kind"><option>one<option value="2">two</select>
<label for="files">Files</label> <input id="files" type="file" multiple>
<button id="go">Go on</button> <button aria-label="Close it">×</button> <a href="/next">The  next page</a>
<p id="out"></p><p id="keys"></p><div id="drop">drop here</div>
</main><script src="/script.js"></script></html>`

const script = `
const out = document.getElementById('out')
document.getElementById('go').onclick = e => { out.textContent = e.isTrusted + ' ' + document.getElementById('name').value }
document.onkeydown = e => { document.getElementById('keys').textContent += (e.ctrlKey ? 'C-' : '') + (e.shiftKey ? 'S-' : '') + e.key + ' ' }
const drop = document.getElementById('drop')
drop.ondragover = e => e.preventDefault()
drop.ondrop = e => { e.preventDefault(); out.textContent = [...e.dataTransfer.files].map(f => f.name + ':' + f.size).join() }
`

func newSite(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src data:")
		_, _ = io.WriteString(w, page)
	})
	mux.HandleFunc("GET /script.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = io.WriteString(w, script)
	})
	mux.HandleFunc("GET /next", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!doctype html><link rel=icon href=data:,><title>Next</title>the next one")
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = fmt.Fprint(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	site := httptest.NewServer(mux)
	t.Cleanup(func() {
		site.CloseClientConnections()
		site.Close()
	})
	return site.URL
}

func TestPageIsUsedAsByAPerson(t *testing.T) {
	site := newSite(t)
	tab := browsertest.Start(t).Tab()
	tab.Open(site)
	tab.Fill(browsertest.Label("Name"), "Zoë 日本")
	tab.Click(browsertest.Button("Go on"))
	tab.Until("out.textContent == 'true Zoë 日本'")
	tab.Fill(browsertest.CSS("#name"), "b")
	tab.Press("Control+k")
	tab.Press("Shift+Tab")
	if keys := fmt.Sprint(tab.Eval("document.getElementById('keys').textContent")); !strings.HasSuffix(keys, "b C-k S-Tab ") {
		t.Errorf("the page got the keys %q", keys)
	}
	if value := tab.Value(browsertest.CSS("#name")); value != "b" {
		t.Errorf("the field has %q", value)
	}
	tab.Select(browsertest.Label("Kind"), "two")
	if value := tab.Value(browsertest.CSS("#kind")); value != "2" {
		t.Errorf("the list has %q", value)
	}
	if name := tab.Name(browsertest.Text("×")); name != "Close it" {
		t.Errorf("the button is called %q", name)
	}
	file := tab.File("a.txt", "12345")
	tab.Upload(browsertest.Label("Files"), file)
	if files := tab.Eval("document.getElementById('files').files[0].size"); files != 5.0 {
		t.Errorf("the file has %v bytes", files)
	}
	tab.Drop(browsertest.CSS("#drop"), file)
	tab.Until("out.textContent == 'a.txt:5'")
	tab.Eval("void alert('hello')")
	if all := tab.Dialogs(); len(all) != 1 || all[0] != "alert: hello" {
		t.Errorf("dialogs: %q", all)
	}
	if all := tab.Problems(); len(all) != 0 {
		t.Errorf("problems: %q", all)
	}
	tab.Navigates(func() { tab.Click(browsertest.Link("The next page")) })
	if tab.URL() != site+"/next" {
		t.Errorf("the page is %s", tab.URL())
	}
}

func TestNetworkAndProblemsAreNoted(t *testing.T) {
	site := newSite(t)
	tab := browsertest.Start(t).Tab()
	tab.Open(site)
	if n := tab.Transferred("Script"); n < int64(len(script)) || n > int64(len(script))+1000 {
		t.Errorf("scripts: %d bytes", n)
	}
	if all := tab.Elsewhere(site); all != nil {
		t.Errorf("requests to elsewhere: %v", all)
	}
	tab.Eval("void (document.body.append(Object.assign(new Image, {src: 'http://203.0.113.1/x.png'})))")
	tab.Eval("new Promise(done => setTimeout(done, 100))")
	if all := tab.Problems(); len(all) == 0 || !strings.Contains(all[0], "Content Security Policy") {
		t.Errorf("problems: %q", all)
	}
	tab.Eval("console.error('oh')")
	tab.Eval("setTimeout(() => { throw new Error('no') })")
	tab.Until("true")
	if all := strings.Join(tab.Problems(), "\n"); !strings.Contains(all, "oh") {
		t.Errorf("problems: %q", all)
	}
	tab.Block("*/script.js")
	tab.SetCache(false)
	tab.Open(site)
	if tab.Eval("typeof out.onclick; document.getElementById('go').onclick") != nil {
		t.Error("the script was not blocked")
	}
}

func TestProfilesHaveTheirOwnCookies(t *testing.T) {
	site := newSite(t)
	b := browsertest.Start(t)
	one := b.Profile()
	first, second, other := one.Tab(), one.Tab(), b.Tab()
	first.Open(site)
	first.Eval("document.cookie = 'a=b'")
	for _, tab := range []*browsertest.Tab{second, other} {
		tab.Open(site)
	}
	if second.Eval("document.cookie") != "a=b" || other.Eval("document.cookie") != "" {
		t.Errorf("cookies: %v and %v", second.Eval("document.cookie"), other.Eval("document.cookie"))
	}
	if all := first.Cookies(); len(all) != 1 || all[0].HTTPOnly {
		t.Errorf("cookies: %+v", all)
	}
	first.Close()
}

func TestLinesAreCutAndMended(t *testing.T) {
	site := newSite(t)
	line := browsertest.NewLine(t, site)
	tab := browsertest.Start(t).Tab()
	tab.Open(line.URL)
	tab.Eval("void (window.s = new EventSource('/slow'), s.onmessage = e => out.textContent = e.data, s.onerror = () => out.textContent = 'lost')")
	tab.Until("out.textContent == 'hello'")
	line.Cut()
	tab.Until("out.textContent == 'lost'")
	line.Mend("")
	tab.Until("out.textContent == 'hello'")
}

func TestBufferingProxyHoldsStreams(t *testing.T) {
	url := browsertest.NewBufferingProxy(t, newSite(t), 4096)
	tab := browsertest.Start(t).Tab()
	tab.Open(url)
	if tab.Eval("document.title") != "Test" {
		t.Fatal("the page is not there")
	}
	start := time.Now()
	tab.Eval("void (window.s = new EventSource('/slow'), s.onmessage = e => out.textContent = e.data)")
	tab.Eval("new Promise(done => setTimeout(done, 300))")
	if tab.Eval("out.textContent") != "" {
		t.Errorf("the event arrived after %s", time.Since(start))
	}
	tab.Eval("s.close()")
}
