package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
)

// defaultMemoryBytes is what a gateway is expected to use until that was measured: 1.1
// GiB. Source: 1 GB when it is ready, a little more during its first turn.
const defaultMemoryBytes = 11 << 30 / 10

// admission decides which gateways may exist and which may boot at the same time. All
// gateways that run, boot or are about to boot have room, which is memory. Those that boot
// have a slot too. Accounts are served in turn.
type admission struct {
	slots int

	mu      sync.Mutex
	ledger  *power.Ledger                  // of gateways with room, and of agents that sleep; guarded by mu
	used    map[identity.AgentID]time.Time // when agents that sleep were used last, as far as their records say; guarded by mu
	booting int                            // slots that are taken; guarded by mu
	forRoom *fairQueue                     // guarded by mu
	forSlot *fairQueue                     // guarded by mu

	forSuspend []identity.AgentID        // gateways whose suspends wait for memory; guarded by mu
	again      func(id identity.AgentID) // is called when one of them fits
}

// newAdmission returns one of gateways and checkpoints that may use so much memory together; 0: any.
// suspends says that gateways are suspended; again is called when one fits whose suspend was refused.
func newAdmission(memory int64, slots int, suspends bool, again func(id identity.AgentID)) *admission {
	return &admission{slots: slots, ledger: power.NewLedger(memory, suspends), used: map[identity.AgentID]time.Time{}, forRoom: newFairQueue(), forSlot: newFairQueue(), again: again}
}

// takeRoom waits until there is room for an agent's gateway, and takes it. It calls
// onWait before it waits, and again while it waits. An agent that has room keeps it. Errors: onWait's, ctx's.
func (m *admission) takeRoom(ctx context.Context, account identity.AccountID, id identity.AgentID, bytes int64, onWait func() error) error {
	m.mu.Lock()
	if _, ok := m.ledger.Gateway(id); ok {
		m.mu.Unlock()
		return nil
	}
	w := &waiter{id: id, account: account, bytes: bytes, granted: make(chan struct{})}
	m.forRoom.push(w)
	m.grant()
	m.mu.Unlock()
	return m.wait(ctx, m.forRoom, w, onWait)
}

// Waiting returns how many agents wait until there is memory for their gateways, and how
// many for their turn to boot.
func (r *Reconciler) Waiting() (forMemory, forBoot int) {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	return r.admission.forRoom.len(), r.admission.forSlot.len()
}

// Memory is what gateways and checkpoints use of what they may use together. The memory of a frozen
// gateway counts as a gateway's.
type Memory struct {
	Budget      int64                      // 0: any
	Gateways    int64                      // what gateways are expected to use, those among them that boot
	Checkpoints map[identity.AgentID]int64 // of agents that sleep
}

// Memory returns what gateways and checkpoints use now.
func (r *Reconciler) Memory() Memory {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	m := Memory{Budget: r.admission.ledger.Limit(), Checkpoints: map[identity.AgentID]int64{}}
	for _, bytes := range r.admission.ledger.Gateways() {
		m.Gateways += bytes
	}
	for id, k := range r.admission.ledger.Asleep() {
		if k.Frozen {
			m.Gateways += k.Bytes
		} else {
			m.Checkpoints[id] = k.Bytes
		}
	}
	return m
}

// takeSlot waits until the gateway of an agent may boot, and takes a slot. The slot is
// free again after hold, or earlier, when release is called: a boot that takes long does
// not keep others waiting. onWait is as in takeRoom. Errors: onWait's, ctx's.
func (m *admission) takeSlot(ctx context.Context, account identity.AccountID, id identity.AgentID, hold time.Duration, onWait func() error) (release func(), err error) {
	w := &waiter{id: id, account: account, granted: make(chan struct{})}
	m.mu.Lock()
	m.forSlot.push(w)
	m.grant()
	m.mu.Unlock()
	if err := m.wait(ctx, m.forSlot, w, onWait); err != nil {
		return nil, err
	}
	free := sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.booting--
		m.grant()
	})
	timer := time.AfterFunc(hold, free)
	return func() { timer.Stop(); free() }, nil
}

// roomInterval is the pause between two tries to make room. Source: a suspend takes 0.6 s.
const roomInterval = 2 * time.Second

// wait waits until a waiter is granted what it waits for. It calls onWait before, and again while
// it waits.
func (m *admission) wait(ctx context.Context, q *fairQueue, w *waiter, onWait func() error) error {
	select {
	case <-w.granted:
		return nil
	default:
	}
	again := time.NewTicker(roomInterval)
	defer again.Stop()
	err := onWait()
	for err == nil {
		select {
		case <-w.granted:
			return nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-again.C:
			err = onWait()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-w.granted:
		return nil // just now: the caller finds out itself that ctx has ended
	default:
	}
	q.remove(w)
	return err
}

// grant serves those that need not wait any longer. The caller holds mu.
func (m *admission) grant() {
	// A suspend comes first: without one there may be no room for anybody.
	if len(m.forSuspend) > 0 && m.ledger.CanSuspend(m.forSuspend[0]) {
		m.again(m.forSuspend[0])
		m.forSuspend = m.forSuspend[1:]
	}
	fits := func(w *waiter) bool { return m.ledger.Fits(w.id, w.bytes) }
	for w := m.forRoom.take(fits); w != nil; w = m.forRoom.take(fits) {
		m.ledger.Enter(w.id, w.bytes)
		close(w.granted)
	}
	for m.booting < m.slots {
		w := m.forSlot.take(func(*waiter) bool { return true })
		if w == nil {
			return
		}
		m.booting++
		close(w.granted)
	}
}

// occupy gives room to a gateway that runs already, whether or not it fits.
func (m *admission) occupy(id identity.AgentID, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.ledger.Gateway(id); !ok {
		m.ledger.Leave(id)
		m.ledger.Enter(id, bytes)
	}
}

// suspends says how much memory the suspend of a gateway takes in addition.
func (m *admission) suspends(id identity.AgentID, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.ExpectSuspend(id, bytes)
}

// measured changes what a gateway is expected to use. At first that becomes what was
// measured. Later it follows at once if more is used, and slowly if less is used, which
// may be so for a moment only.
func (m *admission) measured(id identity.AgentID, bytes int64, first bool) (expected int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, ok := m.ledger.Gateway(id)
	if !ok {
		return 0
	}
	if bytes < before && !first {
		bytes = before - (before-bytes)/8
	}
	m.ledger.Expect(id, bytes)
	m.grant()
	return bytes
}

// leave takes the room of an agent away, which has no gateway any more.
func (m *admission) leave(id identity.AgentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ledger.Leave(id)
	delete(m.used, id)
	m.grant()
}

// sleeps counts what an agent that sleeps takes in place of the room of its gateway; without bytes it
// takes nothing. It reports whether that is new.
func (m *admission) sleeps(id identity.AgentID, k power.Kept, used time.Time) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed = m.ledger.Sleep(id, k)
	m.used[id] = used
	m.grant()
	return changed
}

// beginSuspend takes the memory for the checkpoint of a gateway, until sleeps or end is called.
// Otherwise it returns how much is missing.
func (m *admission) beginSuspend(id identity.AgentID) (end func(), missing int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if missing, ok = m.ledger.BeginSuspend(id); !ok && !slices.Contains(m.forSuspend, id) {
		m.forSuspend = append(m.forSuspend, id)
	} else if ok {
		m.forSuspend = without(m.forSuspend, id)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ledger.EndSuspend(id)
		m.grant()
	}, missing, ok
}

// resumed counts the checkpoint of an agent that has room now until deleted is called.
func (m *admission) resumed(id identity.AgentID) (deleted func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := m.ledger.UseUp(id)
	m.grant()
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		end()
		m.grant()
	}
}

// missing returns how much less must be used before bytes more fit, for an agent; without bytes, how
// much less than now.
func (m *admission) missing(id identity.AgentID, bytes int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Missing(id, bytes)
}

// missingForMany is missing with the agents that wait too, for so many of them as soon have room one
// after the other. waiting are all of them.
func (m *admission) missingForMany(id identity.AgentID, bytes int64) (missing int64, waiting map[identity.AgentID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	waiting = m.forRoom.ids()
	waiting[id] = true
	return m.ledger.Missing(id, bytes) + int64(min(len(waiting), waitersAhead)-1)*bytes, waiting
}

// waitersAhead is for how many agents that wait room is made at the same time: what makes it takes
// seconds, and is wasted if they do not wait any more then.
const waitersAhead = 3

// waiting returns the agents that wait for room.
func (m *admission) waiting() map[identity.AgentID]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forRoom.ids()
}

// unlimited reports whether everything has room.
func (m *admission) unlimited() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.Limit() == 0
}

// missingSpare returns how much less must be used for the next wake to have room at once.
func (m *admission) missingSpare() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ledger.MissingSpare()
}

// gateways returns those that are not being suspended yet, and what their suspends free.
func (m *admission) gateways() map[identity.AgentID]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.ledger.Gateways()
	for id, bytes := range all {
		if all[id] = int64(m.ledger.Frees() * float64(bytes)); m.ledger.IsSuspending(id) {
			delete(all, id)
		}
	}
	return all
}

// checkpoints returns those of agents that sleep, and their frozen processes.
func (m *admission) checkpoints() (all []power.Checkpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, k := range m.ledger.Asleep() {
		all = append(all, checkpointOf(id, k, m.used[id]))
	}
	return all
}

// checkpointOf returns what the policy wants to know of a checkpoint.
func checkpointOf(id identity.AgentID, k power.Kept, used time.Time) power.Checkpoint {
	c := power.Checkpoint{ID: id, Bytes: k.Bytes, Stored: k.Stored, Used: used}
	if c.Stored > 0 {
		c.Bytes = 0 // what is left in memory is little, and stays
	}
	return c
}

// Reserve implements agent.Admission.
func (r *Reconciler) Reserve(ctx context.Context, account identity.AccountID, id identity.AgentID, region string) error {
	bytes := r.expect(0)
	server, err := r.chooseServer(ctx, id, region, "", bytes, func(error) error { return nil })
	if err != nil || server != r.server {
		return err
	}
	return r.admission.takeRoom(ctx, account, id, bytes, func() error {
		r.makeRoom(id, bytes)
		return nil
	})
}

// Release implements agent.Admission.
func (r *Reconciler) Release(id identity.AgentID) { r.leave(id) }

// expect returns what a gateway is expected to use, of which measured is what it has used
// before, or 0.
func (r *Reconciler) expect(measured int64) int64 {
	if measured == 0 {
		measured = defaultMemoryBytes
	}
	if limit := r.gateways.Limits().MemoryBytes; limit > 0 {
		measured = min(measured, limit)
	}
	return measured
}

// occupyAll gives room to every gateway that an earlier server has left.
func (r *Reconciler) occupyAll(ctx context.Context) error {
	measured, err := r.store.ListMemory(ctx, r.db)
	if err != nil {
		return fmt.Errorf("list the memory of gateways: %w", err)
	}
	for _, m := range measured {
		r.occupy(agent.Agent{ID: m.ID, Server: m.Server}, m.Bytes)
	}
	return nil
}

// errWithdrawn means that no message waits for the wake of an agent any more.
var errWithdrawn = errors.New("no message waits for the wake any more")

// admit waits until there is room for a's gateway. While it waits, the record says so. Errors:
// errWithdrawn.
func (r *Reconciler) admit(ctx context.Context, a *agent.Agent) error {
	measured, err := r.store.Memory(ctx, r.db, a.ID)
	if err != nil {
		return fmt.Errorf("read what the gateway has used before: %w", err)
	}
	bytes := r.expect(measured)
	text := noRoomText
	if a.IsAsleep() {
		text = noRoomToWakeText
	}
	note := r.noteWait(ctx, a)
	server, err := r.chooseServer(ctx, a.ID, a.Region, a.Server, bytes, func(why error) error { return note(asFailure(why).text) })
	if err != nil {
		return err
	}
	if a.Server = server; !r.isHere(*a) {
		return r.waited(ctx, a)
	}
	err = r.admission.takeRoom(ctx, a.AccountID, a.ID, bytes, func() error {
		r.makeRoom(a.ID, bytes)
		return note(text)
	})
	if err != nil {
		return err
	}
	return r.waited(ctx, a)
}

// takeSlot waits until the gateway of an agent may boot. While the callers of one that is to wake
// wait for that, the record says so. Errors: errWithdrawn.
func (r *Reconciler) takeSlot(ctx context.Context, a *agent.Agent) (release func(), err error) {
	note := func() error { return nil } // the status says that it starts
	if a.IsAsleep() {
		noteWait := r.noteWait(ctx, a)
		note = func() error { return noteWait(noSlotToWakeText) }
	}
	if release, err = r.slotsOf(a.Server).takeSlot(ctx, a.AccountID, a.ID, r.timing.SlotTimeout, note); err != nil {
		return nil, err
	}
	if err := r.waited(ctx, a); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// noteWait returns what is called while an agent waits for room or its turn to boot: it makes the
// record say so, in a text. That of an agent which is to wake says so only when its callers wait for longer than
// a suspend of another one takes, and the wait ends if they have left.
func (r *Reconciler) noteWait(ctx context.Context, a *agent.Agent) func(text string) error {
	began := time.Now()
	return func(text string) error {
		if a.IsAsleep() {
			if now, err := r.store.FindByID(ctx, r.db, a.ID); err != nil || now.Sleep.WakeWanted.IsZero() {
				return cmp.Or(err, errWithdrawn)
			}
			if time.Since(began) < roomInterval {
				return nil
			}
		}
		if a.ErrorCategory == agent.CategoryCapacity && a.LastError == text {
			return nil
		}
		r.log.InfoContext(ctx, "an agent waits for room", "agent", a.ID, "account", a.AccountID, "reason", text)
		a.LastError, a.ErrorCategory = text, agent.CategoryCapacity
		return r.store.SaveStatus(ctx, *a, "agent.waiting")
	}
}

// waited makes the record say that an agent waits no more.
func (r *Reconciler) waited(ctx context.Context, a *agent.Agent) error {
	if a.ErrorCategory != agent.CategoryCapacity {
		return nil
	}
	a.LastError, a.ErrorCategory = "", ""
	return r.store.SaveStatus(ctx, *a, "")
}

// What the record says of an agent that waits. The last two are for one that a message is to wake.
const (
	noRoomText       = "The server has no memory left for this agent. It starts by itself when another agent stops: stop one that is not needed, or ask the operator for more."
	noRoomToWakeText = "The server has no memory left to wake this agent: all others have work to do. Send the message again in a moment, or ask the operator for more memory."
	noSlotToWakeText = "The server starts as many gateways at a time as it may, and this agent waits for its turn. Send the message again in a moment."
)

// saveMeasured keeps what a gateway uses for the next start, unless it is about what is kept, or
// not known: 0.
func (r *Reconciler) saveMeasured(ctx context.Context, a agent.Agent, bytes int64) {
	if bytes <= 0 {
		return
	}
	saved, err := r.store.Memory(ctx, r.db, a.ID)
	if err == nil {
		expected := bytes
		if r.isHere(a) {
			expected = r.admission.measured(a.ID, bytes, saved == 0)
		}
		if difference := expected - saved; expected == 0 || max(difference, -difference) <= saved/8 {
			return
		}
		err = r.store.SaveMemory(ctx, a.ID, expected)
	}
	if err != nil && ctx.Err() == nil { // the next check tries again
		r.log.WarnContext(ctx, "keeping what a gateway uses failed", "agent", a.ID, "error", err)
	}
}

// isBooting reports whether a's status says that its gateway is being started.
func isBooting(a agent.Agent) bool {
	return a.Status == client.Starting || a.Status == client.Provisioning
}
