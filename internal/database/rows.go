package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// ColumnError is the error of a column whose value cannot be decoded, because the row
// was damaged or changed by hand.
type ColumnError struct {
	Column string
	Err    error // may repeat the value: it is for the log
}

// Error implements error. It does not repeat the value.
func (e *ColumnError) Error() string { return e.Column + " cannot be decoded" }

// Unwrap returns the cause.
func (e *ColumnError) Unwrap() error { return e.Err }

// Damaged decides about a row that scan has failed for. v has what could be decoded, and
// the zero value for the rest; f may change it. err names the columns. row names the row
// for the log. A row that is not kept is left out of the result.
type Damaged[T any] func(v *T, err error) (row string, keep bool)

// AllReadable is All for a result that one damaged row must not make fail. Each damaged
// row is logged once.
func AllReadable[T any](ctx context.Context, q Reader, scan func(Row) (T, error), damaged Damaged[T], query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, Explain(err)
	}
	defer func() { _ = rows.Close() }()
	all := []T{}
	for rows.Next() {
		v, keep, err := scanReadable(ctx, q, rows, scan, damaged)
		if err != nil {
			return nil, Explain(err)
		}
		if keep {
			all = append(all, v)
		}
	}
	return all, Explain(rows.Err())
}

// OneReadable is One for a row that must be found also if it is damaged.
// Errors: sql.ErrNoRows, also if the row is not kept.
func OneReadable[T any](ctx context.Context, q Reader, scan func(Row) (T, error), damaged Damaged[T], query string, args ...any) (v T, err error) {
	if ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx) // as in DB.QueryRowContext
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return v, Explain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return v, errors.Join(Explain(rows.Err()), noRowsUnless(rows.Err()))
	}
	v, keep, err := scanReadable(ctx, q, rows, scan, damaged)
	if err == nil && !keep {
		err = sql.ErrNoRows
	}
	return v, err
}

func noRowsUnless(err error) error {
	if err == nil {
		return sql.ErrNoRows
	}
	return nil
}

func scanReadable[T any](ctx context.Context, q Reader, rows *sql.Rows, scan func(Row) (T, error), damaged Damaged[T]) (v T, keep bool, err error) {
	r := &readableRow{rows: rows}
	v, err = scan(r)
	if err = errors.Join(r.err, err); err == nil {
		return v, true, nil
	}
	if bad := (*ColumnError)(nil); !errors.As(err, &bad) {
		return v, false, err
	}
	row, keep := damaged(&v, err)
	if log := damageOf(q); log != nil {
		log.report(ctx, row, err)
	}
	return v, keep, nil
}

// readableRow scans the columns of a row one by one if they cannot be scanned together,
// so that a damaged one does not hide the others. Its Scan does not fail for a value
// that cannot be decoded: err has these errors.
type readableRow struct {
	rows *sql.Rows
	err  error
}

// Scan implements Row.
func (r *readableRow) Scan(dest ...any) error {
	if r.rows.Scan(dest...) == nil {
		return nil
	}
	names, err := r.rows.Columns()
	if err != nil {
		return err
	}
	if len(names) != len(dest) {
		return fmt.Errorf("scan %d columns into %d values", len(names), len(dest))
	}
	for i, name := range names {
		one := make([]any, len(dest))
		for j := range one {
			one[j] = new(any) // skips the column
		}
		one[i] = dest[i]
		if err := r.rows.Scan(one...); err != nil {
			r.err = errors.Join(r.err, &ColumnError{name, err})
		}
	}
	return nil
}

// maxDamage bounds how many damaged rows are remembered.
const maxDamage = 1000

// damageLog logs each damaged row once.
type damageLog struct {
	log *slog.Logger

	mu   sync.Mutex
	seen map[string]bool // guarded by mu
}

func newDamageLog(log *slog.Logger) *damageLog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &damageLog{log: log, seen: map[string]bool{}}
}

func (d *damageLog) report(ctx context.Context, row string, err error) {
	d.mu.Lock()
	known := d.seen[row] || len(d.seen) >= maxDamage
	if !known {
		d.seen[row] = true
	}
	d.mu.Unlock()
	if !known {
		d.log.ErrorContext(ctx, "a row of the database is damaged: repair it, or restore a backup", "row", row, "problem", DescribeDamage(err), "error", causes(err))
	}
}

// damageOf returns where damaged rows are logged that are read through q.
func damageOf(q Reader) *damageLog {
	switch q := q.(type) {
	case *DB:
		return q.damage
	case *Tx:
		return q.db.damage
	}
	return nil
}

// DescribeDamage returns the errors of columns in err as part of a sentence, without values.
func DescribeDamage(err error) string { return strings.ReplaceAll(err.Error(), "\n", ", ") }

// causes returns the causes of the errors of columns.
func causes(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Unwrap(err)
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, causes(e))
	}
	return errors.Join(all...)
}
