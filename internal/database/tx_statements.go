package database

import (
	"context"
	"database/sql"
	"maps"
	"slices"
)

// txStatements are the prepared statements of transactions. Preparing takes more than
// half of the time of a short statement. A statement is prepared between two transactions,
// after its first use: the connection that would prepare it is in the transaction.
type txStatements struct {
	prepared map[string]*sql.Stmt
	wanted   map[string]bool
}

// prepareWanted prepares the statements that the last transactions used. The caller is not
// in a transaction. A statement that cannot be prepared is run as it is, and returns its
// error.
func (db *DB) prepareWanted(ctx context.Context) {
	for _, query := range db.takeWanted() {
		s, err := db.write.PrepareContext(ctx, query) // waits for the transaction that runs, so without txMu
		if err != nil {
			continue
		}
		db.txMu.Lock()
		if db.tx.prepared[query] == nil {
			db.tx.prepared[query], s = s, nil
		}
		db.txMu.Unlock()
		if s != nil {
			_ = s.Close() // another caller has prepared it
		}
	}
}

func (db *DB) takeWanted() []string {
	db.txMu.Lock()
	defer db.txMu.Unlock()
	if len(db.tx.wanted) == 0 {
		return nil
	}
	all := slices.Collect(maps.Keys(db.tx.wanted))
	clear(db.tx.wanted)
	return all
}

// statement returns the prepared statement of a query in this transaction, or nil.
func (tx *Tx) statement(ctx context.Context, query string) *sql.Stmt {
	tx.db.txMu.Lock()
	defer tx.db.txMu.Unlock()
	s := tx.db.tx.prepared[query]
	if s == nil {
		if len(tx.db.tx.prepared)+len(tx.db.tx.wanted) < maxPrepared {
			tx.db.tx.wanted[query] = true
		}
		return nil
	}
	return tx.StmtContext(ctx, s)
}

// ExecContext implements Querier.
func (tx *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := tx.statement(ctx, query); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return tx.Tx.ExecContext(ctx, query, args...)
}

// QueryContext implements Querier.
func (tx *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := tx.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return tx.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext implements Querier.
func (tx *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := tx.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return tx.Tx.QueryRowContext(ctx, query, args...)
}
