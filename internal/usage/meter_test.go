package usage

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// noon is in the middle of an hour.
var noon = time.Date(2026, 3, 4, 12, 34, 56, 0, time.UTC)

func newCall(agent identity.AgentID, session identity.SessionID, at time.Time) Call {
	return Call{
		AccountID: "acct_1", AgentID: agent, PeerID: "ana", SessionID: session, KeyID: "key_1", SwarmID: "s", Provider: provider.OpenAI, Model: "m", At: at,
		Tokens: Tokens{Input: 10, Output: 20, Reasoning: 5, CacheRead: 3, CacheWrite: 4},
	}
}

func newTestMeter(t *testing.T) (*Meter, *database.DB) {
	t.Helper()
	prices, err := LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	db := databasetest.New(t)
	return NewMeter(db, prices, slog.New(slog.DiscardHandler)), db
}

func list(t *testing.T, db *database.DB, by Grouping) []Row {
	t.Helper()
	rows, err := List(t.Context(), db, "acct_1", Query{From: noon.AddDate(-1, 0, 0), To: noon.AddDate(1, 0, 0), By: by, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestCallsOfAnHourAreSummed(t *testing.T) {
	m, db := newTestMeter(t)
	m.Record(t.Context(), newCall("a", "s1", noon))
	m.Record(t.Context(), newCall("a", "s1", noon.Add(20*time.Minute)))
	m.Record(t.Context(), newCall("a", "s1", noon.Add(time.Hour)))
	other := newCall("a", "s1", noon)
	other.AccountID = "acct_2"
	m.Record(t.Context(), other)
	rows := list(t, db, ByHour)
	want := Sum{Tokens: Tokens{Input: 20, Output: 40, Reasoning: 10, CacheRead: 6, CacheWrite: 8}, Requests: 2, Unpriced: 2}
	if len(rows) != 2 || rows[0].Sum != want || !rows[0].Begin.Equal(noon.Truncate(time.Hour)) || rows[1].Requests != 1 {
		t.Errorf("%+v", rows)
	}
}

// TestRowsOfAnHourAreBounded: a gateway that names another session and model in each call
// gets no row for each. Another agent, and the next hour, have their own rows, and the price
// is that of the model nevertheless.
func TestRowsOfAnHourAreBounded(t *testing.T) {
	m, db := newTestMeter(t)
	const calls = maxRowsOfHour + 20
	for i := range calls {
		c := newCall("a", identity.SessionID(fmt.Sprint(i)), noon)
		c.PeerID, c.Provider, c.Model = fmt.Sprint(i), provider.Anthropic, "claude-haiku-4-5"
		m.Record(t.Context(), c)
	}
	m.Record(t.Context(), newCall("b", "s", noon))
	m.Record(t.Context(), newCall("a", "s", noon.Add(time.Hour)))
	rows := list(t, db, BySession)
	var rest, all Sum
	for _, r := range rows {
		all.Add(r.Sum)
		if r.Group == "" {
			rest = r.Sum
		}
	}
	one, _ := m.prices.Cost(Call{Provider: provider.Anthropic, Model: "claude-haiku-4-5", At: noon, Tokens: newCall("", "", noon).Tokens})
	if len(rows) != maxRowsOfHour+2 || rest.Requests != 20 || rest.Micros != 20*one || all.Requests != calls+2 || all.Micros != calls*one {
		t.Errorf("%d rows, %+v in one, %+v in all", len(rows), rest, all)
	}
	if keys := list(t, db, ByKey); len(keys) != 1 || keys[0].Requests != calls+2 {
		t.Errorf("%+v", keys)
	}
}

func deleteAgent(t *testing.T, m *Meter, db *database.DB, agent identity.AgentID) {
	t.Helper()
	if err := db.Tx(t.Context(), "usage.test", func(ctx context.Context, tx *database.Tx) error {
		return m.DeleteAgent(ctx, tx, identity.BySystem("acct_1"), agent)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestADeletedAgentKeepsItsRowsWithoutPeers, also of calls that end later. Rows that differ only by
// the peer become one.
func TestADeletedAgentKeepsItsRowsWithoutPeers(t *testing.T) {
	m, db := newTestMeter(t)
	for i, peer := range []string{"ana", "ben", ""} {
		for _, agent := range []identity.AgentID{"a", "b"} {
			for hour := range 3 {
				c := newCall(agent, "s1", noon.Add(time.Duration(hour)*time.Hour))
				c.PeerID, c.Input = peer, int64(i)
				m.Record(t.Context(), c)
			}
		}
	}
	before := list(t, db, ByHour)
	if err := m.EmptyAgent(t.Context(), "acct_1", "a"); err != nil {
		t.Fatal(err)
	}
	deleteAgent(t, m, db, "a")
	if after := list(t, db, ByHour); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	late := newCall("a", "s1", noon.Add(2*time.Hour))
	m.Record(t.Context(), late)
	peers, err := database.All(t.Context(), db, database.Scalar[string], `SELECT DISTINCT agent_id || ':' || peer_id FROM usage ORDER BY 1`)
	if err != nil || fmt.Sprint(peers) != "[a: b: b:ana b:ben]" {
		t.Errorf("%v, %v", peers, err)
	}
	if rows, err := database.One(t.Context(), db, database.Scalar[int], `SELECT count(*) FROM usage WHERE agent_id = 'a'`); rows != 3 || err != nil {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// TestACallIsKeptWhileTheDatabaseTakesNoWrites: it is written as soon as it can be.
func TestACallIsKeptWhileTheDatabaseTakesNoWrites(t *testing.T) {
	m, db := newTestMeter(t)
	if err := exec(t, db, `CREATE TRIGGER refuse BEFORE INSERT ON usage BEGIN SELECT raise(ABORT, 'no'); END`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m.Record(t.Context(), newCall("a", "s1", noon))
	}
	if err := m.flush(t.Context()); err == nil {
		t.Error("flushed")
	}
	if err := exec(t, db, `DROP TRIGGER refuse`); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := m.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if rows := list(t, db, ByDay); len(rows) != 1 || rows[0].Requests != 3 {
		t.Errorf("%+v", rows)
	}
}

func exec(t *testing.T, db *database.DB, query string) error {
	t.Helper()
	return db.Tx(t.Context(), "usage.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	})
}

func TestCallsAreRecordedConcurrently(t *testing.T) {
	m, db := newTestMeter(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 10 {
				m.Record(t.Context(), newCall("a", identity.SessionID(fmt.Sprint("s", i%3)), noon))
			}
		})
	}
	all.Wait()
	if rows := list(t, db, ByDay); len(rows) != 1 || rows[0].Requests != 200 || rows[0].Output != 4000 {
		t.Errorf("%+v", rows)
	}
}

// TestADamagedRowIsNoError: what can be decoded of the others is billed.
func TestADamagedRowIsNoError(t *testing.T) {
	m, db := newTestMeter(t)
	m.Record(t.Context(), newCall("a", "s1", noon))
	m.Record(t.Context(), newCall("b", "s1", noon))
	for _, column := range []string{"requests", "input_tokens", "cost_micros"} {
		if err := exec(t, db, `UPDATE usage SET `+column+` = 'damaged' WHERE agent_id = 'b'`); err != nil {
			t.Fatal(err)
		}
	}
	rows := list(t, db, ByDay)
	if len(rows) != 1 || rows[0].Requests != 1 || rows[0].Output != 40 || rows[0].Input != 10 {
		t.Errorf("%+v", rows)
	}
}
