package dashboard

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
)

// testEnv is a dashboard behind an HTTP server.
type testEnv struct {
	t      testing.TB
	server *Server
	url    string
}

// newEnv returns an environment that is closed at the end of the test.
// TODO: over apitest; api is the API until then.
func newEnv(t testing.TB, api http.Handler) *testEnv {
	t.Helper()
	all := access.NewScopes(access.AgentsRead, access.AgentsWrite, access.Chat, access.ChatOwner, access.KnowledgeRead, access.KnowledgeWrite, access.Logs, access.Skills, access.SwarmsRead, access.SwarmsWrite, access.AccountAdmin)
	s, err := New(Settings{
		APIFor: func(Visitor) http.Handler { return api },
		SignedIn: func(r *http.Request) (Visitor, error) {
			if r.Header.Get("X-Test-Role") == "" {
				return Visitor{}, nil
			}
			return Visitor{Name: "Ann", Email: "ann@example.com", Account: "acct_1", AccountName: "Acme", Role: r.Header.Get("X-Test-Role"), Scopes: all}, nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() { s.Drain(); web.Close() })
	return &testEnv{t: t, server: s, url: web.URL}
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
	form := url.Values{accountField: {"acct_1"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.send(http.MethodPost, path, form)
}

func (b *browser) send(method, path string, form url.Values) answer {
	b.env.t.Helper()
	req, err := http.NewRequestWithContext(b.env.t.Context(), method, b.env.url+root+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.env.t.Fatal(err)
	}
	req.Header.Set("X-Test-Role", b.role)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
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
