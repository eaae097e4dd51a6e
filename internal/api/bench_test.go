package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// BenchmarkFirstToken sends each message twice, straight to the scripted gateway
// and through agento, and reports what agento adds until the first word.
func BenchmarkFirstToken(b *testing.B) {
	h := open(b, plan{})
	owner := h.account("acme", "")
	id := owner.newAgent("A")
	gateway := h.straight(id)
	through := keys{h: h, account: owner.account}
	straightTimes, throughTimes, added := make([]time.Duration, b.N), make([]time.Duration, b.N), make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		straightTimes[i] = firstWord(b, gateway)
		throughTimes[i] = through.next().firstWord(id)
		added[i] = throughTimes[i] - straightTimes[i]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(percentile(straightTimes, 50)), "straight-p50-ms")
	b.ReportMetric(ms(percentile(throughTimes, 50)), "through-p50-ms")
	b.ReportMetric(ms(percentile(added, 50)), "added-p50-ms")
	b.ReportMetric(ms(percentile(added, 99)), "added-p99-ms")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// straight is a way to an agent's gateway around agento.
func (h *house) straight(id string) *openclaw.Gateway {
	h.t.Helper()
	gw := h.driver.Gateway(id)
	secrets, err := gw.Secrets()
	var known struct{ GatewayToken string }
	if err != nil || json.Unmarshal(secrets, &known) != nil {
		h.t.Fatalf("the gateway's token: %v", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return h.driver.Dial(ctx, gw.Place, id) }
	g := openclaw.NewGateway(dial, vault.NewSecret(known.GatewayToken))
	h.t.Cleanup(g.Close)
	return g
}

func firstWord(b *testing.B, g *openclaw.Gateway) time.Duration {
	b.Helper()
	var first time.Duration
	start := time.Now()
	_, err := g.Turn(b.Context(), openclaw.TurnRequest{
		Entry: openclaw.Main, SessionKey: openclaw.SessionKey(openclaw.Main, "", "straight"), Message: "Hello",
	}, func(string) error {
		if first == 0 {
			first = time.Since(start)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return first
}

func (c *caller) firstWord(id string) time.Duration {
	c.h.t.Helper()
	req := c.request(context.Background(), "POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hello"}`)
	start := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.h.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	in := bufio.NewReader(res.Body)
	line, err := in.ReadString('\n')
	first := time.Since(start)
	if err != nil || !strings.HasPrefix(line, `data: {"type":"text"`) {
		c.h.t.Fatalf("the first line is %q: %v", line, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		c.h.t.Fatal(err)
	}
	return first
}

// keys makes a new key whenever the one before is used up.
type keys struct {
	h       *house
	account string
	used    atomic.Int64
	mu      sync.Mutex
	all     []*caller // guarded by mu
}

func (k *keys) next() *caller {
	n := int(k.used.Add(1)-1) / (access.MaxRateLimit - 100)
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.all) <= n {
		k.all = append(k.all, k.h.key(k.account, access.AllScopes(), access.MaxRateLimit))
	}
	return k.all[n]
}

// BenchmarkStreams holds 1,000 chats open at once, each of another peer, and
// reports the memory of one in the server: what the process holds, without what
// the same chats hold straight at the gateway.
func BenchmarkStreams(b *testing.B) {
	const streams = 1000
	h := open(b, plan{})
	owner := h.account("acme", "")
	id := owner.newAgent("A")
	gateway := h.straight(id)
	through := keys{h: h, account: owner.account}
	var broken atomic.Int64
	var perStream float64
	for range b.N {
		straight := h.hold(streams, func(i int) error {
			_, err := gateway.Turn(context.Background(), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: fmt.Sprint("straight-", i), Message: "Hello",
			}, func(string) error { return nil })
			return err
		}, &broken)
		all := h.hold(streams, func(i int) error { return through.next().wholeChat(id, fmt.Sprint("peer-", i)) }, &broken)
		perStream = (all - straight) / streams / 1024
	}
	if broken.Load() > 0 {
		b.Errorf("%d streams broke", broken.Load())
	}
	b.ReportMetric(float64(broken.Load()), "broken")
	b.ReportMetric(perStream, "KiB/stream")
}

// hold lets n chats come half way, measures what they hold, and lets them end.
func (h *house) hold(n int, chat func(i int) error, broken *atomic.Int64) (bytes float64) {
	h.t.Helper()
	before := inUse()
	halfway := make(chan struct{}, n)
	goOn := make(chan struct{})
	h.gateways.answer(func(_ context.Context, t *turn, say sayFunc) {
		_ = say("one ")
		halfway <- struct{}{}
		<-goOn
		_ = say("two ")
		_ = say("three")
	})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := chat(i); err != nil {
				broken.Add(1)
				h.t.Log(err)
			}
		})
	}
	for range n {
		<-halfway
	}
	bytes = inUse() - before
	close(goOn)
	all.Wait()
	h.gateways.mu.Lock()
	h.gateways.turns = nil
	h.gateways.mu.Unlock()
	return bytes
}

// inUse is the memory in use, after what is garbage has gone.
func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// wholeChat fails unless the answer comes whole.
func (c *caller) wholeChat(id, peer string) error {
	req := c.request(context.Background(), "POST", "/v1/agents/"+id+"/chat/messages", map[string]string{"message": "Hello", "peerId": peer})
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if want := says("one ") + "\n\n" + says("two ") + "\n\n" + says("three") + "\n\n" + done + "\n\n"; string(text) != want {
		return fmt.Errorf("%s: the answer is %d %s", peer, res.StatusCode, text)
	}
	return nil
}

// BenchmarkStart opens a database with 10,000 stopped agents and waits for /readyz.
func BenchmarkStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "agento.db")
	stock(b, path, 10_000)
	b.ResetTimer()
	for range b.N {
		db, err := database.Open(b.Context(), database.Settings{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		h := open(b, plan{db: db})
		(&caller{h: h}).do("GET", "/readyz", nil).wants(200)
		b.StopTimer()
		h.close()
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(b.Elapsed())/float64(b.N), "ms/start")
}

// stock fills a database with stopped agents of one account, whose name is stock.
func stock(b *testing.B, path string, n int) {
	b.Helper()
	db, err := database.Open(b.Context(), database.Settings{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	h := open(b, plan{db: db})
	account := h.account("stock", "").account
	err = db.Tx(b.Context(), func(tx *database.Tx) error {
		for i := range n {
			_, err := tx.ExecContext(b.Context(),
				`INSERT INTO agents (id, account_id, name, region, config, desired_state, generation, observed_generation, status, created_at, stopped_at)
				 VALUES ($1, $2, $3, 'eu', '{"llmProvider":"anthropic"}', 'stopped', 2, 2, 'stopped', $4, $4)`,
				fmt.Sprintf("00000000-0000-4000-8000-%012d", i), account, fmt.Sprint("Agent ", i), 1_770_000_000_000+int64(i))
			if err != nil {
				return err
			}
		}
		return nil
	})
	h.close()
	if err := errors.Join(err, db.Close()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkListAgents(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("%d agents", n), func(b *testing.B) {
			h, through := stocked(b, n)
			requests(b, h, through, "/v1/agents")
		})
	}
}

func BenchmarkGetAgent(b *testing.B) {
	b.Run("running", func(b *testing.B) {
		h := open(b, plan{})
		who := h.account("acme", "")
		requests(b, h, &keys{h: h, account: who.account}, "/v1/agents/"+who.newAgent("A"))
	})
	b.Run("stopped", func(b *testing.B) {
		h := open(b, plan{})
		who := h.account("acme", "")
		id := who.newAgent("A")
		who.do("POST", "/v1/agents/"+id+"/stop", nil).wants(200)
		requests(b, h, &keys{h: h, account: who.account}, "/v1/agents/"+id)
	})
}

// stocked is a house whose account has n stopped agents.
func stocked(b *testing.B, n int) (*house, *keys) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "agento.db")
	stock(b, path, n)
	db, err := database.Open(b.Context(), database.Settings{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() }) // after the house, which is closed first
	h := open(b, plan{db: db})
	account, err := h.accounts.Account(b.Context(), "stock")
	if err != nil {
		b.Fatal(err)
	}
	return h, &keys{h: h, account: account.ID}
}

// requests asks for one path over HTTP, many at once, and reports how many a second.
func requests(b *testing.B, h *house, through *keys, path string) {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			res, err := client.Do(through.next().request(context.Background(), "GET", path, nil))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, res.Body) // its length is not what is measured
			_ = res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Errorf("status %d", res.StatusCode)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
