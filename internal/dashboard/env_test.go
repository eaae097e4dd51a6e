package dashboard

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// testEnv is a dashboard over the whole server with scripted gateways.
type testEnv struct {
	*apitest.Env

	t       testing.TB
	pages   *Server
	account identity.AccountID

	browsers map[string]*browser // by role
}

// newEnv returns an environment that is closed at the end of the test.
func newEnv(t testing.TB) *testEnv { return newEnvAt(t, "") }

// newEnvAt is newEnv for a public URL.
func newEnvAt(t testing.TB, publicURL string) *testEnv {
	t.Helper()
	env := newEnvWith(t, apitest.Options{PublicURL: publicURL})
	env.account = env.NewAccount("Acme", "")
	return env
}

// newEnvWith returns an environment without an account, whose settings some functions change.
func newEnvWith(t testing.TB, o apitest.Options, changes ...func(*apitest.Env, *Settings)) *testEnv {
	t.Helper()
	env := &testEnv{t: t, browsers: map[string]*browser{}}
	o.Handler = func(e *apitest.Env) http.Handler {
		settings := Settings{
			API: e.Server, People: e.People, Events: e.Events, OwnerOf: func(ctx context.Context, id identity.AgentID) (identity.AccountID, error) {
				a, err := agent.NewStore(e.DB, e.Events).FindByID(ctx, e.DB, id)
				return a.AccountID, err
			},
			PublicURL: o.PublicURL, Log: slog.New(slog.NewTextHandler(e.Log, nil)), Version: "test",
		}
		for _, change := range changes {
			change(e, &settings)
		}
		var err error
		if env.pages, err = New(settings); err != nil {
			t.Fatal(err)
		}
		e.Loop(env.pages.Run)
		return env.pages.Before(e.Server)
	}
	env.Env = apitest.New(t, o)
	t.Cleanup(env.pages.Drain)
	return env
}

// testPassword is that of everybody in tests.
const testPassword = "correct horse battery staple"

// agent creates an agent that runs, and returns its id.
func (env *testEnv) agent(name string) string {
	env.t.Helper()
	return string(env.NewAgent(env.Client(env.account), name))
}

// browser is what a person uses: it keeps cookies.
type browser struct {
	env     *testEnv
	email   string
	account identity.AccountID // of the pages that it has open
	http    *http.Client
}

// newBrowser returns the browser of somebody who is not signed in.
func (env *testEnv) newBrowser() *browser {
	env.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		env.t.Fatal(err)
	}
	return &browser{env: env, account: env.account, http: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// as returns the browser of a person with a role in the account of the environment, who is
// signed in; "" is nobody.
func (env *testEnv) as(role access.Role) *browser {
	env.t.Helper()
	if role == "" {
		return env.newBrowser()
	}
	b, ok := env.browsers[string(role)]
	if !ok {
		b = env.newBrowser()
		b.join(role, string(role)+"@example.com")
		env.browsers[string(role)] = b
	}
	return b
}

// join makes a new person a member of the account, by an invitation.
func (b *browser) join(role access.Role, email string) {
	b.env.t.Helper()
	_, link, err := b.env.People.Invite(b.env.t.Context(), identity.ByOperator(b.env.account), email, role)
	if err != nil {
		b.env.t.Fatal(err)
	}
	b.email = email
	b.post("/invitation?"+encodeQuery("token", link.Token.Reveal()), "name", "Person of "+string(role), "password", testPassword).leads("/")
}

// answer is what a browser has got.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

func (b *browser) get(path string) answer { return b.send(http.MethodGet, path, nil) }

// outsider returns the browser of a person who is signed in, and in no account.
func (env *testEnv) outsider(email string) *browser {
	env.t.Helper()
	b := env.newBrowser()
	b.join(access.Viewer, email)
	p, err := env.People.Person(env.t.Context(), email)
	if err == nil {
		err = env.People.RemoveMember(env.t.Context(), identity.ByOperator(env.account), p.ID)
	}
	if err != nil {
		env.t.Fatal(err)
	}
	return b
}

// post sends a form, with the fields of view.Hidden.
func (b *browser) post(path string, pairs ...string) answer {
	form := url.Values{accountField: {string(b.account)}, onceField: {newOnce()}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.send(http.MethodPost, path, form)
}

func (b *browser) send(method, path string, form url.Values) answer {
	b.env.t.Helper()
	return b.do(b.request(b.env.t.Context(), method, path, form))
}

// do sends a request.
func (b *browser) do(req *http.Request) answer {
	b.env.t.Helper()
	res, err := b.http.Do(req)
	if err != nil {
		b.env.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.env.t.Fatal(err)
	}
	return answer{b.env.t, res.StatusCode, res.Header, string(body)}
}

func (b *browser) request(ctx context.Context, method, path string, form url.Values) *http.Request {
	b.env.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, b.env.URL+b.env.pages.outside.path(path), strings.NewReader(form.Encode()))
	if err != nil {
		b.env.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

// has fails the test unless the answer has the status and says all of the texts.
func (a answer) has(status int, texts ...string) answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("got %d, want %d: %s", a.Status, status, a.Body)
	}
	for _, text := range texts {
		if !strings.Contains(a.Body, text) {
			a.t.Errorf("the page lacks %q: %s", text, a.Body)
		}
	}
	return a
}

// leads fails the test unless the answer leads to a page below /app.
func (a answer) leads(to string) answer {
	a.t.Helper()
	if location := a.Header.Get("Location"); a.Status != http.StatusSeeOther || !strings.HasSuffix(location, root+to) {
		a.t.Fatalf("got %d to %q, want 303 to %s: %s", a.Status, location, root+to, a.Body)
	}
	return a
}
