package modelproxy

import (
	"sync"
	"time"

	"agento.host/agento/internal/identity"
)

// retries knows for how long a gateway has been repeating the calls of a session. The proxy
// repeats most calls itself; an answer that broke off only the gateway can continue. The zero
// value is ready to use.
type retries struct {
	mu    sync.Mutex
	first map[retryKey]time.Time // when the first of the failures happened; guarded by mu
}

// retryKey is a session of an agent; with an empty session, the calls that belong to none.
type retryKey struct {
	agent   identity.AgentID
	session string
}

// maxRetryKeys limits how many sessions are known. Old ones are forgotten first.
const maxRetryKeys = 10_000

// allow records a failure, and reports whether the gateway may repeat the call.
func (r *retries) allow(key retryKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	first, ok := r.first[key]
	switch {
	case !ok || now.Sub(first) >= 2*retryTime: // of an earlier turn
		if len(r.first) >= maxRetryKeys {
			r.pruneLocked(now)
		}
		if r.first == nil {
			r.first = map[retryKey]time.Time{}
		}
		r.first[key] = now
		return true
	case now.Sub(first) < retryTime:
		return true
	}
	delete(r.first, key)
	return false
}

// pruneLocked forgets the sessions that repeat nothing any more, or all if there are none.
func (r *retries) pruneLocked(now time.Time) {
	for key, first := range r.first {
		if now.Sub(first) >= retryTime {
			delete(r.first, key)
		}
	}
	if len(r.first) >= maxRetryKeys {
		clear(r.first)
	}
}

// forget ends the failures of a session: a call of it was answered, or given up.
func (r *retries) forget(key retryKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.first, key)
}

// retryKey returns the session of the call.
func (x *exchange) retryKey() retryKey {
	key := retryKey{agent: x.upstream.AgentID}
	if x.request != nil {
		_, session := x.request.modelAndSession()
		key.session = cleanText(session, 512)
	}
	return key
}
