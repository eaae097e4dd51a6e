// Package power decides which gateways are suspended, which checkpoints are in memory, on a disk or
// given up, and when agents wake. It has no state and no clock: whoever calls it says what there is,
// and what time it is.
package power

import (
	"cmp"
	"slices"
	"time"

	"agento.host/agento/internal/identity"
)

const (
	// retry is the pause after a suspend that failed; it doubles with each further one, up to
	// maxRetry.
	retry    = time.Minute
	maxRetry = time.Hour
)

// Policy says when gateways are suspended.
type Policy struct {
	Linger    time.Duration // for which a gateway stays awake after its last use; 0: nothing is suspended
	DiskAfter time.Duration // after its last use, a checkpoint moves to the disk if there is room
}

// Gateway is the gateway of an agent that is awake. The zero value is one of which nothing is known
// yet, such as one that boots: it is busy.
type Gateway struct {
	ID        identity.AgentID
	Used      time.Time // when its last turn ended, or it started or woke if that was later; zero: not known
	Woke      time.Time // when it woke last, for a message that it may not have got yet; zero: not known
	Busy      bool      // it has work
	KeepAwake bool      // it must not be suspended
	Failures  int       // how many suspends have failed since the last one that did not
	Failed    time.Time // when the last of them failed
	Frees     int64     // bytes that its suspend frees at once
}

// Checkpoint is what is kept of a gateway that is suspended.
type Checkpoint struct {
	ID     identity.AgentID
	Used   time.Time // when the gateway was used last; zero: not known, so long ago
	Bytes  int64     // that it takes of the memory; 0: it is on the disk
	Stored int64     // that it takes of the disk
}

// MaySuspend reports whether a gateway can be suspended at all now, whether or not it is due.
func (p Policy) MaySuspend(g Gateway, now time.Time) bool {
	return p.Linger > 0 && !g.Busy && !g.KeepAwake && !g.Used.IsZero() && !now.Before(g.retryAt())
}

// IsDue reports whether a gateway is suspended now. wanted says that another one needs its room, so
// that it does not linger.
func (p Policy) IsDue(g Gateway, wanted bool, now time.Time) bool {
	return p.MaySuspend(g, now) && (wanted || p.Left(g, now) == 0)
}

// Left returns for how long a gateway lingers that is not used again; 0: no longer.
func (p Policy) Left(g Gateway, now time.Time) time.Duration {
	return max(p.Linger-now.Sub(g.Used), 0)
}

// retryAt is when a suspend that has failed is tried again; zero: none has.
func (g Gateway) retryAt() time.Time {
	if g.Failures == 0 {
		return time.Time{}
	}
	return g.Failed.Add(min(retry<<min(g.Failures-1, 10), maxRetry))
}

// MoveIn returns after how long a checkpoint moves to the disk that is not used meanwhile; 0: now.
func (p Policy) MoveIn(c Checkpoint, now time.Time) time.Duration {
	return max(p.DiskAfter-now.Sub(c.Used), 0)
}

// MakeRoom returns what frees bytes of memory, as far as possible: gateways to suspend and
// checkpoints that leave the memory. A suspend comes first, since it costs the least: the idle
// gateway that was used longest ago. As long as that is not enough, checkpoints follow, those used
// longest ago first, and then the other idle gateways. See Store for where the checkpoints go.
func (p Policy) MakeRoom(bytes int64, awake []Gateway, asleep []Checkpoint, now time.Time) (suspend, leave []identity.AgentID) {
	idle := slices.DeleteFunc(slices.Clone(awake), func(g Gateway) bool { return !p.MaySuspend(g, now) })
	slices.SortFunc(idle, func(a, b Gateway) int { return longestAgo(a.Used, b.Used, a.ID, b.ID) })
	for i, g := range idle {
		if bytes <= 0 {
			break
		}
		suspend = append(suspend, g.ID)
		bytes -= g.Frees
		if i == 0 {
			leave = Leave(bytes, asleep)
			bytes -= total(leave, asleep)
		}
	}
	if len(idle) == 0 {
		leave = Leave(bytes, asleep)
	}
	return suspend, leave
}

// Leave returns which checkpoints leave the memory to free bytes of it: those used longest ago.
func Leave(bytes int64, asleep []Checkpoint) []identity.AgentID {
	return longestUnused(bytes, asleep, func(c Checkpoint) int64 { return c.Bytes })
}

// GiveUp returns which checkpoints are given up to free bytes of the disk: those used longest ago.
func GiveUp(bytes int64, asleep []Checkpoint) []identity.AgentID {
	return longestUnused(bytes, asleep, func(c Checkpoint) int64 { return c.Stored })
}

// Store reports whether a checkpoint that leaves the memory can move to the disk, where room bytes
// are left, and which checkpoints there are given up for it: those used longest ago, and none that
// was used later than the one that comes. On the disk that takes at most as much as in memory. If it
// cannot move, it is the one to give up.
func Store(c Checkpoint, room int64, asleep []Checkpoint) (giveUp []identity.AgentID, ok bool) {
	older := slices.DeleteFunc(slices.Clone(asleep), func(other Checkpoint) bool { return !other.Used.Before(c.Used) })
	missing := c.Bytes - room
	for _, other := range older {
		missing -= other.Stored
	}
	if missing > 0 {
		return nil, false
	}
	return GiveUp(c.Bytes-room, older), true
}

// longestUnused returns the checkpoints used longest ago whose sizes have so many bytes.
func longestUnused(bytes int64, asleep []Checkpoint, size func(Checkpoint) int64) (ids []identity.AgentID) {
	oldest := slices.DeleteFunc(slices.Clone(asleep), func(c Checkpoint) bool { return size(c) <= 0 })
	slices.SortFunc(oldest, func(a, b Checkpoint) int { return longestAgo(a.Used, b.Used, a.ID, b.ID) })
	for _, c := range oldest {
		if bytes <= 0 {
			break
		}
		ids = append(ids, c.ID)
		bytes -= size(c)
	}
	return ids
}

func total(ids []identity.AgentID, of []Checkpoint) (bytes int64) {
	for _, c := range of {
		if slices.Contains(ids, c.ID) {
			bytes += c.Bytes
		}
	}
	return bytes
}

func longestAgo(a, b time.Time, first, second identity.AgentID) int {
	return cmp.Or(a.Compare(b), cmp.Compare(first, second))
}

// Wakes is what an agent that sleeps is to be woken for.
type Wakes struct {
	Message time.Time // when the first message came that waits for it, or is tried again; zero: none waits
}

// NextWake returns when an agent that sleeps is to be woken next; zero: for nothing that is known
// yet. Whatever wakes an agent at a time, such as a schedule, is in Wakes.
func NextWake(w Wakes) time.Time { return w.Message }

// Tries are the wakes for messages that a gateway was woken for and has not taken.
type Tries struct {
	Newest int64     // the number of the newest of the messages
	Wakes  int64     // how often the agent had been woken before the last try
	Count  int       // how often the agent was woken for them
	At     time.Time // when it is, or was, woken last
}

// Next returns the tries with the next wake, of an agent that has been woken so often: at once for a
// message that is new, or if the last try did not wake the agent, and otherwise after a pause that
// doubles with each wake. One that is still to come is not replaced.
func (t Tries) Next(newest, wakes int64, now time.Time) Tries {
	switch {
	case t.Count == 0 || newest != t.Newest:
		return Tries{Newest: newest, Wakes: wakes, Count: 1, At: now}
	case t.At.After(now):
		return t
	case wakes == t.Wakes: // what it waited for, such as room, did not come
		t.At = now
		return t
	}
	at := t.At.Add(min(retry<<min(t.Count-1, 10), maxRetry))
	if at.Before(now) {
		at = now
	}
	return Tries{Newest: newest, Wakes: wakes, Count: t.Count + 1, At: at}
}
