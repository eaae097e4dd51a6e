package main

import (
	"cmp"
	"math"
	"slices"

	"agento.host/agento/internal/knowledge/index"
)

// rotate rotates the rows so that the first dimensions of a vector carry most of its
// length. Cosines do not change, and comparing only the heads of vectors (package
// index) excludes unrelated texts earlier. sample holds vectors of texts, of length 1.
func rotate(rows, sample []float32, d int) {
	axes := principalAxes(sample, d)
	rotated := make([]float32, len(rows))
	parallel(len(rows)/d, func(i int) {
		for j := range d {
			rotated[i*d+j] = index.Dot(rows[i*d:(i+1)*d], axes[j*d:(j+1)*d])
		}
	})
	copy(rows, rotated)
}

// principalAxes returns the eigenvectors of the sample's matrix of second moments, the
// one with the largest eigenvalue first. It uses Jacobi's method.
func principalAxes(sample []float32, d int) []float32 {
	m := make([][]float64, d)
	v := make([][]float64, d)
	for i := range m {
		m[i], v[i] = make([]float64, d), make([]float64, d)
		v[i][i] = 1
	}
	parallel(d, func(i int) {
		for x := range slices.Chunk(sample, d) {
			for j := range d {
				m[i][j] += float64(x[i]) * float64(x[j])
			}
		}
	})
	for range 12 {
		for p := range d {
			for q := p + 1; q < d; q++ {
				zero(m, v, p, q)
			}
		}
	}
	order := make([]int, d)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(m[b][b], m[a][a]), cmp.Compare(a, b)) })
	axes := make([]float32, d*d)
	for j, k := range order {
		for i := range d {
			axes[j*d+i] = float32(v[i][k])
		}
	}
	return axes
}

// zero makes m[p][q] zero by a rotation in the plane of p and q.
func zero(m, v [][]float64, p, q int) {
	if math.Abs(m[p][q]) < 1e-9 {
		return
	}
	theta := (m[q][q] - m[p][p]) / (2 * m[p][q])
	t := math.Copysign(1, theta) / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range m {
		m[k][p], m[k][q] = c*m[k][p]-s*m[k][q], s*m[k][p]+c*m[k][q]
	}
	for k := range m {
		m[p][k], m[q][k] = c*m[p][k]-s*m[q][k], s*m[p][k]+c*m[q][k]
		v[k][p], v[k][q] = c*v[k][p]-s*v[k][q], s*v[k][p]+c*v[k][q]
	}
}
