package dashboard

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/oidc/oidctest"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// oidcEnv is an environment with an OpenID provider.
type oidcEnv struct {
	*testEnv
	issuer *oidctest.Issuer
}

func newOIDCEnv(t *testing.T) *oidcEnv {
	t.Helper()
	e := &oidcEnv{issuer: oidctest.New(t)}
	e.testEnv = newEnvWith(t, apitest.Options{}, func(in *apitest.Env, s *Settings) {
		s.OpenID = newProvider(t, in, e.issuer.URL, oidctest.ClientID, oidctest.ClientSecret, "https://agents.example.com"+OpenIDCallback)
	})
	e.account = e.NewAccount("Acme", "")
	apitest.WaitUntil(t, "the configuration of the provider is read", func() bool { return e.pages.openID.Problem() == "" })
	return e
}

func newProvider(t *testing.T, in *apitest.Env, issuer, client, secret, callback string) *oidc.Provider {
	t.Helper()
	p, err := oidc.New(oidc.Settings{
		DB: in.DB, Issuer: issuer, ClientID: client, Name: "Acme & Co", Callback: callback, HTTP: &http.Client{}, Log: slog.New(slog.NewTextHandler(in.Log, nil)),
		ClientSecret: func(context.Context) (vault.Secret, error) { return vault.NewSecret(secret), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	in.Loop(p.Run)
	return p
}

// callback returns the path that the provider leads back to from an address.
func (e *oidcEnv) callback(address string) string {
	e.t.Helper()
	return "/oidc/callback?" + oidctest.Visit(e.t, address).Encode()
}

// signIn goes to the provider and back.
func (e *oidcEnv) signIn(b *browser) answer {
	e.t.Helper()
	return b.get(e.callback(b.get("/oidc/start").header("Location")))
}

var refreshTo = regexp.MustCompile(`http-equiv="refresh" content="0; url=([^"]+)"`)

// goOn returns the address that a page leads on to.
func (a answer) goOn() string {
	a.t.Helper()
	found := refreshTo.FindStringSubmatch(a.has(200, "Continue to Acme &amp; Co").Body)
	if found == nil {
		a.t.Fatalf("the page leads nowhere: %s", a.Body)
	}
	return strings.ReplaceAll(strings.ReplaceAll(found[1], "&amp;", "&"), "&#43;", "+")
}

// header returns a header of a redirect to the provider.
func (a answer) header(name string) string {
	a.t.Helper()
	if a.Status != http.StatusSeeOther {
		a.t.Fatalf("got %d: %s", a.Status, a.Body)
	}
	return a.Header.Get(name)
}

// says fails the test unless an answer leads to a page, which says something.
func (e *oidcEnv) says(b *browser, a answer, to, text string) {
	e.t.Helper()
	a.leads(to)
	if body := b.get(to).Body; !strings.Contains(body, text) {
		e.t.Errorf("%s does not say %q: %s", to, text, body)
	}
}

func (e *oidcEnv) identities(email string) []user.Identity {
	e.t.Helper()
	p, err := e.People.Person(e.t.Context(), email)
	if err != nil {
		e.t.Fatal(err)
	}
	all, err := e.People.Identities(e.t.Context(), p.ID)
	if err != nil {
		e.t.Fatal(err)
	}
	return all
}

// TestOIDCSignIn: an identity signs in whom it was linked to, and nobody else.
func TestOIDCSignIn(t *testing.T) {
	e := newOIDCEnv(t)
	ada := e.as(access.Developer)
	e.issuer.Say(map[string]any{"sub": "ada", "email": ada.email, "email_verified": true, "name": "<b>Ada</b>"})

	stranger := e.newBrowser()
	stranger.get("/sign-in?next=%2Fagents").has(200, "Sign in with Acme &amp; Co", "/app/oidc/start?next=%2Fagents")
	e.says(stranger, e.signIn(stranger), "/sign-in", "Nobody here has linked this identity") // although the e-mail address is ada's
	if all := e.identities(ada.email); len(all) != 0 {
		t.Errorf("it was linked: %+v", all)
	}

	e.says(ada, ada.post("/oidc/link", "present", "wrong"), "/profile", "present password is wrong")
	begun := ada.post("/oidc/link", "present", testPassword)
	e.says(ada, ada.get(e.callback(begun.goOn())), "/profile", "From now on you can also sign in with Acme &amp; Co.")
	ada.get("/profile").has(200, "<b>"+ada.email+"</b>", e.issuer.URL)

	for _, test := range []struct{ next, leads string }{{"", "/"}, {"?next=%2Fagents%3Fq%3D1", "/agents?q=1"}, {"?next=https%3A%2F%2Fevil.example.com", "/"}} {
		b := e.newBrowser()
		b.get(e.callback(b.get("/oidc/start" + test.next).header("Location"))).leads(test.leads)
		b.get("/profile").has(200, ada.email, "by oidc")
		b.get("/oidc/start").leads("/") // is signed in
	}

	e.issuer.Say(map[string]any{"sub": "eve", "email": ada.email, "email_verified": true}) // another subject
	eve := e.newBrowser()
	e.says(eve, e.signIn(eve), "/sign-in", "Nobody here has linked this identity")

	other := e.as(access.Viewer)
	e.issuer.Say(map[string]any{"sub": "ada"})
	e.says(other, other.get(e.callback(other.post("/oidc/link", "present", testPassword).goOn())), "/profile", "linked to somebody else")
}

// TestOIDCIsBoundToTheBrowser: nobody is signed in, or linked, by an address that somebody else has made.
func TestOIDCIsBoundToTheBrowser(t *testing.T) {
	e := newOIDCEnv(t)
	e.issuer.Say(map[string]any{"sub": "mallory"})
	ada, mallory := e.as(access.Owner), e.newBrowser()
	mallory.join(access.Viewer, "mallory@example.com")
	mallory.get(e.callback(mallory.post("/oidc/link", "present", testPassword).goOn())).leads("/profile")

	victim := e.newBrowser()
	path := e.callback(mallory.post("/oidc/link", "present", testPassword).goOn())
	e.says(victim, victim.get(path), "/sign-in", "not begun in this browser")
	victim.get("/oidc/start")
	e.says(victim, victim.get(path), "/sign-in", "not begun in this browser")
	e.says(ada, ada.get(path), "/profile", "not begun in this browser")
	if all := e.identities(ada.email); len(all) != 0 {
		t.Errorf("mallory can sign in as ada: %+v", all)
	}

	// Who has signed out meanwhile links nothing.
	path = e.callback(ada.post("/oidc/link", "present", testPassword).goOn())
	ada.post("/sign-out").leads("/sign-in")
	e.issuer.Say(map[string]any{"sub": "ada"})
	e.says(ada, ada.get(path), "/sign-in", "signed out meanwhile")
	if all := e.identities(ada.email); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	// A form of another site begins nothing.
	req := mallory.request(t.Context(), http.MethodPost, "/oidc/link", url.Values{"present": {testPassword}})
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := mallory.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: %d", res.StatusCode)
	}
}

// TestOIDCSecondFactor: who has one is asked for it.
func TestOIDCSecondFactor(t *testing.T) {
	e := newOIDCEnv(t)
	ada := e.as(access.Owner)
	ada.get(e.callback(ada.post("/oidc/link", "present", testPassword).goOn())).leads("/profile")
	p, err := e.People.Person(t.Context(), ada.email)
	if err != nil {
		t.Fatal(err)
	}
	err = e.DB.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `UPDATE users SET totp_at = 1 WHERE id = $1`, p.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b := e.newBrowser()
	b.get(e.callback(b.get("/oidc/start?next=%2Fagents").header("Location"))).leads("/sign-in/code?next=%2Fagents")
	if a := b.get("/agents"); a.Status != http.StatusSeeOther || !strings.Contains(a.Header.Get("Location"), "/sign-in") {
		t.Errorf("before the code: %d to %s", a.Status, a.Header.Get("Location"))
	}
}

// TestOIDCFirstOwner: the first owner of an account needs no password either.
func TestOIDCFirstOwner(t *testing.T) {
	e := newOIDCEnv(t)
	account := e.NewAccount("New", "")
	link, err := e.People.FirstLink(t.Context(), identity.ByOperator(account))
	if err != nil {
		t.Fatal(err)
	}
	path := linkPath(user.First, link.Token.Reveal())
	e.issuer.Say(map[string]any{"sub": "founder", "email": "other@example.com", "name": "The Founder"})
	b := e.newBrowser()
	b.get(path).has(200, "Become the owner with Acme &amp; Co")
	e.says(b, b.post("/oidc"+path, "email", "nothing"), path, "Type your e-mail address first")
	b.get(e.callback(b.post("/oidc"+path, "email", "Founder@Example.com").goOn())).leads("/")
	b.get("/profile").has(200, "founder@example.com", "The Founder")
	if p, err := e.People.Person(t.Context(), "founder@example.com"); err != nil || p.Password {
		t.Errorf("%+v, %v", p, err)
	}
	if a := b.get(path); a.Status != http.StatusNotFound {
		t.Errorf("the link can be used again: %d", a.Status)
	}
	again := e.newBrowser()
	e.signIn(again).leads("/") // by the identity

	// An identity that somebody has signs in, and uses the link as who it is.
	link, err = e.People.FirstLink(t.Context(), identity.ByOperator(e.NewAccount("Another", "")))
	if err != nil {
		t.Fatal(err)
	}
	path = linkPath(user.First, link.Token.Reveal())
	known := e.newBrowser()
	known.get(e.callback(known.post("/oidc"+path, "email", "founder@example.com").goOn())).leads(path)
	known.get(path).has(200, "You are signed in as", "founder@example.com")
	known.post(path).leads("/")
}

// TestOIDCInvitation: a new person joins without a password. An identity that is known signs in first.
func TestOIDCInvitation(t *testing.T) {
	e := newOIDCEnv(t)
	invite := func(email string) string {
		t.Helper()
		_, link, err := e.People.Invite(t.Context(), identity.ByOperator(e.account), email, access.Developer)
		if err != nil {
			t.Fatal(err)
		}
		return "?" + encodeQuery("token", link.Token.Reveal())
	}
	e.issuer.Say(map[string]any{"sub": "new", "email": "ceo@example.com", "email_verified": true, "name": "New\x00 One"})
	b, query := e.newBrowser(), invite("new@example.com")
	b.get("/invitation"+query).has(200, "Accept with Acme &amp; Co")
	address := b.post("/oidc/invitation" + query).goOn()
	if token, _ := strings.CutPrefix(query, "?token="); strings.Contains(address, token) {
		t.Error("the provider sees the token of the invitation")
	}
	b.get(e.callback(address)).leads("/")
	b.get("/profile").has(200, "new@example.com", "New One") // not the provider's address
	if a := b.get("/invitation" + query); a.Status != http.StatusNotFound {
		t.Errorf("the invitation can be used again: %d", a.Status)
	}
	p, err := e.People.Person(t.Context(), "new@example.com")
	if err != nil || p.Password {
		t.Errorf("%+v, %v", p, err)
	}

	// The only way in is not removed.
	all := e.identities("new@example.com")
	if len(all) != 1 || all[0].Label() != "ceo@example.com" {
		t.Fatalf("%+v", all)
	}
	e.says(b, b.post("/oidc/"+all[0].ID+"/remove"), "/profile", "Set a password first")
	b.post("/profile/password", "password", testPassword).leads("/profile")
	second := e.newBrowser()
	e.signIn(second).leads("/")
	e.says(b, b.post("/oidc/"+all[0].ID+"/remove"), "/profile", "The identity is removed")
	if a := second.get("/profile"); a.Status != http.StatusSeeOther {
		t.Errorf("the session of an identity that was removed: %d", a.Status)
	}
	e.says(b, b.post("/oidc/"+all[0].ID+"/remove"), "/profile", "removed already")
	e.says(second, e.signIn(second), "/sign-in", "Nobody here has linked")

	// Somebody who can sign in already does so, and then joins.
	other := e.NewAccount("Other", "")
	ada := e.as(access.Owner)
	e.issuer.Say(map[string]any{"sub": "ada"})
	ada.get(e.callback(ada.post("/oidc/link", "present", testPassword).goOn())).leads("/profile")
	_, link, err := e.People.Invite(t.Context(), identity.ByOperator(other), ada.email, access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	path := linkPath(user.Invite, link.Token.Reveal())
	fresh := e.newBrowser()
	fresh.get(e.callback(fresh.post("/oidc" + path).goOn())).leads(path)
	fresh.get(path).has(200, "You are signed in as", ada.email)
	fresh.post(path).leads("/")

	// An invitation of somebody else's address is not accepted by a known identity.
	query = invite("third@example.com")
	third := e.newBrowser()
	third.get(e.callback(third.post("/oidc/invitation" + query).goOn())).leads("/invitation" + query)
	third.get("/invitation"+query).has(200, "Sign out first")
	// And one whose address somebody has, who did not link this identity, makes nobody.
	e.issuer.Say(map[string]any{"sub": "unknown"})
	_, link, err = e.People.Invite(t.Context(), identity.ByOperator(e.NewAccount("Third", "")), ada.email, access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	path = linkPath(user.Invite, link.Token.Reveal())
	fourth := e.newBrowser()
	e.says(fourth, fourth.get(e.callback(fourth.post("/oidc"+path).goOn())), path, "can sign in already")
}

// TestOIDCProviderIsDown: pages work, and say so.
func TestOIDCProviderIsDown(t *testing.T) {
	e := newOIDCEnv(t)
	b := e.newBrowser()
	address := b.get("/oidc/start").header("Location")
	path := e.callback(address)
	e.issuer.Break(true)
	began := time.Now()
	e.says(b, b.get(path), "/sign-in", "does not answer")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	b.get("/oidc/callback").leads("/sign-in")
	b.get("/oidc/callback?error=%3Cscript%3E&state=x").leads("/sign-in")
	b.get("/sign-in").has(200, "Password")
	none := newEnv(t).newBrowser()
	if page := none.get("/sign-in").has(200); strings.Contains(page.Body, "oidc") {
		t.Error("without a provider there is a button for it")
	}
	if a := none.get("/oidc/start"); a.Status != http.StatusNotFound {
		t.Errorf("without a provider: %d", a.Status)
	}
}
