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
)

const entryColumns = `number, id, seq, text, source, metadata, created_at, updated_at`

func scanEntry(row database.Row) (Entry, error) {
	var e Entry
	var metadata string
	var created, updated int64
	if err := row.Scan(&e.number, &e.ID, &e.seq, &e.Text, &e.Source, &metadata, &created, &updated); err != nil {
		return Entry{}, err
	}
	e.CreatedAt, e.UpdatedAt = database.Time(created), database.Time(updated)
	if metadata == "" {
		return e, nil
	}
	if err := json.Unmarshal([]byte(metadata), &e.Metadata); err != nil {
		return Entry{}, fmt.Errorf("read the metadata of entry %s: %w", e.ID, err)
	}
	return e, nil
}

// metadataText is how metadata is stored: JSON, or "" for none.
func metadataText(m map[string]any) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// scopeNumber returns the number of a scope, 0 if nothing was ever stored there.
func scopeNumber(ctx context.Context, q database.Querier, accountID string, scope Scope) (int64, error) {
	n, err := database.One(ctx, q, database.Scalar[int64],
		`SELECT number FROM knowledge_scopes WHERE account_id = $1 AND kind = $2 AND owner_id = $3`,
		accountID, string(scope.Kind), scope.ID)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// openScope returns the number of a scope and the last seq given there. It makes
// the scope if need be and keeps other writers out of it until the transaction ends.
func openScope(ctx context.Context, tx *database.Tx, accountID string, scope Scope) (number, lastSeq int64, err error) {
	err = tx.QueryRowContext(ctx,
		`INSERT INTO knowledge_scopes (account_id, kind, owner_id, last_seq) VALUES ($1, $2, $3, 0)
		 ON CONFLICT (account_id, kind, owner_id) DO UPDATE SET last_seq = knowledge_scopes.last_seq
		 RETURNING number, last_seq`, accountID, string(scope.Kind), scope.ID).Scan(&number, &lastSeq)
	return number, lastSeq, err
}

func setLastSeq(ctx context.Context, tx *database.Tx, accountID string, number, lastSeq int64) error {
	_, err := tx.ExecContext(ctx,
		`UPDATE knowledge_scopes SET last_seq = $3 WHERE account_id = $1 AND number = $2`, accountID, number, lastSeq)
	return err
}

func lastSeqOf(ctx context.Context, q database.Querier, accountID string, number int64) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64],
		`SELECT last_seq FROM knowledge_scopes WHERE account_id = $1 AND number = $2`, accountID, number)
}

// coverage returns the seq up to which every entry has a vector of the model.
func coverage(ctx context.Context, q database.Querier, sp space) (int64, error) {
	n, err := database.One(ctx, q, database.Scalar[int64],
		`SELECT through_seq FROM knowledge_coverage WHERE account_id = $1 AND scope = $2 AND model = $3`,
		sp.accountID, sp.number, sp.model)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

func setCoverage(ctx context.Context, tx *database.Tx, sp space, seq int64) error {
	_, err := tx.ExecContext(ctx,
		`INSERT INTO knowledge_coverage (account_id, scope, model, through_seq) VALUES ($1, $2, $3, $4)
		 ON CONFLICT (scope, model) DO UPDATE SET through_seq = excluded.through_seq`,
		sp.accountID, sp.number, sp.model, seq)
	return err
}

func hasEntries(ctx context.Context, q database.Querier, sp space) (bool, error) {
	return database.One(ctx, q, database.Scalar[bool],
		`SELECT EXISTS (SELECT 1 FROM knowledge_entries WHERE account_id = $1 AND scope = $2)`, sp.accountID, sp.number)
}

// insertEntries stores entries in one statement: the full text index writes its
// pages once for each.
func insertEntries(ctx context.Context, tx *database.Tx, sp space, entries []Entry) error {
	const columns = 9
	rows := make([]string, len(entries))
	args := make([]any, 0, columns*len(entries))
	for i, e := range entries {
		metadata, err := metadataText(e.Metadata)
		if err != nil {
			return err
		}
		rows[i] = places(columns*i+1, columns)
		args = append(args, e.ID, sp.accountID, sp.number, e.seq, e.Text, e.Source, metadata, database.Millis(e.CreatedAt), database.Millis(e.UpdatedAt))
	}
	_, err := tx.ExecContext(ctx,
		`INSERT INTO knowledge_entries (id, account_id, scope, seq, text, source, metadata, created_at, updated_at) VALUES `+
			strings.Join(rows, ", "), args...)
	return err
}

// insertVectors stores the vectors of entries, unless they have one already or
// are gone.
func insertVectors(ctx context.Context, tx *database.Tx, sp space, entries []Entry, vectors [][]float32) error {
	for i, v := range vectors {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO knowledge_vectors (account_id, entry_id, model, dimension, vector)
			 SELECT account_id, id, $3, $4, $5 FROM knowledge_entries WHERE account_id = $1 AND id = $2
			 ON CONFLICT (entry_id, model) DO NOTHING`,
			sp.accountID, entries[i].ID, sp.model, len(v), encodeVector(v))
		if err != nil {
			return fmt.Errorf("store a vector: %w", err)
		}
	}
	return nil
}

func setMetadata(ctx context.Context, tx *database.Tx, accountID, id string, m map[string]any, now time.Time) error {
	metadata, err := metadataText(m)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx,
		`UPDATE knowledge_entries SET metadata = $3, updated_at = $4 WHERE account_id = $1 AND id = $2`,
		accountID, id, metadata, database.Millis(now))
	return err
}

// entriesBy returns the scope's entries of which the column holds one of the values.
func entriesBy[T any](ctx context.Context, q database.Querier, sp space, column string, values []T) ([]Entry, error) {
	if len(values) == 0 {
		return nil, nil
	}
	return database.All(ctx, q, scanEntry,
		`SELECT `+entryColumns+` FROM knowledge_entries
		 WHERE account_id = $1 AND scope = $2 AND `+column+` IN `+places(3, len(values))+` ORDER BY id`,
		append([]any{sp.accountID, sp.number}, anys(values)...)...)
}

// anyEntry says whether the scope has an entry of one of these seqs.
func anyEntry(ctx context.Context, q database.Querier, sp space, seqs []int64) (bool, error) {
	for part := range slices.Chunk(seqs, 500) {
		has, err := database.One(ctx, q, database.Scalar[bool],
			`SELECT EXISTS (SELECT 1 FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND seq IN `+places(3, len(part))+`)`,
			append([]any{sp.accountID, sp.number}, anys(part)...)...)
		if has || err != nil {
			return has, err
		}
	}
	return false, nil
}

// places is ($3, $4, $5) for 3 places from the third on.
func places(first, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString([]string{"(", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "$%d", first+i)
	}
	return b.String() + ")"
}

func anys[T any](values []T) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = v
	}
	return all
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
		return nil, fmt.Errorf("a vector of %d bytes, not of %d dimensions", len(b), dimension)
	}
	v := make([]float32, dimension)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

func countEntries(ctx context.Context, q database.Querier, sp space) (int64, error) {
	return database.One(ctx, q, database.Scalar[int64],
		`SELECT count(*) FROM knowledge_entries WHERE account_id = $1 AND scope = $2`, sp.accountID, sp.number)
}
