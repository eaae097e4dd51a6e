package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/client"
)

func TestAPIKeyIsNotSentToAnotherOrigin(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another origin was called with the key %q", r.Header.Get("X-Api-Key"))
	}))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	for name, hc := range map[string]*http.Client{"default": nil, "given": {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
		c := &client.Client{URL: server.URL, APIKey: "ak_live_test", HTTP: hc}
		if _, err := c.SetSecrets(t.Context(), "a", client.SecretsRequest{Secrets: map[string]string{"CRM_TOKEN": "x"}}); err == nil || !strings.Contains(err.Error(), other.URL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRedirectWithinAnOriginIsFollowed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/agents/a" {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, `{"data":{"id":"`+r.Header.Get("X-Api-Key")+`"}}`)
	}))
	defer server.Close()
	c := &client.Client{URL: server.URL, APIKey: "ak_live_test"}
	if a, err := c.Agent(t.Context(), "a"); err != nil || a.ID != "ak_live_test" {
		t.Errorf("%+v, %v", a, err)
	}
}
