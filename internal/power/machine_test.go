package power_test

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
)

// work is something that a gateway does on an idle machine, in seconds.
type work struct{ wall, cpu float64 }

// mechanism is a way to suspend gateways, with what it costs. Memory is in MB.
type mechanism struct {
	gateway       float64 // memory of one that is awake
	pinned        float64 // memory that is used once
	fresh, packed float64 // a checkpoint at first, and after packAfter
	disk          float64 // for checkpoints that leave the memory; 0: they are given up
	wake          work    // from a fresh checkpoint to the first token
	unpack        work    // more than that from a packed one
	fetch         work    // more than that from one on the disk
	suspend, pack work
	move          work // of a packed checkpoint to the disk
	noCold        bool // agents without a checkpoint wake like others
}

const (
	cores        = 2
	budget       = 0.7 * 24 * 1024 * 1.048576 // MB for gateways and checkpoints: 70 % of 24 GiB
	free         = (24*1024 - 512) * 1.048576 // MB for all, and what a suspend leaves free: memoryReserve of the driver
	system       = 1000                       // MB for everything else: assumed
	bootSlots    = 2                          // gateways that boot at once: defaultMaxBoots of the reconciler
	roomWait     = 60                         // seconds that a message waits for room: issue 15, item 6
	healthAgain  = 20                         // seconds between two looks at a gateway: HealthInterval of the reconciler
	roomAgain    = 2                          // seconds between two tries to make room: roomInterval of the reconciler
	packAfter    = 60                         // seconds until a checkpoint is compressed: compactAfter of the driver
	idleCPU      = 0.5 / 60                   // CPU-s a second of a gateway that is awake: openclaw.md
	answerTime   = 8                          // seconds from the first token to the end of an answer, on average: assumed
	slowTail     = 7.0 / 55                   // of all wakes take 1.2 to 3.4 s: criu-lab.md
	sleepyAfter  = 60                         // seconds after which the next turn of an idle gateway is slow: sleep-lab.md A
	warmUp       = 6 * 3600                   // seconds before anything is counted
	secondsOfDay = 24 * 3600
)

var (
	cold       = work{11.01, 16.2} // boot and first turn: criu-lab.md, n = 4
	turn       = work{0.1, 0.19}   // sleep-lab.md G: 0.10-0.35 s, 0.13-0.25 CPU-s
	sleepyTurn = work{2.15, 2.8}   // sleep-lab.md A: 1.7-2.6 s, 2.8 CPU-s

	// inMemory is what the process driver does with --checkpoint-budget -1.
	inMemory = mechanism{
		gateway: 1077,             // sleep-lab.md G
		fresh:   930, packed: 180, // criu-lab.md: 867-1,004; docs/checkpoints.md: 202 of 1,120
		wake:    work{0.58, 0.61}, // criu-lab.md, n = 8
		unpack:  work{0.65, 1.3},  // docs/checkpoints.md: 1.5 CPU-s for 1,120 MB, on two cores
		suspend: work{0.55, 0.42}, // criu-lab.md, n = 8
		pack:    work{3, 3},       // docs/checkpoints.md: 3.7 CPU-s for 1,120 MB
	}
	// onDisk is what it does without that, on a file system of 250 GB.
	onDisk = func() mechanism {
		m := inMemory
		m.disk = 50_000            // a fifth of the file system
		m.fetch = work{0.15, 0.15} // docs/checkpoints.md: 1.65 CPU-s in place of 1.5
		m.move = work{0.5, 0.3}    // of 180 MB: assumed
		return m
	}()
	// fromBase starts every wake from one warmed gateway. It is not built, and needs a criu that is
	// not packaged.
	fromBase = mechanism{
		gateway: 430, pinned: 950, noCold: true, // sleep-lab.md G, lines 1 and 4
		wake:    work{1.15, 0.46}, // sleep-lab.md G, in bubblewrap; the CPU time without
		suspend: work{0.05, 0.05}, // sleep-lab.md, "The way found", 4
	}
)

// strategy is a way to decide what sleeps.
type strategy struct {
	name  string
	links mechanism
	power.Policy
	noRoom   bool // nothing is suspended for another agent's sake
	alwaysOn bool // nothing is suspended, and no checkpoint given up
}

// The states of an agent.
const (
	asleep     = iota // with a checkpoint or without
	waiting           // for room
	queued            // for its turn to boot
	starting          // wakes or boots
	awake             //
	suspending        //
)

type simulated struct {
	state      int
	kind       int     // of the start
	turns      int     // that run
	used       float64 // when it was used last
	checkpoint float64 // MB in memory; 0: none there
	onDisk     float64 // MB of it there; 0: none
	moves      bool    // it is moving to the disk, or is to
	room       bool
	failures   int     // suspends in a row for which there was no memory
	failed     float64 // when the last one was
	version    int     // of the timer for the linger
	life       int     // counts the checkpoints
	pending    []float64
}

// The kinds of answers.
const (
	byAwake = iota
	byWake
	byCold
	failed
	kinds
)

// happening is a point in time at which something is to be done.
type happening struct {
	at    float64
	order int // of two at the same time
	do    func()
}

type schedule []happening

func (s schedule) Len() int { return len(s) }
func (s schedule) Less(i, j int) bool {
	return s[i].at < s[j].at || s[i].at == s[j].at && s[i].order < s[j].order
}
func (s schedule) Swap(i, j int) { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)   { *s = append(*s, x.(happening)) }
func (s *schedule) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// machine simulates a machine. Its jobs share the cores: if they want more than there is, all are
// slower by the same factor. So they are kept by a clock that runs slower then.
type machine struct {
	strategy strategy
	random   *rand.Rand
	agents   []simulated
	awake    []int // agents that are awake
	kept     []int // agents with checkpoints

	now    float64
	events schedule
	order  int
	jobs   schedule // by the slower clock
	clock  float64  // the slower clock
	rate   float64  // cores that the jobs want

	rooms    int     // gateways that exist
	stored   float64 // MB of checkpoints in memory
	onDisk   float64 // MB of those on the disk
	moves    []int   // agents whose checkpoints are to move there, in their order
	dumping  float64 // MB of checkpoints that are being written
	boots    int
	forRoom  []int
	forSlot  []int
	trying   bool // to make room, regularly
	problems []string

	result outcome
}

// outcome is what a simulated day has shown.
type outcome struct {
	messages  int
	kinds     [kinds]int
	refused   int // suspends for which there was no memory
	waits     int // messages that waited for room
	latencies []float64
	cpu       float64 // seconds
	peak      float64 // MB
}

// simulate runs a day of messages, after the warm-up. arrivals calls its argument with the messages
// in their order.
func simulate(s strategy, agents int, arrivals func(yield func(at float64, agent int) bool)) (outcome, []string) {
	m := &machine{strategy: s, random: rand.New(rand.NewPCG(7, 7)), agents: make([]simulated, agents)}
	if s.alwaysOn {
		for i := range agents {
			if !m.fits() {
				break
			}
			m.agents[i] = simulated{state: awake, room: true}
			m.rooms++
			m.awake = append(m.awake, i)
		}
	}
	m.after(warmUp, m.measure)
	for at, agent := range arrivals {
		m.runUntil(at)
		m.message(agent)
	}
	m.runUntil(warmUp + secondsOfDay + 24*3600)
	for i := range m.agents {
		if a := &m.agents[i]; len(a.pending) > 0 {
			m.problem("agent %d still has messages in state %d", i, a.state)
		}
	}
	return m.result, m.problems
}

func (m *machine) problem(format string, values ...any) {
	if len(m.problems) < 5 {
		m.problems = append(m.problems, fmt.Sprintf(format, values...))
	}
}

func (m *machine) counts() bool { return m.now >= warmUp && m.now < warmUp+secondsOfDay }

// idle is what gateways use that have nothing to do.
func (m *machine) idle() float64 { return min(float64(len(m.awake))*idleCPU, 0.75*cores) }

// speed is how fast the slower clock runs.
func (m *machine) speed() float64 {
	if left := cores - m.idle(); m.rate > left {
		return left / m.rate
	}
	return 1
}

// after does something after some seconds.
func (m *machine) after(seconds float64, do func()) {
	m.order++
	heap.Push(&m.events, happening{m.now + seconds, m.order, do})
}

// run does work on the cores, and calls done.
func (m *machine) run(w work, done func()) {
	rate := w.cpu / w.wall
	m.rate += rate
	if m.counts() {
		m.result.cpu += w.cpu
	}
	m.order++
	heap.Push(&m.jobs, happening{m.clock + w.wall, m.order, func() {
		m.rate -= rate
		done()
	}})
}

func (m *machine) advance(to float64) {
	if m.counts() {
		m.result.cpu += (to - m.now) * m.idle()
	}
	m.clock += (to - m.now) * m.speed()
	m.now = to
}

func (m *machine) runUntil(end float64) {
	for {
		next, job := end, false
		if len(m.events) > 0 && m.events[0].at < next {
			next = m.events[0].at
		}
		if len(m.jobs) > 0 {
			if at := m.now + max(m.jobs[0].at-m.clock, 0)/m.speed(); at < next {
				next, job = at, true
			}
		}
		m.advance(next)
		switch {
		case job:
			m.clock = max(m.clock, m.jobs[0].at)
			heap.Pop(&m.jobs).(happening).do()
		case next < end:
			heap.Pop(&m.events).(happening).do()
		default:
			return
		}
	}
}

// memory is what gateways and checkpoints are counted for.
func (m *machine) memory() float64 {
	return m.strategy.links.pinned + float64(m.rooms)*m.strategy.links.gateway + m.stored
}

func (m *machine) missing() float64 { return m.memory() + m.strategy.links.gateway - budget }

func (m *machine) fits() bool { return m.rooms == 0 || m.missing() <= 0 }

func (m *machine) measure() {
	used := m.memory() + m.dumping
	if m.counts() {
		m.result.peak = max(m.result.peak, used)
	}
}

// message brings a message to an agent.
func (m *machine) message(agent int) {
	a := &m.agents[agent]
	if m.counts() {
		m.result.messages++
	}
	switch a.state {
	case awake:
		m.turn(agent)
		return
	case asleep:
		a.state = waiting
		m.forRoom = append(m.forRoom, agent)
	}
	a.pending = append(a.pending, m.now)
	m.grant()
	if a.state == waiting {
		if m.counts() {
			m.result.waits++
		}
		m.tryForRoom()
		at := m.now
		m.after(roomWait, func() { m.giveUpMessage(agent, at) })
	}
}

// giveUpMessage answers 503 to a message that still waits for room.
func (m *machine) giveUpMessage(agent int, at float64) {
	a := &m.agents[agent]
	i := slices.Index(a.pending, at)
	if a.state != waiting || i < 0 {
		return
	}
	a.pending = slices.Delete(a.pending, i, i+1)
	m.answered(at, failed)
	if len(a.pending) == 0 {
		a.state = asleep
		m.forRoom = slices.DeleteFunc(m.forRoom, func(other int) bool { return other == agent })
	}
}

func (m *machine) answered(at float64, kind int) {
	if at < warmUp || at >= warmUp+secondsOfDay {
		return
	}
	m.result.kinds[kind]++
	if kind != failed {
		m.result.latencies = append(m.result.latencies, m.now-at)
	}
}

// turn answers a message on a gateway that is awake.
func (m *machine) turn(agent int) {
	a := &m.agents[agent]
	w, at := turn, m.now
	if a.turns == 0 && m.now-a.used > sleepyAfter {
		w = sleepyTurn
	}
	a.turns++
	m.run(w, func() {
		m.answered(at, byAwake)
		m.speak(agent)
	})
}

// speak ends a turn after its answer.
func (m *machine) speak(agent int) {
	m.after(m.random.ExpFloat64()*answerTime, func() {
		a := &m.agents[agent]
		a.turns--
		a.used = m.now
		m.linger(agent)
	})
}

// linger looks whether a gateway is due, and looks again when it can be.
func (m *machine) linger(agent int) {
	a := &m.agents[agent]
	a.version++
	if a.state != awake || m.strategy.alwaysOn || a.turns > 0 {
		return
	}
	if m.strategy.IsDue(m.gateway(agent), false, m.time(m.now)) {
		m.suspend(agent)
		if a.state != awake {
			return
		}
	}
	version, left := a.version, m.strategy.Left(m.gateway(agent), m.time(m.now)).Seconds()+0.001
	if a.failures > 0 {
		left = max(left, healthAgain)
	}
	m.after(left, func() {
		if a.version == version {
			m.linger(agent)
		}
	})
}

// time returns a time for the policy.
func (m *machine) time(at float64) time.Time {
	return noon.Add(time.Duration(at * float64(time.Second)))
}

func idOf(agent int) identity.AgentID { return identity.AgentID(strconv.Itoa(agent)) }

func (m *machine) gateway(agent int) power.Gateway {
	a, links := &m.agents[agent], m.strategy.links
	return power.Gateway{ID: idOf(agent), Used: m.time(a.used), Busy: a.turns > 0, Failures: a.failures, Failed: m.time(a.failed), Frees: int64(links.gateway - links.fresh)}
}

func (m *machine) suspend(agent int) {
	a, links := &m.agents[agent], m.strategy.links
	if a.turns > 0 || a.state != awake {
		m.problem("agent %d is suspended with %d turns in state %d", agent, a.turns, a.state)
	}
	if links.fresh > 0 && m.memory()+m.dumping+links.gateway+system > free {
		a.failures++
		a.failed = m.now
		if m.counts() {
			m.result.refused++
		}
		return
	}
	a.failures = 0
	a.state = suspending
	m.awake = slices.DeleteFunc(m.awake, func(other int) bool { return other == agent })
	m.dumping += links.fresh
	m.measure()
	m.run(links.suspend, func() {
		m.dumping -= links.fresh
		m.leave(agent)
		a.state = asleep
		a.life++
		if links.fresh > 0 {
			a.checkpoint = links.fresh
			m.stored += links.fresh
			m.kept = append(m.kept, agent)
			life := a.life
			m.after(packAfter, func() { m.pack(agent, life) })
			if links.disk > 0 {
				m.after(m.strategy.DiskAfter.Seconds(), func() { m.moveDue(agent, life) })
			}
			m.keepBudget()
		}
		if len(a.pending) > 0 { // came meanwhile
			a.state = waiting
			m.forRoom = append(m.forRoom, agent)
			for _, at := range a.pending {
				m.after(roomWait, func() { m.giveUpMessage(agent, at) })
			}
			m.tryForRoom()
		}
		m.grant()
	})
}

// keepBudget makes checkpoints leave that are too much for the memory.
func (m *machine) keepBudget() {
	if over := m.memory() - budget; over > 0 {
		m.leaveMemory(power.Leave(int64(over)+1, m.checkpoints()))
	}
}

// leaveMemory moves checkpoints to the disk, and gives those up that have no room there.
func (m *machine) leaveMemory(ids []identity.AgentID) {
	for _, id := range ids {
		if agent := indexOf(id); !m.move(agent) {
			m.drop(agent)
		}
	}
}

// move has a checkpoint moved to the disk, if there is room. One moves at a time.
func (m *machine) move(agent int) bool {
	a := &m.agents[agent]
	if m.strategy.links.disk == 0 {
		return false
	}
	if a.moves {
		return true
	}
	coming := float64(len(m.moves)) * m.strategy.links.packed
	giveUp, ok := power.Store(m.checkpoint(agent), int64(m.strategy.links.disk-m.onDisk-coming), m.checkpoints())
	m.discard(giveUp)
	if !ok {
		return false
	}
	a.moves = true
	m.moves = append(m.moves, agent)
	if len(m.moves) == 1 {
		m.moveFirst()
	}
	return true
}

// moveFirst moves the checkpoint that is to move first, and then the others.
func (m *machine) moveFirst() {
	if len(m.moves) == 0 {
		return
	}
	agent := m.moves[0]
	a, links := &m.agents[agent], m.strategy.links
	life, w := a.life, links.move
	if a.checkpoint == links.fresh {
		w = work{w.wall + links.pack.wall, w.cpu + links.pack.cpu}
	}
	m.run(w, func() {
		m.moves = m.moves[1:]
		if a.moves && a.life == life {
			m.stored -= a.checkpoint
			a.checkpoint, a.onDisk, a.moves = 0, links.packed, false
			m.onDisk += a.onDisk
			if m.onDisk > links.disk {
				m.problem("%.0f MB are on the disk", m.onDisk)
			}
			m.grant()
		}
		m.moveFirst()
	})
}

// moveDue moves the checkpoint of a life that goes on, if there is room for it.
func (m *machine) moveDue(agent, life int) {
	if a := &m.agents[agent]; a.life == life && a.checkpoint > 0 && a.state == asleep {
		m.move(agent)
	}
}

// pack compresses the checkpoint of a life that goes on.
func (m *machine) pack(agent, life int) {
	a, links := &m.agents[agent], m.strategy.links
	if a.life != life || a.checkpoint == 0 || a.moves || a.state != asleep {
		return
	}
	m.run(links.pack, func() {
		if a.life == life && a.checkpoint == links.fresh && !a.moves && a.state == asleep {
			m.stored += links.packed - links.fresh
			a.checkpoint = links.packed
			m.grant()
		}
	})
}

// checkpoints are those that can be given up.
func (m *machine) checkpoints() (all []power.Checkpoint) {
	for _, agent := range m.kept {
		if a := &m.agents[agent]; a.state == asleep {
			all = append(all, m.checkpoint(agent))
		}
	}
	return all
}

func (m *machine) checkpoint(agent int) power.Checkpoint {
	a := &m.agents[agent]
	return power.Checkpoint{ID: idOf(agent), Used: m.time(a.used), Bytes: int64(a.checkpoint), Stored: int64(a.onDisk)}
}

// discard removes checkpoints.
func (m *machine) discard(ids []identity.AgentID) {
	for _, id := range ids {
		m.drop(indexOf(id))
	}
}

func indexOf(id identity.AgentID) int {
	agent, err := strconv.Atoi(string(id))
	if err != nil {
		panic(err)
	}
	return agent
}

// drop removes the checkpoint of an agent.
func (m *machine) drop(agent int) {
	a := &m.agents[agent]
	m.stored -= a.checkpoint
	m.onDisk -= a.onDisk
	a.checkpoint, a.onDisk, a.moves = 0, 0, false
	a.life++
	m.kept = slices.DeleteFunc(m.kept, func(other int) bool { return other == agent })
}

func (m *machine) leave(agent int) {
	m.agents[agent].room = false
	m.rooms--
}

// tryForRoom makes room now, and again as long as somebody waits.
func (m *machine) tryForRoom() {
	m.makeRoom()
	if m.trying {
		return
	}
	m.trying = true
	m.after(roomAgain, func() {
		m.trying = false
		if len(m.forRoom) > 0 {
			m.tryForRoom()
		}
	})
}

func (m *machine) makeRoom() {
	missing := int64(m.missing()) + 1
	if m.strategy.alwaysOn || missing <= 1 {
		return
	}
	m.suspendAll(missing, m.checkpoints())
	m.grant()
}

func (m *machine) suspendAll(missing int64, checkpoints []power.Checkpoint) {
	if m.strategy.noRoom {
		m.leaveMemory(power.Leave(missing, checkpoints))
		return
	}
	var gateways []power.Gateway
	for _, agent := range m.awake {
		gateways = append(gateways, m.gateway(agent))
	}
	ids, leave := m.strategy.MakeRoom(missing, gateways, checkpoints, m.time(m.now))
	m.leaveMemory(leave)
	for _, id := range ids {
		m.suspend(indexOf(id))
	}
}

// grant gives room and slots to those that wait, in their order.
func (m *machine) grant() {
	for len(m.forRoom) > 0 && m.fits() {
		agent := m.forRoom[0]
		m.forRoom = m.forRoom[1:]
		m.begin(agent)
	}
	for len(m.forSlot) > 0 && m.boots < bootSlots {
		agent := m.forSlot[0]
		m.forSlot = m.forSlot[1:]
		m.boots++
		m.start(agent, cold, byCold)
	}
	if used := m.memory(); used > budget+m.strategy.links.gateway { // one gateway always has room
		m.problem("%.0f MB are used", used)
	}
}

// begin wakes an agent that has room now.
func (m *machine) begin(agent int) {
	a, links := &m.agents[agent], m.strategy.links
	a.room = true
	m.rooms++
	m.keepBudget()
	m.measure()
	if a.checkpoint == 0 && a.onDisk == 0 && !links.noCold {
		a.state = queued
		m.forSlot = append(m.forSlot, agent)
		return
	}
	w := links.wake
	a.moves = false
	if a.checkpoint < links.fresh {
		w = work{w.wall + links.unpack.wall, w.cpu + links.unpack.cpu}
	}
	if a.onDisk > 0 {
		w = work{w.wall + links.fetch.wall, w.cpu + links.fetch.cpu}
	}
	if m.random.Float64() < slowTail { // all of it system time
		slow := 1.2 + 2.2*m.random.Float64()
		w = work{max(w.wall, slow), w.cpu + max(slow-w.wall, 0)}
	}
	m.start(agent, w, byWake)
}

func (m *machine) start(agent int, w work, kind int) {
	a := &m.agents[agent]
	a.state, a.kind = starting, kind
	m.run(w, func() {
		if a.checkpoint+a.onDisk > 0 {
			m.drop(agent)
		}
		if kind == byCold {
			m.boots--
		}
		a.state, a.used = awake, m.now
		m.awake = append(m.awake, agent)
		for _, at := range a.pending {
			a.turns++
			m.answered(at, kind)
			m.speak(agent)
		}
		a.pending = nil
		m.measure()
		m.grant()
	})
}
