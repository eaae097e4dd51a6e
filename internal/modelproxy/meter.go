package modelproxy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// CallUsage is the tokens of one call.
type CallUsage struct {
	AccountID identity.AccountID
	AgentID   identity.AgentID
	PeerID    string             // empty if the session has no peer
	SessionID identity.SessionID // empty if the call belongs to no session
	Provider  provider.Name
	Model     string
	At        time.Time
	Counts
}

// HourlyUsage is the sum of the calls of one hour, session and model.
type HourlyUsage struct {
	AgentID   identity.AgentID
	PeerID    string
	SessionID identity.SessionID
	Provider  provider.Name
	Model     string
	Hour      time.Time // its start, in UTC
	Counts
}

// Meter counts tokens. Add keeps them in memory; Run writes them to the database.
type Meter struct {
	db  *database.DB
	log *slog.Logger

	mu      sync.Mutex
	pending map[usageKey]Counts // guarded by mu; not written yet
	hour    int64               // the hour that rows has; guarded by mu
	rows    map[usageOwner]int  // how many rows an agent has got in that hour; guarded by mu
	known   map[usageKey]bool   // those rows; guarded by mu
}

// maxRowsOfHour is how many rows an agent gets in an hour. The session and the model are
// what the gateway says: with a hijacked one they could be others in each call.
const maxRowsOfHour = 500

// usageOwner is an agent.
type usageOwner struct {
	account identity.AccountID
	agent   identity.AgentID
}

// usageKey is the primary key of the table usage.
type usageKey struct {
	account  identity.AccountID
	agent    identity.AgentID
	peer     string
	session  identity.SessionID
	provider provider.Name
	model    string
	hour     int64
}

// NewMeter returns a meter that writes to db. log may be nil.
func NewMeter(db *database.DB, log *slog.Logger) *Meter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Meter{db: db, log: log, pending: map[usageKey]Counts{}, rows: map[usageOwner]int{}, known: map[usageKey]bool{}}
}

// Add adds the tokens of a call. It does not block. The calls of an agent that has many
// sessions and models in an hour share a row that names neither.
func (m *Meter) Add(u CallUsage) {
	key := usageKey{u.AccountID, u.AgentID, u.PeerID, u.SessionID, u.Provider, u.Model, database.Millis(u.At.UTC().Truncate(time.Hour))}
	m.mu.Lock()
	defer m.mu.Unlock()
	key = m.boundLocked(key)
	sum := m.pending[key]
	sum.add(u.Counts)
	m.pending[key] = sum
}

// boundLocked returns the key, or the common one of an agent that has had enough rows.
func (m *Meter) boundLocked(key usageKey) usageKey {
	if key.hour > m.hour {
		m.hour = key.hour
		clear(m.rows)
		clear(m.known)
	}
	if m.known[key] {
		return key
	}
	owner := usageOwner{key.account, key.agent}
	if m.rows[owner] >= maxRowsOfHour {
		key.peer, key.session, key.model = "", "", ""
		return key
	}
	m.rows[owner]++
	m.known[key] = true
	return key
}

// flushInterval limits how much a crash of the server can lose.
const flushInterval = time.Second

// flushTimeout is the time for the last flush, after ctx has ended.
const flushTimeout = 5 * time.Second

// Run calls Flush every second until ctx ends, and once more after that.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
				m.log.ErrorContext(ctx, "token usage not written, retrying", "err", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			return m.Flush(last)
		}
	}
}

// Flush writes the tokens added since the last flush, in one transaction. If that
// fails, the next flush writes them.
func (m *Meter) Flush(ctx context.Context) error {
	m.mu.Lock()
	batch := m.pending
	m.pending = make(map[usageKey]Counts, len(batch))
	m.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := m.db.Tx(ctx, "modelproxy.add_usage", func(ctx context.Context, tx *database.Tx) error {
		for key, sum := range batch {
			if err := upsertUsage(ctx, tx, key, sum); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.restore(batch)
		return fmt.Errorf("write token usage: %w", err)
	}
	return nil
}

func (m *Meter) restore(batch map[usageKey]Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, sum := range batch {
		sum.add(m.pending[key])
		m.pending[key] = sum
	}
}

// Usage flushes and returns the usage of an agent of the account, the latest hour
// first. An empty agent means all agents.
func (m *Meter) Usage(ctx context.Context, account identity.AccountID, agent identity.AgentID) ([]HourlyUsage, error) {
	if err := m.Flush(ctx); err != nil {
		return nil, err
	}
	return listUsage(ctx, m.db, account, agent)
}

// DeleteAgent deletes the usage of an agent in the caller's transaction.
func (m *Meter) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	m.mu.Lock()
	for key := range m.pending {
		if key.account == actor.AccountID && key.agent == agent {
			delete(m.pending, key)
		}
	}
	m.mu.Unlock()
	_, err := database.Exec(ctx, tx, `DELETE FROM usage WHERE account_id = $1 AND agent_id = $2`, actor.AccountID, agent)
	return err
}

func upsertUsage(ctx context.Context, tx *database.Tx, k usageKey, c Counts) error {
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

func listUsage(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]HourlyUsage, error) {
	return database.AllReadable(ctx, q, scanUsage, damagedUsage, `SELECT
		agent_id, peer_id, session_id, provider, model, hour, requests, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens
		FROM usage WHERE account_id = $1 AND ($2 = '' OR agent_id = $2)
		ORDER BY hour DESC, agent_id, peer_id, session_id, provider, model`, account, agent)
}

// damagedUsage keeps the hour of an agent: what can be decoded of it is billed.
func damagedUsage(u *HourlyUsage, _ error) (row string, keep bool) {
	return "usage of agent " + string(u.AgentID), true
}

func scanUsage(r database.Row) (HourlyUsage, error) {
	var u HourlyUsage
	var hour int64
	err := r.Scan(&u.AgentID, &u.PeerID, &u.SessionID, &u.Provider, &u.Model, &hour,
		&u.Requests, &u.Input, &u.Output, &u.CacheRead, &u.CacheWrite)
	u.Hour = database.Time(hour)
	return u, err
}
