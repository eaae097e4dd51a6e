//go:build !race

package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// column is a column of a table that is decoded when its row is read.
type column struct{ table, name string }

func (c column) String() string { return c.table + "." + c.name }

// strictTables are those whose damaged rows are refused: a key or a secret must not be
// taken for something else, and a request with an idempotency key must not be executed
// twice.
var strictTables = []string{"keys", "secrets", "data_keys", "master_key", "installation", "idempotent_requests"}

// selecting are columns that queries select rows by: a row whose value is damaged is not
// selected. The keys of an account that may be disabled are refused.
var selecting = []string{"documents.is_current", "custom_skills.deleted_at", "accounts.disabled_at", "accounts.deleted_at"}

// decodedColumns returns every column with a time, a number, a truth value, JSON or a sealed
// text of the tables that have rows.
func (env *testEnv) decodedColumns() []column {
	env.T.Helper()
	type info struct {
		column
		kind string
	}
	all, err := database.All(env.T.Context(), env.DB, func(r database.Row) (i info, err error) { return i, r.Scan(&i.table, &i.name, &i.kind) },
		`SELECT t.name, c.name, c.type FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND c.pk = 0`)
	if err != nil {
		env.T.Fatal(err)
	}
	var decoded []column
	for _, i := range all {
		if slices.Contains(strictTables, i.table) || slices.Contains(selecting, i.String()) || strings.HasPrefix(i.table, "knowledge_text") || strings.HasPrefix(i.table, "knowledge_parts") {
			continue
		}
		isJSON, err := database.One(env.T.Context(), env.DB, database.Scalar[bool],
			`SELECT EXISTS (SELECT 1 FROM `+i.table+` WHERE json_valid(`+i.name+`) AND substr(`+i.name+`, 1, 1) IN ('{', '['))`)
		if err != nil {
			env.T.Fatal(err)
		}
		isSealed, err := database.One(env.T.Context(), env.DB, database.Scalar[bool], `SELECT EXISTS (SELECT 1 FROM `+i.table+` WHERE typeof(`+i.name+`) = 'blob')`)
		if err != nil {
			env.T.Fatal(err)
		}
		if isJSON || isSealed && i.kind == "TEXT" || i.kind == "BIGINT" || i.kind == "BOOLEAN" {
			decoded = append(decoded, i.column)
		}
	}
	return decoded
}

// damage makes a column of one row of the table undecodable until repair is called. ok is
// false if the table has no rows or a constraint prevents it.
func (env *testEnv) damage(c column) (repair func(), ok bool) {
	env.T.Helper()
	set := func(value any) (int64, error) {
		var n int64
		err := env.DB.Tx(env.T.Context(), "api.damage", func(ctx context.Context, tx *database.Tx) (err error) {
			n, err = database.Exec(ctx, tx, `UPDATE `+c.table+` SET `+c.name+` = $1 WHERE rowid = (SELECT min(rowid) FROM `+c.table+`)`, value)
			return err
		})
		return n, err
	}
	before, err := database.One(env.T.Context(), env.DB, database.Scalar[any], `SELECT `+c.name+` FROM `+c.table+` ORDER BY rowid LIMIT 1`)
	if err != nil {
		return nil, false
	}
	var value any = "{damaged"
	if _, isSealed := before.([]byte); isSealed {
		value = []byte("{damaged")
	}
	if n, err := set(value); err != nil || n == 0 {
		return nil, false
	}
	return func() {
		if _, err := set(before); err != nil {
			env.T.Fatal(err)
		}
	}, true
}

// TestDamagedRowFailsNothingElse damages, one after the other, every column that can be.
// Every route still answers, for the damaged agent too.
func TestDamagedRowFailsNothingElse(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	mine.do("POST", "/v1/skills", `{"id":"own","name":"Own","version":"1.0.0","skillMd":"---\nname: own\ndescription: My own skill.\n---\nDo it."}`).expect(201)
	mine.do("POST", "/v1/knowledge/ingest", `{"agentId":"`+mine.agent+`","chunks":[{"text":"Owned by mine, with metadata","source":"owned","metadata":{"a":1}}]}`).expect(200)
	starts := env.Driver.Starts(identity.AgentID(mine.agent))
	damaged := 0
	for _, c := range env.decodedColumns() {
		repair, ok := env.damage(c)
		if !ok {
			continue
		}
		damaged++
		for _, row := range env.Server.Table() {
			if row.Method != http.MethodGet || row.Stream {
				continue
			}
			if a := mine.do(row.Method, mine.path(row), nil); a.status != http.StatusOK {
				t.Errorf("%s is damaged: %s: %d %s", c, a.request, a.status, a.body)
			}
		}
		for path, want := range map[string]string{
			"/v1/agents": mine.agent, "/v1/swarms": mine.swarm, "/v1/knowledge?agentId=" + mine.agent: "Owned by mine",
			"/v1/skills?trustLevel=custom": `"own"`, "/v1/agents/" + mine.agent + "/skills": "csv-analysis", "/v1/agents/" + mine.agent + "/rules": "owned",
		} {
			if a := mine.do("GET", path, nil); !strings.Contains(a.body, want) {
				t.Errorf("%s is damaged: %s shows no %s: %s", c, path, want, a.body)
			}
		}
		repair()
	}
	if damaged < 30 {
		t.Errorf("only %d columns were damaged", damaged)
	}
	if n := env.Driver.Starts(identity.AgentID(mine.agent)); n != starts {
		t.Errorf("the gateway was started %d times more", n-starts)
	}
	mine.do("POST", "/v1/agents/"+mine.agent+"/chat/messages", `{"message":"Hello"}`).expect(200)
}

// A damaged agent is shown in error with what is wrong, wherever it is shown; it can be
// deleted and nothing else; other agents are not affected.
func TestDamagedAgent(t *testing.T) {
	for _, c := range []string{"config", "failures", "created_at", "status", "desired_state", "generation", "lease_number", "lease_until"} {
		t.Run(c, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{})
			mine := env.newFixture("mine")
			agent := "/v1/agents/" + mine.agent
			if _, ok := env.damage(column{"agents", c}); !ok {
				t.Fatal("not damaged")
			}
			other := mine.do("POST", "/v1/agents", `{"name":"Other","secrets":{"anthropicApiKey":"sk-ant-other"}}`).expect(201).field("data.id")

			a := mine.do("GET", agent, nil).expect(200)
			if a.field("data.status") != "error" || a.field("data.errorCategory") != "record" || !strings.Contains(a.field("data.lastError"), c+" cannot be decoded") {
				t.Errorf("the agent is shown as %s", a.body)
			}
			for path, want := range map[string]int{"/v1/agents": 2, "/v1/agents?status=error": 1, "/v1/agents?status=running": 1} {
				list := mine.do("GET", path, nil).expect(200)
				if n := strings.Count(list.body, `"region"`); n != want {
					t.Errorf("%s has %d agents: %s", path, n, list.body)
				}
				if want == 1 && !strings.Contains(list.body, map[bool]string{true: mine.agent, false: other}[strings.HasSuffix(path, "error")]) {
					t.Errorf("%s has the wrong agent: %s", path, list.body)
				}
			}
			mine.do("GET", "/v1/swarms/"+mine.swarm, nil).expect(200)
			mine.do("PATCH", agent, `{"name":"New"}`).expectError(http.StatusConflict, "conflict")
			for _, action := range []string{"start", "stop", "restart"} {
				mine.do("POST", agent+"/"+action, nil).expectError(http.StatusConflict, "conflict")
			}
			if a := mine.do("POST", agent+"/chat/messages", `{"message":"Hello"}`); a.status != http.StatusConflict || !strings.Contains(a.body, "is damaged") {
				t.Errorf("a message is answered with %d %s", a.status, a.body)
			}
			mine.do("POST", "/v1/agents/"+other+"/chat/messages", `{"message":"Hello"}`).expect(200)
			if n := env.Driver.Starts(identity.AgentID(mine.agent)); n != 1 {
				t.Errorf("the gateway was started %d times", n)
			}

			mine.do("DELETE", agent, nil).expect(200)
			mine.do("GET", agent, nil).expect(404)
			if n := env.count("agents"); n != 1 {
				t.Errorf("%d agents are left", n)
			}
			if log := env.Log.String(); strings.Count(log, "is damaged: repair it") > 1 {
				t.Errorf("logged more than once:\n%s", log)
			}
		})
	}
}

func (env *testEnv) count(table string) int {
	env.T.Helper()
	n, err := database.One(env.T.Context(), env.DB, database.Scalar[int], fmt.Sprintf(`SELECT count(*) FROM %s`, table))
	if err != nil {
		env.T.Fatal(err)
	}
	return n
}
