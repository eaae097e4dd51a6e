package agent

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

const columns = `id, account_id, name, region, avatar_url, config, swarm_id, wanted, wish, settled, fresh, booted,
	status, last_error, error_category, place, running_hash, created_at, started_at, stopped_at`

func scan(r database.Row) (Agent, error) {
	var a Agent
	var config string
	var created, started, stopped int64
	err := r.Scan(&a.ID, &a.AccountID, &a.Name, &a.Region, &a.AvatarURL, &config, &a.SwarmID, &a.Wanted, &a.Wish, &a.Settled, &a.Fresh, &a.Booted,
		&a.Status, &a.LastError, &a.ErrorCategory, &a.Place, &a.RunningHash, &created, &started, &stopped)
	if err != nil {
		return a, err
	}
	a.CreatedAt, a.StartedAt, a.StoppedAt = database.Time(created), database.Time(started), database.Time(stopped)
	if err := json.Unmarshal([]byte(config), &a.Config); err != nil {
		return a, fmt.Errorf("config of agent %s: %w", a.ID, err)
	}
	return a, nil
}

func insert(ctx context.Context, tx *database.Tx, a Agent) error {
	config, err := json.Marshal(a.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO agents (id, account_id, name, region, config, swarm_id, wanted, wish, status, created_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		a.ID, a.AccountID, a.Name, a.Region, string(config), a.SwarmID, a.Wanted, a.Wish, a.Status, database.Millis(a.CreatedAt))
	return err
}

// find returns an agent of the account that is not being deleted.
func find(ctx context.Context, q database.Querier, accountID, id string) (Agent, error) {
	a, err := database.One(ctx, q, scan,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND id = $2 AND wanted <> 'deleted'`, accountID, id)
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.NotFound, "There is no agent %q in this account. List them with GET /v1/agents.", id)
	}
	return a, err
}

// findAny is for the reconciler, which serves every account.
func findAny(ctx context.Context, q database.Querier, id string) (Agent, error) {
	return database.One(ctx, q, scan, `SELECT `+columns+` FROM agents WHERE id = $1`, id)
}

func list(ctx context.Context, q database.Querier, accountID string) ([]Agent, error) {
	return database.All(ctx, q, scan,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND wanted <> 'deleted' ORDER BY created_at DESC, id DESC`, accountID)
}

// open lists the agents that the reconciler must tend after a start.
func open(ctx context.Context, q database.Querier) ([]string, error) {
	return database.All(ctx, q, database.Scalar[string],
		`SELECT id FROM agents WHERE wanted <> 'stopped' OR settled < wish OR place <> ''`)
}

// ask writes a wish and returns its number. Asking for what is already on its
// way is no new wish, so that a repeated call does not cancel the first.
func ask(ctx context.Context, tx *database.Tx, a Agent, want Wanted, fresh bool) (int64, error) {
	again := want == WantRunning && gaveUp(a)
	if a.Wanted == want && !fresh && !again {
		return a.Wish, nil
	}
	wish := a.Wish + 1
	if fresh {
		a.Fresh = wish
	}
	_, err := tx.ExecContext(ctx, `UPDATE agents SET wanted = $1, wish = $2, fresh = $3 WHERE id = $4`, want, wish, a.Fresh, a.ID)
	return wish, err
}

// progress writes what is so. Errors: errNewer, if a newer wish has come meanwhile.
func (a Agent) progress(ctx context.Context, tx *database.Tx) error {
	n, err := database.Exec(ctx, tx,
		`UPDATE agents SET settled = $1, booted = $2, status = $3, last_error = $4, error_category = $5, place = $6, running_hash = $7, started_at = $8, stopped_at = $9
		 WHERE id = $10 AND wish = $11`,
		a.Settled, a.Booted, a.Status, a.LastError, a.ErrorCategory, a.Place, a.RunningHash, database.Millis(a.StartedAt), database.Millis(a.StoppedAt), a.ID, a.Wish)
	if err == nil && n == 0 {
		return errNewer
	}
	return err
}

// noteHash writes what a's gateway has been given, if it is still the same gateway.
func noteHash(ctx context.Context, tx *database.Tx, a Agent, hash string) error {
	_, err := tx.ExecContext(ctx, `UPDATE agents SET running_hash = $1 WHERE id = $2 AND status = $3 AND place = $4 AND running_hash = $5`,
		hash, a.ID, a.Status, a.Place, a.RunningHash)
	return err
}

// noteError writes what the last call of its model says about an agent that runs.
// The answer says whether anything changed.
func noteError(ctx context.Context, tx *database.Tx, id string, category Category, text string) (bool, error) {
	n, err := database.Exec(ctx, tx,
		`UPDATE agents SET last_error = $1, error_category = $2 WHERE id = $3 AND status = $4`, text, category, id, client.Running)
	return n > 0, err
}

// running lists the agents whose gateways are up, by id, with their places.
func running(ctx context.Context, q database.Querier) (map[string]string, error) {
	type row struct{ id, place string }
	// The condition in brackets is that of the index agents_open.
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.place) },
		`SELECT id, place FROM agents WHERE (wanted <> 'stopped' OR settled < wish OR place <> '') AND status = 'running' AND place <> ''`)
	places := make(map[string]string, len(rows))
	for _, v := range rows {
		places[v.id] = v.place
	}
	return places, err
}

func update(ctx context.Context, tx *database.Tx, a Agent) error {
	config, err := json.Marshal(a.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE agents SET name = $1, avatar_url = $2, config = $3, swarm_id = $4 WHERE account_id = $5 AND id = $6`,
		a.Name, a.AvatarURL, string(config), a.SwarmID, a.AccountID, a.ID)
	return err
}

func remove(ctx context.Context, tx *database.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM agents WHERE id = $1`, id)
	return err
}

// Usage counts an account's agents, and how many of them are wanted running.
func usage(ctx context.Context, q database.Querier, accountID string) (all, running int, err error) {
	err = q.QueryRowContext(ctx,
		`SELECT count(*), coalesce(sum(CASE WHEN wanted = 'running' THEN 1 ELSE 0 END), 0) FROM agents WHERE account_id = $1 AND wanted <> 'deleted'`,
		accountID).Scan(&all, &running)
	return all, running, err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
