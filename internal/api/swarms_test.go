package api_test

import "testing"

// TestSecretsOfASwarmThatAnAgentLeft: they are set, so the answer is no 404.
func TestSecretsOfASwarmThatAnAgentLeft(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.do("POST", "/v1/swarms", `{"name":"Growth"}`).wants(201).text("data.id")
	agent := who.do("POST", "/v1/agents", map[string]any{"name": "A", "swarmId": id, "secrets": map[string]string{"anthropicApiKey": "sk-ant-own"}}).wants(201).text("data.id")
	who.do("DELETE", "/v1/agents/"+agent, nil).wants(200)
	a := who.do("PUT", "/v1/swarms/"+id+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-test"}}`).wants(200)
	if a.text("data.updated") != "true" || a.text("data.needsRestart") != "false" {
		t.Error(a.body)
	}
}
