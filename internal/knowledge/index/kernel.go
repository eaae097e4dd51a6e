package index

import "math"

// blockRows rows are stored interleaved, four bytes of each in turn: each lane of
// a vector register then sums up one row, and no sum crosses lanes.
const (
	blockRows  = 16
	groupBytes = 4
	zeroByte   = 128 // a stored byte is the signed value plus this
)

// kernel is one implementation of the arithmetic. All kernels return the same
// results: scan and filter bit for bit, dot and addScaled within float32 rounding.
type kernel struct {
	name string
	// levels is the largest byte of a quantised query that the kernel can add up
	// without overflow.
	levels    int
	dot       func(a, b []float32) float32
	addScaled func(y, x []float32, alpha float32)
	// scan writes, for each row, the sum of stored byte times query byte.
	scan func(dst []int32, blocks []uint8, groups int, q []int8)
	// filter compares the queries first..first+3 with the rows of a block. Bit
	// 16*j+i of the result is set if row i passes for query first+j.
	filter func(block []uint8, groups int, f *filter, first int, scale, tail []float32) uint64
}

var portable = kernel{name: "portable", levels: 127, dot: dotPortable, addScaled: addScaledPortable, scan: scanPortable, filter: filterPortable}

// best is the fastest kernel that this processor can run.
var best = kernels()[0]

// Dot returns the inner product of two vectors of one length.
func Dot(a, b []float32) float32 {
	if len(a) != len(b) {
		panic("index: vectors of different lengths")
	}
	return best.dot(a, b)
}

// AddScaled adds alpha*x to y, in place.
func AddScaled(y, x []float32, alpha float32) {
	if len(x) != len(y) {
		panic("index: vectors of different lengths")
	}
	best.addScaled(y, x, alpha)
}

// Normalize scales v to length 1, in place, and reports whether it could. A vector
// of zeros, or one that holds NaN or infinity, is left unchanged.
func Normalize(v []float32) bool {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return false
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range v {
		v[i] = float32(float64(x) * scale)
	}
	return true
}

func dotPortable(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	for len(a) >= 4 {
		s0 += a[0] * b[0]
		s1 += a[1] * b[1]
		s2 += a[2] * b[2]
		s3 += a[3] * b[3]
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

func addScaledPortable(y, x []float32, alpha float32) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

func scanPortable(dst []int32, blocks []uint8, groups int, q []int8) {
	width := groups * groupBytes * blockRows
	for b := 0; b*blockRows < len(dst); b++ {
		sums := blockSums(blocks[b*width:(b+1)*width], groups, q)
		copy(dst[b*blockRows:], sums[:])
	}
}

func blockSums(block []uint8, groups int, q []int8) [blockRows]int32 {
	var sums [blockRows]int32
	for g := range groups {
		q0, q1, q2, q3 := int32(q[4*g]), int32(q[4*g+1]), int32(q[4*g+2]), int32(q[4*g+3])
		lane := block[g*64 : g*64+64 : g*64+64]
		for i := range sums {
			sums[i] += int32(lane[4*i])*q0 + int32(lane[4*i+1])*q1 + int32(lane[4*i+2])*q2 + int32(lane[4*i+3])*q3
		}
	}
	return sums
}

func filterPortable(block []uint8, groups int, f *filter, first int, scale, tail []float32) uint64 {
	var mask uint64
	for j := range filterQueries {
		sums := blockSums(block, groups, f.quantised[(first+j)*f.stride:])
		for i, sum := range sums {
			scaled := float32(sum+f.corr[first+j]) * scale[i]
			// FMA rounds once, as the vector instruction does.
			if float32(math.FMA(float64(tail[i]), float64(f.slope[first+j]), float64(scaled))) >= f.floor[first+j] {
				mask |= 1 << (16*j + i)
			}
		}
	}
	return mask
}
