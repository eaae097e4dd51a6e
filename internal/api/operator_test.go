package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/apitest"
)

// TestOperatorActsForAnAccount: without a key, in the account that the request names, and
// in its audit log as operator. The public address knows no operator.
func TestOperatorActsForAnAccount(t *testing.T) {
	env := newEnv(t, options{})
	local := httptest.NewServer(env.Server.Operator())
	defer local.Close()
	operator := &caller{env: &testEnv{&apitest.Env{T: t, URL: local.URL}}}
	operator.do("GET", "/v1/agents", nil).expectError(404, "not_found")
	acme := env.newAccount("acme", "")
	operator.do("GET", "/v1/account", nil).expect(200) // there is only one
	rival := env.newAccount("rival", "")
	mine, other := acme.newAgent("ada"), rival.newAgent("bob")

	operator.do("GET", "/v1/agents", nil).expectError(400, "invalid_request")
	operator.do("GET", "/v1/agents", nil, api.AccountHeader, "nobody").expectError(404, "not_found")
	if r := operator.do("GET", "/v1/agents", nil, api.AccountHeader, "acme").expect(200); !strings.Contains(r.body, mine) || strings.Contains(r.body, other) {
		t.Errorf("agents of acme: %s", r.body)
	}
	operator.do("GET", "/v1/agents/"+other, nil, api.AccountHeader, "acme").expectError(404, "not_found")
	operator.do("PATCH", "/v1/agents/"+mine, `{"name":"eve"}`, api.AccountHeader, string(acme.account)).expect(200)
	audit := acme.do("GET", "/v1/audit?actor=operator&target=agent/"+mine, nil).expect(200)
	if !strings.Contains(audit.body, "agent.updated") {
		t.Errorf("the audit log: %s", audit.body)
	}
	// The operator chats in sessions of its own, also while the answer is a stream.
	chat := &client.Client{URL: local.URL, HTTP: &http.Client{Transport: withAccount{"acme"}}, Retries: -1}
	for e, err := range chat.Chat(t.Context(), mine, client.ChatRequest{Message: "hello"}) {
		if err != nil || e.Type == "error" {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if sessions := acme.do("GET", "/v1/agents/"+mine+"/chat/sessions", nil).expect(200); !strings.Contains(sessions.body, "sess_") {
		t.Errorf("%s", sessions.body)
	}
	(&caller{env: env}).do("GET", "/v1/agents", nil, api.AccountHeader, "acme").expectError(401, "unauthorized")
}

// withAccount adds the header that names an account.
type withAccount struct{ account string }

// RoundTrip implements http.RoundTripper.
func (a withAccount) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(api.AccountHeader, a.account)
	return http.DefaultTransport.RoundTrip(r)
}
