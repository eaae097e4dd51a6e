package main

import (
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// settings of a training run.
type settings struct {
	Dimension   int     `json:"dimension"`
	Batch       int     `json:"batch"`       // pairs that are contrasted at once
	Epochs      float64 `json:"epochs"`      // passes over the pairs
	Rate        float64 `json:"rate"`        // learning rate at the start; decreases to a twentieth
	Temperature float64 `json:"temperature"` // of the softmax over cosines
	Dropout     float64 `json:"dropout"`
	Seed        uint64  `json:"seed"`
}

// example is a pair as weighted rows. Equal texts have equal hashes.
type example struct {
	group        int // number of the source
	a, b         []embed.Weighted
	hashA, hashB uint64
}

// trainer learns the rows by contrast: in each batch, the text b of a pair must be
// more similar to its own text a than to the others. It does the same arithmetic in
// the same order on any number of processors.
type trainer struct {
	settings
	rows  []float32 // size x Dimension
	power []float32 // sum of the squared gradients so far, for each number of rows
}

func newTrainer(s settings, weights []float64) *trainer {
	t := &trainer{settings: s, rows: make([]float32, len(weights)*s.Dimension), power: make([]float32, len(weights)*s.Dimension)}
	rng := rand.New(rand.NewPCG(s.Seed, 2))
	for i := range t.rows {
		t.rows[i] = float32(rng.NormFloat64() * weights[i/s.Dimension] / math.Sqrt(float64(s.Dimension)))
	}
	return t
}

func (t *trainer) row(i int32) []float32 {
	return t.rows[int(i)*t.Dimension : (int(i)+1)*t.Dimension]
}

// step learns from one batch and returns the loss.
func (t *trainer) step(batch []example, rate float64) float64 {
	n := len(batch)
	a, lengthA := t.embed(n, func(i int) []embed.Weighted { return batch[i].a })
	b, lengthB := t.embed(n, func(i int) []embed.Weighted { return batch[i].b })
	slopes, loss := t.lossSlopes(batch, a, b)
	transposed := make([]float32, n*n)
	transpose(transposed, slopes, n)
	gradA := t.gradients(slopes, a, b, lengthA)
	gradB := t.gradients(transposed, b, a, lengthB)
	t.update(batch, gradA, gradB, rate)
	return loss
}

// embed returns the vectors of n texts, scaled to length 1, and their lengths before.
func (t *trainer) embed(n int, text func(int) []embed.Weighted) ([]float32, []float32) {
	out, lengths := make([]float32, n*t.Dimension), make([]float32, n)
	parallel(n, func(i int) {
		v := out[i*t.Dimension : (i+1)*t.Dimension]
		for _, w := range text(i) {
			index.AddScaled(v, t.row(w.Row), w.Weight)
		}
		lengths[i] = float32(math.Sqrt(float64(index.Dot(v, v)))) + 1e-6
		scale := 1 / lengths[i]
		for j := range v {
			v[j] *= scale
		}
	})
	return out, lengths
}

// lossSlopes returns the derivative of the loss by each cosine, and the loss. The
// derivative is the softmax over each row and over each column, less 1 for the true
// pairs, divided by 2n·temperature.
func (t *trainer) lossSlopes(batch []example, a, b []float32) ([]float32, float64) {
	n, d := len(batch), t.Dimension
	logits, columns := make([]float32, n*n), make([]float32, n*n)
	scale := float32(1 / t.Temperature)
	const excluded = -1e9
	parallel(n, func(i int) {
		for j := range n {
			if i != j && (batch[i].hashA == batch[j].hashA || batch[i].hashB == batch[j].hashB || batch[i].hashA == batch[j].hashB) {
				logits[i*n+j] = excluded // the same text occurs twice: neither right nor wrong
				continue
			}
			logits[i*n+j] = scale * index.Dot(a[i*d:(i+1)*d], b[j*d:(j+1)*d])
		}
	})
	transpose(columns, logits, n)
	losses := make([]float64, n)
	softmax := func(m []float32) {
		parallel(n, func(i int) {
			row := m[i*n : (i+1)*n]
			top := slices.Max(row)
			truePair := float64(row[i])
			var sum float64
			for j, x := range row {
				if x-top < -12 {
					row[j] = 0
					continue
				}
				e := math.Exp(float64(x - top))
				row[j] = float32(e)
				sum += e
			}
			for j := range row {
				row[j] = float32(float64(row[j]) / sum)
			}
			losses[i] += math.Log(sum) + float64(top) - truePair
		})
	}
	softmax(logits)
	softmax(columns)
	parallel(n, func(i int) {
		for j := range n {
			p := logits[i*n+j] + columns[j*n+i]
			if i == j {
				p -= 2
			}
			if p > -1e-5 && p < 1e-5 {
				p = 0
			}
			logits[i*n+j] = p * scale / float32(2*n)
		}
	})
	var loss float64
	for _, l := range losses {
		loss += l
	}
	return logits, loss / float64(2*n)
}

// gradients returns the derivatives by the sums of rows, before normalisation.
func (t *trainer) gradients(slopes, own, other, lengths []float32) []float32 {
	n, d := len(lengths), t.Dimension
	grad := make([]float32, n*d)
	parallel(n, func(i int) {
		g, e := grad[i*d:(i+1)*d], own[i*d:(i+1)*d]
		for j, s := range slopes[i*n : (i+1)*n] {
			if s != 0 {
				index.AddScaled(g, other[j*d:(j+1)*d], s)
			}
		}
		index.AddScaled(g, e, -index.Dot(g, e))
		scale := 1 / lengths[i]
		for k := range g {
			g[k] *= scale
		}
	})
	return grad
}

// use is the use of a row by a text.
type use struct {
	row, text int32 // text: 2*pair, +1 for b
	weight    float32
}

// usesByRow returns the uses of a batch, sorted by row and then by text, and the index
// of the first use of each row, followed by the number of uses.
func usesByRow(batch []example) ([]use, []int) {
	counts := make(map[int32]int)
	total := 0
	each := func(f func(use)) {
		for i, e := range batch {
			for _, w := range e.a {
				f(use{w.Row, int32(2 * i), w.Weight})
			}
			for _, w := range e.b {
				f(use{w.Row, int32(2*i + 1), w.Weight})
			}
		}
	}
	each(func(u use) { counts[u.row]++; total++ })
	rows := slices.Sorted(maps.Keys(counts))
	starts := make([]int, 0, len(rows)+1)
	next := make(map[int32]int, len(rows))
	start := 0
	for _, r := range rows {
		starts = append(starts, start)
		next[r] = start
		start += counts[r]
	}
	uses := make([]use, total)
	each(func(u use) {
		uses[next[u.row]] = u
		next[u.row]++
	})
	return uses, append(starts, total)
}

// update changes every row that the batch uses, by Adagrad.
func (t *trainer) update(batch []example, gradA, gradB []float32, rate float64) {
	uses, starts := usesByRow(batch)
	d := t.Dimension
	parallel(len(starts)-1, func(k int) {
		var sum [1024]float32
		g := sum[:d]
		for _, u := range uses[starts[k]:starts[k+1]] {
			from := gradA
			if u.text&1 == 1 {
				from = gradB
			}
			start := int(u.text>>1) * d
			index.AddScaled(g, from[start:start+d], u.weight)
		}
		row := uses[starts[k]].row
		v, power := t.row(row), t.power[int(row)*d:(int(row)+1)*d]
		for i, x := range g {
			power[i] += x * x
			if power[i] > 0 {
				v[i] -= float32(rate) * x / (float32(math.Sqrt(float64(power[i]))) + 1e-9)
			}
		}
	})
}

func transpose(dst, src []float32, n int) {
	const tile = 32
	parallel((n+tile-1)/tile, func(block int) {
		for j0 := 0; j0 < n; j0 += tile {
			for i := block * tile; i < min(n, (block+1)*tile); i++ {
				for j := j0; j < min(n, j0+tile); j++ {
					dst[j*n+i] = src[i*n+j]
				}
			}
		}
	})
}

// parallel calls f for 0..n-1 on all processors.
func parallel(n int, f func(i int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	group.Wait()
}
