package modelproxy

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// noon is in the middle of an hour's bucket.
var noon = time.Date(2026, 3, 4, 12, 34, 56, 0, time.UTC)

func use(account, agent, session string, at time.Time) Use {
	return Use{
		AccountID: account, AgentID: agent, PeerID: "ana", SessionID: session, Provider: OpenAI, Model: "m", At: at,
		Counts: Counts{Requests: 1, Input: 10, Output: 20, CacheRead: 3, CacheWrite: 4},
	}
}

func rows(t *testing.T, m *Meter, account, agent string) []UsageRow {
	t.Helper()
	all, err := m.Usage(t.Context(), account, agent)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUsageAddsUpByHourAndSession(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	m.Add(use("acct_1", "a", "s1", noon))
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Add(use("acct_1", "a", "s1", noon.Add(20*time.Minute)))
	m.Add(use("acct_1", "a", "s1", noon.Add(time.Hour)))
	m.Add(use("acct_1", "a", "s2", noon))
	m.Add(use("acct_1", "b", "s1", noon))
	m.Add(use("acct_2", "a", "s1", noon))

	got := rows(t, m, "acct_1", "a")
	if len(got) != 3 || !got[0].Hour.Equal(time.Date(2026, 3, 4, 13, 0, 0, 0, time.UTC)) {
		t.Fatalf("got %+v", got)
	}
	want := UsageRow{
		AgentID: "a", PeerID: "ana", SessionID: "s1", Provider: OpenAI, Model: "m", Hour: noon.Truncate(time.Hour),
		Counts: Counts{Requests: 2, Input: 20, Output: 40, CacheRead: 6, CacheWrite: 8},
	}
	if got[1] != want {
		t.Errorf("got  %+v\nwant %+v", got[1], want)
	}
	if all := rows(t, m, "acct_1", ""); len(all) != 4 {
		t.Errorf("the account has %d rows", len(all))
	}
	if none := rows(t, m, "acct_3", "a"); len(none) != 0 {
		t.Errorf("a stranger sees %v", none)
	}
}

func TestForgetIsForOneAgent(t *testing.T) {
	db := databasetest.New(t)
	m := NewMeter(db, nil)
	for _, agent := range []string{"a", "b"} {
		m.Add(use("acct_1", agent, "s1", noon))
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Add(use("acct_1", "a", "s2", noon))
	if err := db.Tx(t.Context(), func(tx *database.Tx) error { return m.Forget(t.Context(), tx, "acct_1", "a") }); err != nil {
		t.Fatal(err)
	}
	if left := rows(t, m, "acct_1", ""); len(left) != 1 || left[0].AgentID != "b" {
		t.Errorf("left %+v", left)
	}
}

func TestRunWritesTheRestAtTheEnd(t *testing.T) {
	db := databasetest.New(t)
	m := NewMeter(db, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	var adders sync.WaitGroup
	for range 20 {
		adders.Go(func() {
			for range 50 {
				m.Add(use("acct_1", "a", "s1", noon))
			}
		})
	}
	adders.Wait()
	stop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	stored, err := usage(t.Context(), db, "acct_1", "a")
	if err != nil || len(stored) != 1 || stored[0].Requests != 1000 {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestWhatCannotBeWrittenIsKept(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	m.Add(use("acct_1", "a", "s1", noon))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Flush(gone); err == nil {
		t.Fatal("written with a cancelled context")
	}
	m.Add(use("acct_1", "a", "s1", noon))
	if got := rows(t, m, "acct_1", "a"); len(got) != 1 || got[0].Requests != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestAbsurdUsageIsNotBelieved: an endpoint of the customer's can say any number,
// and its sum must stay one that can be read.
func TestAbsurdUsageIsNotBelieved(t *testing.T) {
	m := NewMeter(databasetest.New(t), nil)
	for range 3 {
		tokens := tally{}
		tokens.take([]byte(`{"input_tokens":12,"output_tokens":9223372036854775807,"cache_read_input_tokens":9223372036854775807}`))
		u := use("acct_1", "a", "s1", noon)
		u.Counts = tokens.counts()
		m.Add(u)
		if err := m.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := rows(t, m, "acct_1", "a"); len(got) != 1 || got[0].Counts != (Counts{Requests: 3, Input: 36}) {
		t.Errorf("got %+v", got)
	}
}
