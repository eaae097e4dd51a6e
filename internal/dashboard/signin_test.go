package dashboard

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

func (b *browser) signInAs(email, password string) answer {
	b.env.t.Helper()
	return b.post("/sign-in?"+encodeQuery("next", "/agents?status=running"), "email", email, "password", password)
}

func TestTheFirstOwner(t *testing.T) {
	env := newEnv(t)
	link, err := env.People.FirstLink(t.Context(), identity.ByOperator(env.account))
	if err != nil {
		t.Fatal(err)
	}
	path := "/first?" + encodeQuery("token", link.Token.Reveal())
	b := env.newBrowser()
	for range 3 { // looking uses nothing up
		b.get(path).has(http.StatusOK, "Acme", "Become the owner")
	}
	weak := b.post(path, "email", "ann@example.com", "name", "Ann", "password", "short").has(http.StatusUnprocessableEntity, `value="ann@example.com"`, "wrong-text")
	if strings.Contains(weak.Body, "short") {
		t.Error("the page shows a password")
	}
	b.post(path, "email", "ann@example.com", "name", "Ann", "password", testPassword).leads("/")
	b.get("/agents").has(http.StatusOK, "You are in the account Acme as owner", "Ann")
	b.get("/agents").has(http.StatusOK)
	env.newBrowser().post(path, "email", "eve@example.com", "password", testPassword).has(http.StatusNotFound, "used already")
}

func TestSigningIn(t *testing.T) {
	env := newEnv(t)
	env.as(access.Developer)
	b := env.newBrowser()
	b.get("/agents?status=running").leads("/sign-in?" + encodeQuery("next", "/agents?status=running"))
	b.get("/sign-in").has(http.StatusOK, "Password")
	for _, wrong := range [][2]string{{"developer@example.com", "wrong wrong wrong"}, {"nobody@example.com", testPassword}} {
		got := b.signInAs(wrong[0], wrong[1]).has(http.StatusUnprocessableEntity, "address or the password is wrong")
		if strings.Contains(got.Body, wrong[1]) {
			t.Error("the page shows a password")
		}
	}
	in := b.signInAs("developer@example.com", testPassword).leads("/agents?status=running")
	if c := in.Header.Get("Set-Cookie"); !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || !strings.Contains(c, "Path=/app") {
		t.Error(c)
	}
	b.get("/agents").has(http.StatusOK, "developer")
	b.get("/sign-in?next=%2Fprofile").leads("/profile")
	for _, elsewhere := range []string{"//evil.example", "https://evil.example", `/\evil.example`, "javascript:alert(1)"} {
		if to := b.get("/sign-in?" + encodeQuery("next", elsewhere)).Header.Get("Location"); !strings.HasPrefix(to, root+"/") {
			t.Errorf("%s leads to %s", elsewhere, to)
		}
	}
	b.post("/sign-out").leads("/sign-in")
	b.get("/agents").leads("/sign-in?next=%2Fagents")
}

func TestTooManyPasswords(t *testing.T) {
	env := newEnv(t)
	env.as(access.Viewer)
	for range 10 {
		env.newBrowser().signInAs("viewer@example.com", "wrong wrong wrong")
	}
	env.newBrowser().signInAs("viewer@example.com", testPassword).has(http.StatusUnprocessableEntity, "too many wrong passwords")
	env.as(access.Viewer).get("/agents").has(http.StatusOK) // who is signed in, stays so
}

func TestTheSecondFactor(t *testing.T) {
	env := newEnv(t)
	b := env.newBrowser()
	b.join(access.Developer, "ann@example.com")
	b.get("/profile").has(http.StatusOK, "Set it up")
	b.get("/profile/second-factor").has(http.StatusOK)
	b.post("/profile/second-factor", "present", "wrong wrong wrong").has(http.StatusUnprocessableEntity, "notice bad")
	setup := b.post("/profile/second-factor", "present", testPassword).has(http.StatusOK, "data:image/png;base64,")
	secret := regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`).FindStringSubmatch(setup.Body)
	if secret == nil {
		t.Fatal(setup.Body)
	}
	b.post("/profile/second-factor/confirm", "secret", secret[1], "code", "000000").has(http.StatusUnprocessableEntity, "data:image/png;base64,", secret[1])
	codes := b.post("/profile/second-factor/confirm", "secret", secret[1], "code", apitest.TOTP(t, secret[1], 0)).has(http.StatusOK, "shown once")
	recovery := regexp.MustCompile(`<pre class="code wrapped">(\S+)`).FindStringSubmatch(codes.Body)
	if recovery == nil {
		t.Fatal(codes.Body)
	}
	again := env.newBrowser()
	again.get("/sign-in/code").leads("/sign-in")
	again.signInAs("ann@example.com", testPassword).leads("/sign-in/code?" + encodeQuery("next", "/agents?status=running"))
	again.get("/agents").leads("/sign-in?next=%2Fagents") // the password alone is nothing
	again.post("/sign-in/code", "code", "000000").has(http.StatusUnprocessableEntity, "notice bad")
	again.post("/sign-in/code", "code", recovery[1]).leads("/")
	again.get("/agents").has(http.StatusOK)
	third := env.newBrowser()
	third.signInAs("ann@example.com", testPassword)
	third.post("/sign-in/code", "code", recovery[1]).has(http.StatusUnprocessableEntity) // it was used
	third.post("/sign-in/code", "code", apitest.TOTP(t, secret[1], 1)).leads("/")
	page := third.get("/profile").has(http.StatusOK, "9 recovery codes", "End all others")
	if strings.Contains(page.Body, secret[1]) {
		t.Error("the profile shows the secret")
	}
	third.post("/profile/sessions/end-others").leads("/profile")
	again.get("/agents").leads("/sign-in?next=%2Fagents")
}

func TestInvitations(t *testing.T) {
	env := newEnv(t)
	outsider := env.outsider("bob@example.com")
	outsider.get("/agents").leads("/accounts")
	outsider.get("/accounts").has(http.StatusOK, "You are in no account")
	_, link, err := env.People.Invite(t.Context(), identity.ByOperator(env.account), "bob@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	path := "/invitation?" + encodeQuery("token", link.Token.Reveal())
	env.as(access.Owner).get(path).has(http.StatusOK, "signed in as owner@example.com")
	b := env.newBrowser()
	b.get(path).has(http.StatusOK, "can sign in already")
	b.post("/sign-in", "email", "bob@example.com", "password", testPassword).leads(path) // back to the invitation
	b.get(path).has(http.StatusOK, "signed in as <b>bob@example.com")
	b.post(path).leads("/")
	b.get("/agents").has(http.StatusOK, "as viewer")
	b.get(path).has(http.StatusNotFound)
	b.get("/profile").has(http.StatusOK, "bob@example.com")
}

func TestAResetLink(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Admin)
	link, err := env.People.ResetLink(t.Context(), identity.ByOperator(""), "admin@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	path := "/reset?" + encodeQuery("token", link.Token.Reveal())
	n := env.newBrowser()
	n.get(path).has(http.StatusOK, "admin@example.com")
	b.get("/agents").has(http.StatusOK)
	n.post(path, "password", "another horse battery").leads("/sign-in")
	b.get("/agents").leads("/sign-in?next=%2Fagents")
	n.signInAs("admin@example.com", testPassword).has(http.StatusUnprocessableEntity)
	n.signInAs("admin@example.com", "another horse battery").leads("/agents?status=running")
	n.get(path).has(http.StatusNotFound, "used already")
}

func TestSeveralAccounts(t *testing.T) {
	env := newEnv(t)
	other := env.NewAccount("Other", "")
	b := env.as(access.Owner)
	old := *b
	_, link, err := env.People.Invite(t.Context(), identity.ByOperator(other), b.email, access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	b.post("/invitation?" + encodeQuery("token", link.Token.Reveal())).leads("/")
	b.get("/accounts").has(http.StatusOK, "Acme", "Other", "you are in it now")
	id := env.agent("Support")
	b.get("/agents/" + id).has(http.StatusNotFound)
	old.post("/agents/"+id+"/stop").has(http.StatusConflict, "Other")
	b.post("/accounts/" + string(env.account)).leads("/")
	b.get("/agents/"+id).has(http.StatusOK, "Support")
	b.post("/accounts/acct_none").has(http.StatusNotFound)
}

// TestStreamsEndWithTheirSession, and with the role that they were opened with.
func TestStreamsEndWithTheirSession(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Developer)
	lines, _ := b.openLive("")
	until(t, lines, "reset")
	members, err := env.People.Members(t.Context(), env.account)
	if err != nil || len(members) != 1 {
		t.Fatal(members, err)
	}
	if _, err := env.People.SetRole(t.Context(), identity.ByOperator(env.account), members[0].ID, access.Viewer); err != nil {
		t.Fatal(err)
	}
	waitForEnd(t, lines)
	lines, _ = b.openLive("")
	until(t, lines, "reset")
	b.post("/sign-out").leads("/sign-in")
	waitForEnd(t, lines)
	req := b.request(t.Context(), http.MethodGet, "/live?from=", nil)
	req.Header.Set(accountHeader, string(env.account))
	b.do(req).has(http.StatusUnauthorized)
}

func TestProfile(t *testing.T) {
	env := newEnv(t)
	b := env.as(access.Viewer)
	b.post("/profile/name", "name", strings.Repeat("x", 101)).has(http.StatusUnprocessableEntity, "at most 100")
	b.post("/profile/name", "name", "<i>Vera</i>").leads("/profile")
	b.get("/profile").has(http.StatusOK, "&lt;i&gt;Vera", "Your name is changed")
	b.post("/profile/password", "present", "wrong wrong wrong", "password", "another horse battery").has(http.StatusUnprocessableEntity, "notice bad")
	b.post("/profile/password", "present", testPassword, "password", "another horse battery").leads("/profile")
	env.newBrowser().signInAs("viewer@example.com", "another horse battery").leads("/agents?status=running")
	env.browsers = map[string]*browser{}
}

// TestOperatorsNeedTheSecondFactor before anything else.
func TestOperatorsNeedTheSecondFactor(t *testing.T) {
	env := newEnv(t)
	_, link, err := env.People.AddOperator(t.Context(), identity.ByOperator(""), "op@example.com", "Op")
	if err != nil {
		t.Fatal(err)
	}
	b := env.newBrowser()
	b.post("/reset?"+encodeQuery("token", link.Token.Reveal()), "password", testPassword).leads("/sign-in")
	b.post("/sign-in", "email", "op@example.com", "password", testPassword).leads("/")
	b.get("/agents").leads("/profile/second-factor")
	b.get("/profile/second-factor").has(http.StatusOK, "Nothing else can be done")
}

// TestCookiesBehindTLS can be set by this host only, for all of its paths.
func TestCookiesBehindTLS(t *testing.T) {
	env := newEnvAt(t, "https://agents.example/tools")
	_, link, err := env.People.Invite(t.Context(), identity.ByOperator(env.account), "ann@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	in := env.newBrowser().post("/invitation?"+encodeQuery("token", link.Token.Reveal()), "password", testPassword)
	found := false
	for _, c := range in.Header.Values("Set-Cookie") {
		if !strings.Contains(c, "; Secure") || !strings.Contains(c, "; HttpOnly") || !strings.Contains(c, "; SameSite=Lax") {
			t.Error(c)
		}
		found = found || strings.HasPrefix(c, "__Host-agento_session=") && strings.Contains(c, "; Path=/;")
	}
	if !found {
		t.Error(in.Header)
	}
}
