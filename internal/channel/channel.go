// Package channel owns the states of agents' channels: whether an agent is connected to
// Telegram and Slack, since when, and why not. Package botapi reports the state of
// Telegram, whose calls go through this server.
package channel

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// Name is the name of a channel.
type Name string

// The channels.
const (
	Telegram Name = "telegram"
	Slack    Name = "slack"
)

// Status is whether an agent is connected to a channel.
type Status string

// The statuses. Only Connected and Failed are reported and stored.
const (
	Connecting Status = "connecting" // the gateway has not been seen to connect yet
	Connected  Status = "connected"
	Failed     Status = "error"
	Stopped    Status = "stopped"  // the agent does not run
	Disabled   Status = "disabled" // config.channels switches it off
)

// State is the state of one channel of an agent.
type State struct {
	Status Status
	Error  string    // a sentence that says what to do; empty unless Status is Failed
	Since  time.Time // zero: unknown
}

// Report is what was seen of a channel of an agent's gateway.
type Report struct {
	Account identity.AccountID
	Agent   identity.AgentID
	Gateway int64 // agent.Agent.GatewayGeneration
	Channel Name
	Status  Status
	Error   string
}

// Store reads and writes the states.
type Store struct {
	db     *database.DB
	events *event.Log
}

// NewStore returns the store of a database.
func NewStore(db *database.DB, events *event.Log) *Store { return &Store{db: db, events: events} }

// List returns the stored states of the channels of an agent's gateway of a generation.
func (s *Store) List(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, gateway int64) (map[Name]State, error) {
	type row struct {
		name  Name
		state State
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) {
		var since int64
		err = r.Scan(&v.name, &v.state.Status, &v.state.Error, &since)
		v.state.Since = database.Time(since)
		return v, err
	}, `SELECT channel, status, error, since FROM channel_states WHERE account_id = $1 AND agent_id = $2 AND gateway_generation = $3`, account, agent, gateway)
	if err != nil {
		return nil, fmt.Errorf("read the states of channels: %w", err)
	}
	states := make(map[Name]State, len(rows))
	for _, v := range rows {
		states[v.name] = v.state
	}
	return states, nil
}

// save writes a report, and notifies of the agent if the report changes something. A report
// on an agent that was deleted meanwhile is dropped.
func (s *Store) save(ctx context.Context, r Report, now time.Time) error {
	err := s.db.Tx(ctx, "channel.save", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx,
			`INSERT INTO channel_states (account_id, agent_id, channel, gateway_generation, status, error, since)
			 SELECT $1, $2, $3, CAST($4 AS BIGINT), $5, $6, CAST($7 AS BIGINT) WHERE EXISTS (SELECT 1 FROM agents WHERE id = $2 AND account_id = $1)
			 ON CONFLICT (agent_id, channel) DO UPDATE SET gateway_generation = excluded.gateway_generation, status = excluded.status, error = excluded.error, since = excluded.since
			 WHERE channel_states.gateway_generation <> excluded.gateway_generation OR channel_states.status <> excluded.status OR channel_states.error <> excluded.error`,
			r.Account, r.Agent, r.Channel, r.Gateway, r.Status, r.Error, database.Millis(now))
		if n > 0 {
			s.events.NotifyAfterCommit(tx, event.AgentTopic(r.Agent))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("save the state of a channel: %w", err)
	}
	return nil
}

// ListFailed returns the stored reports of failed channels of an account, of whatever gateway.
func (s *Store) ListFailed(ctx context.Context, q database.Reader, account identity.AccountID) ([]FailedReport, error) {
	all, err := database.All(ctx, q, func(r database.Row) (f FailedReport, err error) {
		var since int64
		err = r.Scan(&f.Agent, &f.Gateway, &f.Channel, &f.Status, &f.Error, &since)
		f.Account, f.Since = account, database.Time(since)
		return f, err
	}, `SELECT agent_id, gateway_generation, channel, status, error, since FROM channel_states WHERE account_id = $1 AND status = $2`, account, Failed)
	if err != nil {
		return nil, fmt.Errorf("read the states of channels: %w", err)
	}
	return all, nil
}

// FailedReport is a report of a channel that is not connected, and since when.
type FailedReport struct {
	Report
	Since time.Time
}
