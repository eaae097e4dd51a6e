package index

import "golang.org/x/sys/cpu"

//go:noescape
func dotAVX2(a, b *float32, n int) float32

//go:noescape
func addScaledAVX2(y, x *float32, n int, alpha float32)

//go:noescape
func scanAVX2(dst *int32, blocks *uint8, nblocks, groups int, q *int8)

//go:noescape
func scanVNNI(dst *int32, blocks *uint8, nblocks, groups int, q *int8)

//go:noescape
func siftAVX2(block *uint8, groups int, q *int8, stride int, corr *int32, scale, tail, slope, floor *float32) uint64

//go:noescape
func siftVNNI(block *uint8, groups int, q *int8, stride int, corr *int32, scale, tail, slope, floor *float32) uint64

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }

func hasVNNI() bool {
	return hasAVX2() && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VNNI
}

// kernels lists what this processor can run, fastest first. The portable one is
// always last.
func kernels() []kernel {
	all := []kernel{portable}
	if hasAVX2() {
		all = append([]kernel{{name: "avx2", levels: 63, dot: dotWide, addScaled: addScaledWide,
			scan: func(dst []int32, blocks []uint8, groups int, q []int8) {
				scanAVX2(&dst[0], &blocks[0], len(dst)/blockRows, groups, &q[0])
			},
			sift: func(block []uint8, groups int, s *sieve, at int, scale, tail []float32) uint64 {
				return siftAVX2(&block[0], groups, &s.quantised[at*s.stride], s.stride, &s.corr[at], &scale[0], &tail[0], &s.slope[at], &s.floor[at])
			}}}, all...)
	}
	if hasVNNI() {
		all = append([]kernel{{name: "avx512vnni", levels: 127, dot: dotWide, addScaled: addScaledWide,
			scan: func(dst []int32, blocks []uint8, groups int, q []int8) {
				scanVNNI(&dst[0], &blocks[0], len(dst)/blockRows, groups, &q[0])
			},
			sift: func(block []uint8, groups int, s *sieve, at int, scale, tail []float32) uint64 {
				return siftVNNI(&block[0], groups, &s.quantised[at*s.stride], s.stride, &s.corr[at], &scale[0], &tail[0], &s.slope[at], &s.floor[at])
			}}}, all...)
	}
	return all
}

func dotWide(a, b []float32) float32 {
	whole := len(a) &^ 7
	var sum float32
	if whole > 0 {
		sum = dotAVX2(&a[0], &b[0], whole)
	}
	for i := whole; i < len(a); i++ {
		sum += a[i] * b[i]
	}
	return sum
}

func addScaledWide(y, x []float32, alpha float32) {
	whole := len(x) &^ 7
	if whole > 0 {
		addScaledAVX2(&y[0], &x[0], whole, alpha)
	}
	for i := whole; i < len(x); i++ {
		y[i] += alpha * x[i]
	}
}
