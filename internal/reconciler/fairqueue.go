package reconciler

import (
	"slices"

	"agento.host/agento/internal/identity"
)

// waiter is an agent that waits in a fairQueue.
type waiter struct {
	id      identity.AgentID
	account identity.AccountID
	bytes   int64         // that its gateway is expected to use
	granted chan struct{} // closed when it need not wait any more
}

// fairQueue is a queue that serves accounts in turn, and the waiters of one account in
// the order in which they came. So an account with many waiters delays another one by
// one waiter only.
type fairQueue struct {
	accounts []identity.AccountID // that have waiters; the first is served next
	waiters  map[identity.AccountID][]*waiter
}

func newFairQueue() *fairQueue {
	return &fairQueue{waiters: map[identity.AccountID][]*waiter{}}
}

func (q *fairQueue) len() (n int) {
	for _, waiting := range q.waiters {
		n += len(waiting)
	}
	return n
}

// ids returns the agents that wait.
func (q *fairQueue) ids() map[identity.AgentID]bool {
	all := map[identity.AgentID]bool{}
	for _, waiting := range q.waiters {
		for _, w := range waiting {
			all[w.id] = true
		}
	}
	return all
}

func (q *fairQueue) push(w *waiter) {
	if len(q.waiters[w.account]) == 0 {
		q.accounts = append(q.accounts, w.account)
	}
	q.waiters[w.account] = append(q.waiters[w.account], w)
}

// take removes and returns the first waiter that fits, or returns nil. Its account is
// served again after the others. Those that do not fit keep their turn, and let others
// pass: otherwise one that never fits would keep all of them waiting.
func (q *fairQueue) take(fits func(*waiter) bool) *waiter {
	for _, account := range q.accounts {
		i := slices.IndexFunc(q.waiters[account], fits)
		if i < 0 {
			continue
		}
		w := q.waiters[account][i]
		q.remove(w)
		if len(q.waiters[account]) > 0 {
			q.accounts = append(without(q.accounts, account), account)
		}
		return w
	}
	return nil
}

// remove removes a waiter that waits no longer.
func (q *fairQueue) remove(w *waiter) {
	left := without(q.waiters[w.account], w)
	if len(left) > 0 {
		q.waiters[w.account] = left
		return
	}
	delete(q.waiters, w.account)
	q.accounts = without(q.accounts, w.account)
}

// without returns a slice without one element.
func without[T comparable](s []T, v T) []T {
	out := make([]T, 0, len(s))
	for _, e := range s {
		if e != v {
			out = append(out, e)
		}
	}
	return out
}
