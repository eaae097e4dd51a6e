package reconciler_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
)

// stealLease gives the lease of an agent to a process that does not exist.
func stealLease(e *agenttest.Env, id identity.AgentID, d time.Duration) {
	e.Exec(`UPDATE agents SET holder = 'ghost', lease_number = lease_number + 1, lease_until = $1 WHERE id = $2`, time.Now().Add(d).UnixMilli(), id)
}

// TestLeasesAreRenewedAndGivenBack: only agents that have something to do are held.
func TestLeasesAreRenewedAndGivenBack(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a, b := e.Create("ada"), e.Create("bob")
		e.Stop(b.ID)
		time.Sleep(time.Hour)
		now := e.Find(a.ID)
		if left := time.Until(now.Lease.Until); now.Lease.Holder == "" || now.Lease.Number != 1 || left < 6*time.Second || now.Server == "" || now.Power != agent.PowerAwake {
			t.Errorf("%+v, %s left", now.Lease, left)
		}
		if stopped := e.Find(b.ID); stopped.Lease.Holder != "" || stopped.Server != now.Server {
			t.Errorf("stopped: %+v on %q", stopped.Lease, stopped.Server)
		}
		e.StopServer()
		if now := e.Find(a.ID); now.Lease.Holder != "" {
			t.Errorf("after a clean stop: %+v", now.Lease)
		}
		e.StartServer()
		synctest.Wait()
		if now := e.Find(a.ID); now.Lease.Holder == "" || now.Lease.Number != 2 || e.Driver.Starts(a.ID) != 1 {
			t.Errorf("the next server: %+v", now.Lease)
		}
	})
}

// TestNextServerWaitsForTheLease: a server that died has not given its leases back. The
// next one waits until they end, or takes them at once if it knows that nobody holds them.
func TestNextServerWaitsForTheLease(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		t.Run(fmt.Sprint("exclusive=", exclusive), func(t *testing.T) {
			agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
				a := e.Create("ada")
				e.StopServer()
				stealLease(e, a.ID, 8*time.Second)
				e.Driver.Kill(a.ID, 1)
				began := time.Now()
				e.Adjust = func(s *agenttest.Settings) { s.Exclusive = exclusive }
				e.StartServer()
				e.Until(a.ID, func(now agent.Agent) bool { return now.Status == client.Running && now.Place != a.Place })
				took := time.Since(began)
				if exclusive && took > time.Second || !exclusive && (took < 8*time.Second || took > 15*time.Second) {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

// TestLateHolderChangesNothing: two servers work on one database. One stalls in the
// middle of a boot until its lease has ended and the other has taken the agent.
func TestLateHolderChangesNothing(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		stalled, resume := make(chan struct{}), make(chan struct{})
		var once sync.Once
		e.RestartServer(func(s *agenttest.Settings) {
			s.Timing = reconciler.Timing{RenewInterval: time.Hour} // it stalls as a whole
			s.Driver = agenttest.HookedDriver{Driver: e.Driver, Before: func(method string) error {
				if method == "Home" { // between the saved place and the start
					once.Do(func() { close(stalled); <-resume })
				}
				return nil
			}}
		})
		accepted, err := e.Agents.Create(e.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		<-stalled
		if e.Driver.Starts(accepted.ID) != 0 {
			t.Fatal("the gateway was started before the stall")
		}
		other, err := agenttest.NewServer(agenttest.Settings{DB: e.DB, Driver: e.Driver, Log: slog.New(slog.DiscardHandler)})
		e.Must(err)
		ctx, cancel := context.WithCancel(t.Context())
		var loops sync.WaitGroup
		for _, loop := range other.Loops() {
			loops.Go(func() { _ = loop(ctx) })
		}
		defer loops.Wait()
		defer cancel()
		before := e.UntilStatus(accepted.ID, client.Running)
		if before.Lease.Number != 2 || e.Driver.Starts(accepted.ID) != 1 {
			t.Errorf("the other server: %+v, %d starts", before.Lease, e.Driver.Starts(accepted.ID))
		}
		close(resume)
		time.Sleep(time.Minute)
		now := e.Find(accepted.ID)
		if now.Place != before.Place || now.Status != client.Running || now.Lease.Number != 2 || e.Driver.Starts(now.ID) != 1 {
			t.Errorf("after the late server: %+v, %d starts", now, e.Driver.Starts(now.ID))
		}
	})
}

// TestLateRenewals: a server that is too slow to renew its leases takes them again, and
// does no harm to what runs.
func TestLateRenewals(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Timing = reconciler.Timing{RenewInterval: 30 * time.Second} }, func(t *testing.T, e *agenttest.Env) {
		e.Driver.DelayStart(45 * time.Second) // longer than a lease
		accepted, err := e.Agents.Create(t.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		time.Sleep(40 * time.Second)
		e.Driver.DelayStart(0)
		time.Sleep(10 * time.Minute)
		now := e.Find(accepted.ID)
		if now.Status != client.Running || now.Lease.Number < 2 || e.Driver.RunningCount() != 1 || len(now.Retry.Failures) > 0 {
			t.Errorf("%+v, %d gateways", now, e.Driver.RunningCount())
		}
		e.Driver.Kill(now.ID, 1)
		time.Sleep(time.Minute)
		if again := e.Find(now.ID); again.Status != client.Running || again.Place == now.Place {
			t.Errorf("after a crash: %+v", again)
		}
	})
}

// TestTakeOverContinuesTheBackOff: the next server does not begin to count anew.
func TestTakeOverContinuesTheBackOff(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Timing = reconciler.Timing{} }, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.ExitAfterStart(a.ID, 100, 3)
		began := time.Now()
		e.Driver.Kill(a.ID, 3)
		for failures := 1; failures < 5; failures++ {
			e.Until(a.ID, func(a agent.Agent) bool { return len(a.Retry.Failures) == failures })
			e.StopServer()
			e.StartServer()
		}
		e.UntilStatus(a.ID, client.Errored)
		if took := time.Since(began).Round(time.Second); took != 15*time.Second || e.Driver.Starts(a.ID) != 5 {
			t.Errorf("took %s, %d starts", took, e.Driver.Starts(a.ID))
		}
	})
}

// TestTurnMarksTheAgentAsUsed: the record says so to a minute.
func TestTurnMarksTheAgentAsUsed(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		turn := func() time.Time {
			_, err := e.Turn(a.ID)
			e.Must(err)
			return e.Find(a.ID).LastUsedAt
		}
		first := turn()
		time.Sleep(30 * time.Second)
		second := turn()
		time.Sleep(31 * time.Second)
		third := turn()
		if first.IsZero() || !second.Equal(first) || third.Sub(first) < time.Minute {
			t.Errorf("%s, %s, %s", first, second, third)
		}
		e.Must(e.DB.Tx(t.Context(), "reconciler.test", func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE agents SET last_used_at = $1`, database.Millis(time.Now().Add(24*time.Hour)))
			return err
		}))
		if now := turn(); now.After(time.Now()) {
			t.Errorf("after the clock was set back, the agent was used at %s, which is in the future", now)
		}
	})
}

// TestAnyOrderConverges makes random changes, crashes of gateways and of servers, and
// losses of leases. Afterwards each agent must be what was last asked for. The driver
// records a second start of a gateway that runs, which ends the test with an error.
func TestAnyOrderConverges(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
				random := rand.New(rand.NewPCG(seed, 10))
				c := chaos{e, random, e.Create("ada").ID}
				for range 60 {
					c.change()
					time.Sleep(time.Duration(random.IntN(3)*random.IntN(3000)) * time.Millisecond)
				}
				c.settle(t)
			})
		})
	}
}

type chaos struct {
	e      *agenttest.Env
	random *rand.Rand
	id     identity.AgentID
}

func (c chaos) change() {
	e, ctx := c.e, c.e.Context()
	var err error
	switch c.random.IntN(10) {
	case 0:
		_, err = e.Agents.Start(ctx, e.Actor, c.id)
	case 1:
		_, err = e.Agents.Stop(ctx, e.Actor, c.id)
	case 2:
		_, err = e.Agents.Restart(ctx, e.Actor, c.id)
	case 3:
		_, err = e.Agents.Update(ctx, e.Actor, c.id, client.UpdateAgentRequest{Config: map[string]any{"model": fmt.Sprint("m", c.random.IntN(3))}})
	case 4:
		e.Driver.Kill(c.id, 1+c.random.IntN(3))
	case 5:
		e.StopServer()
		e.StartServer()
	case 6: // a server that gives no lease back
		e.StopServer()
		stealLease(e, c.id, time.Duration(c.random.IntN(10_000))*time.Millisecond)
		e.StartServer()
	case 7:
		stealLease(e, c.id, time.Duration(c.random.IntN(5000))*time.Millisecond)
	case 8:
		e.Driver.DelayStart(time.Duration(c.random.IntN(4)) * time.Second)
		e.Driver.DelayStop(time.Duration(c.random.IntN(4)) * time.Second)
	case 9:
		e.Scripts.NeverReady.Store(c.random.IntN(3) == 0)
	}
	e.Must(err)
}

// settle ends the disturbances, and checks what becomes of the last request and of a
// deletion.
func (c chaos) settle(t *testing.T) {
	t.Helper()
	e := c.e
	e.Scripts.NeverReady.Store(false)
	e.UntilHours(c.id, func(a agent.Agent) bool {
		return a.ObservedGeneration == a.Generation && (a.Status == client.Running || a.Place == "" && a.Status != client.Starting)
	})
	now := e.Find(c.id)
	want := map[bool]int{true: 1, false: 0}[now.DesiredState == agent.DesiredRunning && now.Status != client.Errored]
	if e.Driver.RunningCount() != want || (want == 1) != (now.Status == client.Running) {
		t.Errorf("desired %s, is %s with %d gateways: %s", now.DesiredState, now.Status, e.Driver.RunningCount(), now.LastError)
	}
	accepted, err := e.Agents.Delete(t.Context(), e.Actor, c.id)
	e.Must(err)
	e.Must(e.Agents.AwaitDeleted(t.Context(), accepted))
	e.CheckNothingLeft(c.id)
}
