package index

import (
	"sync/atomic"
	"unsafe"
)

var total atomic.Uint64

// use keeps the compiler from removing the computation of v.
func use(v float32) { total.Add(uint64(v)) }

func asWords(f []float32) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&f[0])), len(f)/2)
}

// readAll reads a buffer at the full memory bandwidth, on all processors.
func readAll(words []uint64) {
	floats := unsafe.Slice((*float32)(unsafe.Pointer(&words[0])), len(words)*2)
	inParallel(len(floats)/4096, func(from, to int) {
		var sum float32
		for i := from; i < to; i++ {
			page := floats[i*4096 : (i+1)*4096]
			sum += Dot(page, page)
		}
		use(sum)
	})
}
