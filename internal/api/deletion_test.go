package api_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

func TestNothingIsLeftOfADeletedAgent(t *testing.T) {
	h := open(t, plan{})
	mine := h.owner("mine")
	mine.do("PATCH", "/v1/agents/"+mine.agent, `{"swarmId":null}`).wants(200)
	mine.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+mine.agent+`","chunks":[{"text":"Its own.","source":"own"}]}`).wants(200)
	home := h.driver.Gateway(identity.AgentID(mine.agent)).HomeDir()
	if n := rowsOf(t, h.db, mine.agent); n < 5 {
		t.Fatalf("only %d records are about an agent: the test looks in the wrong places", n)
	}
	mine.do("DELETE", "/v1/agents/"+mine.agent, nil).wants(200)
	if n := rowsOf(t, h.db, mine.agent); n != 0 {
		t.Errorf("%d records of a deleted agent are left", n)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("its home %s is left: %v", filepath.Base(home), err)
	}
	if h.driver.RunningCount() != 0 {
		t.Errorf("these gateways run still: %v", h.driver.Running())
	}
	// What the account shares with others stays.
	mine.do("GET", "/v1/swarms/"+mine.swarm+"/secrets", nil).wants(200)
	if n := mine.do("GET", "/v1/knowledge?swarmId="+mine.swarm, nil).wants(200).text("data.*"); n != "1" {
		t.Errorf("the swarm knows %s things, want 1", n)
	}
}

// rowsOf counts the records that name an agent in a column of their own, in every
// table but the audit log and the numbering of knowledge scopes, which hold nothing of it.
func rowsOf(t *testing.T, db *database.DB, agentID string) int {
	t.Helper()
	type column struct{ table, name string }
	columns, err := database.All(t.Context(), db, func(r database.Row) (c column, err error) { return c, r.Scan(&c.table, &c.name) },
		`SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p
		 WHERE m.type = 'table' AND m.name NOT IN ('events', 'knowledge_scopes')
		 AND (p.name IN ('agent_id', 'owner_id') OR m.name = 'agents' AND p.name = 'id')`)
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
