package index

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// segmentRows is how many rows are grown and scanned as one piece.
const segmentRows = 16384

// Matrix holds vectors of length 1 under ascending keys. Reading it concurrently
// is safe; Add and Remove need it alone.
type Matrix struct {
	dimension int
	groups    int // of groupBytes dimensions
	head      int // groups that the first look at duplicates reads
	kernel    kernel
	segments  []*segment
	dead      int
	lost      float64 // the most that quantisation took from a row
}

type segment struct {
	bytes []uint8
	keys  []int64   // ascending; 0: removed
	scale []float32 // padded to whole blocks, as tail is
	tail  []float32 // length of the dimensions after the head
}

// Hit is a row and its cosine with a query.
type Hit struct {
	Key    int64
	Cosine float64
}

// NewMatrix makes an empty matrix.
func NewMatrix(dimension int) (*Matrix, error) { return newMatrix(dimension, best) }

func newMatrix(dimension int, k kernel) (*Matrix, error) {
	if dimension < 1 || dimension > maxDimension {
		return nil, fmt.Errorf("index: %d dimensions; from 1 to %d are possible", dimension, maxDimension)
	}
	groups := (dimension + groupBytes - 1) / groupBytes
	return &Matrix{dimension: dimension, groups: groups, head: max(1, groups/4), kernel: k}, nil
}

// Len is the number of rows that were added and not removed.
func (m *Matrix) Len() int { return m.rows() - m.dead }

// Dead is the number of rows that were removed and still take memory.
func (m *Matrix) Dead() int { return m.dead }

// Bytes is the memory that the matrix takes, roughly.
func (m *Matrix) Bytes() int64 { return int64(m.rows()) * RowBytes(m.dimension) }

// RowBytes is the memory that one row takes.
func RowBytes(dimension int) int64 { return int64(dimension+groupBytes-1)/groupBytes*groupBytes + 16 }

// Last is the largest key ever added, or 0.
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

// Add stores v, which has length 1, under a positive key larger than all before.
func (m *Matrix) Add(key int64, v []float32) error {
	if len(v) != m.dimension {
		return fmt.Errorf("index: a vector of %d dimensions among vectors of %d", len(v), m.dimension)
	}
	if l := length(v); math.IsNaN(l) || math.Abs(l-1) > 1e-3 {
		return fmt.Errorf("index: a vector of length %g, not 1", l)
	}
	if key < 1 || key <= m.Last() {
		return fmt.Errorf("index: key %d after %d", key, m.Last())
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
	scale, lost := quantise(q[:m.dimension], v, 127)
	m.lost = max(m.lost, lost)
	s.scale[row] = scale
	if cut := m.head * groupBytes; cut < len(v) {
		s.tail[row] = float32(length(v[cut:]))
	}
	block := s.bytes[row/blockRows*len(q)*blockRows:]
	for g := range m.groups {
		for i := range groupBytes {
			block[g*blockRows*groupBytes+row%blockRows*groupBytes+i] = uint8(int16(q[g*groupBytes+i]) + zeroByte)
		}
	}
	return nil
}

// grow makes room for one more block, of rows that score nothing.
func (s *segment) grow(blockBytes int) {
	s.bytes = append(s.bytes, slices.Repeat([]uint8{zeroByte}, blockBytes)...)
	s.scale = append(s.scale, make([]float32, blockRows)...)
	s.tail = append(s.tail, make([]float32, blockRows)...)
}

// Remove forgets the row of a key and says whether there was one.
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
	// Removed rows are holes in the order, so a plain scan; it is rare and a
	// segment is small.
	return slices.Index(s.keys, key)
}

// eachSegment runs f on every segment, on all processors if there is enough to do.
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
