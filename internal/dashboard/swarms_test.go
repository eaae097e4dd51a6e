package dashboard

import (
	"strings"
	"testing"
)

func TestSwarms(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	b := env.as("developer")
	b.get("/swarms").has(200, "No swarms yet", "Create a swarm")
	b.post("/swarms", "name", "").has(422)
	page := b.post("/swarms", "name", "Care <& Co>", "description", "All of them", "icon", "🦞").next(b).has(200, "was created", "Care &lt;&amp; Co&gt;", "No agent is in this swarm yet", "None.")
	swarm := "/swarms/" + page.find(`action="/app/swarms/([0-9a-f-]{36})/delete"`)
	b.get("/swarms").has(200, "Care &lt;&amp; Co&gt;", "All of them", "🦞")

	// Agents.
	b.post(swarm+"/agents", "agent", id).next(b).has(200, "Support is in the swarm now", `/app/agents/`+id)
	b.get("/agents/"+id+"/knowledge").has(200, "what you see and add here is the knowledge of the swarm")
	b.post(swarm+"/agents", "agent", "").has(400, "Choose an agent")

	// Members.
	owner := env.as("owner")
	person := owner.get(swarm).has(200, "developer@example.com", "Add a person").find(`<option value="(user_[^"]+)">Person of owner`)
	owner.post(swarm+"/members", "person", person).next(owner).has(200, "The person was added", "owner@example.com · owner")
	owner.post(swarm+"/members/"+person+"/remove").next(owner).has(200, "was removed from the swarm", "Add a person")
	owner.post(swarm+"/members", "person", "").has(400, "Choose a person")

	// Keys are never shown.
	const key = "sk-ant-a-key-of-the-swarm"
	page = b.post(swarm+"/secrets", "provider", "anthropicApiKey", "key", key).next(b).has(200, "The key for Anthropic is set", `<span class="badge good">set</span>`)
	bad := b.post(swarm+"/secrets", "provider", "openaiApiKey", "key", key, "baseUrl", "not an address").has(422)
	for _, a := range []answer{page, bad} {
		if strings.Contains(a.Body, key) {
			t.Error("a page shows the key")
		}
	}
	b.post(swarm+"/secrets", "provider", "openaiApiKey", "key", "").has(422, "Paste the key")
	b.get(swarm).has(200, "1 agent stay", "1 key that it shares")
	b.post(swarm+"/secrets/anthropicApiKey/delete").next(b).has(200, "was deleted", "None.")

	b.post(swarm, "name", "Customer care", "description", "", "icon", "").next(b).has(200, "Saved.", "Customer care")
	b.post(swarm, "name", "").has(422)
	b.post(swarm+"/agents/"+id+"/remove").next(b).has(200, "is not in the swarm any more")
	env.as("viewer").get(swarm).has(200, "Customer care")
	if page := env.as("viewer").get(swarm); strings.Contains(page.Body, "Set the key") || strings.Contains(page.Body, "Delete…") {
		t.Error("a viewer is shown what only others may do")
	}
	env.as("viewer").post(swarm + "/delete").has(403)
	b.post(swarm+"/delete").next(b).has(200, "was deleted", "No swarms yet")
	b.get(swarm).has(404)
}
