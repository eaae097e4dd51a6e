package knowledge

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// maxInList is how many values a query names in one IN list.
const maxInList = 500

const entryColumns = `number, id, seq, text, source, metadata, created_at, updated_at`

func scanEntry(row database.Row) (Entry, error) {
	var e Entry
	var metadata string
	var created, updated int64
	err := row.Scan(&e.number, &e.ID, &e.seq, &e.Text, &e.Source, &metadata, &created, &updated)
	e.CreatedAt, e.UpdatedAt = database.Time(created), database.Time(updated)
	if err != nil || metadata == "" {
		return e, err
	}
	if err := database.DecodeJSON(metadata, &e.Metadata); err != nil {
		return e, &database.ColumnError{Column: "metadata", Err: err}
	}
	return e, nil
}

// damaged keeps an entry whose metadata or times cannot be decoded: its text can be
// searched, and the entry deleted.
func damaged(e *Entry, _ error) (row string, keep bool) { return "knowledge entry " + e.ID, true }

// encodeMetadata returns metadata as it is stored: JSON, or "" for none.
func encodeMetadata(m map[string]any) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// scopeNumber returns the number of a scope, or 0 if nothing was ever stored in it.
func scopeNumber(ctx context.Context, q database.Reader, account identity.AccountID, scope Scope) (int64, error) {
	n, err := database.One(ctx, q, database.Scalar[int64],
		`SELECT number FROM knowledge_scopes WHERE account_id = $1 AND kind = $2 AND target_id = $3`,
		account, scope.kind, scope.id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// lockScope returns the number of a scope and the last seq assigned in it. It
// creates the scope if it does not exist, and blocks other writers of the scope
// until the transaction ends.
func lockScope(ctx context.Context, tx *database.Tx, account identity.AccountID, scope Scope) (number, lastSeq int64, err error) {
	err = tx.QueryRowContext(ctx,
		`INSERT INTO knowledge_scopes (account_id, kind, target_id, last_seq) VALUES ($1, $2, $3, 0)
		 ON CONFLICT (account_id, kind, target_id) DO UPDATE SET last_seq = knowledge_scopes.last_seq
		 RETURNING number, last_seq`, account, scope.kind, scope.id).Scan(&number, &lastSeq)
	return number, lastSeq, err
}

func setLastSeq(ctx context.Context, tx *database.Tx, account identity.AccountID, scope, lastSeq int64) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE knowledge_scopes SET last_seq = $3 WHERE account_id = $1 AND number = $2`, account, scope, lastSeq)
	return err
}

func lastSeq(ctx context.Context, q database.Reader, account identity.AccountID, scope int64) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64],
		`SELECT last_seq FROM knowledge_scopes WHERE account_id = $1 AND number = $2`, account, scope)
}

// coverage returns the seq up to which every entry has a vector of the model.
func coverage(ctx context.Context, q database.Reader, space vectorSpace) (int64, error) {
	n, err := database.One(ctx, q, database.Scalar[int64],
		`SELECT through_seq FROM knowledge_coverage WHERE account_id = $1 AND scope = $2 AND model = $3`,
		space.account, space.scope, space.model)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

func setCoverage(ctx context.Context, tx *database.Tx, space vectorSpace, seq int64) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO knowledge_coverage (account_id, scope, model, through_seq) VALUES ($1, $2, $3, $4)
		 ON CONFLICT (scope, model) DO UPDATE SET through_seq = excluded.through_seq`,
		space.account, space.scope, space.model, seq)
	return err
}

func hasEntries(ctx context.Context, q database.Reader, space vectorSpace) (bool, error) {
	return database.One(ctx, q, database.Scalar[bool],
		`SELECT EXISTS (SELECT 1 FROM knowledge_entries WHERE account_id = $1 AND scope = $2)`, space.account, space.scope)
}

func countEntries(ctx context.Context, q database.Reader, space vectorSpace) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64],
		`SELECT count(*) FROM knowledge_entries WHERE account_id = $1 AND scope = $2`, space.account, space.scope)
}

// insertEntries inserts all entries in one statement, because the full-text index
// writes its pages once for each statement.
func insertEntries(ctx context.Context, tx *database.Tx, space vectorSpace, entries []Entry) error {
	const columns = 9
	rows := make([]string, len(entries))
	args := make([]any, 0, columns*len(entries))
	for i, e := range entries {
		metadata, err := encodeMetadata(e.Metadata)
		if err != nil {
			return err
		}
		rows[i] = placeholders(columns*i+1, columns)
		args = append(args, e.ID, space.account, space.scope, e.seq, e.Text, e.Source, metadata, database.Millis(e.CreatedAt), database.Millis(e.UpdatedAt))
	}
	_, err := tx.ExecContext(ctx,
		`INSERT INTO knowledge_entries (id, account_id, scope, seq, text, source, metadata, created_at, updated_at) VALUES `+
			strings.Join(rows, ", "), args...)
	return err
}

// insertVectors inserts the vectors of entries. It skips entries that already have a
// vector of the model and entries that were deleted.
func insertVectors(ctx context.Context, tx *database.Tx, space vectorSpace, entries []Entry, vectors [][]float32) error {
	for i, v := range vectors {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO knowledge_vectors (account_id, entry_id, model, dimension, vector)
			 SELECT account_id, id, $3, $4, $5 FROM knowledge_entries WHERE account_id = $1 AND id = $2
			 ON CONFLICT (entry_id, model) DO NOTHING`,
			space.account, entries[i].ID, space.model, //nolint:gosec // there is an entry for each vector
			len(v), encodeVector(v))
		if err != nil {
			return fmt.Errorf("insert a vector: %w", err)
		}
	}
	return nil
}

func setMetadata(ctx context.Context, tx *database.Tx, account identity.AccountID, id string, m map[string]any, now time.Time) error {
	metadata, err := encodeMetadata(m)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`UPDATE knowledge_entries SET metadata = $3, updated_at = $4 WHERE account_id = $1 AND id = $2`,
		account, id, metadata, database.Millis(now))
	return err
}

// entriesBy returns the scope's entries whose column has one of the values.
func entriesBy[T any](ctx context.Context, q database.Reader, space vectorSpace, column string, values []T) ([]Entry, error) {
	if len(values) == 0 {
		return nil, nil
	}
	return database.AllReadable(ctx, q, scanEntry, damaged,
		`SELECT `+entryColumns+` FROM knowledge_entries
		 WHERE account_id = $1 AND scope = $2 AND `+column+` IN `+placeholders(3, len(values))+` ORDER BY id`,
		withArgs([]any{space.account, space.scope}, values)...)
}

// hasAnyEntry reports whether the scope has an entry with one of these seqs.
func hasAnyEntry(ctx context.Context, q database.Reader, space vectorSpace, seqs []int64) (bool, error) {
	for part := range slices.Chunk(seqs, maxInList) {
		has, err := database.One(ctx, q, database.Scalar[bool],
			`SELECT EXISTS (SELECT 1 FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND seq IN `+placeholders(3, len(part))+`)`,
			withArgs([]any{space.account, space.scope}, part)...)
		if has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// deleteSome deletes the entry with an id or, if id is empty, at most limit of all entries.
func deleteSome(ctx context.Context, tx *database.Tx, space vectorSpace, id string, limit int) (int64, error) {
	condition, args := "", []any{space.account, space.scope, limit}
	if id != "" {
		condition, args = ` AND id = $4`, append(args, id)
	}
	n, err := database.Exec(ctx, tx,
		`DELETE FROM knowledge_entries WHERE number IN (SELECT number FROM knowledge_entries WHERE account_id = $1 AND scope = $2`+condition+` LIMIT $3)`, args...)
	if err != nil {
		return 0, fmt.Errorf("delete entries: %w", err)
	}
	return n, nil
}

func deleteAllEntries(ctx context.Context, tx *database.Tx, space vectorSpace) (int64, error) {
	n, err := database.Exec(ctx, tx,
		`DELETE FROM knowledge_entries WHERE account_id = $1 AND scope = $2`, space.account, space.scope)
	if err != nil {
		return 0, fmt.Errorf("delete all entries: %w", err)
	}
	return n, nil
}

// placeholders returns a list of n query parameters: ($3, $4, $5) for first 3 and n 3.
func placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString([]string{"(", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String() + ")"
}

// withArgs appends values to the arguments of a query.
func withArgs[T any](args []any, values []T) []any {
	for _, v := range values {
		args = append(args, v)
	}
	return args
}

func encodeVector(v []float32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func decodeVector(b []byte, dimension int) ([]float32, error) {
	if len(b) != 4*dimension {
		return nil, fmt.Errorf("a vector has %d bytes, want %d dimensions of 4 bytes", len(b), dimension)
	}
	v := make([]float32, dimension)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}
