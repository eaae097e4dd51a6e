package api_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
)

func TestDeletingAnAgentRemovesItsData(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	mine.do("PATCH", "/v1/agents/"+mine.agent, `{"swarmId":null}`).expect(200)
	mine.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+mine.agent+`","chunks":[{"text":"Its own.","source":"own"}]}`).expect(200)
	home := env.Driver.Gateway(identity.AgentID(mine.agent)).HomeDir()
	if n := countRows(t, env.DB, mine.agent); n < 5 {
		t.Fatalf("only %d rows belong to the agent: the test counts the wrong tables", n)
	}
	mine.do("DELETE", "/v1/agents/"+mine.agent, nil).expect(200)
	if n := countRows(t, env.DB, mine.agent); n != 0 {
		t.Errorf("%d rows of a deleted agent are left", n)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("its home %s is left: %v", filepath.Base(home), err)
	}
	if env.Driver.RunningCount() != 0 {
		t.Errorf("these gateways are still running: %v", env.Driver.Running())
	}
	// The data of the swarm stays.
	mine.do("GET", "/v1/swarms/"+mine.swarm+"/secrets", nil).expect(200)
	if n := mine.do("GET", "/v1/knowledge?swarmId="+mine.swarm, nil).expect(200).field("data.*"); n != "1" {
		t.Errorf("the swarm has %s knowledge entries, want 1", n)
	}
}

// TestDeletedIsErased looks for everything that an agent and a swarm had in all bytes of
// the database and its WAL, while the server still runs. Names stay in the audit log. Texts
// are not sealed, so that there is something to look for.
func TestDeletedIsErased(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	t.Cleanup(func() { _ = db.Close() })
	plain := apitest.NewVault(t)
	plain.LeaveTextsPlain()
	env := newEnv(t, options{DB: db, Vault: plain})
	stays, mine := env.newFixture("stays"), env.newAccount("mine", "")
	swarm := mine.do("POST", "/v1/swarms", `{"name":"Doomed"}`).expect(201).field("data.id")
	mine.do("PUT", "/v1/swarms/"+swarm+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-doomed"}}`).expect(200)
	agent := mine.do("POST", "/v1/agents", `{"name":"Doomed","secrets":{"anthropicApiKey":"sk-ant-doomed"}}`).expect(201).field("data.id")
	sealed := sealedOf(t, db, swarm, agent)
	mine.do("PUT", "/v1/agents/"+agent+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-doomed-2"}}`).expect(200)
	sealed = append(sealed, sealedOf(t, db, swarm, agent)...)
	if len(sealed) != 8 {
		t.Fatalf("%d sealed values, want a data key and a secret of both, each time", len(sealed))
	}
	mine.do("PUT", "/v1/agents/"+agent+"/personality", `{"soulMd":"doomed-soul-1"}`).expect(200)
	mine.do("PUT", "/v1/agents/"+agent+"/personality", `{"soulMd":"doomed-soul-2"}`).expect(200)
	mine.do("PUT", "/v1/agents/"+agent+"/rules/doomed", `{"content":"doomed-rule"}`).expect(200)
	mine.do("POST", "/v1/agents/"+agent+"/chat/messages", `{"message":"doomed-message"}`).expect(200)
	mine.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+agent+`","chunks":[{"text":"doomedknowledge","source":"doomed"}]}`).expect(200)
	mine.do("POST", "/v1/skills", `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo doomed-skill."}`).expect(201)
	mine.do("POST", "/v1/agents/"+agent+"/skills", `{"skillId":"own","trustLevel":"custom"}`).expect(201)
	texts := sealed
	for _, text := range []string{"doomed-soul-1", "doomed-soul-2", "doomed-rule", "doomed-message", "doomedknowledg", "doomed-skill"} {
		texts = append(texts, []byte(text))
	}
	for _, text := range texts {
		if countInFiles(t, path, text) == 0 {
			t.Fatalf("%q is not in the files: the test looks for the wrong thing", text)
		}
	}
	mine.do("DELETE", "/v1/agents/"+agent, nil).expect(200)
	mine.do("DELETE", "/v1/swarms/"+swarm, nil).expect(200)
	mine.do("DELETE", "/v1/skills/own", nil).expect(200)
	for _, text := range texts {
		apitest.WaitUntil(t, fmt.Sprintf("%q is erased", text), func() bool { return countInFiles(t, path, text) == 0 })
	}
	stays.do("GET", "/v1/agents/"+stays.agent, nil).expect(200)
	if n := stays.do("GET", "/v1/knowledge/search?q=owned&swarmId="+stays.swarm, nil).expect(200).field("data.*"); n != "1" {
		t.Errorf("%s entries of another account are found, want 1", n)
	}
}

// TestSealedTextsAreInNoFile, so that a copy of the database has none, whenever it was made.
func TestSealedTextsAreInNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	db := databasetest.Open(t, path)
	t.Cleanup(func() { _ = db.Close() })
	env := newEnv(t, options{DB: db})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("A")
	mine.do("POST", "/v1/agents/"+agent+"/chat/messages", `{"message":"plum-message","context":"plum-context"}`).expect(200)
	mine.do("PUT", "/v1/agents/"+agent+"/personality", `{"soulMd":"plum-soul"}`).expect(200)
	mine.do("PUT", "/v1/agents/"+agent+"/rules/plum", `{"content":"plum-rule"}`).expect(200)
	for _, text := range []string{"plum-message", "plum-context", "plum-soul", "plum-rule"} {
		if n := countInFiles(t, path, []byte(text)); n > 0 {
			t.Errorf("%q is %d times in the files", text, n)
		}
	}
	if h := mine.do("GET", "/v1/agents/"+agent+"/chat/messages", nil).expect(200); !strings.Contains(h.body, "plum-message") {
		t.Errorf("the history is %s", h.body)
	}
	if r := mine.do("GET", "/v1/agents/"+agent+"/rules/plum", nil).expect(200); !strings.Contains(r.body, "plum-rule") {
		t.Errorf("the rule is %s", r.body)
	}
}

// sealedOf returns the sealed data keys and secrets of these owners.
func sealedOf(t *testing.T, db *database.DB, a, b string) [][]byte {
	t.Helper()
	all, err := database.All(t.Context(), db, database.Scalar[[]byte],
		`SELECT sealed FROM data_keys WHERE owner_id IN ($1, $2) UNION ALL SELECT sealed FROM secrets WHERE owner_id IN ($1, $2)`, a, b)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// countInFiles counts a text in the database file and those beside it.
func countInFiles(t *testing.T, path string, text []byte) (n int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(data, text)
	}
	return n
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
