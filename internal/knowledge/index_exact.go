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

// exactIndex keeps the quantised vectors of recently used spaces in memory and reads
// the exact vectors, of the few entries that need them, from the tables. Before each
// search it loads new entries by their seq. It detects deleted entries because their
// exact vectors are missing. Writers, in this process or another, need not notify it.
type exactIndex struct {
	maxMemory int64 // bytes
	idle      time.Duration

	mu     sync.Mutex
	spaces map[vectorSpace]*loadedSpace // guarded by mu
}

// loadedSpace is a space in memory.
type loadedSpace struct {
	lastUsed atomic.Int64 // Unix nanoseconds
	bytes    atomic.Int64

	mu      sync.RWMutex
	matrix  *index.Matrix // guarded by mu
	through int64         // entries up to this seq are in matrix; guarded by mu
}

func newExactIndex(maxMemory int64, idle time.Duration) *exactIndex {
	return &exactIndex{maxMemory: maxMemory, idle: idle, spaces: make(map[vectorSpace]*loadedSpace)}
}

// Nearest implements Index.
func (x *exactIndex) Nearest(ctx context.Context, q database.Reader, space vectorSpace, v []float32, k int) ([]match, error) {
	var best []match
	err := x.forEachMatrix(ctx, q, space, func(m *index.Matrix) ([]int64, error) {
		hits, missing, err := m.Nearest(v, k, exactVectors(ctx, q, space))
		best = append(best, matches(hits)...)
		return missing, err
	})
	sortMatches(best)
	return best[:min(k, len(best))], err
}

// Above implements Index.
func (x *exactIndex) Above(ctx context.Context, q database.Reader, space vectorSpace, vectors [][]float32, cosine float64) ([][]match, error) {
	all := make([][]match, len(vectors))
	err := x.forEachMatrix(ctx, q, space, func(m *index.Matrix) ([]int64, error) {
		hits, missing, err := m.Above(vectors, cosine, exactVectors(ctx, q, space))
		for i, h := range hits {
			all[i] = append(all[i], matches(h)...)
		}
		return missing, err
	})
	for _, m := range all {
		sortMatches(m)
	}
	return all, err
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

// forEachMatrix calls f with the whole space in one matrix or, if that would need more
// than the allowed memory, with one part after the other. f returns the keys of rows
// that have no exact vector any more.
func (x *exactIndex) forEachMatrix(ctx context.Context, q database.Reader, space vectorSpace, f func(*index.Matrix) ([]int64, error)) error {
	if space.scope == 0 {
		return nil
	}
	covered, err := coverage(ctx, q, space)
	if err != nil {
		return fmt.Errorf("read the coverage of %s: %w", space.model, err)
	}
	l := x.loaded(space)
	complete, err := l.loadNew(ctx, q, space, covered, x.maxMemory)
	if err != nil {
		return fmt.Errorf("load vectors: %w", err)
	}
	if !complete {
		x.evict(space)
		return forEachPart(ctx, q, space, covered, f)
	}
	x.evictLeastUsed(space)
	l.mu.RLock()
	missing, err := f(l.matrix)
	l.mu.RUnlock()
	if err != nil || len(missing) == 0 {
		return err
	}
	// If the entry still exists, its model was dropped. Its vector will return under
	// the same seq, which loadNew would not load again.
	dropped, err := hasAnyEntry(ctx, q, space, missing)
	if err != nil {
		return fmt.Errorf("find entries without a vector: %w", err)
	}
	if dropped || l.remove(missing) {
		x.evict(space)
	}
	return nil
}

// loaded returns a space in memory, empty if it was not there, and marks it as used.
func (x *exactIndex) loaded(space vectorSpace) *loadedSpace {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.spaces[space]
	if l == nil {
		l = &loadedSpace{}
		x.spaces[space] = l
	}
	l.lastUsed.Store(time.Now().UnixNano())
	return l
}

func (x *exactIndex) evict(space vectorSpace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.spaces, space)
}

// evictLeastUsed evicts the least recently used spaces, but never space, until the others
// use at most the allowed memory.
func (x *exactIndex) evictLeastUsed(space vectorSpace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		var total int64
		var oldest *loadedSpace
		var oldestSpace vectorSpace
		for s, l := range x.spaces {
			total += l.bytes.Load()
			if s != space && (oldest == nil || l.lastUsed.Load() < oldest.lastUsed.Load()) {
				oldest, oldestSpace = l, s
			}
		}
		if total <= x.maxMemory || oldest == nil {
			return
		}
		delete(x.spaces, oldestSpace)
	}
}

// EvictIdle implements Index.
func (x *exactIndex) EvictIdle(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for space, l := range x.spaces {
		if now.Sub(time.Unix(0, l.lastUsed.Load())) > x.idle {
			delete(x.spaces, space)
		}
	}
}

// loadNew adds the entries up to covered that are not in the matrix yet. It reports
// whether the whole space fits in maxMemory.
func (l *loadedSpace) loadNew(ctx context.Context, q database.Reader, space vectorSpace, covered, maxMemory int64) (bool, error) {
	l.mu.RLock()
	current := l.matrix != nil && l.through >= covered
	l.mu.RUnlock()
	if current {
		return true, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := maxMemory / index.RowBytes(space.dimension)
	if l.matrix == nil {
		if covered > limit { // seqs have gaps, so the entries themselves must be counted
			if n, err := countEntries(ctx, q, space); err != nil || n > limit {
				return false, err
			}
		}
		m, err := index.NewMatrix(space.dimension)
		if err != nil {
			return false, err
		}
		l.matrix = m
	}
	complete := true
	err := readVectors(ctx, q, space, l.through, covered, func(seq int64, v []float32) (bool, error) {
		if int64(l.matrix.Len()+l.matrix.Dead()) >= limit {
			complete = false
			return false, nil
		}
		l.through = seq
		return true, l.matrix.Add(seq, v)
	})
	l.bytes.Store(l.matrix.Bytes())
	if err == nil && complete {
		l.through = max(l.through, covered)
	}
	return complete, err
}

// remove removes deleted entries from the matrix. It reports whether so many rows are
// unused that the space should be loaded again.
func (l *loadedSpace) remove(deleted []int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range deleted {
		l.matrix.Remove(seq)
	}
	return l.matrix.Dead() > 1000 && l.matrix.Dead() > l.matrix.Len()
}

// partRows is how many rows of a space that does not fit in memory are loaded at once.
const partRows = 1 << 16

// forEachPart calls f with one part of the space after the other.
func forEachPart(ctx context.Context, q database.Reader, space vectorSpace, covered int64, f func(*index.Matrix) ([]int64, error)) error {
	for from := int64(0); from < covered; {
		m, err := index.NewMatrix(space.dimension)
		if err != nil {
			return err
		}
		through := covered
		err = readVectors(ctx, q, space, from, covered, func(seq int64, v []float32) (bool, error) {
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
func readVectors(ctx context.Context, q database.Reader, space vectorSpace, from, through int64, f func(int64, []float32) (bool, error)) error {
	rows, err := q.QueryContext(ctx,
		`SELECT e.seq, v.vector FROM knowledge_entries e JOIN knowledge_vectors v ON v.entry_id = e.id AND v.model = $3
		 WHERE e.account_id = $1 AND e.scope = $2 AND e.seq > $4 AND e.seq <= $5 ORDER BY e.seq`,
		space.account, space.scope, space.model, from, through)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		seq, v, err := scanVector(rows, space.dimension)
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

// exactVectors returns a function that reads the vectors of a few entries. The vector
// of a deleted entry is nil.
func exactVectors(ctx context.Context, q database.Reader, space vectorSpace) index.Exact {
	return func(seqs []int64) ([][]float32, error) {
		rows, err := q.QueryContext(ctx,
			`SELECT e.seq, v.vector FROM knowledge_entries e JOIN knowledge_vectors v ON v.entry_id = e.id AND v.model = $3
			 WHERE e.account_id = $1 AND e.scope = $2 AND e.seq IN `+placeholders(4, len(seqs)),
			withArgs([]any{space.account, space.scope, space.model}, seqs)...)
		if err != nil {
			return nil, fmt.Errorf("read vectors: %w", err)
		}
		defer func() { _ = rows.Close() }()
		bySeq := make(map[int64][]float32, len(seqs))
		for rows.Next() {
			seq, v, err := scanVector(rows, space.dimension)
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
