package power_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
)

// machineOfLedger has the memory that the processes and files of a machine really take, in MB. Its
// agents do whatever the ledger allows, in any order.
type machineOfLedger struct {
	t      *testing.T
	ledger *power.Ledger
	random *rand.Rand
	limit  int64
	agents map[identity.AgentID]*sleeper
	exact  bool             // gateways use what is expected, and their checkpoints as much
	packs  identity.AgentID // whose checkpoint is being compressed; empty: none
	peak   int64
	done   map[string]int
}

// sleeper is an agent with what it really takes.
type sleeper struct {
	state                                string // "", awake, suspending, asleep, waking
	gateway, image, pack, written, trash int64
	stored                               int64
	discard                              func() // tells the ledger that the trash is deleted
	known                                bool   // the ledger knows the form of its checkpoint
}

const (
	gatewayMB = 1100 // that a gateway is expected to use
	packShare = 3
)

// upTo returns what is used of what is expected.
func (m *machineOfLedger) upTo(expected int64) int64 {
	if m.exact {
		return expected
	}
	return 1 + m.random.Int64N(expected)
}

func (m *machineOfLedger) memory() (bytes int64) {
	for _, a := range m.agents {
		bytes += a.gateway + a.image + a.pack + a.written + a.trash
	}
	return bytes
}

// check checks what is taken after each step.
func (m *machineOfLedger) check(what string) {
	m.t.Helper()
	m.done[what]++
	used, counted := m.memory(), m.ledger.Total()
	m.peak = max(m.peak, used)
	if used > counted || used > m.limit || counted > m.limit {
		m.t.Fatalf("after %s: %d MB are used, %d counted, of %d", what, used, counted, m.limit)
	}
}

// step does something with a random agent.
func (m *machineOfLedger) step(id identity.AgentID, a *sleeper) {
	switch what := m.random.IntN(8); {
	case a.state == "" && what < 1, a.state == "asleep" && what < 3:
		m.wake(id, a)
	case a.state == "awake" && what < 4:
		if _, ok := m.ledger.BeginSuspend(id); ok {
			a.state = "suspending"
			a.written = m.upTo(a.gateway)
			m.check("the beginning of a suspend")
		}
	case a.state == "suspending" && what == 7:
		a.state, a.written = "awake", 0
		m.ledger.EndSuspend(id)
		m.check("a suspend that failed")
	case a.state == "suspending":
		a.state, a.image, a.written, a.gateway = "asleep", a.written, 0, 0
		m.look(id, a)
		m.check("a suspend")
	case a.state == "waking":
		a.state = "awake"
		m.check("a wake")
	case a.state == "asleep" && what == 3 && a.pack == 0 && a.stored == 0 && m.packs == "":
		m.packs = id
		a.pack = a.image / packShare
		m.check("the beginning of a compression")
	case a.state == "asleep" && what == 4 && m.packs == "" && a.stored == 0:
		a.stored, a.pack, a.written = max(a.pack, a.image/packShare), 0, a.image
		a.image, a.written = 0, 0
		a.known = false
		m.check("a move")
	case a.state == "asleep" && what == 5:
		m.look(id, a)
		m.check("a look")
	case a.state == "asleep" && what == 6 && m.packs != id:
		a.image, a.pack, a.stored, a.state = 0, 0, 0, ""
		m.ledger.Sleep(id, power.Kept{})
		m.check("the end of a checkpoint")
	}
	if a.trash > 0 && m.random.IntN(3) == 0 {
		a.trash = 0
		a.discard()
		m.check("a deletion")
	}
	if m.packs != "" && m.random.IntN(3) == 0 {
		m.endPack()
	}
}

// look tells the ledger what an agent that sleeps takes.
func (m *machineOfLedger) look(id identity.AgentID, a *sleeper) {
	k := power.Kept{Bytes: a.image + a.pack, Wake: a.image / packShare, Stored: a.stored}
	switch {
	case m.packs == id: // both forms are there
		k.Bytes = a.image
	case a.pack > 0 || a.stored > 0:
		k.Wake = packShare*max(a.pack, a.stored) + packShare
	}
	m.ledger.Sleep(id, k)
}

func (m *machineOfLedger) endPack() {
	a := m.agents[m.packs]
	m.packs = ""
	if a.state == "asleep" {
		a.image = 0
	}
	m.check("a compression")
}

// wake wakes an agent, or starts it, if that fits.
func (m *machineOfLedger) wake(id identity.AgentID, a *sleeper) {
	if !m.ledger.Fits(id, gatewayMB) {
		return
	}
	m.ledger.Enter(id, gatewayMB)
	if m.packs == id { // the work on the checkpoint is interrupted
		m.packs, a.pack = "", 0
	}
	a.state, a.gateway = "waking", m.upTo(gatewayMB)
	if a.pack > 0 || a.stored > 0 {
		a.image = packShare * max(a.pack, a.stored)
	}
	m.check("the beginning of a wake")
	deleted := m.ledger.UseUp(id)
	previous := a.discard
	if a.trash == 0 {
		previous = func() {}
	}
	a.trash, a.image, a.pack, a.stored = a.trash+a.image+a.pack, 0, 0, 0
	a.discard = func() { previous(); deleted() }
	m.ledger.ExpectSuspend(id, gatewayMB)
	m.check("the use of a checkpoint")
}

// TestLedgerHolds: whatever is suspended, woken, compressed, moved and given up in whatever order, the
// memory suffices, what is used is counted, and there is always a way on.
func TestLedgerHolds(t *testing.T) {
	for _, limit := range []int64{6 * gatewayMB, 10_000, 17_000, 60_000} {
		for seed := range uint64(20) {
			t.Run(fmt.Sprintf("%d MB, %d", limit, seed), func(t *testing.T) {
				m := &machineOfLedger{t: t, ledger: power.NewLedger(limit, true), random: rand.New(rand.NewPCG(seed, 15)), limit: limit, exact: seed%2 == 0, agents: map[identity.AgentID]*sleeper{}, done: map[string]int{}}
				var ids []identity.AgentID
				for i := range 60 {
					id := identity.AgentID(strconv.Itoa(i))
					m.agents[id] = &sleeper{}
					ids = append(ids, id)
				}
				for range 20_000 {
					id := ids[m.random.IntN(len(ids))]
					m.step(id, m.agents[id])
				}
				for _, what := range []string{"the beginning of a suspend", "a suspend that failed", "a wake", "a compression", "a move", "a deletion", "the end of a checkpoint"} {
					if m.done[what] < 3 {
						t.Errorf("%s: %d times", what, m.done[what])
					}
				}
				if m.peak < limit/3 {
					t.Errorf("only %d MB were used of %d", m.peak, limit)
				}
				m.allSleep(ids)
			})
		}
	}
}

// allSleep suspends every gateway one after the other, which is always possible, at the latest after
// all checkpoints are given up.
func (m *machineOfLedger) allSleep(ids []identity.AgentID) {
	m.endAll(ids)
	for _, id := range ids {
		a := m.agents[id]
		if a.state != "awake" {
			continue
		}
		if missing, ok := m.ledger.BeginSuspend(id); !ok {
			var asleep []power.Checkpoint
			for id, k := range m.ledger.Asleep() {
				asleep = append(asleep, power.Checkpoint{ID: id, Bytes: k.Bytes})
			}
			slices.SortFunc(asleep, func(a, b power.Checkpoint) int { return int(a.Bytes - b.Bytes) })
			for _, other := range power.Leave(missing, asleep) {
				m.ledger.Sleep(other, power.Kept{})
				*m.agents[other] = sleeper{}
			}
			if missing, ok = m.ledger.BeginSuspend(id); !ok {
				m.t.Fatalf("%d MB are missing for a suspend, %+v", missing, m.ledger.Asleep())
			}
		}
		a.state, a.image, a.gateway = "asleep", a.gateway, 0
		m.look(id, a)
		m.check("the last suspend")
	}
	if len(m.ledger.Gateways()) > 0 {
		m.t.Error("gateways are left")
	}
}

// endAll ends what is under way.
func (m *machineOfLedger) endAll(ids []identity.AgentID) {
	for _, id := range ids {
		a := m.agents[id]
		switch a.state {
		case "waking":
			a.state = "awake"
		case "suspending":
			a.state, a.written = "awake", 0
			m.ledger.EndSuspend(id)
		}
		if a.trash > 0 {
			a.trash = 0
			a.discard()
		}
	}
	if m.packs != "" {
		m.endPack()
	}
}

// TestLedgerLeavesAWayOut: with as many gateways as fit, each can still be suspended.
func TestLedgerLeavesAWayOut(t *testing.T) {
	const limit = 17_000
	l := power.NewLedger(limit, true)
	var ids []identity.AgentID
	for i := range 100 {
		id := identity.AgentID(strconv.Itoa(i))
		if !l.Fits(id, gatewayMB) {
			break
		}
		l.Enter(id, gatewayMB)
		l.ExpectSuspend(id, gatewayMB)
		ids = append(ids, id)
	}
	if len(ids) < 13 {
		t.Errorf("only %d gateways fit", len(ids))
	}
	for _, id := range ids {
		missing, ok := l.BeginSuspend(id)
		if !ok || l.Total() > limit {
			t.Fatalf("a suspend: %d MB are taken, %d missing, %t", l.Total(), missing, ok)
		}
		l.Sleep(id, power.Kept{Bytes: gatewayMB / 4, Wake: gatewayMB}) // compressed meanwhile
	}
}

// TestLedgerOfAFewGateways: one alone always fits, and one suspend or wake at a time may take more
// than there should be.
func TestLedgerOfAFewGateways(t *testing.T) {
	l := power.NewLedger(2500, true)
	check := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %t", what, got)
		}
	}
	for _, id := range []identity.AgentID{"a", "b"} {
		check("two gateways", l.Fits(id, 1100), true)
		l.Enter(id, 1100)
		l.ExpectSuspend(id, 1000)
	}
	check("a third", l.Fits("c", 1100), false)
	if missing := l.Missing("c", 1100); missing != 800 {
		t.Errorf("%d are missing for a third", missing)
	}
	begin := func(id identity.AgentID) bool { _, ok := l.BeginSuspend(id); return ok }
	check("a suspend", begin("a"), true)
	check("two at once", begin("b"), false)
	check("a start meanwhile", l.Fits("c", 100), false)
	l.Sleep("a", power.Kept{Bytes: 300, Wake: 1000})
	check("a wake", l.Fits("a", 1100), true)
	l.Enter("a", 1100)
	deleted := l.UseUp("a")
	check("a suspend during a wake", begin("b"), false)
	deleted()
	deleted()
	check("a suspend after it", begin("b"), true)
	l.EndSuspend("b")
	l.Leave("a")
	l.Leave("b")
	check("one that is too large, alone", l.Fits("c", 9000), true)
	if l.Total() != 0 {
		t.Errorf("%d are counted of nothing", l.Total())
	}
}

// TestLedgerSpare: room for the next wake is missing before it comes.
func TestLedgerSpare(t *testing.T) {
	l := power.NewLedger(17_000, true)
	n := 0
	l.Sleep("packed", power.Kept{Bytes: 250, Wake: 900})
	for ; l.MissingSpare() <= 0; n++ {
		id := identity.AgentID(strconv.Itoa(n))
		l.Enter(id, 1000)
		l.ExpectSuspend(id, 900)
	}
	l.Leave(identity.AgentID(strconv.Itoa(n - 1)))
	if !l.Fits("packed", 1000) || n < 12 {
		t.Errorf("with %d gateways a wake does not fit: %d are missing", n, l.Missing("packed", 1000))
	}
	if any := power.NewLedger(0, true); !any.Fits("a", 1<<60) {
		t.Error("there is no limit")
	}
}
