package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"agento.host/agento/internal/access"
)

func TestRequestsOverTheRateLimitAreRefused(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	id := rich.newAgent("A")
	who := env.newKey(rich.account, access.AllScopes(), access.DefaultRateLimit)
	kinds := []func() *response{ // all count: successes, errors and streams
		func() *response { return who.do("GET", "/v1/agents", nil) },
		func() *response { return who.do("GET", "/v1/nothing", nil) },
		func() *response { return who.do("POST", "/v1/agents", `{"name":`) },
		func() *response { return who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hi"}`) },
	}
	before := time.Now().Unix()
	for i := range access.DefaultRateLimit {
		a := kinds[i%len(kinds)]()
		if got, want := a.header.Get("X-RateLimit-Remaining"), strconv.Itoa(access.DefaultRateLimit-1-i); a.status == http.StatusTooManyRequests || got != want {
			t.Fatalf("request %d: status %d, %s requests remain, want %s", i+1, a.status, got, want)
		}
		if a.header.Get("X-RateLimit-Limit") != "120" || a.header.Get("Retry-After") != "" {
			t.Fatalf("request %d: %v", i+1, a.header)
		}
	}
	for _, request := range kinds {
		a := request().expectError(http.StatusTooManyRequests, "rate_limited")
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 60 {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
		reset, err := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64)
		if err != nil || reset < before || reset > before+120 || a.header.Get("X-RateLimit-Remaining") != "0" {
			t.Errorf("the headers of an error: %v", a.header)
		}
	}
	rich.do("GET", "/v1/agents", nil).expect(200) // another key of the same account has its own window
}

func TestUnknownKeysAreRateLimitedByAddress(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	who.do("GET", "/v1/agents", nil).expect(200)
	from := func(address, key string) *response {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/agents", nil)
		req.RemoteAddr = address + ":4711"
		req.Header.Set("X-Api-Key", key)
		out := httptest.NewRecorder()
		env.Server.ServeHTTP(out, req)
		return &response{t: t, request: "GET /v1/agents from " + address, status: out.Code, header: out.Header(), body: out.Body.String()}
	}
	refused := 0
	for i := range 100 {
		a := from("203.0.113.7", fmt.Sprintf("ak_live_%032x", i))
		if a.status == http.StatusTooManyRequests {
			refused++
			a.expectError(http.StatusTooManyRequests, "rate_limited")
			if a.header.Get("Retry-After") == "" || a.header.Get("X-RateLimit-Remaining") != "0" {
				t.Fatalf("no Retry-After, or requests remain: %v", a.header)
			}
			continue
		}
		if got, want := a.header.Get("X-RateLimit-Remaining"), strconv.Itoa(29-i); got != want || a.header.Get("X-RateLimit-Limit") != "30" {
			t.Fatalf("request %d: %s requests remain, want %s", i+1, got, want)
		}
		if reset, err := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64); err != nil || reset < time.Now().Unix() || reset > time.Now().Unix()+61 {
			t.Fatalf("request %d: the window is reset at %d, %v", i+1, reset, err)
		}
		a.expectError(http.StatusUnauthorized, "unauthorized")
		if refused > 0 {
			t.Fatalf("request %d was not rate-limited although an earlier one was", i+1)
		}
	}
	if refused == 0 {
		t.Error("a hundred unknown keys from one address were all answered")
	}
	from("203.0.113.7", who.key).expect(200) // a valid key is not rate-limited by address
	if a := from("203.0.113.7", "no key").expect(401); a.header.Get("X-RateLimit-Remaining") != "0" {
		t.Errorf("a text that is no key does not count: %v", a.header)
	}
	if a := from("203.0.113.9", "no key").expect(401); a.header.Get("X-RateLimit-Remaining") != "30" {
		t.Errorf("from an address that has presented no unknown key: %v", a.header)
	}
	from("203.0.113.8", "ak_live_00000000000000000000000000000000").expect(401)
}

// TestInvalidBodiesCauseSmallErrors: a request of a few megabytes must not need
// gigabytes of memory, nor cause a response longer than itself.
func TestInvalidBodiesCauseSmallErrors(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	for body, want := range map[string]string{
		`{"chunks":[` + strings.Repeat(`{},`, 10_000) + `{}]}`:                       "details names the first 100 fields",
		`{"chunks":[` + strings.Repeat(`{},`, 300_000) + `{}]}`:                      "more than 200000 values",
		`{"chunks":[{"metadata":{"a":"` + strings.Repeat(`,`, 300_000) + `"}}]}`:     "details names each field",
		`{"chunks":[{"metadata":{"a":"\\` + strings.Repeat(`\",[`, 90_000) + `"}}]}`: "details names each field",
	} {
		a := who.do("POST", "/v1/knowledge/ingest", body).expectError(http.StatusBadRequest, "invalid_request")
		if !strings.Contains(a.field("error.message"), want) || len(a.body) > 10_000 {
			t.Errorf("%.40s… of %d bytes is answered with %d: %.200s", body, len(body), len(a.body), a.body)
		}
	}
}

// deadlineRecorder records the read deadlines that are set; the zero time is none.
type deadlineRecorder struct {
	*httptest.ResponseRecorder
	read []time.Time
}

// SetReadDeadline is called by http.ResponseController.
func (d *deadlineRecorder) SetReadDeadline(at time.Time) error {
	d.read = append(d.read, at)
	return nil
}

// TestReadDeadlineOfBodies: net/http reads a body to its end even if no handler does,
// so the deadline stays until the body is complete.
func TestReadDeadlineOfBodies(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	whole := func() io.Reader { return strings.NewReader(`{}`) }
	stuck := func() io.Reader { return iotest.ErrReader(os.ErrDeadlineExceeded) }
	for request, c := range map[string]struct {
		key   string
		body  io.Reader
		stays bool // the deadline
	}{
		"POST /v1/agents":                          {"", stuck(), true},
		"POST /nothing":                            {"", stuck(), true},
		"PURGE /v1/agents":                         {who.key, stuck(), true},
		"GET /v1/agents":                           {who.key, stuck(), true},
		"GET /v1/agents/" + id:                     {who.key, whole(), false},
		"POST /v1/agents/" + id + "/chat/sessions": {who.key, whole(), false},
		"GET /v1/agents/" + id + "/status":         {who.key, http.NoBody, false},
	} {
		method, path, _ := strings.Cut(request, " ")
		req := httptest.NewRequestWithContext(t.Context(), method, path, c.body)
		req.Header.Set("X-Api-Key", c.key)
		out := &deadlineRecorder{ResponseRecorder: httptest.NewRecorder()}
		env.Server.ServeHTTP(out, req)
		if stays := len(out.read) > 0 && !out.read[len(out.read)-1].IsZero(); stays != c.stays {
			t.Errorf("%s: %d, read deadlines %v", request, out.Code, out.read)
		}
	}
}

func TestPlanLimitHoldsForConcurrentCreates(t *testing.T) {
	plans, err := access.LoadPlans("testdata/plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{Plans: plans})
	who := env.newAccount("small", "plan_small")
	statuses := make(chan int, 20)
	var all sync.WaitGroup
	for i := range cap(statuses) {
		all.Go(func() {
			a := who.do("POST", "/v1/agents", map[string]any{"name": fmt.Sprint("A", i), "secrets": map[string]string{"anthropicApiKey": "sk-ant-test"}})
			if a.status != http.StatusCreated && a.field("error.code") != "plan_limit" {
				t.Errorf("create %d: %d %s", i, a.status, a.body)
			}
			statuses <- a.status
		})
	}
	all.Wait()
	close(statuses)
	count := map[int]int{}
	for s := range statuses {
		count[s]++
	}
	if count[http.StatusCreated] != 2 || count[http.StatusForbidden] != 18 {
		t.Errorf("the statuses of 20 creates in a plan of 2 agents are %v", count)
	}
	if n := who.do("GET", "/v1/agents", nil).field("data.*"); n != "2" {
		t.Errorf("the account has %s agents", n)
	}
}
