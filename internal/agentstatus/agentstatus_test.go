package agentstatus_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
)

func status(t *testing.T, e *agenttest.Env, id identity.AgentID) client.LiveStatus {
	t.Helper()
	live, err := e.Status.Status(e.Context(), agenttest.Account, id)
	e.Must(err)
	return live
}

func TestStatusWithoutAReportInspectsTheGateway(t *testing.T) {
	e := agenttest.New(t, func(s *agenttest.Settings) {
		s.Limits, s.Interval, s.Timing = runtime.Limits{MemoryBytes: 512 << 20}, time.Hour, reconciler.Timing{Backoff: time.Minute}
	})
	a := e.Create("ada")
	e.Driver.SetUsage(a.ID, 128<<20, time.Second)
	live := status(t, e, a.ID)
	if live.Source != "runtime" || !live.Live || live.ContainerStatus != "running" || live.Resources == nil || live.Resources.MemoryUsage != "128MiB / 512MiB" || live.Resources.CPUPercent != "0.00%" {
		t.Errorf("%+v %+v", live, live.Resources)
	}
	e.Driver.Kill(a.ID, 1)
	e.Until(a.ID, func(a agent.Agent) bool { return a.Status == client.Starting })
	if live := status(t, e, a.ID); live.Source != "runtime" || live.Live || live.ContainerStatus != "exited" || live.Resources != nil {
		t.Errorf("crashed: %+v", live)
	}
	e.Stop(a.ID)
	if live := status(t, e, a.ID); live.Live || live.ContainerStatus != "gone" || live.Status != client.Stopped {
		t.Errorf("stopped: %+v", live)
	}
}

func TestStatusFromMemory(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		if live := status(t, e, a.ID); live.Source != "runtime" {
			t.Errorf("before the first report: %+v", live)
		}
		e.Driver.SetUsage(a.ID, 64<<20, 0)
		time.Sleep(6 * time.Second) // two rounds
		e.Driver.SetUsage(a.ID, 96<<20, time.Second)
		time.Sleep(5 * time.Second)
		live := status(t, e, a.ID)
		if live.Source != "memory" || live.Resources == nil || live.Resources.MemoryUsage != "96MiB" || live.Resources.CPUPercent != "20.00%" {
			t.Errorf("%+v %+v", live, live.Resources)
		}

		e.Driver.Kill(a.ID, 1)
		e.Until(a.ID, func(now agent.Agent) bool { return now.Status == client.Running && now.Place != a.Place })
		if live := status(t, e, a.ID); live.Source != "runtime" {
			t.Errorf("a report on the gateway before: %+v", live)
		}
	})
}

// TestMovedUseIsTold once, to those who follow the agent.
func TestMovedUseIsTold(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.SetUsage(a.ID, 64<<20, 0)
		time.Sleep(time.Minute)
		news, stop := e.Events.Subscribe(event.AgentTopic(a.ID))
		defer stop()
		told := func() bool {
			time.Sleep(11 * time.Second) // two rounds
			select {
			case <-news:
				return true
			default:
				return false
			}
		}
		if told() {
			t.Error("told although nothing moves")
		}
		e.Driver.SetUsage(a.ID, 66<<20, 0)
		if told() {
			t.Error("told of a small change")
		}
		e.Driver.SetUsage(a.ID, 96<<20, 0)
		if !told() {
			t.Error("not told of half as much again")
		}
		if told() {
			t.Error("told twice")
		}
	})
}

// TestStatusFromRedis: two servers share one Redis, until it dies.
func TestStatusFromRedis(t *testing.T) {
	redis := miniredis.RunT(t)
	e := agenttest.New(t, func(s *agenttest.Settings) {
		s.Shared, s.Interval = openRedis(t, redis), 20*time.Millisecond
	})
	a := e.Create("ada")
	e.Driver.SetUsage(a.ID, 64<<20, 0)
	e.Eventually("a report in Redis", func() bool { return status(t, e, a.ID).Source == "redis" })

	other, err := agenttest.NewServer(agenttest.Settings{DB: e.DB, Driver: e.Driver, Log: slog.New(slog.DiscardHandler), Shared: openRedis(t, redis)})
	e.Must(err)
	e.Eventually("the other server reads it", func() bool {
		live, err := other.Status.Status(e.Context(), agenttest.Account, a.ID)
		e.Must(err)
		return live.Source == "redis"
	})
	redis.Close()
	e.Eventually("memory replaces it", func() bool { return status(t, e, a.ID).Source == "memory" })
	live, err := other.Status.Status(e.Context(), agenttest.Account, a.ID)
	if err != nil || live.Source != "runtime" {
		t.Errorf("%+v, %v", live, err)
	}
}

// BenchmarkRound measures a round of samples of hundreds of gateways.
func BenchmarkRound(b *testing.B) {
	e := agenttest.New(b, func(s *agenttest.Settings) { s.Interval = time.Hour })
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() { e.Create(fmt.Sprint(i)) })
	}
	all.Wait()
	round := e.Status.Sampler()
	for b.Loop() {
		if err := round(context.Background(), time.Minute); err != nil {
			b.Fatal(err)
		}
	}
}
