package knowledge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/knowledge/index"
)

// exactIndex holds the quantised vectors of the spaces in use in memory and takes
// the exact ones, of the few entries that matter, from the tables. It learns of
// new entries by their seq, before each search, and of deleted ones by their
// absence, so no writer has to tell it anything, in this process or another.
type exactIndex struct {
	budget int64
	idle   time.Duration

	mu     sync.Mutex
	spaces map[space]*resident // guarded by mu
}

// resident is a space in memory.
type resident struct {
	used  atomic.Int64 // when, in Unix nanoseconds
	bytes atomic.Int64

	mu      sync.RWMutex
	matrix  *index.Matrix // guarded by mu
	through int64         // guarded by mu; entries up to this seq are in matrix
}

func newExactIndex(budget int64, idle time.Duration) *exactIndex {
	return &exactIndex{budget: budget, idle: idle, spaces: make(map[space]*resident)}
}

// Nearest implements Index.
func (x *exactIndex) Nearest(ctx context.Context, q database.Querier, sp space, v []float32, k int) ([]match, error) {
	var best []match
	err := x.each(ctx, q, sp, func(m *index.Matrix) ([]int64, error) {
		hits, gone, err := m.Nearest(v, k, exactVectors(ctx, q, sp))
		best = append(best, matches(hits)...)
		return gone, err
	})
	sortMatches(best)
	return best[:min(k, len(best))], err
}

// Above implements Index.
func (x *exactIndex) Above(ctx context.Context, q database.Querier, sp space, vectors [][]float32, cosine float64) ([][]match, error) {
	all := make([][]match, len(vectors))
	err := x.each(ctx, q, sp, func(m *index.Matrix) ([]int64, error) {
		hits, gone, err := m.Above(vectors, cosine, exactVectors(ctx, q, sp))
		for i, h := range hits {
			all[i] = append(all[i], matches(h)...)
		}
		return gone, err
	})
	for _, m := range all {
		sortMatches(m)
	}
	return all, err
}

// Warm implements Index.
func (x *exactIndex) Warm(ctx context.Context, q database.Querier, sp space) error {
	if sp.number == 0 {
		return nil
	}
	covered, err := coverage(ctx, q, sp)
	if err != nil {
		return fmt.Errorf("look up the coverage of %s: %w", sp.model, err)
	}
	if _, err := x.resident(sp).catchUp(ctx, q, sp, covered, x.budget); err != nil {
		return fmt.Errorf("load vectors: %w", err)
	}
	return nil
}

func matches(hits []index.Hit) []match {
	all := make([]match, len(hits))
	for i, h := range hits {
		all[i] = match{h.Key, h.Cosine}
	}
	return all
}

func sortMatches(all []match) {
	slices.SortFunc(all, func(a, b match) int {
		return cmp.Or(cmp.Compare(b.cosine, a.cosine), cmp.Compare(a.seq, b.seq))
	})
}

// each calls f with the whole space in one matrix or, if that is larger than the
// memory allowed, with one part after the other. f returns the keys of rows that
// are gone.
func (x *exactIndex) each(ctx context.Context, q database.Querier, sp space, f func(*index.Matrix) ([]int64, error)) error {
	if sp.number == 0 {
		return nil
	}
	covered, err := coverage(ctx, q, sp)
	if err != nil {
		return fmt.Errorf("look up the coverage of %s: %w", sp.model, err)
	}
	r := x.resident(sp)
	fits, err := r.catchUp(ctx, q, sp, covered, x.budget)
	if err != nil {
		return fmt.Errorf("load vectors: %w", err)
	}
	if !fits {
		x.drop(sp)
		return eachPart(ctx, q, sp, covered, f)
	}
	x.makeRoom(sp)
	r.mu.RLock()
	gone, err := f(r.matrix)
	r.mu.RUnlock()
	if err != nil || len(gone) == 0 {
		return err
	}
	// Somebody may have dropped the model, whose vectors then come back under the
	// same seqs: the matrix would never learn of them.
	dropped, err := anyEntry(ctx, q, sp, gone)
	if err != nil {
		return fmt.Errorf("look for entries without a vector: %w", err)
	}
	if dropped || r.remove(gone) {
		x.drop(sp)
	}
	return nil
}

func (x *exactIndex) resident(sp space) *resident {
	x.mu.Lock()
	defer x.mu.Unlock()
	r := x.spaces[sp]
	if r == nil {
		r = &resident{}
		x.spaces[sp] = r
	}
	r.used.Store(time.Now().UnixNano())
	return r
}

func (x *exactIndex) drop(sp space) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.spaces, sp)
}

// makeRoom drops the spaces that were not used for longest until the rest, with
// sp, fits the budget.
func (x *exactIndex) makeRoom(sp space) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		var total int64
		var oldest *resident
		var oldestSpace space
		for s, r := range x.spaces {
			total += r.bytes.Load()
			if s != sp && (oldest == nil || r.used.Load() < oldest.used.Load()) {
				oldest, oldestSpace = r, s
			}
		}
		if total <= x.budget || oldest == nil {
			return
		}
		delete(x.spaces, oldestSpace)
	}
}

// Tidy implements Index.
func (x *exactIndex) Tidy(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for sp, r := range x.spaces {
		if now.Sub(time.Unix(0, r.used.Load())) > x.idle {
			delete(x.spaces, sp)
		}
	}
}

// catchUp adds the entries up to covered that are not in the matrix yet, and says
// whether they fit.
func (r *resident) catchUp(ctx context.Context, q database.Querier, sp space, covered, budget int64) (bool, error) {
	r.mu.RLock()
	current := r.matrix != nil && r.through >= covered
	r.mu.RUnlock()
	if current {
		return true, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := budget / index.RowBytes(sp.dimension)
	if r.matrix == nil {
		if covered > limit { // seqs have holes, so count before giving up
			if n, err := countEntries(ctx, q, sp); err != nil || n > limit {
				return false, err
			}
		}
		m, err := index.NewMatrix(sp.dimension)
		if err != nil {
			return false, err
		}
		r.matrix = m
	}
	fits := true
	err := readVectors(ctx, q, sp, r.through, covered, func(seq int64, v []float32) (bool, error) {
		if int64(r.matrix.Len()+r.matrix.Dead()) >= limit {
			fits = false
			return false, nil
		}
		r.through = seq
		return true, r.matrix.Add(seq, v)
	})
	r.bytes.Store(r.matrix.Bytes())
	if err == nil && fits {
		r.through = max(r.through, covered)
	}
	return fits, err
}

// remove forgets rows that are gone. It says whether so many are that the space is
// better loaded anew.
func (r *resident) remove(gone []int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, seq := range gone {
		r.matrix.Remove(seq)
	}
	return r.matrix.Dead() > 1000 && r.matrix.Dead() > r.matrix.Len()
}

// partRows is how many rows are looked at together of a space that does not fit.
const partRows = 1 << 16

func eachPart(ctx context.Context, q database.Querier, sp space, covered int64, f func(*index.Matrix) ([]int64, error)) error {
	for from := int64(0); from < covered; {
		m, err := index.NewMatrix(sp.dimension)
		if err != nil {
			return err
		}
		through := covered
		err = readVectors(ctx, q, sp, from, covered, func(seq int64, v []float32) (bool, error) {
			through = seq
			return m.Len()+1 < partRows, m.Add(seq, v)
		})
		if err != nil {
			return fmt.Errorf("load vectors: %w", err)
		}
		if _, err := f(m); err != nil {
			return err
		}
		if m.Len() < partRows {
			return nil
		}
		from = through
	}
	return nil
}

// readVectors calls f for every vector with from < seq <= through, in order, until
// f returns false.
func readVectors(ctx context.Context, q database.Querier, sp space, from, through int64, f func(int64, []float32) (bool, error)) error {
	rows, err := q.QueryContext(ctx,
		`SELECT e.seq, v.vector FROM knowledge_entries e JOIN knowledge_vectors v ON v.entry_id = e.id AND v.model = $3
		 WHERE e.account_id = $1 AND e.scope = $2 AND e.seq > $4 AND e.seq <= $5 ORDER BY e.seq`,
		sp.accountID, sp.number, sp.model, from, through)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		seq, v, err := scanVector(rows, sp.dimension)
		if err != nil {
			return err
		}
		if more, err := f(seq, v); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

func scanVector(row database.Row, dimension int) (int64, []float32, error) {
	var seq int64
	var b []byte
	if err := row.Scan(&seq, &b); err != nil {
		return 0, nil, err
	}
	v, err := decodeVector(b, dimension)
	return seq, v, err
}

// exactVectors reads the vectors of a few entries.
func exactVectors(ctx context.Context, q database.Querier, sp space) index.Exact {
	return func(seqs []int64) ([][]float32, error) {
		rows, err := q.QueryContext(ctx,
			`SELECT e.seq, v.vector FROM knowledge_entries e JOIN knowledge_vectors v ON v.entry_id = e.id AND v.model = $3
			 WHERE e.account_id = $1 AND e.scope = $2 AND e.seq IN `+places(4, len(seqs)),
			append([]any{sp.accountID, sp.number, sp.model}, anys(seqs)...)...)
		if err != nil {
			return nil, fmt.Errorf("read vectors: %w", err)
		}
		defer func() { _ = rows.Close() }()
		bySeq := make(map[int64][]float32, len(seqs))
		for rows.Next() {
			seq, v, err := scanVector(rows, sp.dimension)
			if err != nil {
				return nil, err
			}
			bySeq[seq] = v
		}
		vectors := make([][]float32, len(seqs))
		for i, seq := range seqs {
			vectors[i] = bySeq[seq]
		}
		return vectors, rows.Err()
	}
}
