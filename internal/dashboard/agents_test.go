package dashboard

import (
	"net/http"
	"testing"
)

func TestTheListOfAgents(t *testing.T) {
	env := newEnv(t)
	env.as("owner").get("/agents").has(http.StatusOK, "No agents yet")
	id := env.agent("<b>Support</b>")
	env.as("viewer").get("/agents").has(http.StatusOK, "&lt;b&gt;Support", `href="/app/agents/`+id+`"`, "running")
	env.as("viewer").get("/agents?search=sales").has(http.StatusOK, "No agent matches")
	env.as("").get("/agents").leads("/sign-in?" + encodeQuery("next", "/agents"))
}
