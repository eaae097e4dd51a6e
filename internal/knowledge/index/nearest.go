package index

import (
	"cmp"
	"container/heap"
	"math"
	"runtime"
	"slices"
)

// Exact returns the exact vectors of rows, in the order of the keys, and nil for a
// row that no longer exists.
type Exact func(keys []int64) ([][]float32, error)

// exactBatch is the number of exact vectors that are read at once.
const exactBatch = 64

// Nearest returns the k rows with the largest cosine to v, which has length 1,
// best first; of rows with the same cosine, the one with the smaller key. Rows for
// which exact returns no vector are skipped and returned in gone. Errors: those of
// exact.
func (m *Matrix) Nearest(v []float32, k int, exact Exact) (hits []Hit, gone []int64, err error) {
	if k < 1 || m.Len() == 0 {
		return nil, nil, nil
	}
	scan := m.score(v, k)
	// Rows are compared in the order of their approximate scores, until the next
	// one cannot be among the k best, by (1) in bounds.go.
	for from := 0; ; {
		enough := len(hits) == k
		if enough && from >= len(scan.sorted) && float64(scan.floor)+scan.bound <= hits[k-1].Cosine {
			return hits, gone, nil
		}
		batch := scan.next(from, exactBatch)
		from += len(batch)
		if len(batch) == 0 || (enough && float64(batch[0].score)+scan.bound < hits[k-1].Cosine) {
			return hits, gone, nil
		}
		keys := make([]int64, len(batch))
		for i, c := range batch {
			keys[i] = c.key
		}
		vectors, err := exact(keys)
		if err != nil {
			return nil, nil, err
		}
		for i, a := range vectors {
			if a == nil {
				gone = append(gone, keys[i])
				continue
			}
			hits = append(hits, Hit{Key: keys[i], Cosine: float64(m.kernel.dot(a, v))})
		}
		sortHits(hits)
		hits = hits[:min(len(hits), k)]
	}
}

// sortHits sorts by cosine, the largest first, and then by key.
func sortHits(hits []Hit) {
	slices.SortFunc(hits, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Key, b.Key))
	})
}

// approximation is a row and its score from the quantised vectors.
type approximation struct {
	key   int64
	score float32
}

// ranking holds the approximate score of every row, and the best of them sorted.
type ranking struct {
	matrix *Matrix
	scores [][]float32     // by segment and row
	sorted []approximation // best first; all scores from floor up
	floor  float32
	bound  float64 // largest difference between a score and the exact cosine
}

// score computes the approximate score of every row.
func (m *Matrix) score(v []float32, k int) *ranking {
	q := make([]int8, m.groups*groupBytes)
	scale, errorLength := quantise(q[:m.dimension], v, m.kernel.levels)
	corr := correction(q)
	r := &ranking{matrix: m, scores: make([][]float32, len(m.segments)), bound: (1+m.maxError)*errorLength + m.maxError + slack}
	tops := make([]topScores, runtime.GOMAXPROCS(0))
	sums := make([][]int32, len(tops))
	m.eachSegment(func(w, i int, s *segment) {
		if sums[w] == nil {
			sums[w] = make([]int32, segmentRows)
		}
		out := sums[w][:len(s.scale)]
		m.kernel.scan(out, s.bytes, m.groups, q)
		scores := make([]float32, len(s.keys))
		for row, key := range s.keys {
			score := float32(out[row]+corr) * s.scale[row] * scale
			scores[row] = score
			if key != 0 && (len(tops[w]) < k || score > tops[w][0]) {
				tops[w].add(score, k)
			}
		}
		r.scores[i] = scores
	})
	best := slices.Concat(tops...)
	slices.SortFunc(best, func(a, b float32) int { return cmp.Compare(b, a) })
	if len(best) >= k {
		r.collect(best[k-1] - float32(2*r.bound))
	} else {
		r.collect(float32(math.Inf(-1)))
	}
	return r
}

// next returns the rows from..from+n of the ranking. Scores below the floor are
// only collected if too many rows above it no longer exist.
func (r *ranking) next(from, n int) []approximation {
	if from >= len(r.sorted) && !math.IsInf(float64(r.floor), -1) {
		r.collect(float32(math.Inf(-1)))
	}
	from = min(from, len(r.sorted))
	return r.sorted[from:min(from+n, len(r.sorted))]
}

// collect sorts the rows that score at least floor.
func (r *ranking) collect(floor float32) {
	r.floor, r.sorted = floor, r.sorted[:0]
	for i, scores := range r.scores {
		keys := r.matrix.segments[i].keys
		for row, score := range scores {
			if score >= floor && keys[row] != 0 {
				r.sorted = append(r.sorted, approximation{keys[row], score})
			}
		}
	}
	slices.SortFunc(r.sorted, func(a, b approximation) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.key, b.key))
	})
}

// topScores is a heap of the best scores, with the smallest on top.
type topScores []float32

// add inserts a score and drops the smallest if there are more than k.
func (t *topScores) add(score float32, k int) {
	if len(*t) < k {
		heap.Push(t, score)
		return
	}
	(*t)[0] = score
	heap.Fix(t, 0)
}

// Len implements heap.Interface.
func (t topScores) Len() int { return len(t) }

// Less implements heap.Interface.
func (t topScores) Less(i, j int) bool { return t[i] < t[j] }

// Swap implements heap.Interface.
func (t topScores) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push implements heap.Interface.
func (t *topScores) Push(x any) { *t = append(*t, x.(float32)) }

// Pop implements heap.Interface.
func (t *topScores) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
