package modelproxy

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

func newUsage(account identity.AccountID, agent identity.AgentID, session identity.SessionID, at time.Time) CallUsage {
	return CallUsage{
		AccountID: account, AgentID: agent, PeerID: "ana", SessionID: session, Provider: provider.OpenAI, Model: "m", At: at,
		Counts: Counts{Requests: 1, Input: 10, Output: 20, CacheRead: 3, CacheWrite: 4},
	}
}

func readUsage(t *testing.T, m *Meter, account identity.AccountID, agent identity.AgentID) []HourlyUsage {
	t.Helper()
	all, err := m.Usage(t.Context(), account, agent)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUsageIsSummedByHourAndSession(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	m.Add(newUsage("acct_1", "a", "s1", noon))
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Add(newUsage("acct_1", "a", "s1", noon.Add(20*time.Minute)))
	m.Add(newUsage("acct_1", "a", "s1", noon.Add(time.Hour)))
	m.Add(newUsage("acct_1", "a", "s2", noon))
	m.Add(newUsage("acct_1", "b", "s1", noon))
	m.Add(newUsage("acct_2", "a", "s1", noon))

	got := readUsage(t, m, "acct_1", "a")
	if len(got) != 3 || !got[0].Hour.Equal(time.Date(2026, 3, 4, 13, 0, 0, 0, time.UTC)) {
		t.Fatalf("got %+v", got)
	}
	want := HourlyUsage{
		AgentID: "a", PeerID: "ana", SessionID: "s1", Provider: provider.OpenAI, Model: "m", Hour: noon.Truncate(time.Hour),
		Counts: Counts{Requests: 2, Input: 20, Output: 40, CacheRead: 6, CacheWrite: 8},
	}
	if got[1] != want {
		t.Errorf("got  %+v\nwant %+v", got[1], want)
	}
	if all := readUsage(t, m, "acct_1", ""); len(all) != 4 {
		t.Errorf("the account has %d rows", len(all))
	}
	if none := readUsage(t, m, "acct_3", "a"); len(none) != 0 {
		t.Errorf("another account gets %v", none)
	}
}

// TestRowsOfAnHourAreBounded: a gateway that names another session and model in each call
// gets no row for each. Another agent, and the next hour, have their own rows.
func TestRowsOfAnHourAreBounded(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	at := time.Date(2026, 2, 10, 14, 0, 0, 0, time.UTC)
	add := func(agent identity.AgentID, i int, at time.Time) {
		m.Add(CallUsage{AccountID: "acct_1", AgentID: agent, PeerID: "p", SessionID: identity.SessionID(fmt.Sprint(i)), Model: fmt.Sprint(i), At: at, Counts: Counts{Requests: 1, Input: 2}})
	}
	for i := range 3 * maxRowsOfHour {
		add("a", i, at)
		if i%200 == 0 {
			if err := m.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("a", 0, at) // has its row
	add("b", 1, at)
	add("a", 1, at.Add(time.Hour))
	rows, err := m.Usage(t.Context(), "acct_1", "")
	var total, rest Counts
	for _, r := range rows {
		total.add(r.Counts)
		if r.SessionID == "" {
			rest = r.Counts
		}
	}
	if err != nil || len(rows) != maxRowsOfHour+3 || total.Requests != 3*maxRowsOfHour+3 || rest.Requests != 2*maxRowsOfHour || rest.Input != 4*maxRowsOfHour {
		t.Errorf("%d rows, %+v of them in one, %+v in all, %v", len(rows), rest, total, err)
	}
}

func TestDeleteAgentDeletesOneAgentsUsage(t *testing.T) {
	db := databasetest.New(t)
	m := NewMeter(db, nil)
	for _, agent := range []identity.AgentID{"a", "b"} {
		m.Add(newUsage("acct_1", agent, "s1", noon))
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Add(newUsage("acct_1", "a", "s2", noon))
	if err := db.Tx(t.Context(), "modelproxy.test", func(ctx context.Context, tx *database.Tx) error {
		return m.DeleteAgent(t.Context(), tx, identity.BySystem("acct_1"), "a")
	}); err != nil {
		t.Fatal(err)
	}
	if left := readUsage(t, m, "acct_1", ""); len(left) != 1 || left[0].AgentID != "b" {
		t.Errorf("left %+v", left)
	}
}

func TestRunFlushesWhenItsContextEnds(t *testing.T) {
	db := databasetest.New(t)
	m := NewMeter(db, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	var adders sync.WaitGroup
	for range 20 {
		adders.Go(func() {
			for range 50 {
				m.Add(newUsage("acct_1", "a", "s1", noon))
			}
		})
	}
	adders.Wait()
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	stored, err := listUsage(t.Context(), db, "acct_1", "a")
	if err != nil || len(stored) != 1 || stored[0].Requests != 1000 {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestAFailedFlushIsRetried(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	m.Add(newUsage("acct_1", "a", "s1", noon))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Flush(cancelled); err == nil {
		t.Fatal("Flush succeeded with a cancelled context")
	}
	m.Add(newUsage("acct_1", "a", "s1", noon))
	if got := readUsage(t, m, "acct_1", "a"); len(got) != 1 || got[0].Requests != 2 {
		t.Errorf("got %+v", got)
	}
}

// A customer's endpoint can report any number, and the sum must not overflow.
func TestUsageAboveTheMaximumIsIgnored(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	for range 3 {
		tokens := tally{}
		tokens.add([]byte(`{"input_tokens":12,"output_tokens":9223372036854775807,"cache_read_input_tokens":9223372036854775807}`))
		u := newUsage("acct_1", "a", "s1", noon)
		u.Counts = tokens.counts()
		m.Add(u)
		if err := m.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := readUsage(t, m, "acct_1", "a"); len(got) != 1 || got[0].Counts != (Counts{Requests: 3, Input: 36}) {
		t.Errorf("got %+v", got)
	}
}
