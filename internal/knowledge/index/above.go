package index

import (
	"cmp"
	"math/bits"
	"runtime"
	"slices"
)

// Above returns, for each query, every row whose cosine to it is at least the
// threshold, best first. Queries have length 1. The keys of rows for which exact
// returns no vector are returned in gone. Errors: those of exact.
func (m *Matrix) Above(queries [][]float32, threshold float64, exact Exact) (hits [][]Hit, gone []int64, err error) {
	hits = make([][]Hit, len(queries))
	if m.Len() == 0 {
		return hits, nil, nil
	}
	pairs := m.candidates(queries, threshold)
	// The rows of the pairs, each once: if all texts follow one template, every
	// query has every row as a candidate.
	var rows []int64
	for _, p := range pairs {
		if len(rows) == 0 || rows[len(rows)-1] != p.key {
			rows = append(rows, p.key)
		}
	}
	for keys := range slices.Chunk(rows, exactBatch) {
		vectors, err := exact(keys)
		if err != nil {
			return nil, nil, err
		}
		for i, v := range vectors {
			if v == nil {
				gone = append(gone, keys[i])
			}
			for ; len(pairs) > 0 && pairs[0].key == keys[i]; pairs = pairs[1:] {
				if v == nil {
					continue
				}
				if cosine := float64(m.kernel.dot(v, queries[pairs[0].query])); cosine >= threshold {
					hits[pairs[0].query] = append(hits[pairs[0].query], Hit{keys[i], cosine})
				}
			}
		}
	}
	for _, h := range hits {
		sortHits(h)
	}
	return hits, gone, nil
}

// pair is a row that may reach the threshold with a query.
type pair struct {
	key   int64
	query int
}

// candidates returns every pair that the bounds do not exclude, sorted by key. It
// first compares the heads of the vectors, then, in blocks where any pair remains,
// the whole vectors, and last, for each pair that remains, the query as it is: reading
// an exact vector costs far more than that.
func (m *Matrix) candidates(queries [][]float32, threshold float64) []pair {
	heads := newFilter(m.kernel, queries, m.head, m.maxError, threshold)
	wholes := newFilter(m.kernel, queries, m.groups, m.maxError, threshold)
	noTail := make([]float32, blockRows)
	least := float32(threshold - slack - m.maxError) // by (3) in bounds.go
	width := m.groups * groupBytes * blockRows
	found := make([][]pair, runtime.GOMAXPROCS(0))
	m.eachSegment(func(w, _ int, s *segment) {
		for b := 0; b*blockRows < len(s.keys); b++ {
			block := s.bytes[b*width : (b+1)*width]
			row := b * blockRows
			scale, tail := s.scale[row:row+blockRows], s.tail[row:row+blockRows]
			for first := 0; first < len(queries); first += filterQueries {
				mask := m.kernel.filter(block, m.head, heads, first, scale, tail)
				if mask == 0 {
					continue
				}
				mask &= m.kernel.filter(block, m.groups, wholes, first, scale, noTail)
				for ; mask != 0; mask &= mask - 1 {
					bit := bits.TrailingZeros64(mask)
					i, query := row+bit%blockRows, first+bit/blockRows
					if i < len(s.keys) && s.keys[i] != 0 && s.scale[i]*dotRow(block, bit%blockRows, queries[query]) >= least {
						found[w] = append(found[w], pair{s.keys[i], query})
					}
				}
			}
		}
	})
	pairs := slices.Concat(found...)
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.query, b.query))
	})
	return pairs
}

// dotRow returns the product of a row of a block, in its quantised form, and a query.
func dotRow(block []uint8, row int, query []float32) float32 {
	var s0, s1, s2, s3 float32
	g := 0
	for ; (g+1)*groupBytes <= len(query); g++ {
		at := (g*blockRows + row) * groupBytes
		p, q := block[at:at+groupBytes:at+groupBytes], query[g*groupBytes:g*groupBytes+groupBytes:g*groupBytes+groupBytes]
		s0 += float32(int32(p[0])-zeroByte) * q[0]
		s1 += float32(int32(p[1])-zeroByte) * q[1]
		s2 += float32(int32(p[2])-zeroByte) * q[2]
		s3 += float32(int32(p[3])-zeroByte) * q[3]
	}
	for i, x := range query[g*groupBytes:] {
		s0 += float32(int32(block[(g*blockRows+row)*groupBytes+i])-zeroByte) * x
	}
	return s0 + s1 + (s2 + s3)
}
