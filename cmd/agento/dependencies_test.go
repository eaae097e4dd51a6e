package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/netguard"
)

// answering is a transport with one answer.
type answering struct {
	status int
	err    error
}

func (a *answering) RoundTrip(*http.Request) (*http.Response, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &http.Response{StatusCode: a.status, Body: http.NoBody}, nil
}

// TestServicesThatFailAreShown: until they work again, or were not called for a while.
func TestServicesThatFailAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDependencies()
		service := &answering{}
		calls := d.watch(embedderService, service)
		call := func(status int, err error) (shown bool) {
			service.status, service.err = status, err
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://embedder.invalid", http.NoBody)
			if res, err := calls.RoundTrip(r); err == nil {
				_ = res.Body.Close()
			}
			all := d.degraded()
			if len(all) > 0 && (all[0].Name != embedderService || all[0].Message == "") {
				t.Errorf("shown as %+v", all)
			}
			return len(all) == 1
		}
		for _, c := range []struct {
			status int
			err    error
			shown  bool
		}{
			{200, nil, false},
			{500, nil, true}, {200, nil, false},
			{401, nil, true}, {400, nil, false}, // the request was wrong: the service works
			{0, errors.New("no route to host"), true},
			{0, context.Canceled, true}, // says nothing
			{404, nil, false},
			{0, context.Canceled, false},
			{0, context.DeadlineExceeded, true},
			{429, nil, true}, {413, nil, false},
		} {
			if shown := call(c.status, c.err); shown != c.shown {
				t.Errorf("after %d, %v: shown is %v", c.status, c.err, shown)
			}
		}
		call(503, nil)
		time.Sleep(failureAge)
		if all := d.degraded(); len(all) != 0 {
			t.Errorf("after a long time without calls: %+v", all)
		}
	})
}

// TestOwnCallsGoThroughTheProxy: those of the registry, GitHub and the embedder, and model
// calls to the providers themselves; an endpoint that a customer names is dialled by the
// guard.
func TestOwnCallsGoThroughTheProxy(t *testing.T) {
	for name, value := range map[string]string{"HTTPS_PROXY": "http://10.1.1.1:3128", "NO_PROXY": "", "HTTP_PROXY": "", "https_proxy": "", "http_proxy": "", "no_proxy": ""} {
		t.Setenv(name, value)
	}
	proxy, err := netguard.ProxyFromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	guard := netguard.Guard{}
	registry := newDependencies().registryClient(githubService, guard.Through(proxy), "https://api.github.com", "https://api.github.com", githubArchives).Transport.(watched).calls.(*http.Transport)
	models := guard.Through(proxy.OnlyFor(providerHosts()...)).Transport()
	for address, c := range map[string]struct {
		transport *http.Transport
		proxied   bool
	}{
		"https://api.github.com/repos":        {registry, true},
		"https://codeload.github.com/x":       {registry, true},
		"https://api.anthropic.com/v1":        {models, true},
		"https://api.openai.com/v1":           {models, true},
		"https://customer.invalid/v1":         {models, false},
		"https://api.anthropic.com.invalid/x": {models, false},
	} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		used, err := c.transport.Proxy(r)
		if err != nil || (used != nil) != c.proxied {
			t.Errorf("%s goes through %v, %v", address, used, err)
		}
	}
}
