package api_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

func TestDeletingAnAgentRemovesItsData(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	mine.do("PATCH", "/v1/agents/"+mine.agent, `{"swarmId":null}`).expect(200)
	mine.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+mine.agent+`","chunks":[{"text":"Its own.","source":"own"}]}`).expect(200)
	home := env.driver.Gateway(identity.AgentID(mine.agent)).HomeDir()
	if n := countRows(t, env.db, mine.agent); n < 5 {
		t.Fatalf("only %d rows belong to the agent: the test counts the wrong tables", n)
	}
	mine.do("DELETE", "/v1/agents/"+mine.agent, nil).expect(200)
	if n := countRows(t, env.db, mine.agent); n != 0 {
		t.Errorf("%d rows of a deleted agent are left", n)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("its home %s is left: %v", filepath.Base(home), err)
	}
	if env.driver.RunningCount() != 0 {
		t.Errorf("these gateways are still running: %v", env.driver.Running())
	}
	// The data of the swarm stays.
	mine.do("GET", "/v1/swarms/"+mine.swarm+"/secrets", nil).expect(200)
	if n := mine.do("GET", "/v1/knowledge?swarmId="+mine.swarm, nil).expect(200).field("data.*"); n != "1" {
		t.Errorf("the swarm has %s knowledge entries, want 1", n)
	}
}

// countRows counts the rows that name an agent in a column, in every table except the
// audit log and the numbers of knowledge scopes, which hold no data of the agent.
func countRows(t *testing.T, db *database.DB, agentID string) int {
	t.Helper()
	type column struct{ table, name string }
	columns, err := database.All(t.Context(), db, func(r database.Row) (c column, err error) { return c, r.Scan(&c.table, &c.name) },
		`SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p
		 WHERE m.type = 'table' AND m.name NOT IN ('events', 'knowledge_scopes')
		 AND (p.name IN ('agent_id', 'owner_id', 'target_id') OR m.name = 'agents' AND p.name = 'id')`)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, c := range columns {
		n, err := database.One(t.Context(), db, database.Scalar[int], fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s = $1`, c.table, c.name), agentID)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	entries, err := database.One(t.Context(), db, database.Scalar[int],
		`SELECT count(*) FROM knowledge_entries e JOIN knowledge_scopes s ON s.number = e.scope WHERE s.target_id = $1`, agentID)
	if err != nil {
		t.Fatal(err)
	}
	return sum + entries
}
