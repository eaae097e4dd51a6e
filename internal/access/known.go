package access

import (
	"crypto/sha256"
	"sync"
)

// maxKnown is how many good keys are remembered: 32 bytes each and the map's own.
const maxKnown = 65_536

// known remembers the hashes of keys lately seen good, in two generations: when
// the young one is full the old one is dropped. It grants nothing; it only spares
// its keys the limit on strangers.
type known struct {
	mu    sync.RWMutex
	young map[[sha256.Size]byte]struct{} // guarded by mu
	old   map[[sha256.Size]byte]struct{} // guarded by mu
}

func (k *known) has(hash [sha256.Size]byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, young := k.young[hash]
	_, old := k.old[hash]
	return young || old
}

func (k *known) remember(hash [sha256.Size]byte) {
	if k.isYoung(hash) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.young == nil || len(k.young) >= maxKnown/2 {
		k.old, k.young = k.young, map[[sha256.Size]byte]struct{}{}
	}
	k.young[hash] = struct{}{}
}

func (k *known) forget(hash [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.young, hash)
	delete(k.old, hash)
}

func (k *known) isYoung(hash [sha256.Size]byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.young[hash]
	return ok
}
