package modelproxy

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"agento.host/agento/internal/netguard"
)

// Providers, and proxies before them, follow an escaped ../ to paths that the account's
// key is allowed and an agent is not.
func TestDotSegmentsInModelNamesAreRejected(t *testing.T) {
	var mu sync.Mutex
	var requested []string
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requested = append(requested, r.URL.EscapedPath())
	}))
	defer upstream.Close()
	p := newTestProxy(t, testResolver{base: upstream.URL, key: providerKey}, netguard.Guard{AllowPrivate: true})
	for path, want := range map[string]int{
		"/openai/v1/models/org/m..1:free": 200, "/openai/v1/models/org%2Fm": 200, "/anthropic/v1/models/m-1.5": 200,
		"/openai/v1/models/%2e%2e/files": 404, "/openai/v1/models/a/..%2f..%2ffiles": 404, "/openai/v1/models/..%5cfiles": 404,
		"/anthropic/v1/models/%2e%2e%2ffiles": 404, "/anthropic/v1/models/%2e": 404, "/google/v1beta/models/%2E%2E": 404,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		bearer(req.Header, agentToken)
		if res := do(t, req); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	if len(requested) != 3 {
		t.Errorf("the provider got %q", requested)
	}
}
