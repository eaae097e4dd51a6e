package index

import "golang.org/x/sys/cpu"

//go:noescape
func dotAVX2(a, b *float32, n int) float32

//go:noescape
func addScaledAVX2(y, x *float32, n int, alpha float32)

//go:noescape
func scanAVX2(dst *int32, blocks *uint8, nblocks, groups int, q *int8)

//go:noescape
func filterAVX2(block *uint8, groups int, q *int8, stride int, corr *int32, scale, tail, slope, floor *float32) uint64

func hasAVX2() bool { return cpu.X86.HasAVX2 && cpu.X86.HasFMA }

// kernels lists the kernels that this processor can run, fastest first. The
// portable one is always last.
func kernels() []kernel {
	if !hasAVX2() {
		return []kernel{portable}
	}
	return []kernel{avx2, portable}
}

var avx2 = kernel{
	name: "avx2", levels: 63, dot: dotWithAVX2, addScaled: addScaledWithAVX2,
	scan: func(dst []int32, blocks []uint8, groups int, q []int8) {
		scanAVX2(&dst[0], &blocks[0], len(dst)/blockRows, groups, &q[0])
	},
	filter: func(block []uint8, groups int, f *filter, first int, scale, tail []float32) uint64 {
		return filterAVX2(&block[0], groups, &f.quantised[first*f.stride], f.stride, &f.corr[first], &scale[0], &tail[0], &f.slope[first], &f.floor[first])
	},
}

func dotWithAVX2(a, b []float32) float32 {
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

func addScaledWithAVX2(y, x []float32, alpha float32) {
	whole := len(x) &^ 7
	if whole > 0 {
		addScaledAVX2(&y[0], &x[0], whole, alpha)
	}
	for i := whole; i < len(x); i++ {
		y[i] += alpha * x[i]
	}
}
