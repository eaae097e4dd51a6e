package modelproxy

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// TestNoModelsNameLeadsElsewhere: providers and what stands before them follow an
// escaped ../ to what the account's key can do and an agent may not.
func TestNoModelsNameLeadsElsewhere(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.URL.EscapedPath())
	}))
	defer upstream.Close()
	b := serve(t, directory{base: upstream.URL, key: providerKey}, Guard{AllowPrivate: true})
	for path, want := range map[string]int{
		"/openai/v1/models/org/m..1:free": 200, "/openai/v1/models/org%2Fm": 200, "/anthropic/v1/models/m-1.5": 200,
		"/openai/v1/models/%2e%2e/files": 404, "/openai/v1/models/a/..%2f..%2ffiles": 404, "/openai/v1/models/..%5cfiles": 404,
		"/anthropic/v1/models/%2e%2e%2ffiles": 404, "/anthropic/v1/models/%2e": 404, "/google/v1beta/models/%2E%2E": 404,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		bearer(req.Header, agentToken)
		if res := do(t, req); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	if len(asked) != 3 {
		t.Errorf("the provider was asked for %q", asked)
	}
}
