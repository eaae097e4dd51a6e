package oidc_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/oidc/oidctest"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

type env struct {
	*oidc.Provider
	t      *testing.T
	db     *database.DB
	issuer *oidctest.Issuer
}

func settings(t *testing.T, i *oidctest.Issuer) oidc.Settings {
	return oidc.Settings{
		DB: databasetest.New(t), Issuer: i.URL, ClientID: oidctest.ClientID, Name: "Acme", Callback: "https://agents.example.com/app/oidc/callback", HTTP: &http.Client{},
		ClientSecret: func(context.Context) (vault.Secret, error) { return vault.NewSecret(oidctest.ClientSecret), nil }, Log: slog.New(slog.DiscardHandler),
	}
}

// newEnv returns a provider whose configuration was read.
func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, issuer: oidctest.New(t)}
	s := settings(t, e.issuer)
	var err error
	if e.Provider, err = oidc.New(s); err != nil {
		t.Fatal(err)
	}
	e.db = s.DB
	e.run()
	return e
}

// run lets the provider run until its configuration was read, or the test ends.
func (e *env) run() {
	e.t.Helper()
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			e.t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); e.Problem() != ""; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatal(e.Problem())
		}
	}
}

func (e *env) begin(v oidc.Visit) oidc.Begun {
	e.t.Helper()
	begun, err := e.Begin(e.t.Context(), v)
	if err != nil {
		e.t.Fatal(err)
	}
	return begun
}

// refused fails the test unless a visit proves nothing.
func (e *env) refused(what, cookie string, back url.Values) {
	e.t.Helper()
	if _, who, err := e.Finish(e.t.Context(), cookie, back); !fault.Is(err, fault.Forbidden) || who != (user.External{}) {
		e.t.Errorf("%s: %+v, %v", what, who, err)
	}
}

func TestOIDCVisit(t *testing.T) {
	e := newEnv(t)
	e.issuer.Say(map[string]any{"sub": "s-1", "email": "ada@example.com", "name": "Ada"})
	want := oidc.Visit{Purpose: oidc.Invitation, Token: vault.NewSecret("a-token"), Next: "/agents"}
	begun := e.begin(want)
	if strings.Contains(begun.URL, "a-token") || strings.Contains(begun.URL, oidctest.ClientSecret) {
		t.Errorf("the address is %s", begun.URL)
	}
	v, who, err := e.Finish(t.Context(), begun.Cookie.Reveal(), oidctest.Visit(t, begun.URL))
	if err != nil || who != (user.External{Issuer: e.issuer.URL, Subject: "s-1", Email: "ada@example.com", Name: "Ada"}) {
		t.Errorf("%+v, %v", who, err)
	}
	if v.Purpose != want.Purpose || v.Token.Reveal() != "a-token" || v.Next != want.Next {
		t.Errorf("%+v", v)
	}
	link := e.begin(oidc.Visit{Purpose: oidc.Link, Session: "as_1"})
	if v, _, err := e.Finish(t.Context(), link.Cookie.Reveal(), oidctest.Visit(t, link.URL)); err != nil || v.Session != "as_1" || v.Purpose != oidc.Link {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestOIDCWrongTokens: what does not prove who somebody is signs nobody in.
func TestOIDCWrongTokens(t *testing.T) {
	e := newEnv(t)
	for what, claims := range map[string]map[string]any{
		"another nonce":    {"sub": "s", "nonce": "guessed"},
		"no nonce":         {"sub": "s", "nonce": nil},
		"another issuer":   {"sub": "s", "iss": "https://evil.example.com"},
		"another audience": {"sub": "s", "aud": "somebody-else"},
		"expired":          {"sub": "s", "exp": time.Now().Add(-time.Hour).Unix()},
		"no subject":       {"sub": nil},
		"empty subject":    {"sub": ""},
		"a long subject":   {"sub": strings.Repeat("s", 256)},
	} {
		e.issuer.Say(claims)
		begun := e.begin(oidc.Visit{Purpose: oidc.SignIn})
		e.refused(what, begun.Cookie.Reveal(), oidctest.Visit(t, begun.URL))
	}
	e.issuer.Say(map[string]any{"sub": "s"})
	e.issuer.SignWithStray(true)
	begun := e.begin(oidc.Visit{Purpose: oidc.SignIn})
	e.refused("a key of somebody else", begun.Cookie.Reveal(), oidctest.Visit(t, begun.URL))
	e.issuer.SignWithStray(false)
	e.issuer.Say(map[string]any{"sub": "s", "email": 7, "name": []string{"x"}})
	begun = e.begin(oidc.Visit{Purpose: oidc.SignIn})
	if _, who, err := e.Finish(t.Context(), begun.Cookie.Reveal(), oidctest.Visit(t, begun.URL)); err != nil || who.Subject != "s" {
		t.Errorf("claims of other types: %+v, %v", who, err)
	}
}

// TestOIDCVisitIsOfOneBrowser, is used once, and ends.
func TestOIDCVisitIsOfOneBrowser(t *testing.T) {
	e := newEnv(t)
	mine, other := e.begin(oidc.Visit{Purpose: oidc.SignIn}), e.begin(oidc.Visit{Purpose: oidc.SignIn})
	back := oidctest.Visit(t, mine.URL)
	e.refused("another browser", other.Cookie.Reveal(), back)
	e.refused("no cookie", "", back)
	e.refused("no cookie and no state", "", url.Values{"code": back["code"]})
	forged, err := base64.RawURLEncoding.DecodeString(mine.Cookie.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	e.refused("a cookie that was changed", base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(forged), `"v":"`, `"v":"x`, 1))), back)
	changed := maps.Clone(back)
	changed.Set("state", "guessed")
	e.refused("another state", mine.Cookie.Reveal(), changed)
	if e.issuer.Calls() != 0 {
		t.Error("the provider was asked")
	}
	// All at once: one.
	var tries sync.WaitGroup
	var mu sync.Mutex
	ok := 0
	for range 8 {
		tries.Go(func() {
			if _, who, err := e.Finish(t.Context(), mine.Cookie.Reveal(), back); err == nil && who.Subject != "" {
				mu.Lock()
				ok++
				mu.Unlock()
			}
		})
	}
	tries.Wait()
	if ok != 1 || e.issuer.Calls() != 1 {
		t.Errorf("%d of them are signed in, with %d calls", ok, e.issuer.Calls())
	}
	e.refused("again", mine.Cookie.Reveal(), back)
	back = oidctest.Visit(t, other.URL)
	if err := e.db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `UPDATE oidc_visits SET expires_at = $1`, database.Millis(time.Now()))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	e.refused("too late", other.Cookie.Reveal(), back)
}

// TestOIDCRefusals: the provider's own, an answer of another one, and codes of others.
func TestOIDCRefusals(t *testing.T) {
	e := newEnv(t)
	try := func(what string, want string, change func(url.Values)) {
		t.Helper()
		begun := e.begin(oidc.Visit{Purpose: oidc.SignIn, Next: "/agents"})
		back := oidctest.Visit(t, begun.URL)
		change(back)
		v, who, err := e.Finish(t.Context(), begun.Cookie.Reveal(), back)
		if !fault.Is(err, fault.Forbidden) || !strings.Contains(fault.From(err).Message, want) || who.Subject != "" || v.Next != "/agents" {
			t.Errorf("%s: %+v, %v", what, who, err)
		}
		e.refused(what+", and then a good one", begun.Cookie.Reveal(), back)
	}
	try("cancelled", "cancelled", func(q url.Values) { q.Set("error", "access_denied") })
	try("an error", "It says: try <b>later</b>", func(q url.Values) {
		q.Set("error", "temporarily_unavailable")
		q.Set("error_description", "try\x00<b>later</b>")
	})
	try("a mixed up issuer", "does not prove", func(q url.Values) { q.Set("iss", "https://evil.example.com") })
	try("no code", "does not prove", func(q url.Values) { q.Del("code") })
	try("a code of another visit", "does not prove", func(q url.Values) {
		q.Set("code", oidctest.Visit(t, e.begin(oidc.Visit{Purpose: oidc.SignIn}).URL).Get("code"))
	})
}

// TestOIDCProviderFails: the server works without it, and goes on when it is back.
func TestOIDCProviderFails(t *testing.T) {
	e := newEnv(t)
	begun := e.begin(oidc.Visit{Purpose: oidc.SignIn})
	back := oidctest.Visit(t, begun.URL)
	e.issuer.Break(true)
	if _, _, err := e.Finish(t.Context(), begun.Cookie.Reveal(), back); !fault.Is(err, fault.Unavailable) {
		t.Errorf("while it does not answer: %v", err)
	}
	p, err := oidc.New(settings(t, e.issuer))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil || p.Problem() == "" {
		t.Errorf("%q, %v", p.Problem(), err)
	}
	if _, err := p.Begin(t.Context(), oidc.Visit{Purpose: oidc.SignIn}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("before its configuration was read: %v", err)
	}
	e.issuer.Break(false)
	begun = e.begin(oidc.Visit{Purpose: oidc.SignIn})
	if _, who, err := e.Finish(t.Context(), begun.Cookie.Reveal(), oidctest.Visit(t, begun.URL)); err != nil || who.Subject == "" {
		t.Errorf("when it is back: %+v, %v", who, err)
	}
}

func TestOIDCSettings(t *testing.T) {
	for what, change := range map[string]func(*oidc.Settings){
		"no address":     func(s *oidc.Settings) { s.Issuer = "acme" },
		"not encrypted":  func(s *oidc.Settings) { s.Issuer = "http://login.example.com" },
		"a query":        func(s *oidc.Settings) { s.Issuer = "https://login.example.com?x=1" },
		"no client":      func(s *oidc.Settings) { s.ClientID = "" },
		"no public URL":  func(s *oidc.Settings) { s.Callback = "" },
		"another scheme": func(s *oidc.Settings) { s.Issuer = "file://localhost/etc" },
	} {
		s := oidc.Settings{Issuer: "https://login.example.com", ClientID: "agento", Callback: "https://x/app/oidc/callback", HTTP: &http.Client{}}
		change(&s)
		if _, err := oidc.New(s); err == nil {
			t.Errorf("%s: it is accepted", what)
		}
	}
	p, err := oidc.New(oidc.Settings{Issuer: "https://login.example.com/realms/a", ClientID: "agento", Callback: "https://x/app/oidc/callback", HTTP: &http.Client{}})
	if err != nil || p.Name() != "login.example.com" {
		t.Errorf("%v, %v", p, err)
	}
}
