package access

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/database"
)

const (
	// flushEvery is how late the last use of a key may be written.
	flushEvery = time.Minute
	// lastFlush is how long the flush at the end may take.
	lastFlush = 5 * time.Second
	// flushBatch bounds how long one flush holds the database's write lock: measured, under 10 ms.
	flushBatch = 500
)

// use names a key and the account it is of.
type use struct{ account, key string }

// uses collects when keys were last used, until they are written.
type uses struct {
	mu   sync.Mutex
	last map[use]time.Time // guarded by mu
}

func (u *uses) note(who Principal, at time.Time) {
	k := use{who.AccountID, who.KeyID}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[use]time.Time{}
	}
	if at.After(u.last[k]) {
		u.last[k] = at
	}
}

// takeAll empties the collection.
func (u *uses) takeAll() map[use]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.last
	u.last = nil
	return all
}

// flush writes what was collected. What cannot be written waits for the next time.
func (s *Service) flush(ctx context.Context) {
	all := s.uses.takeAll()
	for batch := range slices.Chunk(slices.Collect(maps.Keys(all)), flushBatch) {
		err := s.db.Tx(ctx, func(tx *database.Tx) error { return writeUses(ctx, tx, all, batch) })
		if err == nil {
			continue
		}
		s.log.WarnContext(ctx, "write last use of keys", "keys", len(batch), "error", err)
		for _, k := range batch {
			s.uses.note(Principal{AccountID: k.account, KeyID: k.key}, all[k])
		}
	}
}

func writeUses(ctx context.Context, q database.Querier, all map[use]time.Time, batch []use) error {
	for _, k := range batch {
		_, err := database.Exec(ctx, q, `UPDATE keys SET used_at = $1 WHERE account_id = $2 AND id = $3 AND used_at < $1`,
			database.Millis(all[k]), k.account, k.key)
		if err != nil {
			return err
		}
	}
	return nil
}
