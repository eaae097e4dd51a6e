package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// execute runs a statement on the database, as an operator could.
func (env *testEnv) execute(statement string, args ...any) {
	env.T.Helper()
	err := env.DB.Tx(env.T.Context(), "api.execute", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
	if err != nil {
		env.T.Fatal(err)
	}
}

// awaitError waits until an agent is in error, and returns its lastError.
func (c *caller) awaitError(agent string) string {
	c.env.T.Helper()
	var a *response
	apitest.WaitUntil(c.env.T, "the agent to be in error", func() bool {
		a = c.do("GET", "/v1/agents/"+agent, nil).expect(200)
		return a.field("data.status") == "error"
	})
	if a.field("data.errorCategory") != "record" {
		c.env.T.Errorf("the category is %s", a.field("data.errorCategory"))
	}
	return a.field("data.lastError")
}

// TestUnreadableSecrets: a secret or data key that cannot be decrypted puts the agents
// that need it in error, which says what to set again. Everything else works.
func TestUnreadableSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		damage string
		want   []string // in lastError
		repair func(fixture)
	}{
		"own secret": {
			`UPDATE secrets SET sealed = x'00' WHERE owner_id = $1 AND name = 'MY_PASSWORD' AND $2 <> ''`,
			[]string{"MY_PASSWORD", "/v1/agents/", "start the agent again"},
			func(mine fixture) {
				mine.do("PUT", "/v1/agents/"+mine.agent+"/secrets", `{"secrets":{"MY_PASSWORD":"an-owned-password"}}`).expect(200)
			},
		},
		"data key": {
			`UPDATE data_keys SET sealed = x'00' WHERE owner_id = $1 AND $2 <> ''`,
			[]string{"data key", "MY_PASSWORD", "anthropicApiKey", "in one request"},
			func(mine fixture) {
				path := "/v1/agents/" + mine.agent + "/secrets"
				a := mine.do("PUT", path, `{"secrets":{"anthropicApiKey":"sk-ant-owned"}}`).expectError(http.StatusConflict, "conflict")
				if !strings.Contains(a.body, "MY_PASSWORD") {
					mine.env.T.Errorf("the conflict does not name what is lost: %s", a.body)
				}
				mine.do("PUT", path, `{"secrets":{"anthropicApiKey":"sk-ant-owned"},"deleteSecrets":["MY_PASSWORD"]}`).expect(200)
			},
		},
		"secret of the swarm": {
			`UPDATE secrets SET sealed = x'00' WHERE owner_id = $2 AND name = 'openaiApiKey' AND $1 <> ''`,
			[]string{"swarm", "openaiApiKey", "/v1/swarms/"},
			func(mine fixture) {
				mine.do("PUT", "/v1/swarms/"+mine.swarm+"/secrets", `{"secrets":{"openaiApiKey":"sk-swarm-owned"}}`).expect(200)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{})
			mine := env.newFixture("mine")
			mine.do("PUT", "/v1/swarms/"+mine.swarm+"/secrets", `{"secrets":{"openaiApiKey":"sk-swarm-owned"}}`).expect(200)
			other := mine.do("POST", "/v1/agents", `{"name":"Other","secrets":{"anthropicApiKey":"sk-ant-other"}}`).expect(201).field("data.id")
			agent := "/v1/agents/" + mine.agent

			env.execute(c.damage, mine.agent, mine.swarm)
			shown := mine.awaitError(mine.agent)
			for _, want := range c.want {
				if !strings.Contains(shown, want) {
					t.Errorf("lastError is %q, want %q", shown, want)
				}
			}
			for _, row := range env.Server.Table() {
				if row.Method != http.MethodGet || row.Stream || strings.HasSuffix(row.Path, "/logs") {
					continue
				}
				mine.do(row.Method, mine.path(row), nil).expect(200)
			}
			if a := mine.do("GET", agent+"/logs", nil).expectError(http.StatusConflict, "conflict"); !strings.Contains(a.body, "masked") {
				t.Errorf("the log is refused with %s", a.body)
			}
			a := mine.do("POST", agent+"/chat/messages", `{"message":"Hello"}`)
			if a.status != http.StatusConflict || !strings.Contains(a.body, c.want[0]) {
				t.Errorf("a message is answered with %d %s", a.status, a.body)
			}
			mine.do("POST", "/v1/agents/"+other+"/chat/messages", `{"message":"Hello"}`).expect(200)
			mine.do("GET", "/v1/agents/"+other+"/logs", nil).expect(200)

			c.repair(mine)
			mine.do("POST", agent+"/start", nil).expect(200)
			mine.do("POST", agent+"/chat/messages", `{"message":"Hello"}`).expect(200)
			mine.do("GET", agent+"/logs", nil).expect(200)

			env.execute(c.damage, mine.agent, mine.swarm)
			mine.do("DELETE", agent, nil).expect(200)
			mine.do("DELETE", "/v1/swarms/"+mine.swarm, nil).expect(200)
			if n := env.Driver.Starts(identity.AgentID(other)); n != 1 {
				t.Errorf("the other agent was started %d times", n)
			}
		})
	}
}

// What docs/operations.md says for a lost master key: the records go on without secrets.
func TestLostMasterKey(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	agent := "/v1/agents/" + mine.agent
	env.execute(`DELETE FROM secrets`)
	env.execute(`DELETE FROM data_keys`)
	if shown := mine.awaitError(mine.agent); !strings.Contains(shown, "data key of the agent is lost") {
		t.Errorf("lastError is %q", shown)
	}
	mine.do("GET", agent+"/logs", nil).expectError(http.StatusConflict, "conflict")
	mine.do("PUT", agent+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-owned"}}`).expect(200)
	mine.do("POST", agent+"/start", nil).expect(200)
	mine.do("POST", agent+"/chat/messages", `{"message":"Hello"}`).expect(200)
	mine.do("GET", agent+"/logs", nil).expect(200)
}

// Requests with an Idempotency-Key need the account's data key. It seals nothing else.
func TestUnreadableDataKeyOfTheAccount(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	who.post("/v1/swarms", "first", `{"name":"First"}`).expect(201)
	env.execute(`UPDATE data_keys SET sealed = x'00' WHERE owner_id = $1`, who.account)
	if a := who.post("/v1/swarms", "second", `{"name":"Second"}`).expectError(http.StatusServiceUnavailable, "unavailable"); !strings.Contains(a.body, "ask the operator") {
		t.Errorf("it is refused with %s", a.body)
	}
	who.do("POST", "/v1/swarms", `{"name":"Third"}`).expect(201)
	env.execute(`DELETE FROM data_keys WHERE owner_id = $1`, who.account) // as docs/operations.md says
	who.post("/v1/swarms", "second", `{"name":"Second"}`).expect(201)
}
