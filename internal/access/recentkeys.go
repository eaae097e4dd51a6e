package access

import (
	"crypto/sha256"
	"sync"
)

// maxRecentKeys bounds recentKeys: 32 bytes for each key, and the overhead of the maps.
const maxRecentKeys = 65_536

// recentKeys holds the hashes of keys that were valid when they were last used. Such a
// key skips the limit on unknown keys; it is still checked against the database. The
// hashes are in two generations: when the new one is full, the old one is dropped.
type recentKeys struct {
	mu      sync.RWMutex
	newKeys map[[sha256.Size]byte]struct{} // guarded by mu
	oldKeys map[[sha256.Size]byte]struct{} // guarded by mu
}

func (k *recentKeys) has(hash [sha256.Size]byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, isNew := k.newKeys[hash]
	_, isOld := k.oldKeys[hash]
	return isNew || isOld
}

func (k *recentKeys) add(hash [sha256.Size]byte) {
	if k.isNew(hash) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.newKeys == nil || len(k.newKeys) >= maxRecentKeys/2 {
		k.oldKeys, k.newKeys = k.newKeys, map[[sha256.Size]byte]struct{}{}
	}
	k.newKeys[hash] = struct{}{}
}

func (k *recentKeys) remove(hash [sha256.Size]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.newKeys, hash)
	delete(k.oldKeys, hash)
}

func (k *recentKeys) isNew(hash [sha256.Size]byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, ok := k.newKeys[hash]
	return ok
}
