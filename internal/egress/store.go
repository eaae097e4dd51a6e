package egress

import (
	"context"
	"fmt"
	"slices"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// write stores a batch in the caller's transaction.
func (m *Manager) write(ctx context.Context, tx *database.Tx, b *batch) error {
	m.mu.Lock()
	for id := range m.deleted {
		b.remove(id)
	}
	m.mu.Unlock()
	touched := map[identity.AgentID]bool{}
	for k, d := range b.destinations {
		touched[k.agent] = true
		if err := upsertDestination(ctx, tx, b.accounts[k.agent], k, d); err != nil {
			return fmt.Errorf("write a destination: %w", err)
		}
	}
	for k, r := range b.refused {
		touched[k.agent] = true
		if err := upsertRefused(ctx, tx, b.accounts[k.agent], k, r); err != nil {
			return fmt.Errorf("write a refused destination: %w", err)
		}
	}
	for k, n := range b.names {
		if err := putName(ctx, tx, b.accounts[k.agent], k, n); err != nil {
			return fmt.Errorf("write a name: %w", err)
		}
	}
	for id := range touched {
		if err := m.prune(ctx, tx, id); err != nil {
			return fmt.Errorf("drop old destinations: %w", err)
		}
	}
	for k, e := range b.events {
		data := map[string]any{"host": k.host, "port": k.port, "reason": k.reason, "detail": e.detail, "allow": e.allow}
		err := m.events.Append(ctx, tx, identity.BySystem(b.accounts[k.agent]), event.Event{Topic: event.AgentTopic(k.agent), Kind: "egress.refused", Data: data})
		if err != nil {
			return err
		}
	}
	return nil
}

func upsertDestination(ctx context.Context, tx *database.Tx, account identity.AccountID, k destinationKey, d Destination) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO egress_destinations
		(account_id, agent_id, host, port, connections, failed, bytes_in, bytes_out, last_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (agent_id, host, port) DO UPDATE SET
			connections = egress_destinations.connections + excluded.connections,
			failed = egress_destinations.failed + excluded.failed,
			bytes_in = egress_destinations.bytes_in + excluded.bytes_in,
			bytes_out = egress_destinations.bytes_out + excluded.bytes_out,
			last_at = excluded.last_at`,
		account, k.agent, k.host, k.port, d.Connections, d.Failed, d.BytesIn, d.BytesOut, database.Millis(d.LastAt))
	return err
}

func upsertRefused(ctx context.Context, tx *database.Tx, account identity.AccountID, k refusedKey, r Refused) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO egress_refused
		(account_id, agent_id, host, port, reason, detail, refused, last_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (agent_id, host, port, reason) DO UPDATE SET
			detail = excluded.detail,
			refused = egress_refused.refused + excluded.refused,
			last_at = excluded.last_at`,
		account, k.agent, k.host, k.port, k.reason, r.Detail, r.Count, database.Millis(r.LastAt))
	return err
}

func putName(ctx context.Context, tx *database.Tx, account identity.AccountID, k nameKey, n *name) error {
	if n == nil {
		_, err := database.Exec(ctx, tx, `DELETE FROM egress_names WHERE agent_id = $1 AND name = $2`, k.agent, k.name)
		return err
	}
	_, err := database.Exec(ctx, tx, `INSERT INTO egress_names (account_id, agent_id, name, address, given_at, used_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (agent_id, name) DO UPDATE SET address = excluded.address, given_at = excluded.given_at, used_at = excluded.used_at`,
		account, k.agent, n.name, n.address, database.Millis(n.given), database.Millis(n.used))
	return err
}

// prune keeps the latest rows of an agent. The sum of the destinations that it drops stays.
func (m *Manager) prune(ctx context.Context, tx *database.Tx, id identity.AgentID) error {
	const dropped = `FROM egress_destinations WHERE agent_id = $1 AND host <> '' AND (host, port) NOT IN
		(SELECT host, port FROM egress_destinations WHERE agent_id = $1 AND host <> '' ORDER BY last_at DESC, host, port LIMIT $2)`
	_, err := database.Exec(ctx, tx, `INSERT INTO egress_destinations
		(account_id, agent_id, host, port, connections, failed, bytes_in, bytes_out, last_at)
		SELECT account_id, agent_id, '', 0, sum(connections), sum(failed), sum(bytes_in), sum(bytes_out), max(last_at) `+dropped+` GROUP BY account_id, agent_id
		ON CONFLICT (agent_id, host, port) DO UPDATE SET
			connections = egress_destinations.connections + excluded.connections,
			failed = egress_destinations.failed + excluded.failed,
			bytes_in = egress_destinations.bytes_in + excluded.bytes_in,
			bytes_out = egress_destinations.bytes_out + excluded.bytes_out,
			last_at = max(egress_destinations.last_at, excluded.last_at)`, id, m.limits.Destinations)
	if err != nil {
		return err
	}
	if _, err := database.Exec(ctx, tx, `DELETE `+dropped, id, m.limits.Destinations); err != nil {
		return err
	}
	_, err = database.Exec(ctx, tx, `DELETE FROM egress_refused WHERE agent_id = $1 AND (host, port, reason) NOT IN
		(SELECT host, port, reason FROM egress_refused WHERE agent_id = $1 ORDER BY last_at DESC, host, port, reason LIMIT $2)`, id, m.limits.Destinations)
	return err
}

// DeleteAgent deletes what is stored of an agent, in the caller's transaction.
func (m *Manager) DeleteAgent(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error {
	m.mu.Lock()
	m.pending.remove(id)
	m.deleted[id] = true
	m.mu.Unlock()
	for _, table := range []string{"egress_names", "egress_destinations", "egress_refused"} {
		if _, err := database.Exec(ctx, tx, `DELETE FROM `+table+` WHERE account_id = $1 AND agent_id = $2`, actor.AccountID, id); err != nil {
			return err
		}
	}
	return nil
}

// readNames returns the names of an agent, also those that are not stored yet, the least
// recently used first.
func (m *Manager) readNames(ctx context.Context, id identity.AgentID) ([]name, error) {
	m.writing.Lock() // what is being stored is in neither place
	defer m.writing.Unlock()
	stored, err := listNames(ctx, m.db, id)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.DeleteFunc(stored, func(n name) bool {
		_, newer := m.pending.names[nameKey{id, n.name}]
		return newer
	})
	for k, n := range m.pending.names {
		if k.agent == id && n != nil {
			all = append(all, *n)
		}
	}
	slices.SortStableFunc(all, func(x, y name) int { return x.used.Compare(y.used) })
	return all, nil
}

// listNames returns the names of an agent, the least recently used first.
func listNames(ctx context.Context, q database.Reader, id identity.AgentID) ([]name, error) {
	return database.AllReadable(ctx, q, scanName, damagedName, `SELECT name, address, given_at, used_at FROM egress_names WHERE agent_id = $1 ORDER BY used_at, name`, id)
}

func scanName(r database.Row) (name, error) {
	var n name
	var given, used int64
	err := r.Scan(&n.name, &n.address, &given, &used)
	n.given, n.used = database.Time(given), database.Time(used)
	return n, err
}

// damagedName drops the name: a program that knows its address resolves it again.
func damagedName(n *name, _ error) (row string, keep bool) {
	return "the address of the name " + n.name + " for an agent", false
}

func listDestinations(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) ([]Destination, error) {
	return database.AllReadable(ctx, q, scanDestination, damagedDestination, `SELECT host, port, connections, failed, bytes_in, bytes_out, last_at
		FROM egress_destinations WHERE account_id = $1 AND agent_id = $2 ORDER BY host = '', last_at DESC, host, port`, account, id)
}

func scanDestination(r database.Row) (Destination, error) {
	var d Destination
	var last int64
	err := r.Scan(&d.Host, &d.Port, &d.Connections, &d.Failed, &d.BytesIn, &d.BytesOut, &last)
	d.LastAt = database.Time(last)
	return d, err
}

func damagedDestination(d *Destination, _ error) (row string, keep bool) {
	return "the traffic of an agent with " + d.Host, true
}

func listRefused(ctx context.Context, q database.Reader, account identity.AccountID, id identity.AgentID) ([]Refused, error) {
	return database.AllReadable(ctx, q, scanRefused, damagedRefused, `SELECT host, port, reason, detail, refused, last_at
		FROM egress_refused WHERE account_id = $1 AND agent_id = $2 ORDER BY last_at DESC, host, port, reason`, account, id)
}

func scanRefused(r database.Row) (Refused, error) {
	var f Refused
	var last int64
	err := r.Scan(&f.Host, &f.Port, &f.Reason, &f.Detail, &f.Count, &last)
	f.LastAt = database.Time(last)
	return f, err
}

func damagedRefused(f *Refused, _ error) (row string, keep bool) {
	return "the refusals of " + f.Host + " for an agent", true
}
