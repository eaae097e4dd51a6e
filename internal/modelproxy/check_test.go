package modelproxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// checked checks a key at an endpoint that answers with a status and a body.
func checked(t *testing.T, name provider.Name, key string, handle http.HandlerFunc) KeyChecked {
	t.Helper()
	server := httptest.NewServer(handle)
	defer server.Close()
	p := newChecker(t, netguard.Guard{AllowPrivate: true})
	got, err := p.Check(t.Context(), KeyCheck{Provider: name, Key: vault.NewSecret(key), BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCheckAsksEachProviderForItsModels(t *testing.T) {
	for _, c := range []struct {
		name               provider.Name
		path, header, body string
		want               []string
	}{
		{provider.Anthropic, "/v1/models?limit=1000", "X-Api-Key", `{"data":[{"id":"claude-b"},{"id":"claude-a"}],"has_more":false}`, []string{"claude-a", "claude-b"}},
		{provider.OpenAI, "/models", "Authorization", `{"object":"list","data":[{"id":"gpt-x","object":"model"}]}`, []string{"gpt-x"}},
		{provider.Google, "/models?pageSize=1000", "X-Goog-Api-Key", `{"models":[{"name":"models/gemini-x","supportedGenerationMethods":["generateContent"]},{"name":"models/embed","supportedGenerationMethods":["embedContent"]}]}`, []string{"gemini-x"}},
	} {
		got := checked(t, c.name, "a-good-key", func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.RequestURI(), c.path) || !strings.HasSuffix(r.Header.Get(c.header), "a-good-key") {
				t.Errorf("%s: %s with %v", c.name, r.URL.RequestURI(), r.Header)
			}
			_, _ = io.WriteString(w, c.body)
		})
		if !got.OK || !slices.Equal(got.Models, c.want) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// The provider's own words are shown, and the key never is.
func TestCheckSaysWhatTheProviderSays(t *testing.T) {
	for _, c := range []struct {
		status      int
		body        string
		cause       Cause
		words, says string
	}{
		{401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key: a-bad-key-of-mine"}}`, KeyRefused, "invalid x-api-key: ", "refuses this key"},
		{402, `{"error":{"message":"no credit"}}`, OutOfCredit, "no credit", "no credit left"},
		{429, `{"error":{"message":"slow down"}}`, RateLimited, "slow down", "could not be checked"},
		{404, `404 page not found`, NotChecked, "404 page not found", "no list of models"},
		{500, `oops`, ProviderFailed, "oops", "failed (HTTP 500)"},
		{302, ``, NotAModel, "", "redirects"},
		{200, `<html>Welcome a-bad-key-of-mine</html>`, NotAModel, "", "does not answer as"},
		{200, `{}`, NotAModel, "", "does not answer as"},
	} {
		got := checked(t, provider.OpenAI, "a-bad-key-of-mine", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		if got.OK || got.Cause != c.cause || !strings.Contains(got.Provider, c.words) || !strings.Contains(got.Message, c.says) {
			t.Errorf("%d %s: %+v", c.status, c.body, got)
		}
		if strings.Contains(got.Provider+got.Message, "a-bad-key-of-mine") {
			t.Errorf("%d: the key is shown: %+v", c.status, got)
		}
	}
}

func TestCheckRefusesWhatNoAgentCouldHave(t *testing.T) {
	p := newChecker(t, netguard.Guard{})
	for field, c := range map[string]KeyCheck{
		"provider": {Provider: "cohere", Key: vault.NewSecret("k")},
		"key":      {Provider: provider.Anthropic, Key: vault.NewSecret("not-of-anthropic")},
		"baseUrl":  {Provider: provider.OpenAI, Key: vault.NewSecret("k"), BaseURL: "http://127.0.0.1:1"},
	} {
		_, err := p.Check(t.Context(), c)
		if f := fault.From(err); f.Code != fault.Invalid || f.Details[field] == "" {
			t.Errorf("%s: %v", field, err)
		}
	}
	// A name that leads to a private address is refused when it is dialled.
	got, err := p.Check(t.Context(), KeyCheck{Provider: provider.OpenAI, Key: vault.NewSecret("k"), BaseURL: "http://localtest.invalid"})
	if err != nil || got.OK || got.Cause != Unreachable {
		t.Errorf("%+v %v", got, err)
	}
}

func TestCheckSendsTheDemoKeyToTheScriptedModel(t *testing.T) {
	model := startModel(t)
	p := New(Settings{Guard: netguard.Guard{Trusted: []netip.AddrPort{model.Addr()}}, DemoKey: vault.NewSecret("sk-ant-demo"), DemoURL: model.URL()})
	defer p.Close()
	got, err := p.Check(t.Context(), KeyCheck{Provider: provider.Anthropic, Key: vault.NewSecret("sk-ant-demo")})
	if err != nil || !got.OK || !slices.Equal(got.Models, []string{"scripted"}) {
		t.Errorf("%+v %v", got, err)
	}
}

func newChecker(t *testing.T, guard netguard.Guard) *Proxy {
	t.Helper()
	p := New(Settings{Guard: guard})
	t.Cleanup(p.Close)
	return p
}
