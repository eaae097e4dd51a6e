package dashboard

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
)

// addAgents adds stopped agents to the account, without gateways.
func (env *testEnv) addAgents(n int) {
	env.t.Helper()
	err := env.DB.Tx(env.t.Context(), "dashboard.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range n {
			if _, err := tx.ExecContext(ctx,
				`INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, observed_generation, status, created_at, stopped_at)
				 VALUES ($1, $2, $3, 'eu', '{"llmProvider":"anthropic"}', 'stopped', 2, 2, 'stopped', $4, $4)`,
				fmt.Sprintf("00000000-0000-4000-8000-%012d", i), env.account, fmt.Sprint("Agent of the customer number ", i), 1_770_000_000_000+int64(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		env.t.Fatal(err)
	}
}

// BenchmarkPages reads pages of an account with 1,000 agents, and reports how long the server
// takes for each: below 20 ms for 99 of 100.
func BenchmarkPages(b *testing.B) {
	env := newEnv(b)
	env.addAgents(1000)
	id := env.agent("Support")
	who := env.as(access.Owner)
	for _, path := range []string{"/", "/knowledge", "/skills", "/swarms", "/keys", "/widgets", "/usage", "/audit", "/account", "/agents", "/agents?sort=-cost&page=3", "/agents?search=number+99", "/agents/" + id, "/agents/new", "/palette?q=number", "/profile"} {
		b.Run(strings.ReplaceAll(path, id, "ID"), func(b *testing.B) {
			var times []time.Duration
			for range b.N {
				req := who.request(b.Context(), http.MethodGet, path, nil)
				req.Header.Set(accountHeader, string(env.account))
				began := time.Now()
				who.do(req).has(http.StatusOK)
				times = append(times, time.Since(began))
			}
			slices.Sort(times)
			b.ReportMetric(0, "ns/op")
			for _, p := range []int{50, 99} {
				b.ReportMetric(float64(times[(len(times)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}

// TestSizeOfPages: the first page is at most 100 KB with everything that it needs, transferred,
// and its scripts are at most 40 KB.
func TestSizeOfPages(t *testing.T) {
	env := newEnv(t)
	env.addAgents(200)
	b := env.as(access.Owner)
	for _, r := range env.pages.table {
		path, ok := strings.CutPrefix(r.pattern, "GET ")
		if !ok || path == "/live" {
			continue
		}
		page := b.get(strings.ReplaceAll(path, "{id}", "00000000-0000-4000-8000-000000000001"))
		if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
			continue
		}
		scripts, all := 0, len(page.Body) // pages are not compressed
		for _, m := range regexp.MustCompile(`(?:src|href)="/app/assets/([^"]+)"`).FindAllStringSubmatch(page.Body, -1) {
			one := env.pages.pages.assets.byPath[m[1]]
			all += len(one.compressed)
			if strings.HasSuffix(m[1], ".js") {
				scripts += len(one.compressed)
			}
		}
		if all > 100<<10 || scripts > 40<<10 {
			t.Errorf("%s has %d bytes, of which %d are scripts", path, all, scripts)
		}
	}
}

func TestCompressedAssetsAreTheSame(t *testing.T) {
	for name, one := range readAssets().byName {
		r, err := gzip.NewReader(bytes.NewReader(one.compressed))
		if err != nil {
			t.Fatal(err)
		}
		var plain bytes.Buffer
		if _, err := plain.ReadFrom(r); err != nil || !bytes.Equal(plain.Bytes(), one.plain) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
