package power

import (
	"maps"

	"agento.host/agento/internal/identity"
)

const (
	// fewGateways is how many gateways must fit for the ledger to keep room for what comes next. With
	// less memory than that it would be most of it.
	fewGateways = 6
	// spareShare bounds the part of the memory that is spare.
	spareShare = 8
)

// Ledger counts the memory that gateways and checkpoints take of what they may take together: a
// gateway from before it starts until it has ended, and a checkpoint from the beginning of its suspend
// until its files are deleted, in each form that there is of it at the same time.
//
// It keeps room for one suspend, so that there is always a way to make more: to suspend a gateway takes
// the memory of its checkpoint first. Where only few gateways fit, it does not, and lets one suspend
// or one wake take more for a while than there should be.
//
// It has no lock and no clock.
type Ledger struct {
	limit    int64 // 0: any
	gateways map[identity.AgentID]gatewayClaim
	kept     map[identity.AgentID]Kept
	fresh    map[identity.AgentID]int64 // what is added at most while a checkpoint is compressed
	writing  map[identity.AgentID]int64 // what a suspend writes, or the wake of a compressed checkpoint
	usedUp   map[identity.AgentID]int64 // checkpoints that are being deleted after their wakes

	steady   int64   // the sum of gateways and kept
	frees    float64 // the share of its memory that the suspend of a gateway has freed at least
	suspends bool    // gateways are suspended, so far as is known
}

// gatewayClaim is what a gateway takes.
type gatewayClaim struct {
	bytes   int64 // that it is expected to use
	suspend int64 // what its suspend takes in addition
}

// Kept is what is kept in memory of a gateway that sleeps: its checkpoint, or its frozen processes.
type Kept struct {
	Bytes  int64
	Frozen bool  // it is a part of the room of a gateway
	Wake   int64 // what its wake takes at most in addition, until the checkpoint is deleted
	Stored int64 // that it takes of the disk; 0: it is in memory
}

// isFresh reports whether it can still be compressed, beside which it is kept for a while.
func (k Kept) isFresh() bool { return !k.Frozen && k.Stored == 0 && k.Wake < k.Bytes }

// NewLedger returns a ledger of which nothing is taken. With limit 0 everything fits. suspends says that
// gateways are suspended: what that takes is expected to be as much as a gateway until it is known.
func NewLedger(limit int64, suspends bool) *Ledger {
	return &Ledger{
		limit: limit, suspends: suspends, gateways: map[identity.AgentID]gatewayClaim{}, kept: map[identity.AgentID]Kept{}, fresh: map[identity.AgentID]int64{},
		writing: map[identity.AgentID]int64{}, usedUp: map[identity.AgentID]int64{}, frees: 1,
	}
}

// Limit returns what gateways and checkpoints may take together; 0: any.
func (l *Ledger) Limit() int64 { return l.limit }

// Total returns what is taken, with what a compression can add now.
func (l *Ledger) Total() int64 { return l.steady + l.moving() + largest(l.fresh) }

// moving is what is taken only until something that is under way has ended.
func (l *Ledger) moving() (bytes int64) {
	for _, b := range l.writing {
		bytes += b
	}
	for _, b := range l.usedUp {
		bytes += b
	}
	return bytes
}

func largest(of map[identity.AgentID]int64) (bytes int64) {
	for _, b := range of {
		bytes = max(bytes, b)
	}
	return bytes
}

// Gateways returns what gateways are expected to use.
func (l *Ledger) Gateways() map[identity.AgentID]int64 {
	all := make(map[identity.AgentID]int64, len(l.gateways))
	for id, g := range l.gateways {
		all[id] = g.bytes
	}
	return all
}

// Gateway returns what the gateway of an agent is expected to use.
func (l *Ledger) Gateway(id identity.AgentID) (bytes int64, ok bool) {
	g, ok := l.gateways[id]
	return g.bytes, ok
}

// Asleep returns what is kept of agents that sleep.
func (l *Ledger) Asleep() map[identity.AgentID]Kept { return maps.Clone(l.kept) }

// Frees returns the share of its memory that the suspend of a gateway frees at once, at least.
func (l *Ledger) Frees() float64 { return l.frees }

// IsSuspending reports whether the suspend of a gateway is counted.
func (l *Ledger) IsSuspending(id identity.AgentID) bool {
	_, awake := l.gateways[id]
	_, writes := l.writing[id]
	return awake && writes
}

// sizes returns what the largest gateway takes, and the largest suspend, if one more starts or wakes.
func (l *Ledger) sizes(id identity.AgentID, bytes int64) (gateway, suspend int64) {
	gateway = bytes
	if k := l.kept[id]; bytes > 0 && l.suspends {
		if suspend = bytes; !k.Frozen && k.Bytes > 0 {
			suspend = max(k.Bytes, k.Wake) // as large as its last checkpoint
		}
	}
	for _, g := range l.gateways {
		gateway, suspend = max(gateway, g.bytes), max(suspend, g.suspend)
	}
	return gateway, suspend
}

// reserve is what is kept free for one suspend and for the compression of its checkpoint; few says
// that it is not kept.
func (l *Ledger) reserve(id identity.AgentID, bytes int64) (free int64, few bool) {
	gateway, suspend := l.sizes(id, bytes)
	if l.limit < fewGateways*gateway {
		return 0, true
	}
	return suspend + suspend/3, false
}

// more returns how much more is taken for good if a gateway starts or wakes, and for a while.
func (l *Ledger) more(id identity.AgentID, bytes int64) (steady, moving int64) {
	switch k := l.kept[id]; {
	case k.Frozen:
		return bytes - k.Bytes, 0
	default:
		return bytes, k.Wake
	}
}

// Fits reports whether one more gateway fits that is expected to use so many bytes. One alone always
// does: a machine that is too small for what is expected may suffice for what is used.
func (l *Ledger) Fits(id identity.AgentID, bytes int64) bool {
	if l.limit == 0 || len(l.gateways) == 0 && l.moving() == 0 && l.steady == l.kept[id].Bytes {
		return true
	}
	steady, moving := l.more(id, bytes)
	free, few := l.reserve(id, bytes)
	if few && l.moving() == 0 {
		return l.steady+steady <= l.limit
	}
	return l.Total()+steady+moving+free <= l.limit
}

// Enter counts a gateway that starts or wakes, whether or not it fits. Until UseUp its checkpoint is
// counted beside it.
func (l *Ledger) Enter(id identity.AgentID, bytes int64) {
	k := l.kept[id]
	if k.Frozen {
		l.drop(id)
	} else if k.Wake > 0 {
		l.writing[id] = k.Wake
	}
	l.set(id, bytes)
	if l.suspends {
		l.ExpectSuspend(id, bytes)
	}
}

// set changes what a gateway is expected to use.
func (l *Ledger) set(id identity.AgentID, bytes int64) {
	g := l.gateways[id]
	l.steady += bytes - g.bytes
	g.bytes = bytes
	l.gateways[id] = g
}

// Expect changes what a gateway is expected to use that is counted.
func (l *Ledger) Expect(id identity.AgentID, bytes int64) {
	if _, ok := l.gateways[id]; ok {
		l.set(id, bytes)
	}
}

// ExpectSuspend says what the suspend of a gateway that is counted takes in addition.
func (l *Ledger) ExpectSuspend(id identity.AgentID, bytes int64) {
	if g, ok := l.gateways[id]; ok {
		g.suspend = bytes
		l.gateways[id] = g
	}
}

// BeginSuspend counts the checkpoint of a gateway that is to be suspended, if it fits, or if nothing
// can be done to make it fit. Otherwise it returns how many bytes are missing when everything that is
// under way has ended.
func (l *Ledger) BeginSuspend(id identity.AgentID) (missing int64, ok bool) {
	if !l.CanSuspend(id) {
		return max(l.missingToSuspend(l.gateways[id])-l.moving(), 0), false
	}
	if bytes := l.gateways[id].suspend; bytes > 0 {
		l.writing[id] = bytes
	}
	return 0, true
}

// CanSuspend reports whether BeginSuspend counts the checkpoint of a gateway.
func (l *Ledger) CanSuspend(id identity.AgentID) bool {
	if l.missingToSuspend(l.gateways[id]) <= 0 {
		return true
	}
	_, few := l.reserve("", 0)
	return l.moving() == 0 && (few || !l.canLeave())
}

// canLeave reports whether there is something of an agent that sleeps that can leave the memory.
func (l *Ledger) canLeave() bool {
	for _, k := range l.kept {
		if k.Bytes > 0 && k.Stored == 0 {
			return true
		}
	}
	return false
}

func (l *Ledger) missingToSuspend(g gatewayClaim) int64 {
	if l.limit == 0 {
		return 0
	}
	before := largest(l.fresh)
	return l.Total() + g.suspend + max(g.suspend/3-before, 0) - l.limit
}

// EndSuspend ends what BeginSuspend has begun, of a gateway that goes on.
func (l *Ledger) EndSuspend(id identity.AgentID) { delete(l.writing, id) }

// Sleep counts what is kept of a gateway in its place; nothing, if k has no bytes. It reports whether
// that is new.
func (l *Ledger) Sleep(id identity.AgentID, k Kept) (changed bool) {
	if g := l.gateways[id]; g.bytes > 0 && !k.Frozen { // who needs the room of frozen processes ends them
		// After a restart of the server the checkpoint is compressed already.
		l.frees = min(l.frees, max(1-float64(k.Bytes)/float64(g.bytes), 0))
	}
	before := l.kept[id]
	changed = before.Bytes != k.Bytes || before.Stored != k.Stored
	l.leave(id)
	if k.Bytes > 0 || k.Stored > 0 {
		l.kept[id] = k
		l.steady += k.Bytes
		if k.isFresh() {
			l.fresh[id] = k.Wake
		}
	}
	return changed
}

// UseUp counts the checkpoint of a gateway that is being resumed until the function that it returns
// is called: when the files are deleted. Whatever is counted for the agent then is not changed by that.
func (l *Ledger) UseUp(id identity.AgentID) (deleted func()) {
	bytes := l.kept[id].Bytes + l.writing[id]
	l.drop(id)
	delete(l.writing, id)
	l.usedUp[id] += bytes
	return func() {
		if l.usedUp[id] -= bytes; l.usedUp[id] == 0 {
			delete(l.usedUp, id)
		}
		bytes = 0
	}
}

// Leave counts nothing of an agent any more but a checkpoint that is being deleted.
func (l *Ledger) Leave(id identity.AgentID) { l.leave(id) }

func (l *Ledger) leave(id identity.AgentID) {
	l.drop(id)
	l.steady -= l.gateways[id].bytes
	delete(l.gateways, id)
	delete(l.writing, id)
}

// drop counts nothing that is kept of an agent.
func (l *Ledger) drop(id identity.AgentID) {
	l.steady -= l.kept[id].Bytes
	delete(l.kept, id)
	delete(l.fresh, id)
}

// Missing returns how much less must be taken before a gateway fits; a negative number, how much is
// left. What is under way is not missing: it ends by itself. With 0 bytes it is about what there is.
func (l *Ledger) Missing(id identity.AgentID, bytes int64) int64 {
	steady, moving := l.more(id, bytes)
	free, few := l.reserve(id, bytes)
	if few {
		return l.steady + steady - l.limit
	}
	return l.steady + largest(l.fresh) + steady + moving + free - l.limit
}

// MissingSpare is Missing for the next gateway, whichever it is, so that it need not wait until another
// one is suspended. Where only few fit, nothing is kept free for it.
func (l *Ledger) MissingSpare() int64 {
	gateway, suspend := l.sizes("", 0)
	_, few := l.reserve("", 0)
	if few || gateway == 0 {
		return 0
	}
	return l.Missing("", 0) + min(gateway+suspend, l.limit/spareShare)
}
