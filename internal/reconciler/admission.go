package reconciler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/identity"
)

// defaultMemoryBytes is what a gateway is expected to use until that was measured: 1.1
// GiB. Source: 1 GB when it is ready, a little more during its first turn.
const defaultMemoryBytes = 11 << 30 / 10

// admission decides which gateways may exist and which may boot at the same time. All
// gateways that run, boot or are about to boot have room, which is memory. Those that boot
// have a slot too. Accounts are served in turn.
type admission struct {
	memory int64 // that gateways may use together; 0: any
	slots  int

	mu      sync.Mutex
	rooms   map[identity.AgentID]int64 // what the gateways with room are expected to use; guarded by mu
	kept    map[identity.AgentID]kept  // what agents take that sleep; guarded by mu
	used    int64                      // the sum of rooms and of the memory of kept; guarded by mu
	frees   float64                    // the share of its room that a suspend of a gateway has freed at least; guarded by mu
	booting int                        // slots that are taken; guarded by mu
	forRoom *fairQueue                 // guarded by mu
	forSlot *fairQueue                 // guarded by mu
}

// kept is what an agent takes that sleeps: its checkpoint, or its frozen processes.
type kept struct {
	memory int64
	frozen bool      // it is a part of the room of a gateway
	disk   int64     // 0: it is in memory
	used   time.Time // when the agent was used last, as far as its record says
}

func newAdmission(memory int64, slots int) *admission {
	return &admission{memory: memory, slots: slots, rooms: map[identity.AgentID]int64{}, kept: map[identity.AgentID]kept{}, frees: 1, forRoom: newFairQueue(), forSlot: newFairQueue()}
}

// takeRoom waits until there is room for an agent's gateway, and takes it. It calls
// onWait before it waits, and again while it waits. An agent that has room keeps it. Errors: onWait's, ctx's.
func (m *admission) takeRoom(ctx context.Context, account identity.AccountID, id identity.AgentID, bytes int64, onWait func() error) error {
	m.mu.Lock()
	if _, ok := m.rooms[id]; ok {
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
	m := Memory{Budget: r.admission.memory, Checkpoints: map[identity.AgentID]int64{}}
	for _, bytes := range r.admission.rooms {
		m.Gateways += bytes
	}
	for id, k := range r.admission.kept {
		if k.frozen {
			m.Gateways += k.memory
		} else {
			m.Checkpoints[id] = k.memory
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
	for w := m.forRoom.take(m.hasRoom); w != nil; w = m.forRoom.take(m.hasRoom) {
		if m.kept[w.id].frozen {
			m.dropKept(w.id)
		}
		m.set(w.id, w.bytes)
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

// hasRoom reports whether one more gateway fits. One alone always does: a machine that is too
// small for what is expected may suffice for what is used. The caller holds mu.
func (m *admission) hasRoom(w *waiter) bool {
	alone := len(m.rooms) == 0 && m.used == m.kept[w.id].memory
	return m.memory == 0 || alone || m.used+m.more(w.id, w.bytes) <= m.memory
}

// more returns how much more than now is used if an agent gets room of so many bytes. The caller
// holds mu.
func (m *admission) more(id identity.AgentID, bytes int64) int64 {
	if k := m.kept[id]; k.frozen {
		return bytes - k.memory
	}
	return bytes
}

// dropKept counts nothing of an agent that sleeps. The caller holds mu.
func (m *admission) dropKept(id identity.AgentID) {
	m.used -= m.kept[id].memory
	delete(m.kept, id)
}

func (m *admission) set(id identity.AgentID, bytes int64) {
	m.used += bytes - m.rooms[id]
	m.rooms[id] = bytes
}

// occupy gives room to a gateway that runs already, whether or not it fits.
func (m *admission) occupy(id identity.AgentID, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.rooms[id]; !ok {
		m.dropKept(id)
		m.set(id, bytes)
	}
}

// measured changes what a gateway is expected to use. At first that becomes what was
// measured. Later it follows at once if more is used, and slowly if less is used, which
// may be so for a moment only.
func (m *admission) measured(id identity.AgentID, bytes int64, first bool) (expected int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, ok := m.rooms[id]
	if !ok || bytes <= 0 {
		return before
	}
	if bytes < before && !first {
		bytes = before - (before-bytes)/8
	}
	m.set(id, bytes)
	m.grant()
	return bytes
}

// leave takes the room of an agent away, which has no gateway any more.
func (m *admission) leave(id identity.AgentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropKept(id)
	if bytes, ok := m.rooms[id]; ok {
		m.used -= bytes
		delete(m.rooms, id)
		m.grant()
	}
}

// sleeps counts what an agent that sleeps takes in place of the room of its gateway; without bytes it
// takes nothing. It reports whether that is new.
func (m *admission) sleeps(id identity.AgentID, k kept) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if room := m.rooms[id]; room > 0 && !k.frozen { // who needs the room of frozen processes ends them
		m.frees = min(m.frees, max(1-float64(k.memory)/float64(room), 0)) // after a restart of the server the checkpoint is compressed already
	}
	changed = m.kept[id].memory != k.memory || m.kept[id].disk != k.disk
	m.dropKept(id)
	m.used += k.memory - m.rooms[id]
	delete(m.rooms, id)
	if k.memory > 0 || k.disk > 0 {
		m.kept[id] = k
	}
	m.grant()
	return changed
}

// resumed counts no checkpoint of an agent any more.
func (m *admission) resumed(id identity.AgentID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropKept(id)
	m.grant()
}

// missing returns how much less must be used before bytes more fit, for an agent; what gateways use,
// and agents that sleep; and the share of its room that a suspend frees.
func (m *admission) missing(id identity.AgentID, bytes int64) (missing int64, rooms map[identity.AgentID]int64, asleep map[identity.AgentID]kept, frees float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used + m.more(id, bytes) - m.memory, maps.Clone(m.rooms), maps.Clone(m.kept), m.frees
}

// Reserve implements agent.Admission.
func (r *Reconciler) Reserve(ctx context.Context, account identity.AccountID, id identity.AgentID) error {
	bytes := r.expect(0)
	return r.admission.takeRoom(ctx, account, id, bytes, func() error {
		r.makeRoom(id, bytes)
		return nil
	})
}

// Release implements agent.Admission.
func (r *Reconciler) Release(id identity.AgentID) { r.admission.leave(id) }

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
	for id, bytes := range measured {
		r.admission.occupy(id, r.expect(bytes))
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
	note := r.noteWait(ctx, a, text)
	err = r.admission.takeRoom(ctx, a.AccountID, a.ID, bytes, func() error {
		r.makeRoom(a.ID, bytes)
		return note()
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
		note = r.noteWait(ctx, a, noSlotToWakeText)
	}
	if release, err = r.admission.takeSlot(ctx, a.AccountID, a.ID, r.timing.SlotTimeout, note); err != nil {
		return nil, err
	}
	if err := r.waited(ctx, a); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// noteWait returns what is called while an agent waits for room or its turn to boot: it makes the
// record say so. That of an agent which is to wake says so only when its callers wait for longer than
// a suspend of another one takes, and the wait ends if they have left.
func (r *Reconciler) noteWait(ctx context.Context, a *agent.Agent, text string) func() error {
	began := time.Now()
	return func() error {
		if a.IsAsleep() {
			if now, err := r.store.FindByID(ctx, r.db, a.ID); err != nil || now.Sleep.WakeWanted.IsZero() {
				return cmp.Or(err, errWithdrawn)
			}
			if time.Since(began) < roomInterval {
				return nil
			}
		}
		if a.ErrorCategory == agent.CategoryCapacity {
			return nil
		}
		r.log.InfoContext(ctx, "an agent waits for room", "agent", a.ID, "account", a.AccountID)
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

// saveMeasured keeps what a gateway uses for the next start, unless it is about what is kept.
func (r *Reconciler) saveMeasured(ctx context.Context, a agent.Agent, bytes int64) {
	saved, err := r.store.Memory(ctx, r.db, a.ID)
	if err == nil {
		expected := r.admission.measured(a.ID, bytes, saved == 0)
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
