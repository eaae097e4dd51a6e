package index

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// segmentRows is the number of rows that are stored and scanned as one segment.
const segmentRows = 16384

// Matrix stores vectors of length 1 under ascending keys. Concurrent reads are
// safe; Add and Remove must not run concurrently with anything else.
type Matrix struct {
	dimension int
	groups    int // of groupBytes dimensions
	head      int // groups that Above compares first
	kernel    kernel
	segments  []*segment
	dead      int     // removed rows
	maxError  float64 // largest length of a row's rounding error
}

type segment struct {
	bytes []uint8
	keys  []int64   // ascending; 0 for a removed row
	scale []float32 // padded to whole blocks, like tail
	tail  []float32 // length of the part of the vector after the head
}

// Hit is a row and its cosine to a query.
type Hit struct {
	Key    int64
	Cosine float64
}

// NewMatrix returns an empty matrix. Errors: a dimension below 1 or above 8,192.
func NewMatrix(dimension int) (*Matrix, error) { return newMatrix(dimension, best) }

func newMatrix(dimension int, k kernel) (*Matrix, error) {
	if dimension < 1 || dimension > maxDimension {
		return nil, fmt.Errorf("index: %d dimensions are not supported, only 1 to %d", dimension, maxDimension)
	}
	groups := (dimension + groupBytes - 1) / groupBytes
	return &Matrix{dimension: dimension, groups: groups, head: max(1, groups/4), kernel: k}, nil
}

// Len returns the number of rows that were added and not removed.
func (m *Matrix) Len() int { return m.rows() - m.dead }

// Dead returns the number of removed rows, which still take memory.
func (m *Matrix) Dead() int { return m.dead }

// Bytes returns the approximate memory of the matrix.
func (m *Matrix) Bytes() int64 { return int64(m.rows()) * RowBytes(m.dimension) }

// RowBytes returns the memory of one row.
func RowBytes(dimension int) int64 { return int64(dimension+groupBytes-1)/groupBytes*groupBytes + 16 }

// Last returns the largest key that was not removed, or 0.
func (m *Matrix) Last() int64 {
	for i := len(m.segments) - 1; i >= 0; i-- {
		keys := m.segments[i].keys
		for j := len(keys) - 1; j >= 0; j-- {
			if keys[j] != 0 {
				return keys[j]
			}
		}
	}
	return 0
}

func (m *Matrix) rows() int {
	n := 0
	for _, s := range m.segments {
		n += len(s.keys)
	}
	return n
}

// Add stores v, which has length 1, under a positive key larger than all present
// keys. Errors: another dimension, another length, a key that is too small.
func (m *Matrix) Add(key int64, v []float32) error {
	if len(v) != m.dimension {
		return fmt.Errorf("index: the vector has %d dimensions, not %d", len(v), m.dimension)
	}
	if l := length(v); math.IsNaN(l) || math.Abs(l-1) > 1e-3 {
		return fmt.Errorf("index: the vector has length %g, not 1", l)
	}
	if key < 1 || key <= m.Last() {
		return fmt.Errorf("index: key %d is not above the last key, %d", key, m.Last())
	}
	if len(m.segments) == 0 || len(m.segments[len(m.segments)-1].keys) == segmentRows {
		m.segments = append(m.segments, &segment{})
	}
	s := m.segments[len(m.segments)-1]
	if len(s.keys)%blockRows == 0 {
		s.grow(m.groups * groupBytes * blockRows)
	}
	row := len(s.keys)
	s.keys = append(s.keys, key)
	q := make([]int8, m.groups*groupBytes)
	scale, errorLength := quantise(q[:m.dimension], v, 127)
	m.maxError = max(m.maxError, errorLength)
	s.scale[row] = scale
	if head := m.head * groupBytes; head < len(v) {
		s.tail[row] = float32(length(v[head:]))
	}
	block := s.bytes[row/blockRows*len(q)*blockRows:]
	for g := range m.groups {
		for i := range groupBytes {
			block[g*blockRows*groupBytes+row%blockRows*groupBytes+i] = uint8(int16(q[g*groupBytes+i]) + zeroByte)
		}
	}
	return nil
}

// grow appends one block of rows that score 0.
func (s *segment) grow(blockBytes int) {
	s.bytes = append(s.bytes, slices.Repeat([]uint8{zeroByte}, blockBytes)...)
	s.scale = append(s.scale, make([]float32, blockRows)...)
	s.tail = append(s.tail, make([]float32, blockRows)...)
}

// Remove deletes the row of a key and reports whether there was one.
func (m *Matrix) Remove(key int64) bool {
	for _, s := range m.segments {
		if i := s.find(key); i >= 0 {
			s.keys[i] = 0
			m.dead++
			return true
		}
	}
	return false
}

func (s *segment) find(key int64) int {
	if key < 1 {
		return -1
	}
	// Removed rows interrupt the order, so this is a linear scan. Removal is rare
	// and a segment is small.
	return slices.Index(s.keys, key)
}

// eachSegment calls f for every segment, on all processors if there are several
// segments.
func (m *Matrix) eachSegment(f func(worker, i int, s *segment)) {
	workers := min(runtime.GOMAXPROCS(0), len(m.segments))
	if workers < 2 {
		for i, s := range m.segments {
			f(0, i, s)
		}
		return
	}
	var next atomic.Int64
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(m.segments); i = int(next.Add(1)) - 1 {
				f(w, i, m.segments[i])
			}
		})
	}
	group.Wait()
}
