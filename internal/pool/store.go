package pool

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

const columns = `id, name, login, address, socket, regions, memory, agents, state, host_keys, public_key, new_key, problem, created_at, reached_at, disk_free`

func scan(r database.Row) (Server, error) {
	var s Server
	var regions, hostKeys string
	var created, reached int64
	err := r.Scan(&s.ID, &s.Name, &s.User, &s.Address, &s.Socket, &regions, &s.Memory, &s.Agents, &s.State, &hostKeys, &s.PublicKey, &s.NewKey, &s.Problem, &created, &reached, &s.DiskFree)
	if err != nil {
		return s, err
	}
	s.Regions, s.CreatedAt, s.ReachedAt = splitRegions(regions), database.Time(created), database.Time(reached)
	if s.HostKeys, err = ParseHostKeys(hostKeys); err != nil {
		return s, &database.ColumnError{Column: "host_keys", Err: err}
	}
	return s, nil
}

// damaged keeps a row that cannot be read, and lets nothing be done with its server.
func damaged(s *Server, err error) (row string, keep bool) {
	s.Problem = "its record is damaged: " + database.DescribeDamage(err)
	return "pool_servers/" + s.ID, s.Name != ""
}

// list returns the servers: local first, then by name.
func list(ctx context.Context, q database.Reader) ([]Server, error) {
	all, err := database.AllReadable(ctx, q, scan, damaged, `SELECT `+columns+` FROM pool_servers ORDER BY name <> $1, name`, Local)
	if err != nil {
		return nil, fmt.Errorf("list pool servers: %w", err)
	}
	return all, nil
}

// find returns a server by its name. Faults: NotFound.
func find(ctx context.Context, q database.Reader, name string) (Server, error) {
	s, err := database.OneReadable(ctx, q, scan, damaged, `SELECT `+columns+` FROM pool_servers WHERE name = $1`, name)
	if errors.Is(err, sql.ErrNoRows) {
		return s, fault.New(fault.NotFound, "There is no pool server %q: agento servers list shows them.", name)
	}
	if err != nil {
		return s, fmt.Errorf("find pool server %s: %w", name, err)
	}
	return s, nil
}

func insert(ctx context.Context, tx *database.Tx, s Server) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO pool_servers (id, name, login, address, socket, regions, memory, agents, state, host_keys, public_key, created_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		s.ID, s.Name, s.User, s.Address, s.Socket, joinRegions(s.Regions), s.Memory, s.Agents, s.State, FormatHostKeys(s.HostKeys), s.PublicKey, database.Millis(s.CreatedAt))
	if err != nil {
		return fmt.Errorf("store pool server %s: %w", s.Name, err)
	}
	return nil
}

// set changes one column of a server.
func set(ctx context.Context, tx *database.Tx, id, column string, value any) error {
	_, err := tx.ExecContext(ctx, `UPDATE pool_servers SET `+column+` = $1 WHERE id = $2`, value, id)
	if err != nil {
		return fmt.Errorf("store %s of pool server %s: %w", column, id, err)
	}
	return nil
}
