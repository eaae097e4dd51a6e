package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/budget"
)

// TestUnreadBodiesAndResponsesTakeMemory of their account until it has no more. Another
// account is not refused.
func TestUnreadBodiesAndResponsesTakeMemory(t *testing.T) {
	budgets := budget.NewServer(budget.ServerSettings{})
	budgets.Memory = budget.New(budget.Settings{Total: 64 << 20, Each: 4 << 20, Wait: time.Second, Refusal: "Send fewer at once."})
	env := newEnv(t, options{Budgets: budgets})
	hog, other := env.newAccount("hog", ""), env.newAccount("other", "")
	id := hog.newAgent("A")
	body, stalled := io.Pipe()
	defer func() { _ = stalled.Close() }()
	req := hog.request(t.Context(), "POST", "/v1/knowledge/ingest", "{}")
	req.Body, req.ContentLength = body, 4<<20
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	apitest.WaitUntil(t, "the hog is refused", func() bool { return hog.do("GET", "/v1/agents/"+id, nil).status == http.StatusTooManyRequests })
	refused := hog.do("PATCH", "/v1/agents/"+id, `{"name":"B"}`).expectError(429, "rate_limited")
	if refused.header.Get("Retry-After") == "" || !strings.Contains(refused.field("error.message"), "Send fewer at once. Try again") {
		t.Errorf("%v %s", refused.header, refused.body)
	}
	other.do("GET", "/v1/agents", nil).expect(200)
	_ = stalled.CloseWithError(io.ErrUnexpectedEOF) // the client gives up
	<-ended
	apitest.WaitUntil(t, "the memory is given back", func() bool { return hog.do("GET", "/v1/agents/"+id, nil).status == http.StatusOK })
}

func TestStreamsOfAKeyAreLimited(t *testing.T) {
	budgets := budget.NewServer(budget.ServerSettings{})
	budgets.KeyStreams = budget.New(budget.Settings{Each: 2, Refusal: "Close some."})
	budgets.AccountStreams = budget.New(budget.Settings{Each: 3, Refusal: "Close some."})
	env := newEnv(t, options{Budgets: budgets})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	path := "/v1/agents/" + id + "/logs/stream"
	second := env.newKey(who.account, access.AllScopes(), access.MaxRateLimit)
	first := who.openStream("GET", path, nil)
	who.openStream("GET", path, nil)
	who.do("GET", path, nil).expectError(429, "rate_limited")
	// Refused before the message is accepted.
	who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hi"}`, "Idempotency-Key", "k").expectError(429, "rate_limited")
	if turns := env.Gateways.Turns(); len(turns) > 0 {
		t.Errorf("%d turns", len(turns))
	}
	second.openStream("GET", path, nil)
	second.do("GET", path, nil).expectError(429, "rate_limited") // of the account
	first.close()
	apitest.WaitUntil(t, "a stream is given back", func() bool {
		return who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hi"}`, "Idempotency-Key", "k").status == 200
	})
}

func TestConnectionsOfAKeyAreLimited(t *testing.T) {
	budgets := budget.NewServer(budget.ServerSettings{})
	budgets.API = budget.NewConnections(budget.ConnectionSettings{Holder: 2})
	env := newEnv(t, options{Budgets: budgets})
	who := env.newAccount("acme", "")
	get := func() (status int, closed bool) {
		c := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
		t.Cleanup(c.CloseIdleConnections)
		res, err := c.Do(who.request(t.Context(), "GET", "/v1/agents", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode, res.Close
	}
	for range 2 {
		if status, closed := get(); status != 200 || closed {
			t.Errorf("%d, closed %v", status, closed)
		}
	}
	if status, closed := get(); status != http.StatusTooManyRequests || !closed {
		t.Errorf("%d, closed %v", status, closed)
	}
}
