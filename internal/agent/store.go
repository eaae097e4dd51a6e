package agent

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Store reads and writes the agents table. Methods that take a Reader or a
// Tx belong to what the caller does; the others run their own.
type Store struct {
	// RoomTimeout is how long a request waits for room; 0: a minute. It is set before the
	// store is used.
	RoomTimeout time.Duration

	db     *database.DB
	events *event.Log
}

// NewStore returns the store of a database.
func NewStore(db *database.DB, events *event.Log) *Store { return &Store{db: db, events: events} }

// ErrOutdated means that the desired state or the lease has changed since the record
// was read. Nothing was written.
var ErrOutdated = errors.New("the agent's desired state or lease has changed meanwhile")

const columns = `id, account_id, name, region, avatar_url, config, swarm_id, revision,
	desired_state, generation, observed_generation, restart_generation, gateway_generation,
	status, last_error, error_category, server, place, spec_digest, power, holder, lease_number, lease_until,
	failures, unready_ms, next_try_at, missed_health_checks, created_at, started_at, stopped_at, last_used_at,
	suspension, wake_wanted, woke_at, wake_ms, wakes`

// toReconcile is true of the agents that the reconciler must check after a
// start. It is the condition of the index agents_to_reconcile, which the database uses only
// for queries that contain it word for word.
const toReconcile = `(desired_state <> 'stopped' OR observed_generation < generation OR place <> '')`

func scan(r database.Row) (Agent, error) {
	var a Agent
	var config, failures string
	var until, unready, nextTry, created, started, stopped, used, wanted, woke, wake int64
	err := r.Scan(&a.ID, &a.AccountID, &a.Name, &a.Region, &a.AvatarURL, &config, &a.SwarmID, &a.Revision,
		&a.DesiredState, &a.Generation, &a.ObservedGeneration, &a.RestartGeneration, &a.GatewayGeneration,
		&a.Status, &a.LastError, &a.ErrorCategory, &a.Server, &a.Place, &a.SpecDigest, &a.Power, &a.Lease.Holder, &a.Lease.Number, &until,
		&failures, &unready, &nextTry, &a.Retry.MissedHealthChecks, &created, &started, &stopped, &used,
		&a.Sleep.Suspension, &wanted, &woke, &wake, &a.Sleep.Wakes)
	if err != nil {
		return a, err
	}
	a.CreatedAt, a.StartedAt, a.StoppedAt, a.LastUsedAt = database.Time(created), database.Time(started), database.Time(stopped), database.Time(used)
	a.Lease.Until, a.Retry.NextTryAt = database.Time(until), database.Time(nextTry)
	a.Sleep.WakeWanted, a.Sleep.WokeAt, a.Sleep.WakeTook = database.Time(wanted), database.Time(woke), time.Duration(wake)*time.Millisecond
	a.Retry.Unready = time.Duration(unready) * time.Millisecond
	err = checkEnums(a)
	times, invalid := parseTimes(failures)
	if a.Retry.Failures = times; invalid != nil {
		err = errors.Join(err, &database.ColumnError{Column: "failures", Err: invalid})
	}
	if invalid := database.DecodeJSON(config, &a.Config); invalid != nil {
		err = errors.Join(err, &database.ColumnError{Column: "config", Err: invalid})
	}
	return a, err
}

// Find returns an agent of the account that is not being deleted.
// Faults: NotFound.
func (s *Store) Find(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) (Agent, error) {
	a, err := database.OneReadable(ctx, q, scan, damaged,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND id = $2 AND desired_state <> 'deleted'`, account, id)
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.NotFound, "There is no agent %q in this account. List them with GET /v1/agents.", id)
	}
	return a, err
}

// FindByID returns an agent of any account, also one that is being deleted.
// Errors: sql.ErrNoRows.
func (s *Store) FindByID(ctx context.Context, q database.Reader, id identity.AgentID) (Agent, error) {
	return database.OneReadable(ctx, q, scan, damaged, `SELECT `+columns+` FROM agents WHERE id = $1`, id)
}

// SwarmOf returns the swarm that an agent is in, or "" if it is in none.
// Faults: NotFound.
func (s *Store) SwarmOf(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) (identity.SwarmID, error) {
	a, err := s.Find(ctx, q, account, id)
	return a.SwarmID, err
}

// ListInSwarm returns the agents that are in a swarm, newest first.
func (s *Store) ListInSwarm(ctx context.Context, q database.Reader, account identity.AccountID, swarm identity.SwarmID) ([]Agent, error) {
	return database.AllReadable(ctx, q, scan, damaged,
		`SELECT `+columns+` FROM agents WHERE account_id = $1 AND swarm_id = $2 AND desired_state <> 'deleted' ORDER BY created_at DESC, id DESC`, account, swarm)
}

// IDs returns the ids of all agents, sorted.
func IDs(ctx context.Context, q database.Reader) ([]identity.AgentID, error) {
	return database.All(ctx, q, database.Scalar[identity.AgentID], `SELECT id FROM agents ORDER BY id`)
}

// Counts are how many agents there are.
type Counts struct {
	ByStatus map[client.AgentStatus]int
	ByState  map[string]int // a running agent counts for its power, every other one for its status; see Agent.State
}

// Count counts the agents of the installation. It is for the operator: it counts those of every
// account.
func Count(ctx context.Context, q database.Reader) (Counts, error) {
	type row struct {
		status client.AgentStatus
		power  Power
		n      int
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.status, &v.power, &v.n) },
		`SELECT status, power, count(*) FROM agents WHERE desired_state <> 'deleted' GROUP BY status, power`)
	if err != nil {
		return Counts{}, fmt.Errorf("count agents: %w", err)
	}
	counts := Counts{ByStatus: map[client.AgentStatus]int{}, ByState: map[string]int{}}
	for _, r := range rows {
		counts.ByStatus[r.status] += r.n
		counts.ByState[stateOf(r.status, r.power)] += r.n
	}
	return counts, nil
}

// CountBySwarm counts an account's agents by swarm. A swarm without agents is not in
// the result.
func (s *Store) CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error) {
	type row struct {
		id identity.SwarmID
		n  int
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.n) },
		`SELECT swarm_id, count(*) FROM agents WHERE account_id = $1 AND swarm_id <> '' AND desired_state <> 'deleted' GROUP BY swarm_id`, account)
	counts := make(map[identity.SwarmID]int, len(rows))
	for _, v := range rows {
		counts[v.id] = v.n
	}
	return counts, err
}

// Names returns the names of those of some agents that an account has.
func (s *Store) Names(ctx context.Context, q database.Reader, account identity.AccountID, ids []identity.AgentID) (map[identity.AgentID]string, error) {
	names := map[identity.AgentID]string{}
	if len(ids) == 0 {
		return names, nil
	}
	type row struct {
		id   identity.AgentID
		name string
	}
	args, places := []any{account}, make([]string, len(ids))
	for i, id := range ids {
		args, places[i] = append(args, id), fmt.Sprintf("$%d", i+2)
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.name) },
		`SELECT id, name FROM agents WHERE account_id = $1 AND desired_state <> 'deleted' AND id IN (`+strings.Join(places, ", ")+`)`, args...)
	for _, v := range rows {
		names[v.id] = v.name
	}
	return names, err
}

// ListToReconcile returns the ids of the agents, of every account, that the reconciler
// must check after a start.
func (s *Store) ListToReconcile(ctx context.Context, q database.Reader) ([]identity.AgentID, error) {
	return database.All(ctx, q, database.Scalar[identity.AgentID], `SELECT id FROM agents WHERE `+toReconcile)
}

// ListRunning returns the agents, of every account, that should run and do. Damaged ones
// are among them.
func (s *Store) ListRunning(ctx context.Context, q database.Reader) ([]Agent, error) {
	return database.AllReadable(ctx, q, scan, damaged,
		`SELECT `+columns+` FROM agents WHERE `+toReconcile+` AND status = 'running' AND desired_state = 'running'`)
}

// ListAll returns the agents of every account that are not being deleted, by their age. It is for the
// operator. Damaged ones are among them.
func (s *Store) ListAll(ctx context.Context, q database.Reader) ([]Agent, error) {
	return database.AllReadable(ctx, q, scan, damaged, `SELECT `+columns+` FROM agents WHERE desired_state <> 'deleted' ORDER BY created_at, id`)
}

// ListGateways returns where the gateways run that are up, by agent.
func (s *Store) ListGateways(ctx context.Context, q database.Reader) (map[identity.AgentID]runtime.Place, error) {
	type row struct {
		id    identity.AgentID
		place runtime.Place
	}
	rows, err := database.All(ctx, q, func(r database.Row) (v row, err error) { return v, r.Scan(&v.id, &v.place) },
		`SELECT id, place FROM agents WHERE `+toReconcile+` AND status = 'running' AND place <> '' AND power = 'awake'`)
	places := make(map[identity.AgentID]runtime.Place, len(rows))
	for _, v := range rows {
		places[v.id] = v.place
	}
	return places, err
}

// CountOn returns how many agents have their homes on a server.
func (s *Store) CountOn(ctx context.Context, q database.Reader, server string) (int, error) {
	return database.One(ctx, q, database.Scalar[int], `SELECT COUNT(*) FROM agents WHERE server = $1`, server)
}

// ListMemory returns what the gateways that may run were measured to use.
func (s *Store) ListMemory(ctx context.Context, q database.Reader) ([]Measured, error) {
	return database.All(ctx, q, func(r database.Row) (v Measured, err error) { return v, r.Scan(&v.ID, &v.Server, &v.Bytes) },
		`SELECT id, server, CAST(memory_bytes AS BIGINT) FROM agents WHERE `+toReconcile+` AND place <> ''`)
}

// Measured is what the gateway of an agent was measured to use; 0: it was not measured.
type Measured struct {
	ID     identity.AgentID
	Server string
	Bytes  int64
}

// ServerOf returns the server where an agent's home is; empty, if it has none, or if there is no such
// agent.
func (s *Store) ServerOf(ctx context.Context, q database.Reader, id identity.AgentID) (string, error) {
	server, err := database.One(ctx, q, database.Scalar[string], `SELECT server FROM agents WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return server, err
}

// Memory returns what an agent's last gateway was measured to use; 0: it was not measured.
// Errors: sql.ErrNoRows.
func (s *Store) Memory(ctx context.Context, q database.Reader, id identity.AgentID) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64], `SELECT CAST(memory_bytes AS BIGINT) FROM agents WHERE id = $1`, id)
}

// SaveMemory writes what an agent's gateway was measured to use.
func (s *Store) SaveMemory(ctx context.Context, id identity.AgentID, bytes int64) error {
	return s.db.Tx(ctx, "agent.save_memory", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET memory_bytes = $1 WHERE id = $2`, bytes, id)
		return err
	})
}

// Usage counts an account's agents, and how many of them should run.
func (s *Store) Usage(ctx context.Context, q database.Reader, account identity.AccountID) (agents, running int, err error) {
	err = q.QueryRowContext(ctx,
		`SELECT count(*), coalesce(sum(CASE WHEN desired_state = 'running' THEN 1 ELSE 0 END), 0) FROM agents WHERE account_id = $1 AND desired_state <> 'deleted'`,
		account).Scan(&agents, &running)
	return agents, running, err
}

func (s *Store) insert(ctx context.Context, tx *database.Tx, a Agent) error {
	config, err := json.Marshal(a.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO agents (id, account_id, name, search_name, region, config, swarm_id, revision, desired_state, generation, status, created_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		a.ID, a.AccountID, a.Name, strings.ToLower(a.Name), a.Region, string(config), a.SwarmID, a.Revision, a.DesiredState, a.Generation, a.Status, database.Millis(a.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert agent: %w", err)
	}
	return nil
}

// update writes what a caller may change directly.
func (s *Store) update(ctx context.Context, tx *database.Tx, a Agent) error {
	config, err := json.Marshal(a.Config)
	if err != nil {
		return fmt.Errorf("encode config: %w", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE agents SET name = $1, search_name = $2, avatar_url = $3, config = $4, swarm_id = $5, revision = $6 WHERE account_id = $7 AND id = $8`,
		a.Name, strings.ToLower(a.Name), a.AvatarURL, string(config), a.SwarmID, a.Revision, a.AccountID, a.ID)
	if err != nil {
		return fmt.Errorf("update agent: %w", err)
	}
	return nil
}

// setDesiredState writes a desired state and returns its generation. Asking for what
// is already desired does not make a new generation, so that a repeated call does
// not cancel the first; a restart, and a start of a failed agent, always do. Whatever was
// desired, the agent does not wait any more for its account to be enabled.
func (s *Store) setDesiredState(ctx context.Context, tx *database.Tx, a Agent, desired DesiredState, restart bool) (generation int64, err error) {
	retry := desired == DesiredRunning && a.HasFailed()
	if a.DesiredState == desired && !restart && !retry {
		return a.Generation, s.setResumes(ctx, tx, a.ID, false)
	}
	generation = a.Generation + 1
	if restart {
		a.RestartGeneration = generation
	}
	_, err = tx.ExecContext(ctx, `UPDATE agents SET desired_state = $1, generation = $2, restart_generation = $3,
		 failures = '', unready_ms = 0, next_try_at = 0, missed_health_checks = 0, resumes = FALSE WHERE id = $4`,
		desired, generation, a.RestartGeneration, a.ID)
	if err != nil {
		return 0, fmt.Errorf("write desired state: %w", err)
	}
	return generation, nil
}

// setResumes writes whether an agent starts when its account is enabled again.
func (s *Store) setResumes(ctx context.Context, tx *database.Tx, id identity.AgentID, resumes bool) error {
	if _, err := tx.ExecContext(ctx, `UPDATE agents SET resumes = $1 WHERE id = $2 AND resumes <> $1`, resumes, id); err != nil {
		return fmt.Errorf("write whether agent %s resumes: %w", id, err)
	}
	return nil
}

// clearSwarm removes every agent from a swarm.
func (s *Store) clearSwarm(ctx context.Context, tx *database.Tx, account identity.AccountID, swarm identity.SwarmID) error {
	_, err := tx.ExecContext(ctx, `UPDATE agents SET swarm_id = '', revision = revision + 1 WHERE account_id = $1 AND swarm_id = $2 AND desired_state <> 'deleted'`, account, swarm)
	if err != nil {
		return fmt.Errorf("remove agents from swarm %s: %w", swarm, err)
	}
	return nil
}

// SaveStatus writes a's observed state, with an event if kind is not empty, and
// notifies of the agent. Errors: ErrOutdated, if the desired state or the
// lease has changed since a was read.
func (s *Store) SaveStatus(ctx context.Context, a Agent, kind string) error {
	err := s.db.Tx(database.UseReserve(ctx), "agent.save_status", func(ctx context.Context, tx *database.Tx) error {
		if err := s.updateStatus(ctx, tx, a); err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, event.AgentTopic(a.ID))
		if kind == "" {
			return nil
		}
		data := map[string]any{"status": a.Status}
		if a.LastError != "" {
			data["error"], data["category"] = a.LastError, a.ErrorCategory
		}
		return s.events.Append(ctx, tx, identity.BySystem(a.AccountID), event.Event{Topic: event.AgentTopic(a.ID), Kind: kind, Data: data})
	})
	if err != nil {
		return fmt.Errorf("save status %s: %w", a.Status, err)
	}
	return nil
}

func (s *Store) updateStatus(ctx context.Context, tx *database.Tx, a Agent) error {
	failures, err := formatTimes(a.Retry.Failures)
	if err != nil {
		return err
	}
	return checkHeld(database.Exec(ctx, tx,
		`UPDATE agents SET observed_generation = $1, gateway_generation = $2, status = $3, last_error = $4, error_category = $5,
		 server = $6, place = $7, spec_digest = $8, started_at = $9, stopped_at = $10,
		 failures = $11, unready_ms = $12, next_try_at = $13, missed_health_checks = $14,
		 power = $15, suspension = $16, woke_at = $17, wake_ms = $18, wakes = $19, wake_wanted = CASE WHEN $15 = 'awake' THEN 0 ELSE wake_wanted END
		 WHERE id = $20 AND generation = $21 AND holder = $22 AND lease_number = $23`,
		a.ObservedGeneration, a.GatewayGeneration, a.Status, a.LastError, a.ErrorCategory,
		a.Server, a.Place, a.SpecDigest, database.Millis(a.StartedAt), database.Millis(a.StoppedAt),
		failures, a.Retry.Unready.Milliseconds(), database.Millis(a.Retry.NextTryAt), a.Retry.MissedHealthChecks,
		a.Power, a.Sleep.Suspension, database.Millis(a.Sleep.WokeAt), a.Sleep.WakeTook.Milliseconds(), a.Sleep.Wakes,
		a.ID, a.Generation, a.Lease.Holder, a.Lease.Number))
}

// CheckHeld returns ErrOutdated if a's desired state or lease has changed since it was read.
func (s *Store) CheckHeld(ctx context.Context, tx *database.Tx, a Agent) error {
	n, err := database.One(ctx, tx, database.Scalar[int64],
		`SELECT COUNT(*) FROM agents WHERE id = $1 AND generation = $2 AND holder = $3 AND lease_number = $4`, a.ID, a.Generation, a.Lease.Holder, a.Lease.Number)
	return checkHeld(n, err)
}

// checkHeld returns ErrOutdated if a write of a holder changed no row.
func checkHeld(rows int64, err error) error {
	if err == nil && rows == 0 {
		return ErrOutdated
	}
	return err
}

// SaveMissedHealthChecks writes how many health checks a's gateway has missed in a row.
// Errors: ErrOutdated.
func (s *Store) SaveMissedHealthChecks(ctx context.Context, a Agent) error {
	return s.db.Tx(ctx, "agent.save_missed_health_checks", func(ctx context.Context, tx *database.Tx) error {
		return checkHeld(database.Exec(ctx, tx,
			`UPDATE agents SET missed_health_checks = $1 WHERE id = $2 AND generation = $3 AND holder = $4 AND lease_number = $5`,
			a.Retry.MissedHealthChecks, a.ID, a.Generation, a.Lease.Holder, a.Lease.Number))
	})
}

// SaveSpecDigest writes the digest of the spec that a's gateway now has, if it is
// still the same gateway with the same spec.
func (s *Store) SaveSpecDigest(ctx context.Context, a Agent, digest string) error {
	return s.db.Tx(ctx, "agent.save_spec_digest", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE agents SET spec_digest = $1 WHERE id = $2 AND status = $3 AND place = $4 AND spec_digest = $5`,
			digest, a.ID, a.Status, a.Place, a.SpecDigest)
		return err
	})
}

// SaveModelResult writes the error of the last model call of an agent that runs, or
// its absence, and notifies of the agent.
func (s *Store) SaveModelResult(ctx context.Context, id identity.AgentID, category ErrorCategory, text string) error {
	return s.db.Tx(ctx, "agent.save_model_result", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx,
			`UPDATE agents SET last_error = $1, error_category = $2 WHERE id = $3 AND status = $4`, text, category, id, client.Running)
		if n > 0 {
			s.events.NotifyAfterCommit(tx, event.AgentTopic(id))
		}
		return err
	})
}

// AdoptPlace writes the place of a gateway that runs though a's record has none, and
// notifies the reconciler. ok is false if the record has changed since it was read.
func (s *Store) AdoptPlace(ctx context.Context, a Agent, place runtime.Place) (ok bool, err error) {
	err = s.db.Tx(ctx, "agent.adopt_place", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx,
			`UPDATE agents SET place = $1 WHERE id = $2 AND place = '' AND generation = $3 AND observed_generation = $3 AND lease_number = $4`,
			place, a.ID, a.Generation, a.Lease.Number)
		if ok = n > 0; ok {
			s.events.NotifyAfterCommit(tx, event.ReconcileTopic(a.ID))
		}
		return err
	})
	return ok, err
}

// ForgetGateways makes the records say that no agent has a gateway and nobody the lease of an
// agent, and shows reason as the error of those that should run, until they do. It is for a
// database that was restored from a backup: the gateways that it knows are the original's.
func (s *Store) ForgetGateways(ctx context.Context, tx *database.Tx, reason string) error {
	_, err := tx.ExecContext(ctx, `UPDATE agents SET server = '', place = '', spec_digest = '', power = 'awake', holder = '', lease_until = 0,
		failures = '', unready_ms = 0, next_try_at = 0, missed_health_checks = 0,
		last_error = CASE WHEN desired_state = 'running' AND status <> 'error' THEN $1 ELSE last_error END,
		error_category = CASE WHEN desired_state = 'running' AND status <> 'error' THEN '' ELSE error_category END,
		status = CASE WHEN status = 'running' THEN 'starting' ELSE status END`, reason)
	if err != nil {
		return fmt.Errorf("forget the gateways of all agents: %w", err)
	}
	return nil
}

// ClearError clears the errors that ForgetGateways has set.
func (s *Store) ClearError(ctx context.Context, tx *database.Tx, reason string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE agents SET last_error = '' WHERE last_error = $1`, reason); err != nil {
		return fmt.Errorf("clear the errors of agents: %w", err)
	}
	return nil
}

// Delete removes an agent's row and appends the event. Everything else of the agent
// is removed before, in the same transaction. Errors: ErrOutdated.
func (s *Store) Delete(ctx context.Context, tx *database.Tx, a Agent) error {
	err := checkHeld(database.Exec(ctx, tx, `DELETE FROM agents WHERE id = $1 AND generation = $2 AND holder = $3 AND lease_number = $4`,
		a.ID, a.Generation, a.Lease.Holder, a.Lease.Number))
	if err != nil {
		return fmt.Errorf("delete agent: %w", err)
	}
	return s.events.Append(ctx, tx, identity.BySystem(a.AccountID), event.Event{Topic: event.AgentTopic(a.ID), Kind: "agent.removed"})
}

// pollInterval is how often Await reads a record without a notification, in case
// another process has written it.
const pollInterval = 2 * time.Second

// Await reads an agent of any account until done reports true. If ctx ends first, it
// returns the record that it read last. Errors: sql.ErrNoRows, once the agent is
// removed.
func (s *Store) Await(ctx context.Context, id identity.AgentID, done func(Agent) bool) (Agent, error) {
	if a, err := s.FindByID(ctx, s.db, id); err == nil && done(a) { // most callers need not wait
		return a, nil
	}
	changed, stop := s.events.Subscribe(event.AgentTopic(id))
	defer stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var last Agent
	for ctx.Err() == nil {
		a, err := s.FindByID(ctx, s.db, id)
		switch {
		case ctx.Err() != nil: // err is only how the database reports that
			return last, ctx.Err()
		case err != nil || done(a):
			return a, err
		}
		last = a
		select {
		case <-changed:
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return last, ctx.Err()
}

// parseTimes and formatTimes convert a list of times to and from JSON. No times are an
// empty text.
func parseTimes(text string) ([]time.Time, error) {
	if text == "" {
		return nil, nil
	}
	var millis []int64
	if err := json.Unmarshal([]byte(text), &millis); err != nil {
		return nil, err
	}
	times := make([]time.Time, len(millis))
	for i, ms := range millis {
		times[i] = database.Time(ms)
	}
	return times, nil
}

func formatTimes(times []time.Time) (string, error) {
	if len(times) == 0 {
		return "", nil
	}
	millis := make([]int64, len(times))
	for i, t := range times {
		millis[i] = database.Millis(t)
	}
	text, err := json.Marshal(millis)
	return string(text), err
}

// now returns the time as the database stores it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
