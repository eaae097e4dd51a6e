package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/skilltest"
)

// TestSkillsFromGitHubFollowRedirects: the archive is behind a 302, as on GitHub.
func TestSkillsFromGitHubFollowRedirects(t *testing.T) {
	server := skilltest.NewGitHub(t)
	server.Push(t, "ann/skills", map[string][]byte{"SKILL.md": []byte("1")})
	c, err := github.New(fetch.Settings{BaseURL: server.URL, HTTP: newDependencies().registryClient(registryService, netguard.Guard{}, server.URL, github.DefaultURL)})
	if err != nil {
		t.Fatal(err)
	}
	source, err := github.Parse("https://github.com/ann/skills")
	if err != nil {
		t.Fatal(err)
	}
	if folder, err := c.Fetch(t.Context(), source); err != nil || len(folder.Files) != 1 {
		t.Errorf("%+v, %v", folder, err)
	}
}

// TestRedirectIntoThePrivateNetworkIsRefused: a public registry cannot lead the server to
// its own network.
func TestRedirectIntoThePrivateNetworkIsRefused(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer inside.Close()
	outside := httptest.NewServer(http.RedirectHandler(inside.URL, http.StatusFound))
	defer outside.Close()
	client := newDependencies().registryClient(registryService, netguard.Guard{}, github.DefaultURL, github.DefaultURL)
	client.Transport = onlyFirst{outside.Client().Transport, client.Transport, outside.URL}
	c, err := fetch.New(fetch.Settings{Service: "GitHub", BaseURL: outside.URL, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), outside.URL, "*/*", 100); !fault.Is(err, fault.Upstream) {
		t.Error(err)
	}
}

// onlyFirst sends requests to one address through open, which stands for the internet,
// and others through guarded.
type onlyFirst struct {
	open, guarded http.RoundTripper
	address       string
}

func (o onlyFirst) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme+"://"+r.URL.Host == o.address {
		return o.open.RoundTrip(r)
	}
	return o.guarded.RoundTrip(r)
}
