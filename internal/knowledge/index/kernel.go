package index

import "math"

// blockRows rows are stored interleaved, four bytes of each in turn, so that one
// vector lane gathers one row's sum and nothing is added across lanes.
const (
	blockRows  = 16
	groupBytes = 4
	zeroByte   = 128 // a stored byte is the signed value plus this
)

// kernel is one way to do the arithmetic. All give the same answers: scan and
// sift to the bit, dot within float32 rounding.
type kernel struct {
	name string
	// levels bounds a quantised query's bytes: what the kernel can add up
	// without overflow.
	levels    int
	dot       func(a, b []float32) float32
	addScaled func(y, x []float32, alpha float32)
	// scan writes the sum of stored byte times query byte of each row.
	scan func(dst []int32, blocks []uint8, groups int, q []int8)
	// sift compares queries at..at+3 with a block; bit 16*j+i is query at+j and row i.
	sift func(block []uint8, groups int, s *sieve, at int, scale, tail []float32) uint64
}

var portable = kernel{name: "portable", levels: 127, dot: dotPortable, addScaled: addScaledPortable, scan: scanPortable, sift: siftPortable}

// best is chosen once, from what the processor has.
var best = kernels()[0]

// Kernel names the arithmetic in use: avx512vnni, avx2 or portable.
func Kernel() string { return best.name }

// Dot returns the inner product of two vectors of one length.
func Dot(a, b []float32) float32 {
	if len(a) != len(b) {
		panic("index: vectors of two lengths")
	}
	return best.dot(a, b)
}

// AddScaled adds alpha*x to y, in place.
func AddScaled(y, x []float32, alpha float32) {
	if len(x) != len(y) {
		panic("index: vectors of two lengths")
	}
	best.addScaled(y, x, alpha)
}

// Normalize scales v to length 1, in place, and says whether it could: a vector
// of zeros, or one that holds NaN or infinity, stays as it was.
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

func siftPortable(block []uint8, groups int, s *sieve, at int, scale, tail []float32) uint64 {
	var mask uint64
	for j := range siftQueries {
		sums := blockSums(block, groups, s.quantised[(at+j)*s.stride:])
		for i, sum := range sums {
			scaled := float32(sum+s.corr[at+j]) * scale[i]
			// The fused step rounds once, as the vector instruction does.
			if float32(math.FMA(float64(tail[i]), float64(s.slope[at+j]), float64(scaled))) >= s.floor[at+j] {
				mask |= 1 << (16*j + i)
			}
		}
	}
	return mask
}
