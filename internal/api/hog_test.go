//go:build !race

package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/logtest"
)

const (
	hogRounds     = 3 // quiet, then beside the hog
	turnsOfARound = 6
	hogFactor     = 10
	hogSlack      = 500 * time.Millisecond
)

// hog is what an account does with all its might until ctx ends.
type hog struct {
	name  string
	named bool // the log names it
	run   func(ctx context.Context, who *caller, agents []string)
}

// TestHogMatrix: one account takes as much as it can of something that all share. The turns
// of another account do not fail, and are not much slower than without it.
func TestHogMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, h := range []hog{
		{"records", false, hogRecords},
		{"bodies", true, hogBodies},
		{"streams", true, hogStreams},
		{"ingest", false, hogIngest},
		{"boots", false, hogBoots},
		{"descriptors", true, hogDescriptors},
	} {
		t.Run(h.name, func(t *testing.T) {
			log := &logtest.Buffer{}
			env := newEnv(t, options{Log: log, Budgets: budget.NewServer(budget.ServerSettings{Descriptors: 2048, Log: slog.New(slog.NewTextHandler(log, nil))})})
			testHog(t, env, h)
		})
	}
}

func testHog(t *testing.T, env *testEnv, h hog) {
	victim, who := env.newAccount("victim", ""), env.newAccount("hog", "")
	id := victim.newAgent("V")
	var agents []string
	for i := range 4 {
		agents = append(agents, who.newAgent(fmt.Sprint("H", i)))
	}
	turn := func() time.Duration {
		began := time.Now()
		res := victim.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hi"}`)
		if res.status != http.StatusOK || !strings.Contains(res.body, `{"type":"done"`) {
			t.Errorf("a turn of the victim: %d %s", res.status, res.body)
		}
		return time.Since(began)
	}
	turn()
	var quiet, hogged []time.Duration
	for range hogRounds {
		for range turnsOfARound {
			quiet = append(quiet, turn())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var running sync.WaitGroup
		running.Go(func() { h.run(ctx, who, agents) })
		if h.named { // it has all that it gets
			apitest.WaitUntil(t, "the log names the hog", func() bool {
				log := env.Log.String()
				return strings.Contains(log, "holder="+string(who.account)) || strings.Contains(log, "holder="+string(who.keyID)) || strings.Contains(log, "holder="+hogAddress)
			})
		}
		for range turnsOfARound {
			hogged = append(hogged, turn())
		}
		cancel()
		running.Wait()
	}
	before, beside := p90(quiet), p90(hogged)
	t.Logf("a turn takes %v, beside the hog %v", before, beside)
	if beside > hogFactor*before+hogSlack {
		t.Errorf("a turn takes %v beside the hog, and %v without it", beside, before)
	}
}

func p90(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)*9/10]
}

// repeat calls f in n goroutines until ctx ends.
func repeat(ctx context.Context, n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				f(i)
			}
		})
	}
	all.Wait()
}

// sendAsHog sends a request of the hog, which may fail.
func (c *caller) sendAsHog(ctx context.Context, method, path, body string) {
	res, err := http.DefaultClient.Do(c.request(ctx, method, path, body))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
}

// hogRecords writes documents and messages of the largest size.
func hogRecords(ctx context.Context, who *caller, agents []string) {
	rule := strings.Repeat("x", 60<<10)
	repeat(ctx, 4, func(i int) {
		if i%2 == 0 {
			who.sendAsHog(ctx, "PUT", "/v1/agents/"+agents[i]+"/rules/r", fmt.Sprintf(`{"content":"%d %s"}`, rand.Int64(), rule))
			return
		}
		who.sendAsHog(ctx, "POST", "/v1/agents/"+agents[i]+"/chat/messages", fmt.Sprintf(`{"message":"%s"}`, rule))
	})
}

// hogBodies begins bodies and never ends them.
func hogBodies(ctx context.Context, who *caller, _ []string) {
	repeat(ctx, 100, func(int) {
		req := who.request(ctx, "POST", "/v1/knowledge/ingest", "{}")
		req.Body, req.ContentLength = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 64<<10)), stalled{ctx})), 8<<20
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	})
}

// stalled is a reader that has nothing until its context ends.
type stalled struct{ ctx context.Context }

// Read implements io.Reader.
func (s stalled) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// hogStreams opens streams and does not read them.
func hogStreams(ctx context.Context, who *caller, agents []string) {
	repeat(ctx, 100, func(i int) {
		res, err := http.DefaultClient.Do(who.request(ctx, "GET", "/v1/agents/"+agents[i%len(agents)]+"/logs/stream", nil))
		if err != nil {
			return
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode == http.StatusOK {
			<-ctx.Done()
			return
		}
		select { // as a client does that obeys a little
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	})
}

// hogIngest ingests texts that look alike to the embedder and are hard to index.
func hogIngest(ctx context.Context, who *caller, agents []string) {
	repeat(ctx, 4, func(i int) {
		var body strings.Builder
		fmt.Fprintf(&body, `{"agentId":%q,"chunks":[`, agents[i/2])
		for n := range 100 {
			if n > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"source":"s","text":"`)
			for range 100 {
				fmt.Fprintf(&body, "%x ", rand.Uint32())
			}
			body.WriteString(`"}`)
		}
		body.WriteString(`]}`)
		who.sendAsHog(ctx, "POST", "/v1/knowledge/ingest", body.String())
	})
}

// hogBoots restarts its agents.
func hogBoots(ctx context.Context, who *caller, agents []string) {
	repeat(ctx, len(agents), func(i int) { who.sendAsHog(ctx, "POST", "/v1/agents/"+agents[i]+"/restart", "{}") })
}

// hogAddress is where hogDescriptors connects from.
const hogAddress = "127.0.0.2"

// hogDescriptors opens connections and sends nothing.
func hogDescriptors(ctx context.Context, who *caller, _ []string) {
	u, err := url.Parse(who.env.URL)
	if err != nil {
		return
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(hogAddress)}}
	repeat(ctx, 4, func(int) {
		var open []net.Conn
		for len(open) < 1000 && ctx.Err() == nil {
			if nc, err := dialer.DialContext(ctx, "tcp", u.Host); err == nil {
				open = append(open, nc)
			}
		}
		for _, nc := range open {
			_ = nc.Close()
		}
	})
}
