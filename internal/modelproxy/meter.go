package modelproxy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/internal/database"
)

// Use is what one call cost, and whom.
type Use struct {
	AccountID string
	AgentID   string
	PeerID    string // empty if the session has no peer
	SessionID string // empty if the call belongs to no session
	Provider  string
	Model     string
	At        time.Time
	Counts
}

// UsageRow is what the calls of one hour, session and model cost together.
type UsageRow struct {
	AgentID   string
	PeerID    string
	SessionID string
	Provider  string
	Model     string
	Hour      time.Time // when it began, UTC
	Counts
}

// Meter keeps account of tokens. Add is memory only; Run writes to the database.
type Meter struct {
	db  *database.DB
	log *slog.Logger

	mu      sync.Mutex
	pending map[bucket]Counts // guarded by mu; not yet written
}

// bucket is the key of a row.
type bucket struct {
	account, agent, peer, session, provider, model string
	hour                                           int64
}

// NewMeter makes a meter that writes to db.
func NewMeter(db *database.DB, log *slog.Logger) *Meter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Meter{db: db, log: log, pending: map[bucket]Counts{}}
}

// Add notes a use. It returns at once.
func (m *Meter) Add(u Use) {
	key := bucket{u.AccountID, u.AgentID, u.PeerID, u.SessionID, u.Provider, u.Model, database.Millis(u.At.UTC().Truncate(time.Hour))}
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.pending[key]
	sum.add(u.Counts)
	m.pending[key] = sum
}

// flushEvery bounds what a crash of the server can lose.
const flushEvery = time.Second

// Run writes what was added every second, until ctx ends, and then the rest.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
				m.log.ErrorContext(ctx, "token usage not written; trying again", "err", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return m.Flush(last)
		}
	}
}

// Flush writes what was added since the last one, in one transaction. What could
// not be written stays for the next.
func (m *Meter) Flush(ctx context.Context) error {
	m.mu.Lock()
	batch := m.pending
	m.pending = make(map[bucket]Counts, len(batch))
	m.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := m.db.Tx(ctx, func(tx *database.Tx) error {
		for key, sum := range batch {
			if err := addUsage(ctx, tx, key, sum); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.putBack(batch)
		return fmt.Errorf("write token usage: %w", err)
	}
	return nil
}

func (m *Meter) putBack(batch map[bucket]Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, sum := range batch {
		sum.add(m.pending[key])
		m.pending[key] = sum
	}
}

// Usage returns what an agent of the account has used, the latest hour first,
// with what is not yet written; an empty agentID means all agents.
func (m *Meter) Usage(ctx context.Context, accountID, agentID string) ([]UsageRow, error) {
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	return usage(ctx, m.db, accountID, agentID)
}

// Forget deletes what is known of an agent, within the caller's transaction.
func (m *Meter) Forget(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	m.mu.Lock()
	for key := range m.pending {
		if key.account == accountID && key.agent == agentID {
			delete(m.pending, key)
		}
	}
	m.mu.Unlock()
	_, err := database.Exec(ctx, tx, `DELETE FROM usage WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
	return err
}

func addUsage(ctx context.Context, tx *database.Tx, k bucket, c Counts) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO usage
		(account_id, agent_id, peer_id, session_id, provider, model, hour, requests, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
		ON CONFLICT (account_id, agent_id, hour, session_id, peer_id, provider, model) DO UPDATE SET
			requests = usage.requests + excluded.requests,
			input_tokens = usage.input_tokens + excluded.input_tokens,
			output_tokens = usage.output_tokens + excluded.output_tokens,
			cache_read_tokens = usage.cache_read_tokens + excluded.cache_read_tokens,
			cache_write_tokens = usage.cache_write_tokens + excluded.cache_write_tokens`,
		k.account, k.agent, k.peer, k.session, k.provider, k.model, k.hour, c.Requests, c.Input, c.Output, c.CacheRead, c.CacheWrite)
	return err
}

func usage(ctx context.Context, q database.Querier, accountID, agentID string) ([]UsageRow, error) {
	return database.All(ctx, q, scanUsage, `SELECT
		agent_id, peer_id, session_id, provider, model, hour, requests, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens
		FROM usage WHERE account_id = $1 AND ($2 = '' OR agent_id = $2)
		ORDER BY hour DESC, agent_id, peer_id, session_id, provider, model`, accountID, agentID)
}

func scanUsage(r database.Row) (UsageRow, error) {
	var u UsageRow
	var hour int64
	err := r.Scan(&u.AgentID, &u.PeerID, &u.SessionID, &u.Provider, &u.Model, &hour,
		&u.Requests, &u.Input, &u.Output, &u.CacheRead, &u.CacheWrite)
	u.Hour = database.Time(hour)
	return u, err
}
