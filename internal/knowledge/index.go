package knowledge

import (
	"context"
	"time"

	"agento.host/agento/internal/database"
)

// Index finds the entries whose vectors are nearest to a vector. It sees only the
// committed entries within the coverage of a space; q must not have uncommitted
// changes to the space.
//
// The only implementation, exactIndex, works in memory over the tables and serves
// SQLite. A second one for PostgreSQL with pgvector is planned.
type Index interface {
	// Nearest returns the k entries with the largest cosine, best first.
	Nearest(ctx context.Context, q database.Reader, space vectorSpace, v []float32, k int) ([]match, error)
	// Above returns, for each vector, every entry with at least that cosine, best
	// first. It is exact: no entry is missing.
	Above(ctx context.Context, q database.Reader, space vectorSpace, vectors [][]float32, cosine float64) ([][]match, error)
	// EvictIdle frees the memory of spaces that were not used for a while before now.
	EvictIdle(now time.Time)
}

// match is an entry that an index found, identified by its seq.
type match struct {
	seq    int64
	cosine float64
}
