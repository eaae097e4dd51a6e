package agent_test

import (
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
)

func TestCreateNamesEveryInvalidField(t *testing.T) {
	e := agenttest.New(t, nil)
	_, err := e.Agents.Create(t.Context(), e.Actor, client.CreateAgentRequest{
		Name: "two\nlines", Region: "mars", SwarmID: "none", WorkflowMD: strings.Repeat("x", 200<<10),
		Config: map[string]any{"baseUrl": "http://169.254.169.254/"}, Secrets: map[string]string{"slack_app_token": "wrong"},
	})
	for _, field := range []string{"name", "region", "swarmId", "workflowMd", "config.baseUrl", "secrets.slack_app_token", "secrets"} {
		if fault.From(err).Details[field] == "" {
			t.Errorf("%s is not named: %v", field, fault.From(err).Details)
		}
	}
	e.CheckCount(0, `SELECT count(*) FROM agents`)
}
