package index

import (
	"cmp"
	"container/heap"
	"math"
	"runtime"
	"slices"
)

// Exact returns the exact vectors of rows, in the order of the keys; nil for a
// row that is gone.
type Exact func(keys []int64) ([][]float32, error)

// rescoreRows is how many exact vectors are asked for at once.
const rescoreRows = 64

// Nearest returns the k rows with the largest cosine to v, which has length 1,
// best first; of equals, the earlier. Rows that exact says are gone do not count
// and are returned in gone. Errors are exact's alone.
func (m *Matrix) Nearest(v []float32, k int, exact Exact) (hits []Hit, gone []int64, err error) {
	if k < 1 || m.Len() == 0 {
		return nil, nil, nil
	}
	scan := m.score(v, k)
	// Rows are taken in the order of their rough scores until what is left
	// cannot reach the k best, by (1) in bounds.go.
	for from := 0; ; {
		enough := len(hits) == k
		if enough && from >= len(scan.sorted) && float64(scan.floor)+scan.bound <= hits[k-1].Cosine {
			return hits, gone, nil
		}
		batch := scan.next(from, rescoreRows)
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
		slices.SortFunc(hits, func(a, b Hit) int {
			return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Key, b.Key))
		})
		hits = hits[:min(len(hits), k)]
	}
}

// rough is a row and its score from the quantised vectors.
type rough struct {
	key   int64
	score float32
}

// ranking holds every row's rough score and, sorted, those that were asked for.
type ranking struct {
	matrix *Matrix
	scores [][]float32 // by segment and row
	sorted []rough     // best first; complete down to floor
	floor  float32
	bound  float64 // how far a rough score may be from the truth
}

// score scans every row.
func (m *Matrix) score(v []float32, k int) *ranking {
	q := make([]int8, m.groups*groupBytes)
	scale, lost := quantise(q[:m.dimension], v, m.kernel.levels)
	corr := correction(q)
	r := &ranking{matrix: m, scores: make([][]float32, len(m.segments)), bound: (1+m.lost)*lost + m.lost + slack}
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
				tops[w].keep(score, k)
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

// next returns rows from..from+n of the ranking. It looks below the floor only
// if rows above it turned out to be gone.
func (r *ranking) next(from, n int) []rough {
	if from >= len(r.sorted) && !math.IsInf(float64(r.floor), -1) {
		r.collect(float32(math.Inf(-1)))
	}
	from = min(from, len(r.sorted))
	return r.sorted[from:min(from+n, len(r.sorted))]
}

func (r *ranking) collect(floor float32) {
	r.floor, r.sorted = floor, r.sorted[:0]
	for i, scores := range r.scores {
		keys := r.matrix.segments[i].keys
		for row, score := range scores {
			if score >= floor && keys[row] != 0 {
				r.sorted = append(r.sorted, rough{keys[row], score})
			}
		}
	}
	slices.SortFunc(r.sorted, func(a, b rough) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.key, b.key))
	})
}

// topScores is a heap of the best scores, the least of them first.
type topScores []float32

func (t *topScores) keep(score float32, k int) {
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
