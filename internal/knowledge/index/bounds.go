package index

import "math"

// The bounds. Let a be a stored vector and b a query, |a| = |b| = 1, and let
// s·p and t·r be what quantisation left of them: a = s·p + e, b = t·r + f. Then
//
//	a·b = st(p·r) + (s·p)·f + e·b
//
// and by Cauchy and Schwarz, as |s·p| ≤ 1+|e|,
//
//	|a·b − st(p·r)| ≤ (1+|e|)·|f| + |e|.                             (1)
//
// Looking at the first dimensions alone (head: a₁, b₁; the rest: a₂, b₂) gives
//
//	a·b ≤ st(p₁·r₁) + (1+|e|)·|f₁| + |e|·|b₁| + |a₂|·|b₂|.            (2)
//
// (1) serves the search for the nearest, (2) the search for all above a
// threshold: vectors as alike as duplicates have heads that are alike too, so a
// quarter of the bytes rules out nearly every row. |e| is replaced by the
// largest of the matrix. slack covers what float32 arithmetic rounds away:
// a sum of n products of unit vectors is off by less than n·2⁻²⁴, 0.0005 for
// 8,192 dimensions, the longest that is taken.
const (
	slack        = 0.0006
	maxDimension = 8192
)

// quantise writes round(v/scale) for the scale at which the largest value
// becomes `levels`, and returns the scale and the length of what was lost.
func quantise(dst []int8, v []float32, levels int) (scale float32, lost float64) {
	var peak float32
	for _, x := range v {
		peak = max(peak, float32(math.Abs(float64(x))))
	}
	if peak == 0 {
		clear(dst)
		return 1, 0
	}
	scale = peak / float32(levels)
	var sum float64
	for i, x := range v {
		q := math.Round(float64(x) / float64(scale))
		q = max(-float64(levels), min(float64(levels), q))
		dst[i] = int8(q)
		miss := float64(x) - float64(scale)*q
		sum += miss * miss
	}
	return scale, math.Sqrt(sum)
}

func length(v []float32) float64 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum)
}

// correction undoes zeroByte: stored bytes are 128 too large, each.
func correction(q []int8) int32 {
	var sum int32
	for _, x := range q {
		sum += int32(x)
	}
	return -zeroByte * sum
}

// siftQueries is how many queries one pass over a block serves.
const siftQueries = 4

// sieve holds quantised queries and, for each, the line that separates rows
// which may reach the threshold from those which cannot: a row passes if
// scale·sum + tail·slope ≥ floor, which is (2) divided by the query's scale t.
type sieve struct {
	quantised []int8
	stride    int
	corr      []int32
	slope     []float32
	floor     []float32
}

// newSieve quantises the first `groups` groups of each query.
func newSieve(k kernel, queries [][]float32, groups int, rowLost, threshold float64) *sieve {
	padded := (len(queries) + siftQueries - 1) / siftQueries * siftQueries
	s := &sieve{stride: groups * groupBytes, corr: make([]int32, padded), slope: make([]float32, padded), floor: make([]float32, padded)}
	s.quantised = make([]int8, padded*s.stride)
	for j := range padded {
		if j >= len(queries) {
			s.floor[j] = math.MaxFloat32 // padding: nothing passes
			continue
		}
		head, rest := queries[j], []float32(nil)
		if len(head) > s.stride {
			head, rest = head[:s.stride], head[s.stride:]
		}
		q := s.quantised[j*s.stride : (j+1)*s.stride]
		scale, lost := quantise(q[:len(head)], head, k.levels)
		s.corr[j] = correction(q)
		s.slope[j] = float32(length(rest) / float64(scale))
		s.floor[j] = float32((threshold - slack - (1+rowLost)*lost - rowLost*length(head)) / float64(scale))
	}
	return s
}
