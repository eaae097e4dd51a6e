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

func TestTheRequestAfterTheLastIsRefused(t *testing.T) {
	h := open(t, plan{})
	rich := h.account("acme", "")
	id := rich.newAgent("A")
	who := h.key(rich.account, access.AllScopes(), access.DefaultRateLimit)
	ask := []func() *answer{ // everything counts: answers, refusals and streams
		func() *answer { return who.do("GET", "/v1/agents", nil) },
		func() *answer { return who.do("GET", "/v1/nothing", nil) },
		func() *answer { return who.do("POST", "/v1/agents", `{"name":`) },
		func() *answer { return who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hi"}`) },
	}
	before := time.Now().Unix()
	for i := range access.DefaultRateLimit {
		a := ask[i%len(ask)]()
		if got, want := a.header.Get("X-RateLimit-Remaining"), strconv.Itoa(access.DefaultRateLimit-1-i); a.status == http.StatusTooManyRequests || got != want {
			t.Fatalf("request %d: status %d, %s requests remain, want %s", i+1, a.status, got, want)
		}
		if a.header.Get("X-RateLimit-Limit") != "120" || a.header.Get("Retry-After") != "" {
			t.Fatalf("request %d: %v", i+1, a.header)
		}
	}
	for _, request := range ask {
		a := request().refuses(http.StatusTooManyRequests, "rate_limited")
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 60 {
			t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
		reset, err := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64)
		if err != nil || reset < before || reset > before+120 || a.header.Get("X-RateLimit-Remaining") != "0" {
			t.Errorf("a refusal's headers: %v", a.header)
		}
	}
	rich.do("GET", "/v1/agents", nil).wants(200) // another key of the same account has its own window
}

func TestUnknownKeysAreLimitedByAddress(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	who.do("GET", "/v1/agents", nil).wants(200)
	from := func(address, key string) *answer {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/agents", nil)
		req.RemoteAddr = address + ":4711"
		req.Header.Set("X-Api-Key", key)
		out := httptest.NewRecorder()
		h.door.ServeHTTP(out, req)
		return &answer{t: t, asked: "GET /v1/agents from " + address, status: out.Code, header: out.Header(), body: out.Body.String()}
	}
	refused := 0
	for i := range 100 {
		a := from("203.0.113.7", fmt.Sprintf("ak_live_%032x", i))
		if a.status == http.StatusTooManyRequests {
			refused++
			a.refuses(http.StatusTooManyRequests, "rate_limited")
			if a.header.Get("Retry-After") == "" {
				t.Fatalf("no Retry-After: %v", a.header)
			}
			continue
		}
		a.refuses(http.StatusUnauthorized, "unauthorized")
		if refused > 0 {
			t.Fatalf("request %d is let through after one was not", i+1)
		}
	}
	if refused == 0 {
		t.Error("a hundred unknown keys from one address were all looked up")
	}
	from("203.0.113.7", who.key).wants(200) // a good key is no guess
	from("203.0.113.8", "ak_live_00000000000000000000000000000000").wants(401)
}

// TestMistakesAreNotMultiplied: a request of a few megabytes must not become
// gigabytes on its way, nor an answer longer than itself.
func TestMistakesAreNotMultiplied(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	for body, want := range map[string]string{
		`{"chunks":[` + strings.Repeat(`{},`, 10_000) + `{}]}`:                       "details names the first 100 fields",
		`{"chunks":[` + strings.Repeat(`{},`, 300_000) + `{}]}`:                      "more than 200000 values",
		`{"chunks":[{"metadata":{"a":"` + strings.Repeat(`,`, 300_000) + `"}}]}`:     "details names each field",
		`{"chunks":[{"metadata":{"a":"\\` + strings.Repeat(`\",[`, 90_000) + `"}}]}`: "details names each field",
	} {
		a := who.do("POST", "/v1/knowledge/ingest", body).refuses(http.StatusBadRequest, "invalid_request")
		if !strings.Contains(a.text("error.message"), want) || len(a.body) > 10_000 {
			t.Errorf("%.40s… of %d bytes is answered with %d: %.200s", body, len(body), len(a.body), a.body)
		}
	}
}

// deadlines is a connection's end that remembers until when it may be read; the
// zero time is for ever.
type deadlines struct {
	*httptest.ResponseRecorder
	read []time.Time
}

// SetReadDeadline is what http.ResponseController asks for.
func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.read = append(d.read, at)
	return nil
}

// TestABodyThatDoesNotComeIsNotWaitedForForEver: net/http reads it to its end even
// if no handler does.
func TestABodyThatDoesNotComeIsNotWaitedForForEver(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	whole := func() io.Reader { return strings.NewReader(`{}`) }
	stuck := func() io.Reader { return iotest.ErrReader(os.ErrDeadlineExceeded) }
	for asked, c := range map[string]struct {
		key  string
		body io.Reader
		held bool // the deadline stays
	}{
		"POST /v1/agents":                          {"", stuck(), true},
		"POST /nothing":                            {"", stuck(), true},
		"PURGE /v1/agents":                         {who.key, stuck(), true},
		"GET /v1/agents":                           {who.key, stuck(), true},
		"GET /v1/agents/" + id:                     {who.key, whole(), false},
		"POST /v1/agents/" + id + "/chat/sessions": {who.key, whole(), false},
		"GET /v1/agents/" + id + "/status":         {who.key, http.NoBody, false},
	} {
		method, path, _ := strings.Cut(asked, " ")
		req := httptest.NewRequestWithContext(t.Context(), method, path, c.body)
		req.Header.Set("X-Api-Key", c.key)
		out := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		h.door.ServeHTTP(out, req)
		if held := len(out.read) > 0 && !out.read[len(out.read)-1].IsZero(); held != c.held {
			t.Errorf("%s: %d, read deadlines %v", asked, out.Code, out.read)
		}
	}
}

func TestAPlanHoldsAgainstCreatesAtOnce(t *testing.T) {
	plans, err := access.LoadPlans("testdata/plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, plan{plans: plans})
	who := h.account("small", "plan_small")
	statuses := make(chan int, 20)
	var all sync.WaitGroup
	for i := range cap(statuses) {
		all.Go(func() {
			a := who.do("POST", "/v1/agents", map[string]any{"name": fmt.Sprint("A", i), "secrets": map[string]string{"anthropicApiKey": "sk-ant-test"}})
			if a.status != http.StatusCreated && a.text("error.code") != "plan_limit" {
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
		t.Errorf("a plan of 2 agents met 20 creates like this: %v", count)
	}
	if n := who.do("GET", "/v1/agents", nil).text("data.*"); n != "2" {
		t.Errorf("the account has %s agents", n)
	}
}
