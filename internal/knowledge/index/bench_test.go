package index

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// benchRows and benchDimension are the size in the project's performance targets.
const (
	benchRows      = 1 << 20
	benchDimension = 256
)

// BenchmarkMillion reports, all measured in one run: the speed of the scans
// relative to the memory bandwidth (a read of a buffer of the same size), the
// speed-up by quantised vectors at full recall, and the cost of deduplicating 100
// chunks in scans.
func BenchmarkMillion(b *testing.B) {
	flat, m := million(b)
	rng := rand.New(rand.NewPCG(8, 8))
	queries := make([][]float32, 100)
	for i := range queries {
		queries[i] = near(rng, flat, i%2 == 0)
	}
	exact := func(keys []int64) ([][]float32, error) {
		out := make([][]float32, len(keys))
		for i, key := range keys {
			out[i] = flat[(key-1)*benchDimension : key*benchDimension]
		}
		return out, nil
	}
	for b.Loop() {
		readFloats := fastest(func() { readAll(asWords(flat)) })
		exactScan := fastest(func() { scanFloats(flat, queries[0]) })
		readBytes := fastest(func() { readAll(asWords(flat[:len(flat)/4])) })
		byteScan := fastest(func() { m.score(queries[1], 10) })
		nearest := fastest(func() { mustHits(m.Nearest(queries[0], 10, exact)) })
		dedup := fastest(func() {
			if _, _, err := m.Above(queries, 0.95, exact); err != nil {
				b.Fatal(err)
			}
		})
		b.ReportMetric(ms(exactScan), "exact-scan-ms")
		b.ReportMetric(ms(byteScan), "int8-scan-ms")
		b.ReportMetric(ms(dedup), "dedup100-ms")
		b.ReportMetric(float64(readFloats)/float64(exactScan), "exact/bandwidth")
		b.ReportMetric(float64(readBytes)/float64(byteScan), "int8/bandwidth")
		b.ReportMetric(float64(exactScan)/float64(nearest), "int8-gain")
		b.ReportMetric(float64(dedup)/float64(byteScan), "dedup100/int8-scan")
		b.ReportMetric(recall(m, flat, queries, exact), "recall@10")
	}
	b.ReportMetric(0, "ns/op")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func mustHits(hits []Hit, _ []int64, err error) []Hit {
	if err != nil {
		panic(err)
	}
	return hits
}

// fastest returns the shortest duration of five runs.
func fastest(f func()) time.Duration {
	var best time.Duration
	for range 5 {
		start := time.Now()
		f()
		if d := time.Since(start); best == 0 || d < best {
			best = d
		}
	}
	return best
}

// million returns a million vectors around 5,000 centres, as texts have topics.
func million(b *testing.B) ([]float32, *Matrix) {
	rng := rand.New(rand.NewPCG(7, 7))
	centres := clustered(rng, 5000, benchDimension, 500, 1.5)
	noise := make([]float32, 1<<16)
	for i := range noise {
		noise[i] = float32(rng.NormFloat64()) / 14
	}
	flat := make([]float32, benchRows*benchDimension)
	m, err := NewMatrix(benchDimension)
	if err != nil {
		b.Fatal(err)
	}
	for i := range benchRows {
		v := flat[i*benchDimension : (i+1)*benchDimension]
		copy(v, centres[rng.IntN(len(centres))])
		AddScaled(v, noise[rng.IntN(len(noise)-benchDimension):][:benchDimension], 0.3+rng.Float32())
		Normalize(v)
		if err := m.Add(int64(i+1), v); err != nil {
			b.Fatal(err)
		}
	}
	return flat, m
}

// near returns a vector that resembles one of the rows: a duplicate, or one of the
// same topic.
func near(rng *rand.Rand, flat []float32, duplicate bool) []float32 {
	v := make([]float32, benchDimension)
	copy(v, flat[rng.IntN(benchRows)*benchDimension:])
	spread := float32(0.05)
	if duplicate {
		spread = 0.01
	}
	for i := range v {
		v[i] += spread * float32(rng.NormFloat64())
	}
	Normalize(v)
	return v
}

// inParallel calls f for one part of 0..n-1 on each processor.
func inParallel(n int, f func(from, to int)) {
	workers := runtime.GOMAXPROCS(0)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() { f(w*n/workers, (w+1)*n/workers) })
	}
	group.Wait()
}

func scanFloats(flat, q []float32) {
	inParallel(benchRows, func(from, to int) {
		var top float32
		for i := from; i < to; i++ {
			top = max(top, Dot(flat[i*benchDimension:(i+1)*benchDimension], q))
		}
		use(top)
	})
}

// recall returns the share of the ten nearest rows that Nearest finds.
func recall(m *Matrix, flat []float32, queries [][]float32, exact Exact) float64 {
	found := 0
	for _, q := range queries[:10] {
		hits := mustHits(m.Nearest(q, 10, exact))
		better := 0
		for i := range benchRows {
			if float64(Dot(flat[i*benchDimension:(i+1)*benchDimension], q)) > hits[9].Cosine+1e-6 {
				better++
			}
		}
		found += 10 - max(0, better-9)
	}
	return float64(found) / 100
}
