package agentstatus_test

import (
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/modelproxy"
)

func TestModelResultsAreWrittenToTheRecord(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	observe := func(x modelproxy.Exchange, category agent.ErrorCategory, text string) {
		t.Helper()
		x.AgentID = a.ID
		e.Status.Observe(x)
		e.Until(a.ID, func(a agent.Agent) bool { return a.ErrorCategory == category && a.LastError == text })
	}
	refused := modelproxy.Exchange{Status: 401, KeyRefused: true, Failure: "The key sk-ant-test is refused: set another one."}
	observe(refused, agent.CategoryCredentials, "The key [secret] is refused: set another one.")
	observe(modelproxy.Exchange{Status: 200}, "", "")
	observe(modelproxy.Exchange{Status: 503}, agent.CategoryModel, "The model provider answered with HTTP status 503.")
	e.Status.Observe(modelproxy.Exchange{AgentID: a.ID})       // the gateway closed the connection: no result
	e.Status.Observe(modelproxy.Exchange{Status: 200})         // of no agent
	e.Status.Observe(modelproxy.Exchange{AgentID: "nobody's"}) // of a deleted agent
	observe(modelproxy.Exchange{Failure: "The provider cannot be reached."}, agent.CategoryModel, "The provider cannot be reached.")
	if now := e.Find(a.ID); now.Status != client.Running {
		t.Errorf("%+v", now)
	}

	observe(refused, agent.CategoryCredentials, "The key [secret] is refused: set another one.")
	if now := e.Restart(a.ID); now.LastError != "" {
		t.Errorf("after a restart: %+v", now)
	}
	observe(refused, agent.CategoryCredentials, "The key [secret] is refused: set another one.") // the same again
}

func TestModelResultDoesNotReplaceTheErrorOfAFailedAgent(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.Kill(a.ID, 78)
	failed := e.UntilStatus(a.ID, client.Errored)
	e.Must(e.Status.WriteSuccess(e.Context(), a.ID))
	if now := e.Find(a.ID); now.LastError != failed.LastError || now.ErrorCategory != agent.CategoryConfig {
		t.Errorf("%+v", now)
	}
}
