package modelproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/usage"
)

// The environment of the process that TestMeteredProxyProcess runs in.
const (
	processDatabase = "AGENTO_TEST_METERED_DATABASE"
	processModel    = "AGENTO_TEST_METERED_MODEL"
)

// TestMeteredProxyProcess is no test but the process that TestKilledServersCountEachCallOnce kills.
func TestMeteredProxyProcess(t *testing.T) {
	path := os.Getenv(processDatabase)
	if path == "" {
		t.Skip("only TestKilledServersCountEachCallOnce runs it")
	}
	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	prices, err := usage.LoadPrices("")
	if err != nil {
		t.Fatal(err)
	}
	p := New(Settings{
		Resolver: testResolver{base: os.Getenv(processModel)}, Guard: netguard.Guard{AllowPrivate: true}, Attribute: attribute,
		Meter: usage.NewMeter(db, prices, nil),
	})
	server := httptest.NewServer(p)
	fmt.Println("listens on", server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the process that has started it
	server.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// startProcess starts the process and returns its address.
func startProcess(t *testing.T, database, model string) (url string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMeteredProxyProcess$", "-test.v") //nolint:noctx // it is killed below
	cmd.Env = append(os.Environ(), processDatabase+"="+database, processModel+"="+model)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // SIGKILL
		_ = in.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, address, ok := strings.Cut(lines.Text(), "listens on "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return address, kill
		}
	}
	t.Fatal("the process has not started")
	return "", nil
}

// TestKilledServersCountEachCallOnce kills the server 20 times at random while agents call the
// model. Each call names a model of its own: a call that a gateway has got to its end has one
// request, and no call has two.
func TestKilledServersCountEachCallOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agento.db")
	if err := databasetest.Open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	model := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one ", "two ", "three"}, Usage: &devmodel.Usage{Input: 7, Output: 9, CacheRead: 3, CacheWrite: 0}}))
	forms := everyForm()
	var number atomic.Int64
	var mu sync.Mutex
	completed := map[string]bool{}
	for range 20 {
		url, kill := startProcess(t, path, model.URL())
		alive, stop := context.WithCancel(t.Context())
		var agents sync.WaitGroup
		for range 4 {
			agents.Go(func() {
				for alive.Err() == nil {
					n := number.Add(1)
					name := fmt.Sprintf("model-%d", n)
					if callOnce(alive, url, forms[int(n)%len(forms)], name) == nil {
						mu.Lock()
						completed[name] = true
						mu.Unlock()
					}
				}
			})
		}
		time.Sleep(time.Duration(20+rand.N(80)) * time.Millisecond) // the moment is random
		kill()
		stop()
		agents.Wait()
	}

	db, err := database.Open(t.Context(), database.Settings{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	counted := map[string]usage.Sum{}
	query := usage.Query{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), By: usage.ByModel, Limit: 1_000_000}
	rows, err := usage.List(t.Context(), db, "acct_1", query)
	if err != nil {
		t.Fatal(err)
	}
	var sum usage.Sum
	for _, r := range rows {
		_, name, _ := strings.Cut(r.Group, "/")
		counted[name] = r.Sum
		sum.Add(r.Sum)
		if r.Requests != 1 {
			t.Errorf("%s was counted %d times", name, r.Requests)
		}
	}
	want := usage.Sum{Tokens: usage.Tokens{Input: 7, Output: 9, CacheRead: 3}, Requests: 1, Unpriced: 1}
	for name := range completed {
		if counted[name] != want {
			t.Errorf("%s has come to its end, and is counted as %+v", name, counted[name])
		}
	}
	if len(completed) < 20 || int64(len(rows)) > number.Load() {
		t.Errorf("%d calls, %d completed, %d counted", number.Load(), len(completed), len(rows))
	}
	for _, by := range []usage.Grouping{usage.ByHour, usage.ByAgent, usage.ByPeer, usage.BySession, usage.ByKey, usage.BySwarm} {
		query.By = by
		groups, err := usage.List(t.Context(), db, "acct_1", query)
		var of usage.Sum
		for _, g := range groups {
			of.Add(g.Sum)
		}
		if err != nil || of != sum {
			t.Errorf("by %s: %+v, want %+v, %v", by, of, sum, err)
		}
	}
	t.Logf("%d calls, %d completed, %d counted", number.Load(), len(completed), len(rows))
}

// callOnce makes a call of a model with that name. It returns nil if the answer has come to its
// end.
func callOnce(ctx context.Context, url string, c call, name string) error {
	body, path := strings.ReplaceAll(c.body, `"m1"`, `"`+name+`"`), strings.ReplaceAll(c.path, "/m1:", "/"+name+":")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	c.setKey(req.Header, agentToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}
