package index

import (
	"sync/atomic"
	"unsafe"
)

var sunk atomic.Uint64

// sink keeps the compiler from dropping what computed v.
func sink(v float32) { sunk.Add(uint64(v)) }

func asWords(f []float32) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(&f[0])), len(f)/2)
}

// read sums a buffer with the widest loads there are, as fast as memory gives it.
func read(words []uint64) {
	floats := unsafe.Slice((*float32)(unsafe.Pointer(&words[0])), len(words)*2)
	halves(len(floats)/4096, func(from, to int) {
		var sum float32
		for i := from; i < to; i++ {
			page := floats[i*4096 : (i+1)*4096]
			sum += Dot(page, page)
		}
		sink(sum)
	})
}
