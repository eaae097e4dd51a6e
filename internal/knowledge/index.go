package knowledge

import (
	"context"
	"time"

	"agento.host/agento/internal/database"
)

// Index finds the entries whose vectors are nearest to a vector. It answers from
// what the Querier has committed, and only of entries within the space's coverage;
// q must not have uncommitted changes to the space.
//
// One implementation, in memory over the tables, serves SQLite; PostgreSQL with
// pgvector is to be the other.
type Index interface {
	// Nearest returns the k entries with the largest cosine, best first.
	Nearest(ctx context.Context, q database.Querier, sp space, v []float32, k int) ([]match, error)
	// Above returns, for each vector, every entry with at least that cosine, best
	// first. It is exact: no entry is missing.
	Above(ctx context.Context, q database.Querier, sp space, vectors [][]float32, cosine float64) ([][]match, error)
	// Warm gets ready to answer, so that a writer who holds a lock need not wait.
	Warm(ctx context.Context, q database.Querier, sp space) error
	// Tidy frees what was not used for a while.
	Tidy(now time.Time)
}

// match is an entry, by its seq, and its cosine.
type match struct {
	seq    int64
	cosine float64
}
