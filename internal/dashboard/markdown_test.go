package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/dashboard/browsertest"
)

// markdownTab returns a tab with a page that has the scripts of the chat.
func markdownTab(t *testing.T) *browsertest.Tab {
	t.Helper()
	env := newEnv(t)
	id := env.agent("Ada")
	tab := env.open(browsertest.Start(t), "owner")
	tab.Open(env.URL + root + "/agents/" + id + "/chat")
	tab.Eval(`globalThis.whole = (text) => { const e = document.createElement("div"); agento.markdown.render(e, text); return e; };
		globalThis.pieces = (text, n) => { const e = document.createElement("div"), r = new agento.markdown.Renderer(e);
			for (let i = 0; i < text.length; i += n) { r.write(text.slice(i, i + n)); r.flush(); } r.end(); return e; }; 0`)
	return tab
}

func quoteJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMarkdown: what is made of texts, whole and in pieces of any size.
func TestMarkdown(t *testing.T) {
	tab := markdownTab(t)
	for text, want := range map[string]string{
		"Hello **bold** and *em* `code` ~~del~~ ***both***.\nline":    `<strong>bold</strong>|<em>em</em>|<code>code</code>|<del>del</del>|<em><strong>both</strong></em>.<br>line`,
		"a_b_c __x__ 2*3*4 \\*no\\* `` ` ``":                          `a_b_c <strong>x</strong> 2<em>3</em>4 *no* <code>` + "`" + `</code>`,
		"# T #\n## U\n---\n***":                                       `<h3>T</h3><h4>U</h4><hr><hr>`,
		"- a\n- b\n  - c\n    - d\n- e\n\nafter":                      `<ul><li><p>a</p></li><li><p>b</p><ul><li><p>c</p><ul><li><p>d</p></li></ul></li></ul></li><li><p>e</p></li></ul><p>after</p>`,
		"1. one\n2. two\n   - x\n\n   more\n\n5) five":                `<ol><li><p>one</p></li><li><p>two</p><ul><li><p>x</p></li></ul><p>more</p></li></ol><ol start="5"><li><p>five</p></li></ol>`,
		"> q\nlazy\n\n> new":                                          `<blockquote><p>q<br>lazy</p></blockquote><blockquote><p>new</p></blockquote>`,
		"```go\nfunc <x>\n\n}\n```\nafter":                            `<span class="code-language">go</span>|<pre tabindex="0"><code><div>func &lt;x&gt;` + "\n\n}\n" + `</div></code></pre></div><p>after</p>`,
		"text:\n| a | b |\n|---|:-:|\n| 1 | **2** |\n| x \\| y |":     `<p>text:</p>|<thead><tr><th>a</th><th class="align-center">b</th></tr></thead><tbody><tr><td>1</td><td class="align-center"><strong>2</strong></td></tr><tr><td>x | y</td>`,
		"[a](https://x.com/p) ![i](http://evil/x.png) <mailto:a@b.c>": `<a href="https://x.com/p" rel="noopener noreferrer nofollow" target="_blank">a</a><bdi class="link-host"> (x.com)</bdi>|<a href="http://evil/x.png" rel="noopener noreferrer nofollow" target="_blank">i</a><bdi class="link-host"> (evil)</bdi>|<a href="mailto:a@b.c"`,
		"[https://good.com](https://evil.com) [x](javascript:alert(1)) [y](//evil.com) see https://ex.com/a_(b).": `>https://good.com</a><bdi class="link-host"> (evil.com)</bdi> x y see <a href="https://ex.com/a_(b)"`,
		"<script>alert(1)</script><img src=x onerror=alert(1)>":                                                   `<p>&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;</p>`,
	} {
		for _, how := range []string{"whole(t)", "pieces(t, 1)", "pieces(t, 2)", "pieces(t, 7)"} {
			got := fmt.Sprint(tab.Eval(`(() => { const t = ` + quoteJSON(t, text) + `; return ` + how + `.innerHTML.replaceAll(' dir="auto"', ""); })()`))
			for part := range strings.SplitSeq(want, "|<") {
				if part = strings.TrimPrefix(part, "<"); !strings.Contains(got, part) {
					t.Errorf("%s of %q lacks %q: %s", how, text, part, got)
				}
			}
		}
	}
}

// hostileMarkdown are texts that make a careless parser slow, or a careless page unsafe.
const hostileMarkdown = `(() => {
	const r = (s, n) => s.repeat(n), tick = String.fromCharCode(96);
	return { "[": r("[", 2e4), "[](": r("[](", 14e3), "[](b)": r("[](", 14e3) + ")", "[a](b": r("[a](b", 8e3), ">": r(">", 2e4), "> ": r("> ", 1e4), "- ": r("- ", 1e4), "*": r("*", 2e4), "*a": r("*a ", 14e3), "*a_": r("*a _b ", 8e3),
		"a*": r("a*", 1e4), backticks: Array.from({length: 600}, (_, i) => r(tick, i + 1)).join(" "), "~": r("~~a", 14e3), "<": r("<http://", 6e3), "|": r("|", 2e4), "|-": "a|b\n" + r("|-", 1e4) + "\n", "|a": r("|a", 6e3) + "\n" + r("|-", 6e3) + "\n" + r("|a", 6e3) + "\n",
		url: r("https://a/", 2e4), parens: "https://" + r("(", 1e4) + r(")", 1e4), "\\": r("\\", 2e4), "lines": r("\n", 2e4), "returns": r("\r", 2e4), items: r("-\n", 1e4), nested: Array.from({length: 300}, (_, i) => r(" ", i * 2) + "- x").join("\n"), bold: r("**a ", 2e4) + r("b** ", 2e4),
		nul: r("\0\ud800", 1e4), tab: r("\t", 2e4) + "x", spaces: r("a" + r(" ", 3000), 60), "#": r("#", 2e4), "1.": r("1. ", 14e3), "![": r("![", 1e4), "<mailto": r("<mailto:a@b>", 2e4), "*_": r("*_", 1e4), images: r("![x](http://h/", 15000), fences: r(r(tick, 3) + "\n~~~\n", 1e4), rtl: r("\u202e", 1e4),
		tags: "<svg onload=alert(1)><iframe src=javascript:alert(1)></iframe><style>*{display:none}</style><a href=javascript:alert(1)>x</a>",
		links: ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", " javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:x", "//evil", "/app", "https://user:pw@evil", "https://x\u0000", "&#106;avascript:alert(1)"].map(u => "[x](" + u + ") [y](<" + u + ">) <" + u + "> ![z](" + u + ")").join("\n\n") };
})()`

// TestChaosHostileMarkdown: it is a tree of allowed elements, and takes no longer than other texts.
func TestChaosHostileMarkdown(t *testing.T) {
	needsChaos(t)
	tab := markdownTab(t)
	tab.Eval(`globalThis.hostile = ` + hostileMarkdown + `;
		const tags = new Set("P BR STRONG EM DEL CODE A BDI H3 H4 H5 H6 UL OL LI BLOCKQUOTE HR DIV SPAN BUTTON PRE TABLE THEAD TBODY TR TH TD".split(" "));
		const attributes = new Set("href rel target class dir start type tabindex data-copy-code".split(" "));
		globalThis.check = (name, make) => {
			const found = new Set(), began = performance.now();
			for (const e of make(hostile[name]).querySelectorAll("*")) {
				if (!tags.has(e.tagName)) found.add("a " + e.tagName);
				for (const a of e.attributes) if (!attributes.has(a.name)) found.add("the attribute " + a.name);
				if (e.href && !/^(https?:|mailto:)/.test(e.href)) found.add("it leads to " + e.href);
				if (e.href?.includes("@evil")) found.add("a password");
			}
			if (performance.now() - began > 6000) found.add("it took " + (performance.now() - began) + " ms");
			return [...found].join(", ");
		}; 0`)
	for _, name := range tab.Eval(`Object.keys(hostile)`).([]any) {
		for _, make := range []string{"whole", "t => pieces(t, 3989)"} {
			began := time.Now()
			if got := tab.Eval(`check(` + quoteJSON(t, name) + `, ` + make + `)`); got != "" {
				t.Errorf("%s of %q: %v", make, name, got)
			}
			t.Logf("%s of %q: %v", make, name, time.Since(began))
		}
	}
	noProblems(t, tab)
}

// TestChaosLongAnswers: the last words of 200 KB cost what the first did, and the elements before them stay.
func TestChaosLongAnswers(t *testing.T) {
	needsChaos(t)
	tab := markdownTab(t)
	tab.Eval(`globalThis.cost = (text) => {
		text = text.startsWith("~~~") ? "~~~\n" + text.slice(4).repeat(2e5).slice(0, 2e5) : text.repeat(2e5 / text.length + 1).slice(0, 2e5);
		const root = document.createElement("div"), r = new agento.markdown.Renderer(root);
		const measure = (from, to) => { // how many nodes are changed for 40 characters
			let changes = 0, n = 0;
			for (let i = from; i < to; i += 40, n++) {
				const o = new MutationObserver(() => {});
				o.observe(root, { childList: true, subtree: true, characterData: true });
				r.write(text.slice(i, i + 40));
				r.flush();
				changes += o.takeRecords().reduce((n, m) => n + m.addedNodes.length + m.removedNodes.length + 1, 0);
				o.disconnect();
			}
			return changes / n;
		};
		const early = measure(0, 8000), first = root.firstChild;
		r.write(text.slice(8000, 192000));
		r.flush();
		const late = measure(192000, 2e5);
		return root.firstChild === first && late < 2 * early + 5 ? "" : early + " changes at the beginning, " + late + " at the end; the first element stays: " + (root.firstChild === first);
	}; 0`)
	for name, text := range map[string]string{
		"mixed": "# Title\n\nSome **words** and `code`.\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n", "a paragraph": "word **bold** and ", "code": "~~~\nx = 1; // text\n", "a line of code": "~~~\nx = 1; ",
		"a list": "- item with *emphasis*\n", "a quote": "> text\n", "rows": "|cell|other|\n|-|-|\n",
	} {
		if got := tab.Eval(`cost(` + quoteJSON(t, text) + `)`); got != "" {
			t.Errorf("%s: %v", name, got)
		}
	}
}
