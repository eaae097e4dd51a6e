package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

// recordUsage counts two calls for the only account of a data directory.
func recordUsage(t *testing.T, dir string, account string) {
	t.Helper()
	db, err := database.Open(t.Context(), database.Settings{Path: filepath.Join(dir, "agento.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	prices, err := usage.LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	meter := usage.NewMeter(db, prices, nil)
	for _, model := range []string{"claude-sonnet-5", "llama"} {
		meter.Record(context.Background(), usage.Call{
			AccountID: identity.AccountID(account), AgentID: "3f0c2ab1-0000-4000-8000-000000000001", PeerID: "ev\x1bil", Provider: provider.Anthropic, Model: model, At: time.Now(),
			Tokens: usage.Tokens{Input: 1_000_000, Output: 1, CacheRead: 500}, Estimated: model == "llama",
		})
	}
}

// TestUsageWithoutAServer reads the database of a data directory.
func TestUsageWithoutAServer(t *testing.T) {
	t.Setenv("AGENTO_API_KEY", "")
	dir := t.TempDir()
	t.Setenv("AGENTO_DATA", dir)
	if got := command(t, "", "usage"); got.code != exitNotFound {
		t.Errorf("no database: %+v", got)
	}
	if got := command(t, "", "migrate"); got.code != 0 {
		t.Fatal(got)
	}
	created := command(t, "", "accounts", "create", "acme", "--json")
	var account struct{ ID string }
	if err := json.Unmarshal([]byte(created.out), &account); err != nil {
		t.Fatal(err, created)
	}
	recordUsage(t, dir, account.ID)

	got := command(t, "", "usage", "--by", "model")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if got.code != 0 || len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "MODEL REQUESTS INPUT OUTPUT CACHED COST" ||
		strings.Join(strings.Fields(lines[1]), " ") != "anthropic/claude-sonnet-5 1 1000500 1 500 $2.00011" || !strings.HasSuffix(lines[2], "unknown") ||
		strings.Join(strings.Fields(lines[3]), " ") != "total 2 2001000 2 1000 $2.00011 + unknown" {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.err, "price of 1 of 2 requests is unknown") || !strings.Contains(got.err, "tokens of 1 of 2 requests are estimated") {
		t.Error(got.err)
	}
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if peers := command(t, "", "usage", "--by", "peer"); strings.Contains(peers.out, "\x1b") || !strings.Contains(peers.out, "il") {
		t.Errorf("%+v", peers)
	}
	var rows []client.Usage
	if got := command(t, "", "usage", "--json", "--agent", "3f0c2ab1-0000-4000-8000-000000000001", "--from", "1d"); json.Unmarshal([]byte(got.out), &rows) != nil || len(rows) != 1 || rows[0].Requests != 2 {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "usage", "--csv", "--account", "acme", "--by", "key"); got.code != 0 {
		t.Errorf("%+v", got)
	} else if table, err := csv.NewReader(strings.NewReader(got.out)).ReadAll(); err != nil || len(table) != 2 || table[1][2] != "2" {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "usage", "--json", "--to", "2020-01-31"); got.code != 0 || strings.TrimSpace(got.out) != "[]" {
		t.Errorf("%+v", got)
	}
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"--by", "week"}, exitUsage, "day"}, {[]string{"--from", "yesterday"}, exitUsage, "write 7d"}, {[]string{"--csv", "--json"}, exitUsage, "not both"},
		{[]string{"--agent", "nobody"}, exitNotFound, "agento agents list"}, {[]string{"--account", "nobody"}, exitNotFound, "nobody"}, {[]string{"--from", "2026-01-02", "--to", "2026-01-01"}, exitUsage, "before"},
		{[]string{"--data", filepath.Join(dir, "none")}, exitNotFound, "AGENTO_API_KEY"},
	} {
		if got := command(t, "", append([]string{"usage"}, c.args...)...); got.code != c.code || !strings.Contains(got.err, c.say) {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
}

func TestFormatCost(t *testing.T) {
	for micros, want := range map[int64]string{0: "$0.00", 1: "$0.000001", 10: "$0.00001", 1_500_000: "$1.50", 12_000_000: "$12.00", 120_340_000: "$120.34"} {
		if got := formatCost(client.Cost{CostMicros: &micros, Requests: 1}); got != want {
			t.Errorf("%d: %s, want %s", micros, got, want)
		}
	}
	if got := formatCost(client.Cost{Requests: 1, UnpricedRequests: 1}); got != "unknown" {
		t.Error(got)
	}
}
