package usage

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

// Meter counts model calls. All methods may be called concurrently.
type Meter struct {
	db     *database.DB
	prices *Prices
	log    *slog.Logger

	mu      sync.Mutex
	pending map[rowKey]Sum            // could not be written yet; guarded by mu
	hour    int64                     // the hour that rows, known and deleted have; guarded by mu
	rows    map[owner]int             // how many rows an agent has got in that hour; guarded by mu
	known   map[rowKey]bool           // those rows; guarded by mu
	deleted map[identity.AgentID]bool // agents that were deleted in that hour; guarded by mu
}

// maxRowsOfHour is how many rows an agent gets in an hour. The session and the model are
// what the gateway says: with a hijacked one they could be others in each call.
const maxRowsOfHour = 500

// owner is an agent.
type owner struct {
	account identity.AccountID
	agent   identity.AgentID
}

// rowKey is the primary key of the table usage.
type rowKey struct {
	account  identity.AccountID
	hour     int64
	agent    identity.AgentID
	session  identity.SessionID
	peer     string
	provider provider.Name
	model    string
	key      identity.KeyID
	swarm    identity.SwarmID
}

// NewMeter returns a meter that writes to db. log may be nil.
func NewMeter(db *database.DB, prices *Prices, log *slog.Logger) *Meter {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Meter{
		db: db, prices: prices, log: log,
		pending: map[rowKey]Sum{}, rows: map[owner]int{}, known: map[rowKey]bool{}, deleted: map[identity.AgentID]bool{},
	}
}

// Record counts a call, and returns what it was counted as once that is committed. While the
// database takes no writes, the call is kept in memory until Run can write it: the agent's answer
// does not depend on it. The calls of an agent that has many sessions and models in an hour share
// a row that names neither.
func (m *Meter) Record(ctx context.Context, c Call) Sum {
	ctx = context.WithoutCancel(ctx) // the provider has served the call, whoever waits for it
	sum := m.sumOf(c)
	key := rowKey{c.AccountID, database.Millis(c.At.UTC().Truncate(time.Hour)), c.AgentID, c.SessionID, c.PeerID, c.Provider, c.Model, c.KeyID, c.SwarmID}
	err := m.db.GroupTx(ctx, "usage.record", func(ctx context.Context, tx *database.Tx) error {
		return addRow(ctx, tx, m.bound(key), sum)
	})
	if err != nil {
		m.log.ErrorContext(ctx, "the usage of a model call cannot be written: it is kept in memory until it can", "account", c.AccountID, "agent", c.AgentID, "error", err)
		m.keep(key, sum)
	}
	return sum
}

// sumOf returns what a call is counted as.
func (m *Meter) sumOf(c Call) Sum {
	sum := Sum{Tokens: c.Tokens, Requests: 1}
	if c.Estimated {
		sum.Estimated = 1
	}
	var known bool
	if sum.Micros, known = m.prices.Cost(c); !known {
		sum.Unpriced = 1
	}
	return sum
}

// bound returns the key, or the common one of an agent that has had enough rows.
func (m *Meter) bound(key rowKey) rowKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boundLocked(key)
}

func (m *Meter) boundLocked(key rowKey) rowKey {
	if key.hour > m.hour {
		m.hour = key.hour
		clear(m.rows)
		clear(m.known)
		clear(m.deleted)
	}
	if m.deleted[key.agent] {
		key.peer = ""
	}
	if m.known[key] {
		return key
	}
	o := owner{key.account, key.agent}
	if m.rows[o] >= maxRowsOfHour {
		key.peer, key.session, key.model = "", "", ""
		return key
	}
	m.rows[o]++
	m.known[key] = true
	return key
}

func (m *Meter) keep(key rowKey, sum Sum) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key = m.boundLocked(key)
	all := m.pending[key]
	all.Add(sum)
	m.pending[key] = all
}

const (
	// retryInterval is the pause between attempts to write what is kept in memory.
	retryInterval = time.Second
	// lastTimeout is the time for the last attempt, after ctx has ended.
	lastTimeout = 5 * time.Second
)

// Run writes what Record could not write, until ctx ends, and once more after that.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.flush(ctx); err != nil && ctx.Err() == nil {
				m.log.ErrorContext(ctx, "the usage of model calls is still not written", "error", err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
			defer cancel()
			return m.flush(last)
		}
	}
}

// flush writes what is kept in memory, in one transaction.
func (m *Meter) flush(ctx context.Context) error {
	m.mu.Lock()
	batch := m.pending
	m.pending = map[rowKey]Sum{}
	m.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := m.db.Tx(ctx, "usage.flush", func(ctx context.Context, tx *database.Tx) error {
		for key, sum := range batch {
			if err := addRow(ctx, tx, m.bound(key), sum); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for key, sum := range batch {
			m.keep(key, sum)
		}
		return fmt.Errorf("write usage: %w", err)
	}
	return nil
}

// EmptyAgent removes the peers from the rows of an agent that is being deleted, hour by hour. The
// rows themselves stay with the account.
func (m *Meter) EmptyAgent(ctx context.Context, account identity.AccountID, agent identity.AgentID) error {
	for {
		done := false
		err := m.db.Tx(ctx, "usage.forget_peers", func(ctx context.Context, tx *database.Tx) (err error) {
			done, err = forgetPeersOfHour(ctx, tx, account, agent)
			return err
		})
		if done || err != nil {
			return err
		}
	}
}

// DeleteAgent removes the peers from the rows of an agent that EmptyAgent has left, in the
// caller's transaction. Calls that end later are counted without their peer.
func (m *Meter) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID) error {
	m.mu.Lock()
	m.deleted[agent] = true
	m.mu.Unlock()
	for {
		if done, err := forgetPeersOfHour(ctx, tx, actor.AccountID, agent); done || err != nil {
			return err
		}
	}
}
