package fetch_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/vault"
)

func startServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, s fetch.Settings) *fetch.Client {
	t.Helper()
	s.Service = "The test"
	c, err := fetch.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokenIsSentOnlyToTheBaseHost(t *testing.T) {
	seen := make(chan string, 2)
	otherHost := startServer(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Get("Authorization") })
	for _, to := range []string{
		strings.Replace(otherHost.URL, "127.0.0.1", "localhost", 1),
		otherHost.URL, // another port is another host
	} {
		base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
			seen <- r.Header.Get("Authorization")
			http.Redirect(w, r, to, http.StatusFound)
		})
		c := newClient(t, fetch.Settings{BaseURL: base.URL, Token: func(context.Context) (vault.Secret, error) { return vault.NewSecret("tok"), nil }})
		if _, err := c.Get(t.Context(), c.URL(nil, "x"), "*/*", 10); err != nil {
			t.Fatal(err)
		}
		if first, second := <-seen, <-seen; first != "Bearer tok" || second != "" {
			t.Errorf("redirected to %s the token was sent as %q and %q", to, first, second)
		}
	}
}

// transport is an http.RoundTripper.
type transport func(*http.Request) *http.Response

// RoundTrip implements http.RoundTripper.
func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func TestTokenIsNotSentWithAnotherScheme(t *testing.T) {
	sent := map[string]string{}
	plainToTLS := transport(func(r *http.Request) *http.Response {
		sent[r.URL.Scheme] = r.Header.Get("Authorization")
		res := httptest.NewRecorder()
		if r.URL.Scheme == "http" {
			http.Redirect(res, r, "https://hub.test/x", http.StatusFound)
		}
		return res.Result()
	})
	c := newClient(t, fetch.Settings{BaseURL: "http://hub.test", Token: func(context.Context) (vault.Secret, error) { return vault.NewSecret("tok"), nil }, HTTP: &http.Client{Transport: plainToTLS}})
	if _, err := c.Get(t.Context(), c.URL(nil, "x"), "*/*", 10); err != nil || sent["http"] != "Bearer tok" || sent["https"] != "" {
		t.Errorf("%q, %v", sent, err)
	}
}

func TestRedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	plain := startServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	t.Cleanup(secure.Close)
	c := newClient(t, fetch.Settings{BaseURL: secure.URL, HTTP: secure.Client()})
	if _, err := c.Get(t.Context(), c.URL(nil, "x"), "*/*", 10); !fault.Is(err, fault.Upstream) {
		t.Errorf("error %v", err)
	}
}

func TestRedirectPolicyOfTheGivenClientApplies(t *testing.T) {
	target := startServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) })
	refused := errors.New("refused by the policy")
	c := newClient(t, fetch.Settings{BaseURL: target.URL, HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return refused }}})
	if _, err := c.Get(t.Context(), c.URL(nil), "*/*", 10); !errors.Is(err, refused) || !fault.Is(err, fault.Upstream) {
		t.Errorf("error %v", err)
	}
}

func TestErrorStatusBecomesFault(t *testing.T) {
	status, header := 200, http.Header{}
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
	})
	c := newClient(t, fetch.Settings{BaseURL: s.URL})
	for _, x := range []struct {
		status int
		header http.Header
		code   fault.Code
		retry  time.Duration
	}{
		{404, nil, fault.NotFound, 0},
		{410, nil, fault.NotFound, 0},
		{403, nil, fault.Forbidden, 0},
		{403, http.Header{"X-Ratelimit-Remaining": {"0"}, "Retry-After": {"60"}}, fault.Upstream, time.Minute},
		{429, http.Header{"Retry-After": {"7"}}, fault.Upstream, 7 * time.Second},
		{429, http.Header{"Retry-After": {"-7"}}, fault.Upstream, 0},
		{401, nil, fault.Upstream, 0},
		{503, nil, fault.Upstream, 0},
	} {
		status, header = x.status, x.header
		_, err := c.Get(t.Context(), c.URL(nil), "*/*", 10)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != x.code || f.RetryAfter != x.retry {
			t.Errorf("%d: %v", x.status, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, c.URL(nil), "*/*", 10); !errors.Is(err, context.Canceled) || fault.Is(err, fault.Upstream) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestURLAndResolve(t *testing.T) {
	c := newClient(t, fetch.Settings{BaseURL: "https://hub.example.com/base/"})
	if got := c.URL(url.Values{"a": {"b c"}}, "v1", "x/y"); got != "https://hub.example.com/base/v1/x%2Fy?a=b+c" {
		t.Error(got)
	}
	for ref, want := range map[string]string{
		"/x": "https://hub.example.com/x", "https://cdn.example.com/y": "https://cdn.example.com/y",
		"http://hub.example.com/x": "", "http://169.254.169.254/": "", "ftp://hub.example.com/": "", "https://u:p@cdn.example.com/": "", "//cdn.example.com/z": "https://cdn.example.com/z",
	} {
		if got, err := c.Resolve(ref); got != want || (want == "") != fault.Is(err, fault.Upstream) {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
	for _, bad := range []string{"", "hub.example.com", "ftp://x", "https://", "://"} {
		if _, err := fetch.New(fetch.Settings{BaseURL: bad}); err == nil {
			t.Errorf("the base URL %q is accepted", bad)
		}
	}
}

func TestRetryAfterIsReadInEveryForm(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	reset := strconv.FormatInt(time.Now().Add(20*time.Minute).Unix(), 10)
	for name, c := range map[string]struct {
		status    int
		header    map[string]string
		code      fault.Code
		low, high time.Duration
		says      string
	}{
		"seconds":      {429, map[string]string{"Retry-After": "30"}, fault.Upstream, 30 * time.Second, 30 * time.Second, "Try again later"},
		"a time":       {503, map[string]string{"Retry-After": in(10 * time.Minute)}, fault.Upstream, 9 * time.Minute, 10 * time.Minute, "Try again later"},
		"GitHub":       {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}, fault.Upstream, 19 * time.Minute, 20 * time.Minute, "in 20 minutes"},
		"secondary":    {403, map[string]string{"Retry-After": "60"}, fault.Upstream, time.Minute, time.Minute, "in 1 minutes"},
		"not limited":  {403, map[string]string{"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": reset}, fault.Forbidden, 0, 0, "refuses"},
		"past":         {429, map[string]string{"Retry-After": in(-time.Hour)}, fault.Upstream, 0, 0, "Try again later"},
		"nonsense":     {429, map[string]string{"Retry-After": "soon"}, fault.Upstream, 0, 0, "Try again later"},
		"a year":       {503, map[string]string{"Retry-After": "31536000"}, fault.Upstream, 0, 0, "Try again later"},
		"not expected": {400, nil, fault.Upstream, 0, 0, "does not help"},
		"wrong token":  {401, nil, fault.Upstream, 0, 0, "refuses TEST_TOKEN"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
			}))
			defer server.Close()
			client, err := fetch.New(fetch.Settings{Service: "test", BaseURL: server.URL, TokenName: "TEST_TOKEN"})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Get(t.Context(), server.URL, "*/*", 100)
			f := fault.From(err)
			if f.Code != c.code || f.RetryAfter < c.low || f.RetryAfter > c.high || !strings.Contains(f.Message, c.says) {
				t.Errorf("%v, after %s", f, f.RetryAfter)
			}
		})
	}
}

func TestStreamSaysThatTheResponseIsTooLarge(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 2<<20))
	}))
	defer server.Close()
	client, err := fetch.New(fetch.Settings{Service: "test", BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	err = client.Stream(t.Context(), server.URL, 1<<20, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if f := fault.From(err); f.Code != fault.Invalid || !strings.Contains(f.Message, "larger than 1 MiB") {
		t.Error(err)
	}
}
