package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
)

// TestRolesOfPages walks the table: each row answers each role as its need says.
func TestRolesOfPages(t *testing.T) {
	env := newEnv(t)
	outsider := env.outsider("outsider@example.com")
	for _, row := range env.pages.table {
		method, path, _ := strings.Cut(row.pattern, " ")
		if path == "/live" || strings.HasPrefix(path, "/sign-out") {
			continue // a stream, and the end of the test's session
		}
		path = strings.NewReplacer("{id}", "00000000-0000-0000-0000-000000000000").Replace(path)
		for path != strings.NewReplacer("{", "", "}", "").Replace(path) { // other parts of the path
			from, to := strings.Index(path, "{"), strings.Index(path, "}")
			path = path[:from] + "none" + path[to+1:]
		}
		for _, role := range append([]access.Role{"", "outsider"}, access.Roles()...) {
			b := outsider
			if role != "outsider" {
				b = env.as(role)
			}
			var got answer
			if method == http.MethodGet {
				got = b.get(path)
			} else {
				got = b.post(path)
			}
			checkNeed(t, row, role, got)
		}
	}
}

// checkNeed checks that an answer is a refusal exactly if the need of its route is not met.
func checkNeed(t *testing.T, row route, role access.Role, got answer) {
	t.Helper()
	who := Visitor{Scopes: role.Scopes()}
	if role != "" {
		who.Email = "somebody@example.com"
	}
	if role != "" && role != "outsider" {
		who.Account = "acct_1"
	}
	location := got.Header.Get("Location")
	refused := map[string]bool{
		"sign-in":  got.Status == http.StatusSeeOther && (strings.HasPrefix(location, root+"/sign-in?next=") || location == root+"/sign-in"),
		"accounts": got.Status == http.StatusSeeOther && location == root+"/accounts",
		"role":     got.Status == http.StatusForbidden && strings.Contains(got.Body, "does not include this"),
	}
	want := ""
	switch {
	case row.need.met(who):
	case who.Email == "":
		want = "sign-in"
	case row.need.who == operators:
		if got.Status != http.StatusNotFound {
			t.Errorf("%s as %q: an operator's page answers %d to others", row.pattern, role, got.Status)
		}
		return
	case who.Account == "":
		want = "accounts"
	default:
		want = "role"
	}
	for why, is := range refused {
		if why == "sign-in" && row.need.who == everybody {
			continue // it may lead there by itself
		}
		if is != (why == want) {
			t.Errorf("%s as %q answers %d to %q: refusal for %s is %v, want %v", row.pattern, role, got.Status, location, why, is, why == want)
		}
	}
	if want == "" && got.Status >= http.StatusInternalServerError {
		t.Errorf("%s as %q answers %d: %s", row.pattern, role, got.Status, got.Body)
	}
}

func TestEveryPageHasItsHeaders(t *testing.T) {
	env := newEnv(t)
	env.as(access.Owner).get("/agents") // takes the notice of the sign-in
	for _, path := range []string{"/agents", "/agents/none", "/nothing", "/sign-in", "/reset?token=x"} {
		h := env.as(access.Owner).get(path).Header
		if h.Get("Content-Security-Policy") != contentSecurityPolicy || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", path, h)
		}
		if want := "same-origin"; !strings.HasPrefix(path, "/reset") && h.Get("Referrer-Policy") != want || strings.HasPrefix(path, "/reset") && h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// TestFormsOfOtherSites: neither a page of another site nor one of another account changes anything.
func TestFormsOfOtherSites(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	b := env.as(access.Owner)
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		req := b.request(t.Context(), http.MethodPost, "/agents/"+id+"/stop", map[string][]string{accountField: {string(b.account)}})
		req.Header.Set(name, value)
		b.do(req).has(http.StatusForbidden, "another site")
	}
	other := *b
	other.account = env.NewAccount("Other", "")
	other.post("/agents/"+id+"/stop").has(http.StatusConflict, "in another tab")
	other.account = ""
	other.post("/agents/"+id+"/stop").has(http.StatusBadRequest, "does not name the account")
	b.get("/agents/"+id).has(http.StatusOK, "running")
}

// TestScriptsCallTheAPI as the person, in the account of their page.
func TestScriptsCallTheAPI(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	call := func(b *browser, method, path, account string) answer {
		req := b.request(t.Context(), method, "/api/v1"+path, nil)
		if account != "" {
			req.Header.Set(accountHeader, account)
		}
		return b.do(req)
	}
	viewer := env.as(access.Viewer)
	call(viewer, http.MethodGet, "/agents/"+id, string(env.account)).has(http.StatusOK, `"Support"`)
	call(viewer, http.MethodGet, "/agents/"+id+"?account="+string(env.account), "").has(http.StatusOK, `"Support"`)
	call(viewer, http.MethodGet, "/agents", "").has(http.StatusBadRequest, "does not name the account")
	call(viewer, http.MethodGet, "/agents", "acct_other").has(http.StatusConflict, "another tab")
	call(viewer, http.MethodPost, "/agents/"+id+"/stop", string(env.account)).has(http.StatusForbidden, "agents:write", "viewer")
	call(env.as(access.Developer), http.MethodPost, "/agents/"+id+"/stop", string(env.account)).has(http.StatusOK, "stopped")
	call(env.newBrowser(), http.MethodGet, "/agents", string(env.account)).has(http.StatusUnauthorized, "unauthorized")
}

// TestBasePath: a proxy may pass the path of the public URL, or strip it. All addresses have it.
func TestBasePath(t *testing.T) {
	env := newEnvAt(t, "http://agents.example/tools")
	b := env.as(access.Owner)
	page := b.get("/agents").has(http.StatusOK, `href="/tools/app/agents"`, `data-base="/tools/app"`, `src="/tools/app/assets/app.`)
	if strings.Contains(page.Body, `="/app`) {
		t.Errorf("an address without the base path: %s", page.Body)
	}
	stripped := b.request(t.Context(), http.MethodGet, "/agents", nil)
	for _, c := range b.http.Jar.Cookies(stripped.URL) {
		stripped.AddCookie(c)
	}
	stripped.URL.Path = root + "/agents"
	b.do(stripped).has(http.StatusOK, `href="/tools/app/agents"`)
	if to := env.newBrowser().get("/agents").Header.Get("Location"); to != "/tools/app/sign-in?next=%2Fagents" {
		t.Error(to)
	}
}

func TestAssetsAreKeptForEver(t *testing.T) {
	env := newEnv(t)
	for name, one := range env.pages.pages.assets.byName {
		res := env.newBrowser().get("/assets/" + one.name).has(http.StatusOK)
		if !strings.Contains(res.Header.Get("Cache-Control"), "immutable") || len(res.Body) != len(one.plain) {
			t.Errorf("%s: %v, %d bytes", name, res.Header, len(res.Body))
		}
	}
	env.newBrowser().get("/assets/style.css").has(http.StatusNotFound)
}
