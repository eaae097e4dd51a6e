package index

import "math"

// The bounds. Let a be a stored vector and b a query, |a| = |b| = 1. Let s·p and
// t·r be their quantised forms, and e and f the rounding errors:
// a = s·p + e, b = t·r + f. Then
//
//	a·b = st(p·r) + (s·p)·f + e·b
//
// and by Cauchy and Schwarz, as |s·p| ≤ 1+|e|,
//
//	|a·b − st(p·r)| ≤ (1+|e|)·|f| + |e|.                             (1)
//
// Comparing only the first dimensions (head: a₁, b₁; the rest: a₂, b₂) gives
//
//	a·b ≤ st(p₁·r₁) + (1+|e|)·|f₁| + |e|·|b₁| + |a₂|·|b₂|.            (2)
//
// With the query as it is, so with f = 0 and t·r = b, (1) becomes
//
//	a·b ≤ s(p·b) + |e|.                                              (3)
//
// Nearest uses (1), Above uses (2) and then (3): vectors as similar as duplicates also have
// similar heads, so a quarter of the bytes excludes nearly every row. |e| is
// replaced by the largest of the matrix. slack covers the rounding of float32
// arithmetic: a sum of n products of unit vectors is off by less than n·2⁻²⁴,
// which is 0.0005 for 8,192 dimensions, the most that is accepted.
const (
	slack        = 0.0006
	maxDimension = 8192
)

// quantise writes round(v/scale), for the scale at which the largest value
// becomes `levels`. It returns the scale and the length of the rounding error.
func quantise(dst []int8, v []float32, levels int) (scale float32, errorLength float64) {
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
		diff := float64(x) - float64(scale)*q
		sum += diff * diff
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

// correction returns what to add to a sum of products with stored bytes, each of
// which is zeroByte too large.
func correction(q []int8) int32 {
	var sum int32
	for _, x := range q {
		sum += int32(x)
	}
	return -zeroByte * sum
}

// filterQueries is the number of queries that one pass over a block compares.
const filterQueries = 4

// filter holds quantised queries and, for each, the limit below which a row cannot
// reach the threshold: a row passes if scale·sum + tail·slope ≥ floor, which is (2)
// divided by the query's scale t.
type filter struct {
	quantised []int8
	stride    int
	corr      []int32
	slope     []float32
	floor     []float32
}

// newFilter quantises the first `groups` groups of each query. maxError is the
// largest rounding error of a row.
func newFilter(k kernel, queries [][]float32, groups int, maxError, threshold float64) *filter {
	padded := (len(queries) + filterQueries - 1) / filterQueries * filterQueries
	f := &filter{stride: groups * groupBytes, corr: make([]int32, padded), slope: make([]float32, padded), floor: make([]float32, padded)}
	f.quantised = make([]int8, padded*f.stride)
	for j := range padded {
		if j >= len(queries) {
			f.floor[j] = math.MaxFloat32 // padding: no row passes
			continue
		}
		head, rest := queries[j], []float32(nil)
		if len(head) > f.stride {
			head, rest = head[:f.stride], head[f.stride:]
		}
		q := f.quantised[j*f.stride : (j+1)*f.stride]
		scale, errorLength := quantise(q[:len(head)], head, k.levels)
		f.corr[j] = correction(q)
		f.slope[j] = float32(length(rest) / float64(scale))
		f.floor[j] = float32((threshold - slack - (1+maxError)*errorLength - maxError*length(head)) / float64(scale))
	}
	return f
}
