package reconciler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
)

// roomFor returns the memory that n agents fit in whose use was not measured.
func roomFor(n int64) int64 { return n * 12 << 30 / 10 }

// createAs creates an agent of an account, without waiting.
func createAs(e *agenttest.Env, account identity.AccountID, name string) identity.AgentID {
	accepted, err := e.Agents.Create(e.Context(), identity.ByKey(account, "key_1"), agenttest.NewAgent(name))
	e.Must(err)
	return accepted.ID
}

func untilWaiting(e *agenttest.Env, id identity.AgentID) agent.Agent {
	return e.Until(id, agent.Agent.WaitsForRoom)
}

// TestReservedRoomIsGivenBack: a creation that fails after it has got room.
func TestReservedRoomIsGivenBack(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = roomFor(1) }, func(t *testing.T, e *agenttest.Env) {
		e.Exec(`DROP TABLE documents`)
		if _, err := e.Agents.CreateWithRoom(t.Context(), e.Actor, agenttest.NewAgent("ada")); err == nil {
			t.Fatal("it was created without documents")
		}
		if err := e.Reconciler.Reserve(e.Context(), agenttest.Account, "another", "eu"); err != nil {
			t.Error(err)
		}
	})
}

// TestRoomGoesToAccountsInTurn: an account with many waiting agents does not keep another
// one from its turn.
func TestRoomGoesToAccountsInTurn(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = roomFor(1) }, func(t *testing.T, e *agenttest.Env) {
		e.Exec(`INSERT INTO accounts (id, name, plan_id, created_at) VALUES ('acct_2', 'acct_2', 'plan_self_hosted', 1)`)
		running := e.Create("first").ID
		var hog []identity.AgentID
		for range 3 {
			hog = append(hog, createAs(e, agenttest.Account, "hog"))
			untilWaiting(e, hog[len(hog)-1])
		}
		other := createAs(e, "acct_2", "other")
		untilWaiting(e, other)
		var order []identity.AgentID
		for range 4 {
			accepted, err := e.Agents.Stop(e.Context(), identity.ByKey(e.Find(running).AccountID, "key_1"), running)
			e.Must(err)
			_, err = e.Agents.AwaitStopped(e.Context(), accepted)
			e.Must(err)
			e.Eventually("the next one runs", func() bool { return e.Driver.RunningCount() == 1 })
			running = e.Driver.Running()[0]
			order = append(order, running)
			e.UntilStatus(running, client.Running)
		}
		if want := []identity.AgentID{hog[0], other, hog[1], hog[2]}; !slices.Equal(order, want) {
			t.Errorf("they ran as %v, want %v", order, want)
		}
	})
}

// TestRoomIsWhatWasMeasured: a gateway that uses less than expected makes room for
// another, and what it used is known to the next server.
func TestRoomIsWhatWasMeasured(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = roomFor(2) }, func(t *testing.T, e *agenttest.Env) {
		ada, bob := e.Create("ada"), e.Create("bob")
		eve := createAs(e, agenttest.Account, "eve")
		untilWaiting(e, eve)
		time.Sleep(time.Minute) // what gateways use is not known yet, which is no measure
		if bytes, err := e.Store.Memory(t.Context(), e.DB, ada.ID); err != nil || bytes != 0 {
			t.Errorf("%d bytes, %v", bytes, err)
		}
		e.Driver.SetUsage(ada.ID, 600<<20, time.Second)
		e.Driver.SetUsage(bob.ID, 600<<20, time.Second)
		e.UntilStatus(eve, client.Running)
		e.Driver.SetUsage(eve, 900<<20, time.Second)
		e.Eventually("it is measured", func() bool {
			bytes, err := e.Store.Memory(t.Context(), e.DB, eve)
			return err == nil && bytes == 900<<20
		})

		// 2.4 GiB: 0.6 + 0.6 + 0.9 leave room for none, also after a restart of the server.
		late := createAs(e, agenttest.Account, "late")
		untilWaiting(e, late)
		e.RestartServer(e.Adjust)
		time.Sleep(time.Hour)
		if !e.Find(late).WaitsForRoom() || e.Driver.Starts(late) != 0 {
			t.Errorf("after a restart: %+v", e.Find(late))
		}
		e.Driver.SetUsage(ada.ID, 2<<30, time.Second) // more than there is: it goes on
		time.Sleep(time.Minute)
		e.Stop(bob.ID)
		time.Sleep(time.Hour)
		if e.Driver.Starts(late) != 0 || !e.Find(ada.ID).IsRunning() {
			t.Error("a gateway that needs more memory than expected leaves room for another")
		}
		e.Stop(ada.ID)
		e.UntilStatus(late, client.Running)
	})
}

// TestWaiterThatNeverFits: it does not keep others waiting.
func TestWaiterThatNeverFits(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = roomFor(2) }, func(t *testing.T, e *agenttest.Env) {
		large := e.Create("large")
		e.Driver.SetUsage(large.ID, 20<<30, time.Second)
		time.Sleep(time.Minute)
		e.Stop(large.ID)
		ada, bob := e.Create("ada"), e.Create("bob")
		_, err := e.Agents.Start(e.Context(), e.Actor, large.ID)
		e.Must(err)
		untilWaiting(e, large.ID)
		e.Stop(ada.ID)
		e.Create("eve")
		e.Stop(bob.ID)
		if !e.Find(large.ID).WaitsForRoom() {
			t.Errorf("%+v", e.Find(large.ID))
		}
	})
}

// TestOneAgentAlwaysRuns: on a machine that is too small for what is expected.
func TestOneAgentAlwaysRuns(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = 1 }, func(t *testing.T, e *agenttest.Env) {
		ada := e.Create("ada")
		bob := createAs(e, agenttest.Account, "bob")
		untilWaiting(e, bob)
		e.Stop(ada.ID)
		e.UntilStatus(bob, client.Running)
	})
}

// TestExpectedMemoryIsAtMostTheLimit: five agents whose limit is 512 MiB fit in 2.5 GiB.
func TestExpectedMemoryIsAtMostTheLimit(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) {
		s.Memory, s.Limits = 5<<29, runtime.Limits{MemoryBytes: 1 << 29}
	}, func(t *testing.T, e *agenttest.Env) {
		for range 5 {
			e.Create("small")
		}
		untilWaiting(e, createAs(e, agenttest.Account, "late"))
	})
}

// TestSlotsGoToAccountsInTurn: of five boots of one account and one of another, the
// latter is the second.
func TestSlotsGoToAccountsInTurn(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.MaxBoots = 1 }, func(t *testing.T, e *agenttest.Env) {
		e.Exec(`INSERT INTO accounts (id, name, plan_id, created_at) VALUES ('acct_2', 'acct_2', 'plan_self_hosted', 1)`)
		e.Driver.DelayStart(10 * time.Second)
		for range 5 {
			createAs(e, agenttest.Account, "hog")
		}
		time.Sleep(time.Second) // all of them wait
		began := time.Now()
		e.UntilStatus(createAs(e, "acct_2", "other"), client.Running)
		if took := time.Since(began); took > 31*time.Second {
			t.Errorf("the boot of another account took %s", took)
		}
	})
}

// TestBootThatDoesNothing: it ends after 20 s and counts as a failure.
func TestBootThatDoesNothing(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) {
		s.MaxBoots, s.Timing = 1, reconciler.Timing{}
	}, func(t *testing.T, e *agenttest.Env) {
		e.Scripts.NeverReady.Store(true)
		hung := createAs(e, agenttest.Account, "hung")
		e.Driver.Hang(hung, true)
		began := time.Now()
		now := e.Until(hung, func(a agent.Agent) bool { return len(a.Retry.Failures) == 1 })
		if took := time.Since(began); took > 30*time.Second || !strings.Contains(now.LastError, "did nothing for 20s") {
			t.Errorf("after %s: %q", took, now.LastError)
		}
		e.UntilHours(hung, func(a agent.Agent) bool { return a.HasFailed() })
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("it is in error after %s", took)
		}
	})
}

// TestBootThatTakesLongGivesItsSlotAway: it goes on, and another one begins.
func TestBootThatTakesLongGivesItsSlotAway(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.MaxBoots = 1 }, func(t *testing.T, e *agenttest.Env) {
		e.Scripts.NeverReady.Store(true)
		slow := createAs(e, agenttest.Account, "slow")
		e.Until(slow, func(a agent.Agent) bool { return a.Place != "" })
		next := createAs(e, agenttest.Account, "next")
		time.Sleep(59 * time.Second)
		if e.Driver.Starts(next) != 0 {
			t.Error("two boots share a slot")
		}
		time.Sleep(2 * time.Second)
		if e.Driver.Starts(next) != 1 || e.Driver.Starts(slow) != 1 {
			t.Errorf("%d and %d starts", e.Driver.Starts(slow), e.Driver.Starts(next))
		}
		e.Scripts.NeverReady.Store(false)
		e.UntilStatus(slow, client.Running)
		e.UntilStatus(next, client.Running)
		if n := e.Reconciler.BootCount(); n != 0 {
			t.Errorf("%d slots are taken", n)
		}
	})
}
