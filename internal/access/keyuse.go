package access

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

const (
	// flushInterval is how late the last use of a key may be written.
	flushInterval = time.Minute
	// lastFlushTimeout bounds the flush at shutdown.
	lastFlushTimeout = 5 * time.Second
	// flushBatch bounds how long one flush holds the database's write lock: measured, under 10 ms.
	flushBatch = 500
)

// keyUse identifies a key that was used.
type keyUse struct {
	account identity.AccountID
	key     identity.KeyID
}

// lastUses collects when keys were last used, until flush writes them.
type lastUses struct {
	mu sync.Mutex
	at map[keyUse]time.Time // guarded by mu
}

func (l *lastUses) add(k keyUse, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[keyUse]time.Time{}
	}
	if at.After(l.at[k]) {
		l.at[k] = at
	}
}

// removeAll returns what was collected and empties the collection.
func (l *lastUses) removeAll() map[keyUse]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.at
	l.at = nil
	return all
}

// flush writes what was collected. What cannot be written is written by the next flush.
func (s *Service) flush(ctx context.Context) {
	all := s.lastUses.removeAll()
	for batch := range slices.Chunk(slices.Collect(maps.Keys(all)), flushBatch) {
		err := s.db.Tx(ctx, "access.update_last_uses", func(ctx context.Context, tx *database.Tx) error { return updateLastUses(ctx, tx, all, batch) })
		if err == nil {
			continue
		}
		s.log.WarnContext(ctx, "write last use of keys", "keys", len(batch), "error", err)
		for _, k := range batch {
			s.lastUses.add(k, all[k])
		}
	}
}

func updateLastUses(ctx context.Context, tx *database.Tx, all map[keyUse]time.Time, batch []keyUse) error {
	for _, k := range batch {
		_, err := database.Exec(ctx, tx, `UPDATE keys SET used_at = $1 WHERE account_id = $2 AND id = $3 AND used_at < $1`,
			database.Millis(all[k]), k.account, k.key)
		if err != nil {
			return err
		}
	}
	return nil
}
