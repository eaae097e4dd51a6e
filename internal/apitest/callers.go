package apitest

import (
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
)

// NewAccount creates an account. An empty plan means the first one.
func (env *Env) NewAccount(name, plan string) identity.AccountID {
	env.T.Helper()
	a, err := env.Access.CreateAccount(env.T.Context(), identity.ByOperator(""), name, plan)
	if err != nil {
		env.T.Fatal(err)
	}
	return a.ID
}

// AllScopes returns every scope that a key of a customer's server may have: all but chat:owner.
func AllScopes(t testing.TB) access.Scopes {
	t.Helper()
	scopes, err := access.ParseScopes([]string{"all", string(access.AccountAdmin)})
	if err != nil {
		t.Fatal(err)
	}
	return scopes
}

// NewKey creates a key, whose secret it returns.
func (env *Env) NewKey(account identity.AccountID, scopes access.Scopes, rateLimit int) (access.Key, string) {
	env.T.Helper()
	k, secret, err := env.Access.CreateKey(env.T.Context(), identity.ByOperator(account), access.NewKey{Label: "test", Scopes: scopes, RateLimit: rateLimit})
	if err != nil {
		env.T.Fatal(err)
	}
	return k, secret.Reveal()
}

// Client returns a client with a new key that has every scope but chat:owner, and a rate limit that tests do not reach.
func (env *Env) Client(account identity.AccountID) *client.Client {
	env.T.Helper()
	_, secret := env.NewKey(account, AllScopes(env.T), access.MaxRateLimit)
	return &client.Client{URL: env.URL, APIKey: secret, Retries: -1}
}

// NewAgent creates an agent and waits until it runs.
func (env *Env) NewAgent(c *client.Client, name string) identity.AgentID {
	env.T.Helper()
	a, err := c.CreateAgent(env.T.Context(), client.CreateAgentRequest{Name: name, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}})
	if err != nil {
		env.T.Fatal(err)
	}
	return identity.AgentID(a.ID)
}
