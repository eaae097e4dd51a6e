package dashboard

import (
	"context"
	"io"
	"log/slog"
	"net/http"
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
}

// newEnv returns an environment that is closed at the end of the test.
func newEnv(t testing.TB) *testEnv {
	t.Helper()
	env := &testEnv{t: t}
	env.Env = apitest.New(t, apitest.Options{Handler: func(e *apitest.Env) http.Handler {
		var err error
		env.pages, err = New(Settings{
			APIFor: func(who Visitor) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r = r.Clone(r.Context())
					r.Header.Set(accountHeader, who.Account)
					e.Server.Operator().ServeHTTP(w, r)
				})
			},
			Events: e.Events, OwnerOf: func(ctx context.Context, id identity.AgentID) (identity.AccountID, error) {
				a, err := agent.NewStore(e.DB, e.Events).FindByID(ctx, e.DB, id)
				return a.AccountID, err
			},
			SignedIn: env.signedIn, Log: slog.New(slog.NewTextHandler(e.Log, nil)), Version: "test",
		})
		if err != nil {
			t.Fatal(err)
		}
		e.Loop(env.pages.Run)
		return env.pages.Before(e.Server)
	}})
	t.Cleanup(env.pages.Drain)
	env.account = env.NewAccount("Acme", "")
	return env
}

// signedIn is a stub of the sign-in sessions.
func (env *testEnv) signedIn(r *http.Request) (Visitor, error) {
	role := r.Header.Get("X-Test-Role")
	if role == "" {
		return Visitor{}, nil
	}
	return Visitor{Name: "Ann", Email: "ann@example.com", Account: string(env.account), AccountName: "Acme", Role: role, Scopes: scopesOf(role)}, nil
}

func scopesOf(role string) access.Scopes {
	names := []access.Scope{access.AgentsRead, access.KnowledgeRead, access.SwarmsRead, access.Logs}
	if role != "viewer" {
		names = append(names, access.Chat, access.ChatOwner, access.AgentsWrite, access.KnowledgeWrite, access.Skills, access.SwarmsWrite)
	}
	if role == "owner" || role == "admin" {
		names = append(names, access.AccountAdmin)
	}
	return access.NewScopes(names...)
}

// agent creates an agent that runs, and returns its id.
func (env *testEnv) agent(name string) string {
	env.t.Helper()
	return string(env.NewAgent(env.Client(env.account), name))
}

// browser is what a person uses: it keeps cookies.
type browser struct {
	env  *testEnv
	role string
	http *http.Client
}

// as returns the browser of a person with a role in the account of the environment.
func (env *testEnv) as(role string) *browser {
	return &browser{env: env, role: role, http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// answer is what a browser has got.
type answer struct {
	t      testing.TB
	Status int
	Header http.Header
	Body   string
}

func (b *browser) get(path string) answer { return b.send(http.MethodGet, path, nil) }

// post sends a form, with the fields of view.Hidden.
func (b *browser) post(path string, pairs ...string) answer {
	form := url.Values{accountField: {string(b.env.account)}, onceField: {newOnce()}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.send(http.MethodPost, path, form)
}

func (b *browser) send(method, path string, form url.Values) answer {
	b.env.t.Helper()
	req := b.request(b.env.t.Context(), method, path, form)
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
	req, err := http.NewRequestWithContext(ctx, method, b.env.URL+root+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.env.t.Fatal(err)
	}
	req.Header.Set("X-Test-Role", b.role)
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
