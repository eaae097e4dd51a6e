package agent

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// TestReports is what every Reports promises.
func TestReports(t *testing.T) {
	server := startRedis(t)
	for name, open := range map[string]func(t *testing.T) Reports{
		"memory": func(*testing.T) Reports { return &MemoryReports{} },
		"redis":  func(t *testing.T) Reports { return openRedis(t, server.url) },
	} {
		t.Run(name, func(t *testing.T) { testReports(t, open(t)) })
	}
}

func testReports(t *testing.T, r Reports) {
	ctx := t.Context()
	get := func(id string) (Report, bool) {
		t.Helper()
		report, ok, err := r.Get(ctx, id)
		if err != nil {
			t.Error(err)
		}
		return report, ok
	}
	put := func(fresh time.Duration, reports map[string]Report) {
		t.Helper()
		if err := r.Put(ctx, reports, fresh); err != nil {
			t.Error(err)
		}
	}
	if got, ok := get("nobody"); ok {
		t.Errorf("nobody: %+v", got)
	}
	put(time.Minute, nil)
	a := Report{Place: "place/1", Phase: runtime.Running, MemoryBytes: 5 << 30, MemoryLimit: 6 << 30, CPU: 12.5, At: time.Now().UTC().Round(0)}
	b := Report{Place: "place/2", Phase: runtime.Exited, At: a.At}
	put(time.Minute, map[string]Report{"a": a, "b": b})
	if got, ok := get("a"); !ok || got != a {
		t.Errorf("%+v instead of %+v", got, a)
	}
	if got, ok := get("b"); !ok || got != b {
		t.Errorf("%+v instead of %+v", got, b)
	}
	a.MemoryBytes = 1
	put(time.Minute, map[string]Report{"a": a})
	if got, ok := get("a"); !ok || got != a {
		t.Errorf("the newer: %+v, %v", got, ok)
	}
	if _, ok := get("b"); !ok {
		t.Error("a report on one took another's away")
	}
	put(20*time.Millisecond, map[string]Report{"a": a})
	within(t, "it is no longer fresh", func() bool { _, ok := get("a"); return !ok })

	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				id := fmt.Sprint(i, "/", n%3)
				put(time.Minute, map[string]Report{id: {Place: id}})
				if got, ok := get(id); !ok || got.Place != id {
					t.Errorf("%s: %+v", id, got)
				}
			}
		})
	}
	all.Wait()
}

func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// redisServer is a Redis of the test's own.
type redisServer struct {
	url string
	cmd *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("redis-server is needed: apt-get install redis-server: %v", err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := &redisServer{url: fmt.Sprintf("redis://127.0.0.1:%d/0", port)}
	s.cmd = exec.CommandContext(t.Context(), program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may be dead already
		_ = s.cmd.Wait()
	})
	within(t, "Redis answers", func() bool {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil && c.Close() == nil
	})
	return s
}

func openRedis(t *testing.T, url string) *RedisReports {
	t.Helper()
	r, err := OpenRedisReports(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRedisURL(t *testing.T) {
	if _, err := OpenRedisReports("http://localhost"); err == nil {
		t.Error("no error")
	}
}

func (w *world) status(id string) client.LiveStatus {
	w.t.Helper()
	live, err := w.Status(w.ctx(), w.who, id)
	w.must(err)
	return live
}

func TestStatus(t *testing.T) {
	w := newWorld(t, func(s *Settings) {
		s.Limits, s.Timing = runtime.Limits{MemoryBytes: 512 << 20}, Timing{Report: time.Hour, Backoff: time.Hour}
	})
	a := w.create("ada")
	w.driver.SetUsage(identity.AgentID(a.ID), 128<<20, time.Second)
	live := w.status(a.ID)
	if live.Source != "runtime" || !live.Live || live.ContainerStatus != "running" || live.Resources == nil || live.Resources.MemoryUsage != "128MiB / 512MiB" || live.Resources.CPUPercent != "0.00%" {
		t.Errorf("%+v %+v", live, live.Resources)
	}
	w.driver.Kill(identity.AgentID(a.ID), 1)
	w.until(a.ID, func(a Agent) bool { return a.Status == client.Starting })
	if live := w.status(a.ID); live.Source != "runtime" || live.Live || live.ContainerStatus != "exited" || live.Resources != nil {
		t.Errorf("crashed: %+v", live)
	}
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitStopped(w.ctx(), asked)
	w.must(err)
	if live := w.status(a.ID); live.Live || live.ContainerStatus != "gone" || live.Status != client.Stopped {
		t.Errorf("stopped: %+v", live)
	}
}

func TestStatusFromMemory(t *testing.T) {
	inBubble(t, func(s *Settings) { s.Limits = runtime.Limits{} }, func(t *testing.T, w *world) {
		a := w.create("ada")
		if live := w.status(a.ID); live.Source != "runtime" {
			t.Errorf("before the first report: %+v", live)
		}
		w.driver.SetUsage(identity.AgentID(a.ID), 64<<20, 0)
		time.Sleep(6 * time.Second) // two rounds
		w.driver.SetUsage(identity.AgentID(a.ID), 96<<20, time.Second)
		time.Sleep(5 * time.Second)
		live := w.status(a.ID)
		if live.Source != "memory" || live.Resources == nil || live.Resources.MemoryUsage != "96MiB" || live.Resources.CPUPercent != "20.00%" {
			t.Errorf("%+v %+v", live, live.Resources)
		}

		w.driver.Kill(identity.AgentID(a.ID), 1)
		w.until(a.ID, func(now Agent) bool { return now.Status == client.Running && now.Place != a.Place })
		if live := w.status(a.ID); live.Source != "runtime" {
			t.Errorf("a report on the gateway before: %+v", live)
		}
	})
}

// TestStatusFromRedis has two servers that share one Redis, until it dies.
func TestStatusFromRedis(t *testing.T) {
	server := startRedis(t)
	w := newWorld(t, func(s *Settings) {
		s.Reports, s.Timing = openRedis(t, server.url), Timing{Report: 20 * time.Millisecond}
	})
	a := w.create("ada")
	w.driver.SetUsage(identity.AgentID(a.ID), 64<<20, 0)
	w.eventually("a report in Redis", func() bool { return w.status(a.ID).Source == "redis" })

	other, _ := New(Settings{DB: w.db, Events: w.Events, Vault: w.Vault, Driver: w.driver, Log: w.log(), Reports: openRedis(t, server.url)})
	w.eventually("the other server reads it", func() bool {
		live, err := other.Status(w.ctx(), w.who, a.ID)
		w.must(err)
		return live.Source == "redis"
	})
	if err := server.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("memory stands in", func() bool { return w.status(a.ID).Source == "memory" })
	live, err := other.Status(w.ctx(), w.who, a.ID)
	if err != nil || live.Source != "runtime" {
		t.Errorf("%+v, %v", live, err)
	}
}

// BenchmarkRound is what a round of reports on hundreds of gateways costs.
func BenchmarkRound(b *testing.B) {
	w := newWorld(b, func(s *Settings) { s.Timing = Timing{Report: time.Hour} })
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() { w.create(fmt.Sprint(i)) })
	}
	all.Wait()
	s := &sampler{Service: w.Service}
	for b.Loop() {
		if err := s.round(context.Background(), time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
