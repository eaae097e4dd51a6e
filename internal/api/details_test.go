package api_test

import (
	"testing"

	"agento.host/agento/client"
)

func TestTheListOfAgentsIsSortedAndHasDetails(t *testing.T) {
	env := newEnv(t, options{})
	owner := env.newAccount("acme", "")
	for _, name := range []string{"beta", "Alpha", "gamma"} {
		owner.newAgent(name)
	}
	c := &client.Client{URL: env.URL, APIKey: owner.key, Retries: -1}
	page, err := c.ListAgents(t.Context(), client.AgentQuery{Sort: "name", Details: true, Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Data) != 2 || page.Data[0].Name != "Alpha" || page.Data[1].Name != "beta" || page.Pagination.Total != 3 {
		t.Errorf("%+v", page)
	}
	if d := page.Data[0].Details; d == nil || d.LastUsedAt != nil || d.Asleep || d.LastError != nil {
		t.Errorf("%+v", d)
	}
	for _, q := range []client.AgentQuery{{Details: true}, {Details: true, Limit: 201}, {Sort: "size"}} {
		if _, err := c.ListAgents(t.Context(), q); !client.IsCode(err, "invalid_request") {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
