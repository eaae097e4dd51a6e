package dashboard

import (
	"io"
	"net/http"
	"testing"
)

func TestTheListOfAgents(t *testing.T) {
	env := newEnv(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/agents" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		_, _ = io.WriteString(w, `{"data":[{"id":"a-1","name":"<b>Support</b>","status":"running","region":"eu","createdAt":"2026-11-28T04:00:00Z"}],"pagination":{"total":1,"limit":50,"offset":0,"hasMore":false}}`)
	}))
	env.as("owner").get("/agents").has(http.StatusOK, "&lt;b&gt;Support", `href="/app/agents/a-1"`, "running", "28")
	env.as("").get("/agents").has(http.StatusUnauthorized)
}
