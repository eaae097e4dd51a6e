package api_test

import (
	"fmt"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// rowsOf returns how many rows each table has with the id of an account, without those that
// have none.
func (env *testEnv) rowsOf(account identity.AccountID) map[string]int {
	env.T.Helper()
	tables, err := database.All(env.T.Context(), env.DB, database.Scalar[string],
		`SELECT t.name FROM sqlite_master t JOIN pragma_table_info(t.name) c ON c.name = 'account_id' WHERE t.type = 'table'`)
	if err != nil {
		env.T.Fatal(err)
	}
	rows := map[string]int{}
	for _, table := range tables {
		n, err := database.One(env.T.Context(), env.DB, database.Scalar[int], fmt.Sprintf(`SELECT count(*) FROM %s WHERE account_id = $1`, table), account)
		if err != nil {
			env.T.Fatal(err)
		}
		if n > 0 {
			rows[table] = n
		}
	}
	return rows
}

const ownSkill = `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo it."}`

// TestNothingOfADeletedAccountIsLeft: in no table, and of no gateway; another account has what
// it had.
func TestNothingOfADeletedAccountIsLeft(t *testing.T) {
	env := newEnv(t, options{})
	mine, other := env.newFixture("mine"), env.newFixture("other")
	for _, who := range []fixture{mine, other} {
		who.post("/v1/skills", "k", ownSkill).expect(201)
		swarm := who.do("POST", "/v1/swarms", `{"name":"Without agents"}`).expect(201).field("data.id")
		who.do("POST", "/v1/knowledge/ingest", `{"swarmId":"`+swarm+`","chunks":[{"text":"Of nobody","source":"s"}]}`).expect(200)
		who.do("POST", "/v1/agents/"+who.agent+"/stop", nil).expect(200)
	}
	second := mine.newAgent("Second")
	if n := len(env.rowsOf(mine.account)); n < 15 {
		t.Fatalf("only %d tables have rows of the account", n)
	}
	before := env.rowsOf(other.account)
	if err := env.Access.DeleteAccount(t.Context(), identity.ByOperator(mine.account), "mine"); err != nil {
		t.Fatal(err)
	}
	mine.do("GET", "/v1/agents", nil).expectError(401, "unauthorized")
	apitest.WaitUntil(t, "the account to be removed", func() bool {
		n, err := database.One(t.Context(), env.DB, database.Scalar[int], `SELECT count(*) FROM accounts WHERE id = $1 AND removed_at > 0`, mine.account)
		return err == nil && n == 1
	})
	if left := env.rowsOf(mine.account); len(left) > 0 {
		t.Errorf("rows are left: %v", left)
	}
	if gw := env.Driver.Gateway(identity.AgentID(second)); gw != nil {
		t.Error("a gateway is left")
	}
	if after := env.rowsOf(other.account); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("another account had %v, and has %v", before, after)
	}
	other.do("GET", "/v1/agents", nil).expect(200)
	env.newAccount("mine", "")
}

// TestDisabledAccount: its keys are refused, its agents are stopped, and nothing is deleted.
func TestDisabledAccount(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	operator := identity.ByOperator(mine.account)
	if err := env.Access.Disable(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	mine.do("GET", "/v1/agents", nil).expectError(401, "unauthorized")
	mine.do("GET", "/v1/account", nil).expectError(401, "unauthorized")
	apitest.WaitUntil(t, "the gateway to end", func() bool { return env.Driver.RunningCount() == 0 })
	if err := env.Access.Enable(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	apitest.WaitUntil(t, "the agent to run", func() bool {
		return mine.do("GET", "/v1/agents/"+mine.agent, nil).expect(200).field("data.status") == "running"
	})
	mine.do("POST", "/v1/agents/"+mine.agent+"/chat/messages", `{"message":"Hello"}`).expect(200)
}
