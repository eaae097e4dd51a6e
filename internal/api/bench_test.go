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
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// BenchmarkFirstToken sends each message twice, directly to the scripted gateway and
// through agento, and reports how much later the first text arrives through agento.
func BenchmarkFirstToken(b *testing.B) {
	env := newEnv(b, options{})
	owner := env.newAccount("acme", "")
	id := owner.newAgent("A")
	gateway := env.dialGateway(identity.AgentID(id))
	pool := keyPool{env: env, account: owner.account}
	directTimes, throughTimes, added := make([]time.Duration, b.N), make([]time.Duration, b.N), make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		directTimes[i] = timeToFirstText(b, gateway)
		throughTimes[i] = pool.next().timeToFirstText(id)
		added[i] = throughTimes[i] - directTimes[i]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(percentile(directTimes, 50)), "direct-p50-ms")
	b.ReportMetric(ms(percentile(throughTimes, 50)), "through-p50-ms")
	b.ReportMetric(ms(percentile(added, 50)), "added-p50-ms")
	b.ReportMetric(ms(percentile(added, 99)), "added-p99-ms")
}

// BenchmarkOpenAIFirstToken sends each message twice, as one of this API and as one of OpenAI's,
// to the same session of a peer, and reports how much later the first text of the latter arrives.
func BenchmarkOpenAIFirstToken(b *testing.B) {
	env := newEnv(b, options{})
	owner := env.newAccount("acme", "")
	id := owner.newAgent("A")
	pool := keyPool{env: env, account: owner.account}
	native, openAI, added := make([]time.Duration, b.N), make([]time.Duration, b.N), make([]time.Duration, b.N)
	b.ResetTimer()
	for i := range b.N {
		c := pool.next()
		own := func() {
			native[i] = c.timeToFirst("/v1/agents/"+id+"/chat/messages", `{"message":"Hello","peerId":"ana"}`, `data: {"type":"text"`)
		}
		other := func() {
			openAI[i] = c.timeToFirst(completions, `{"model":"`+id+`","stream":true,"user":"ana","messages":[{"role":"user","content":"Hello"}]}`, `data: {"id":"chatcmpl-`)
		}
		if i%2 == 0 { // the second of two may find more in caches
			own()
			other()
		} else {
			other()
			own()
		}
		added[i] = openAI[i] - native[i]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(percentile(native, 50)), "native-p50-ms")
	b.ReportMetric(ms(percentile(openAI, 50)), "openai-p50-ms")
	b.ReportMetric(ms(percentile(added, 50)), "added-p50-ms")
	b.ReportMetric(ms(percentile(added, 99)), "added-p99-ms")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func percentile(times []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// dialGateway returns a client of an agent's gateway that bypasses agento.
func (env *testEnv) dialGateway(id identity.AgentID) *openclaw.Gateway {
	env.T.Helper()
	gw := env.Driver.Gateway(id)
	secrets, err := gw.Secrets()
	var known struct{ GatewayToken string }
	if err != nil || json.Unmarshal(secrets, &known) != nil {
		env.T.Fatalf("the gateway's token: %v", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return env.Driver.Dial(ctx, gw.Place, id) }
	g := openclaw.NewGateway(dial, vault.NewSecret(known.GatewayToken))
	env.T.Cleanup(g.Close)
	return g
}

func timeToFirstText(b *testing.B, g *openclaw.Gateway) time.Duration {
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

func (c *caller) timeToFirstText(id string) time.Duration {
	c.env.T.Helper()
	return c.timeToFirst("/v1/agents/"+id+"/chat/messages", `{"message":"Hello"}`, `data: {"type":"text"`)
}

// timeToFirst returns when the first event of the response to a POST arrives, which must begin
// with a text.
func (c *caller) timeToFirst(path, body, text string) time.Duration {
	c.env.T.Helper()
	req := c.request(context.Background(), "POST", path, body)
	start := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.env.T.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	in := bufio.NewReader(res.Body)
	line, err := in.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "id: ") {
		line, err = in.ReadString('\n')
	}
	first := time.Since(start)
	if err != nil || !strings.HasPrefix(line, text) {
		c.env.T.Fatalf("the first line is %q: %v", line, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		c.env.T.Fatal(err)
	}
	return first
}

// keyPool creates a new key whenever the last one has reached its rate limit.
type keyPool struct {
	env     *testEnv
	account identity.AccountID
	used    atomic.Int64
	mu      sync.Mutex
	all     []*caller // guarded by mu
}

func (k *keyPool) next() *caller {
	n := int(k.used.Add(1)-1) / (access.MaxRateLimit - 100)
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.all) <= n {
		k.all = append(k.all, k.env.newKey(k.account, access.AllScopes(), access.MaxRateLimit))
	}
	return k.all[n]
}

// BenchmarkFiftyTurns runs 50 turns at once, each of another peer with an answer of 3
// pieces, and reports how many end in a second. It also reports the transactions of a
// turn, and how much they add to the write-ahead log.
func BenchmarkFiftyTurns(b *testing.B) {
	const atOnce, counted = 50, 10 // SQLite begins the log anew at 4 MB
	path := filepath.Join(b.TempDir(), "agento.db")
	if _, err := database.Migrate(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	var transactions atomic.Int64
	db, err := database.Open(b.Context(), database.Settings{Path: path, Observe: func(kind string, _ time.Duration) {
		if strings.HasPrefix(kind, "chat.") {
			transactions.Add(1)
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	env := newEnv(b, options{DB: db})
	owner := env.newAccount("acme", "")
	id := owner.newAgent("A")
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		for _, piece := range []string{"one ", "two ", "three"} {
			_ = send(piece)
		}
	})
	pool := keyPool{env: env, account: owner.account}
	round := func(turns int) {
		var all sync.WaitGroup
		for i := range turns {
			all.Go(func() {
				if err := pool.next().wholeChat(id, fmt.Sprint("peer-", i)); err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		env.Gateways.ResetTurns()
	}
	size := func() float64 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			b.Fatal(err)
		}
		return float64(info.Size())
	}
	round(counted) // their sessions start
	transactions.Store(0)
	before := size()
	round(counted)
	bytes, perTurn := size()-before, float64(transactions.Load())/counted
	round(atOnce)
	b.ResetTimer()
	for range b.N {
		round(atOnce)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(atOnce*float64(b.N)/b.Elapsed().Seconds(), "turns/s")
	b.ReportMetric(perTurn, "transactions/turn")
	b.ReportMetric(bytes/counted/1024, "KiB-log/turn")
}

// BenchmarkStreams keeps 1,000 chats open at once, each of another peer, and reports
// the server's memory for one: that of the process, less that of the same chats
// directly at the gateway.
func BenchmarkStreams(b *testing.B) {
	const streams = 1000
	env := newEnv(b, options{})
	owner := env.newAccount("acme", "")
	id := owner.newAgent("A")
	gateway := env.dialGateway(identity.AgentID(id))
	pool := keyPool{env: env, account: owner.account}
	var broken atomic.Int64
	var perStream float64
	for range b.N {
		direct := env.memoryOfChats(streams, func(i int) error {
			_, err := gateway.Turn(context.Background(), openclaw.TurnRequest{
				Entry: openclaw.Guest, SessionKey: fmt.Sprint("straight-", i), Message: "Hello",
			}, func(string) error { return nil })
			return err
		}, &broken)
		all := env.memoryOfChats(streams, func(i int) error { return pool.next().wholeChat(id, fmt.Sprint("peer-", i)) }, &broken)
		perStream = (all - direct) / streams / 1024
	}
	if broken.Load() > 0 {
		b.Errorf("%d streams broke", broken.Load())
	}
	b.ReportMetric(float64(broken.Load()), "broken")
	b.ReportMetric(perStream, "KiB/stream")
}

// memoryOfChats pauses n chats in the middle, measures their memory and lets them end.
func (env *testEnv) memoryOfChats(n int, chat func(i int) error, broken *atomic.Int64) (bytes float64) {
	env.T.Helper()
	before := memoryInUse()
	halfway := make(chan struct{}, n)
	resume := make(chan struct{})
	env.Gateways.SetScript(func(_ context.Context, t *apitest.Turn, send apitest.Send) {
		_ = send("one ")
		halfway <- struct{}{}
		<-resume
		_ = send("two ")
		_ = send("three")
	})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := chat(i); err != nil {
				broken.Add(1)
				env.T.Log(err)
			}
		})
	}
	for range n {
		<-halfway
	}
	bytes = memoryInUse() - before
	close(resume)
	all.Wait()
	env.Gateways.ResetTurns()
	return bytes
}

// memoryInUse returns the memory in use after a garbage collection.
func memoryInUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// wholeChat returns an error unless the answer is complete.
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
	var want strings.Builder
	for i, event := range []string{textEvent("one "), textEvent("two "), textEvent("three"), doneEvent} {
		fmt.Fprintf(&want, "id: %d\n%s\n\n", i+1, event)
	}
	if got := sessionOfDone.ReplaceAll(text, nil); string(got) != want.String() {
		return fmt.Errorf("%s: the answer is %d %s", peer, res.StatusCode, text)
	}
	return nil
}

// BenchmarkStart opens a database with 10,000 stopped agents and waits for /readyz.
func BenchmarkStart(b *testing.B) {
	path := filepath.Join(b.TempDir(), "agento.db")
	seedAgents(b, path, 10_000)
	b.ResetTimer()
	for range b.N {
		db, err := database.Open(b.Context(), database.Settings{Path: path})
		if err != nil {
			b.Fatal(err)
		}
		env := newEnv(b, options{DB: db})
		(&caller{env: env}).do("GET", "/readyz", nil).expect(200)
		b.StopTimer()
		env.Close()
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(b.Elapsed())/float64(b.N), "ms/start")
}

// seedAgents fills a database with n stopped agents of one account, named stock.
func seedAgents(b *testing.B, path string, n int) {
	b.Helper()
	db := databasetest.Open(b, path)
	env := newEnv(b, options{DB: db})
	account := env.newAccount("stock", "").account
	err := db.Tx(b.Context(), "api.test", func(ctx context.Context, tx *database.Tx) error {
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
	env.Close()
	if err := errors.Join(err, db.Close()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkListAgents(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("%d agents", n), func(b *testing.B) {
			pool := envWithAgents(b, n)
			benchmarkGet(b, pool, "/v1/agents")
		})
	}
}

// BenchmarkGetAgent reads a running and a stopped agent in turns, with 8 callers for
// each processor, and reports the rate of each and how many times as long the running
// one takes.
func BenchmarkGetAgent(b *testing.B) {
	env := newEnv(b, options{})
	who := env.newAccount("acme", "")
	running, stopped := who.newAgent("A"), who.newAgent("B")
	who.do("POST", "/v1/agents/"+stopped+"/stop", nil).expect(200)
	pool := &keyPool{env: env, account: who.account}
	client := newParallelClient(b)
	var mu sync.Mutex
	var runningTimes, stoppedTimes []time.Duration
	b.RunParallel(func(pb *testing.PB) {
		var ofRunning, ofStopped []time.Duration
		for pb.Next() {
			ofRunning = append(ofRunning, timeGet(b, client, pool, "/v1/agents/"+running))
			ofStopped = append(ofStopped, timeGet(b, client, pool, "/v1/agents/"+stopped))
		}
		mu.Lock()
		defer mu.Unlock()
		runningTimes, stoppedTimes = append(runningTimes, ofRunning...), append(stoppedTimes, ofStopped...)
	})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(2*float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	b.ReportMetric(ms(percentile(runningTimes, 50)), "running-p50-ms")
	b.ReportMetric(ms(percentile(stoppedTimes, 50)), "stopped-p50-ms")
	b.ReportMetric(ms(total(runningTimes))/ms(total(stoppedTimes)), "running/stopped")
}

func total(times []time.Duration) (sum time.Duration) {
	for _, d := range times {
		sum += d
	}
	return sum
}

// envWithAgents returns an environment whose account has n stopped agents.
func envWithAgents(b *testing.B, n int) *keyPool {
	b.Helper()
	path := filepath.Join(b.TempDir(), "agento.db")
	seedAgents(b, path, n)
	db, err := database.Open(b.Context(), database.Settings{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() }) // after the environment, which is closed first
	env := newEnv(b, options{DB: db})
	account, err := env.Access.Account(b.Context(), "stock")
	if err != nil {
		b.Fatal(err)
	}
	return &keyPool{env: env, account: account.ID}
}

// benchmarkGet sends concurrent GET requests over HTTP and reports how many are
// answered in a second.
func benchmarkGet(b *testing.B, pool *keyPool, path string) {
	b.Helper()
	client := newParallelClient(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			timeGet(b, client, pool, path)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// newParallelClient returns a client for b.RunParallel, and starts the clock of b.
func newParallelClient(b *testing.B) *http.Client {
	b.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	b.Cleanup(transport.CloseIdleConnections)
	b.SetParallelism(8)
	b.ResetTimer()
	return &http.Client{Transport: transport}
}

// timeGet sends a GET request and returns how long the response took.
func timeGet(b *testing.B, client *http.Client, pool *keyPool, path string) time.Duration {
	b.Helper()
	request := pool.next().request(context.Background(), "GET", path, nil)
	began := time.Now()
	res, err := client.Do(request)
	if err != nil {
		b.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body) // its length does not matter
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.Errorf("status %d", res.StatusCode)
	}
	return time.Since(began)
}
