package api_test

import "testing"

// TestSetSwarmSecretsIgnoresDeletedAgents: the secrets are set, so the status is not
// 404.
func TestSetSwarmSecretsIgnoresDeletedAgents(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.do("POST", "/v1/swarms", `{"name":"Growth"}`).expect(201).field("data.id")
	agent := who.do("POST", "/v1/agents", map[string]any{"name": "A", "swarmId": id, "secrets": map[string]string{"anthropicApiKey": "sk-ant-own"}}).expect(201).field("data.id")
	who.do("DELETE", "/v1/agents/"+agent, nil).expect(200)
	a := who.do("PUT", "/v1/swarms/"+id+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-test"}}`).expect(200)
	if a.field("data.updated") != "true" || a.field("data.needsRestart") != "false" {
		t.Error(a.body)
	}
}
