package knowledge

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge/embed"
)

const account identity.AccountID = "acct_test"

// actor makes the changes of these tests.
var actor = identity.ByKey(account, "key_1")

// testEnv is a service over a database, with records of agents and swarms that the
// test controls.
type testEnv struct {
	*Service
	records *testRecords
}

// newTestEnv returns an environment with the built-in embedder, the agents ann, bob
// and cy, which are in no swarm, and the swarm team.
func newTestEnv(t testing.TB) *testEnv {
	t.Helper()
	e, err := embed.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return newTestEnvWith(t, Settings{DB: databasetest.New(t), Embedder: e})
}

// newTestEnvWith is newTestEnv with another database and embedder.
func newTestEnvWith(t testing.TB, s Settings) *testEnv {
	t.Helper()
	env := &testEnv{records: &testRecords{
		agents: map[identity.AgentID]identity.SwarmID{"ann": "", "bob": "", "cy": ""},
		swarms: map[identity.SwarmID]bool{"team": true},
	}}
	s.Events, s.Log = event.NewLog(s.DB), slog.New(slog.DiscardHandler)
	s.Scopes = NewScopes(s.DB, env.records, env.records)
	env.Service = New(s)
	return env
}

// reopen returns an environment on the same database with another embedder.
func (env *testEnv) reopen(t testing.TB, e embed.Embedder) *testEnv {
	t.Helper()
	return newTestEnvWith(t, Settings{DB: env.db, Embedder: e})
}

// testRecords are the agents and swarms of the account. It implements Agents and Swarms.
type testRecords struct {
	mu     sync.Mutex
	agents map[identity.AgentID]identity.SwarmID // "" for none; guarded by mu
	swarms map[identity.SwarmID]bool             // guarded by mu
}

// SwarmOf implements Agents.
func (r *testRecords) SwarmOf(_ context.Context, _ database.Reader, in identity.AccountID, agent identity.AgentID) (identity.SwarmID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	swarm, ok := r.agents[agent]
	if in != account || !ok {
		return "", fault.New(fault.NotFound, "no such agent")
	}
	return swarm, nil
}

// CheckStaged implements Agents: every agent that there is not is being imported.
func (r *testRecords) CheckStaged(_ context.Context, _ database.Reader, _ identity.AccountID, agent identity.AgentID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.agents[agent]; ok {
		return fault.New(fault.NotFound, "the agent is not being imported")
	}
	return nil
}

// Exists implements Swarms.
func (r *testRecords) Exists(_ context.Context, _ database.Reader, in identity.AccountID, swarm identity.SwarmID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in != account || !r.swarms[swarm] {
		return fault.New(fault.NotFound, "no such swarm")
	}
	return nil
}

// setSwarm moves an agent into a swarm, or out of its swarm if swarm is "".
func (r *testRecords) setSwarm(agent identity.AgentID, swarm identity.SwarmID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.agents[agent] = swarm
}

func (r *testRecords) deleteSwarm(swarm identity.SwarmID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.swarms, swarm)
}

func agent(id identity.AgentID) Target { return Target{AgentID: id} }
func swarm(id identity.SwarmID) Target { return Target{SwarmID: id} }

// chunks returns a chunk of the source for each text.
func chunks(source string, texts ...string) []Chunk {
	all := make([]Chunk, len(texts))
	for i, text := range texts {
		all[i] = Chunk{Text: text, Source: source}
	}
	return all
}

// ingest fails the test if the ingest fails.
func (env *testEnv) ingest(t testing.TB, in IngestRequest) IngestResult {
	t.Helper()
	result, err := env.Ingest(context.WithoutCancel(t.Context()), actor, in)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// texts lists the texts of all entries of a target.
func (env *testEnv) texts(t testing.TB, target Target) []string {
	t.Helper()
	var all []string
	in := ListRequest{Target: target, Limit: 3}
	for {
		p, err := env.List(t.Context(), account, in)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Entries {
			all = append(all, e.Text)
		}
		if in.Offset = p.Next; p.Next == "" {
			return all
		}
	}
}

func wantTexts(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func wantFault(t testing.TB, err error, code fault.Code) {
	t.Helper()
	if !fault.Is(err, code) {
		t.Errorf("got %v, want a fault %s", err, code)
	}
}
