package usage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// columns are the columns of the table usage; the last nine are sums.
const (
	keyColumns = `account_id, hour, agent_id, session_id, provider, model, key_id, swarm_id`
	sumColumns = `requests, estimated_requests, unpriced_requests, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_micros`
)

// onConflict adds a row to the one that has its key.
var onConflict = func() string {
	names := strings.Split(sumColumns, ", ")
	for i, name := range names {
		names[i] = name + " = usage." + name + " + excluded." + name
	}
	return ` ON CONFLICT (account_id, hour, agent_id, session_id, peer_id, provider, model, key_id, swarm_id) DO UPDATE SET ` + strings.Join(names, ", ")
}()

// addRow adds calls to their row.
func addRow(ctx context.Context, tx *database.Tx, k rowKey, s Sum) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO usage (`+keyColumns+`, peer_id, `+sumColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)`+onConflict,
		k.account, k.hour, k.agent, k.session, k.provider, k.model, k.key, k.swarm, k.peer,
		s.Requests, s.Estimated, s.Unpriced, s.Input, s.Output, s.Reasoning, s.CacheRead, s.CacheWrite, s.Micros)
	if err != nil {
		return fmt.Errorf("add usage: %w", err)
	}
	return nil
}

// forgetPeersOfHour removes the peers from the rows that an agent has in one hour. done reports
// that there is no row with a peer.
func forgetPeersOfHour(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID) (done bool, err error) {
	hour, err := database.One(ctx, tx, database.Scalar[int64], `SELECT hour FROM usage WHERE account_id = $1 AND agent_id = $2 AND peer_id <> '' ORDER BY hour LIMIT 1`, account, agent)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("find usage: %w", err)
	}
	sums := "sum(" + strings.ReplaceAll(sumColumns, ", ", "), sum(") + ")"
	const ofHour = ` FROM usage WHERE account_id = $1 AND agent_id = $2 AND hour = $3 AND peer_id <> ''`
	if _, err := database.Exec(ctx, tx, `INSERT INTO usage (`+keyColumns+`, peer_id, `+sumColumns+`)
		SELECT `+keyColumns+`, '', `+sums+ofHour+` GROUP BY `+keyColumns+onConflict, account, agent, hour); err != nil {
		return false, fmt.Errorf("add usage: %w", err)
	}
	if _, err := database.Exec(ctx, tx, `DELETE`+ofHour, account, agent, hour); err != nil {
		return false, fmt.Errorf("delete usage: %w", err)
	}
	tx.Erase()
	return false, nil
}
