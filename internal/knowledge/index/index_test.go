package index

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// clustered returns unit vectors around a few centres: some are near-duplicates,
// some neighbours, some unrelated.
func clustered(rng *rand.Rand, n, dimension, centres int, spread float64) [][]float32 {
	middle := make([][]float32, centres)
	for i := range middle {
		middle[i] = make([]float32, dimension)
		for j := range middle[i] {
			middle[i][j] = float32(rng.NormFloat64())
		}
	}
	vectors := make([][]float32, n)
	for i := range vectors {
		v := make([]float32, dimension)
		distance := spread * rng.Float64()
		for j, x := range middle[rng.IntN(centres)] {
			v[j] = x + float32(distance*rng.NormFloat64())
		}
		Normalize(v)
		vectors[i] = v
	}
	return vectors
}

func build(t testing.TB, k kernel, vectors [][]float32) *Matrix {
	t.Helper()
	m, err := newMatrix(len(vectors[0]), k)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if err := m.Add(int64(i+1), v); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// exactOf returns an Exact that has all vectors but those of goneKeys.
func exactOf(vectors [][]float32, goneKeys ...int64) Exact {
	return func(keys []int64) ([][]float32, error) {
		out := make([][]float32, len(keys))
		for i, key := range keys {
			if !slices.Contains(goneKeys, key) {
				out[i] = vectors[key-1]
			}
		}
		return out, nil
	}
}

func bruteForce(vectors [][]float32, q []float32, skip ...int64) []Hit {
	hits := []Hit{}
	for i, v := range vectors {
		if !slices.Contains(skip, int64(i+1)) {
			hits = append(hits, Hit{int64(i + 1), float64(Dot(v, q))})
		}
	}
	slices.SortFunc(hits, func(a, b Hit) int {
		return cmp.Or(cmp.Compare(b.Cosine, a.Cosine), cmp.Compare(a.Key, b.Key))
	})
	return hits
}

func sameCosines(a, b []Hit) bool {
	return slices.EqualFunc(a, b, func(x, y Hit) bool { return math.Abs(x.Cosine-y.Cosine) < 1e-5 })
}

func TestNearestEqualsExactScan(t *testing.T) {
	for _, k := range kernels() {
		for _, dimension := range []int{1, 3, 8, 50, 256, 1536} {
			rng := rand.New(rand.NewPCG(1, uint64(dimension)))
			vectors := clustered(rng, 700, dimension, 5, 2)
			m := build(t, k, vectors)
			for _, q := range clustered(rng, 20, dimension, 5, 2) {
				hits, gone, err := m.Nearest(q, 10, exactOf(vectors))
				if err != nil || gone != nil {
					t.Fatal(gone, err)
				}
				if want := bruteForce(vectors, q)[:10]; !sameCosines(hits, want) {
					t.Fatalf("%s, %d dimensions: got %v, want %v", k.name, dimension, hits, want)
				}
			}
		}
	}
}

func TestAboveFindsEveryRow(t *testing.T) {
	for _, k := range kernels() {
		for _, dimension := range []int{2, 7, 64, 256, 768} {
			rng := rand.New(rand.NewPCG(2, uint64(dimension)))
			vectors := clustered(rng, 900, dimension, 9, 0.6)
			queries := append(clustered(rng, 5, dimension, 3, 1), vectors[3:21]...)
			m := build(t, k, vectors)
			found := 0
			got, _, err := m.Above(queries, 0.95, exactOf(vectors))
			if err != nil {
				t.Fatal(err)
			}
			for j, q := range queries {
				want := bruteForce(vectors, q)
				n, _ := slices.BinarySearchFunc(want, 0.95, func(h Hit, threshold float64) int { return cmp.Compare(threshold, h.Cosine) })
				for n < len(want) && want[n].Cosine >= 0.95 {
					n++
				}
				if !sameCosines(got[j], want[:n]) {
					t.Fatalf("%s, %d dimensions, query %d: got %d rows, want %d", k.name, dimension, j, len(got[j]), n)
				}
				found += n
			}
			if found < len(queries)-5 {
				t.Fatalf("only %d pairs are above the threshold: the test data is too sparse", found)
			}
		}
	}
}

// Rows just above and just below the threshold are those that an approximate index
// gets wrong.
func TestAboveAtTheThreshold(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	const dimension = 256
	base := clustered(rng, 1, dimension, 1, 0)[0]
	vectors := [][]float32{}
	want := 0
	for range 2000 {
		away := clustered(rng, 1, dimension, 1, 0)[0]
		AddScaled(away, base, -Dot(away, base))
		Normalize(away)
		cosine := 0.95 + (rng.Float64()-0.5)*2e-3
		v := make([]float32, dimension)
		AddScaled(v, base, float32(cosine))
		AddScaled(v, away, float32(math.Sqrt(1-cosine*cosine)))
		if float64(Dot(v, base)) >= 0.95 {
			want++
		}
		vectors = append(vectors, v)
	}
	for _, k := range kernels() {
		got, _, err := build(t, k, vectors).Above([][]float32{base}, 0.95, exactOf(vectors))
		if err != nil {
			t.Fatal(err)
		}
		if d := len(got[0]) - want; d < -2 || d > 2 { // kernels round differently within 1e-6
			t.Fatalf("%s: %d rows, want %d", k.name, len(got[0]), want)
		}
	}
}

func TestRemovedAndMissingRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	vectors := clustered(rng, 400, 32, 4, 1)
	m := build(t, best, vectors)
	q := vectors[7]
	order := bruteForce(vectors, q)
	if !m.Remove(order[0].Key) || m.Remove(order[0].Key) || m.Remove(9999) || m.Remove(0) {
		t.Fatal("Remove reports the wrong result")
	}
	missing := make([]int64, 0, 90)
	for _, h := range order[1:91] {
		missing = append(missing, h.Key)
	}
	hits, gone, err := m.Nearest(q, 5, exactOf(vectors, missing...))
	if err != nil {
		t.Fatal(err)
	}
	if want := order[91:96]; !sameCosines(hits, want) {
		t.Fatalf("got %v, want %v", hits, want)
	}
	slices.Sort(gone)
	slices.Sort(missing)
	if !slices.Equal(gone, missing) {
		t.Fatalf("gone: %d rows, want %d", len(gone), len(missing))
	}
	if m.Len() != 399 || m.Dead() != 1 {
		t.Fatal(m.Len(), m.Dead())
	}
}

func TestFewerRowsThanK(t *testing.T) {
	vectors := clustered(rand.New(rand.NewPCG(5, 5)), 3, 16, 1, 1)
	m := build(t, best, vectors)
	hits, _, err := m.Nearest(vectors[0], 10, exactOf(vectors))
	if err != nil || len(hits) != 3 || hits[0].Key != 1 {
		t.Fatal(hits, err)
	}
	empty, err := NewMatrix(16)
	if err != nil {
		t.Fatal(err)
	}
	if hits, _, err := empty.Nearest(vectors[0], 10, nil); err != nil || len(hits) != 0 {
		t.Fatal(hits, err)
	}
}

func TestAddRejectsInvalidInput(t *testing.T) {
	m, err := NewMatrix(4)
	if err != nil {
		t.Fatal(err)
	}
	nan := float32(math.NaN())
	for name, try := range map[string]func() error{
		"length":    func() error { return m.Add(1, []float32{1, 1, 0, 0}) },
		"dimension": func() error { return m.Add(1, []float32{1}) },
		"NaN":       func() error { return m.Add(1, []float32{nan, 0, 0, 0}) },
		"zero key":  func() error { return m.Add(0, []float32{1, 0, 0, 0}) },
	} {
		if try() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := m.Add(5, []float32{1, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if m.Add(5, []float32{1, 0, 0, 0}) == nil {
		t.Error("the same key twice: accepted")
	}
	if _, err := NewMatrix(maxDimension + 1); err == nil {
		t.Error("too many dimensions: accepted")
	}
}

func TestKernelsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for _, k := range kernels() {
		for n := range 70 {
			a, b := make([]float32, n), make([]float32, n)
			for i := range a {
				a[i], b[i] = rng.Float32()-0.5, rng.Float32()-0.5
			}
			if got, want := k.dot(a, b), dotPortable(a, b); math.Abs(float64(got-want)) > 1e-5 {
				t.Fatalf("%s: dot of %d: %g, want %g", k.name, n, got, want)
			}
			want := slices.Clone(a)
			addScaledPortable(want, b, 0.3)
			k.addScaled(a, b, 0.3)
			for i := range a {
				if math.Abs(float64(a[i]-want[i])) > 1e-6 {
					t.Fatalf("%s: add of %d", k.name, n)
				}
			}
		}
		for _, groups := range []int{1, 2, 3, 4, 5, 16, 17, 64} {
			blocks := make([]uint8, 3*groups*groupBytes*blockRows)
			for i := range blocks {
				blocks[i] = uint8(1 + rng.IntN(255))
			}
			q := make([]int8, groups*groupBytes)
			for i := range q {
				q[i] = int8(rng.IntN(2*k.levels+1) - k.levels)
			}
			for i := range q[:min(8, len(q))] { // the largest possible sums
				q[i] = int8(k.levels)
				blocks[i] = 255
			}
			got, want := make([]int32, 3*blockRows), make([]int32, 3*blockRows)
			k.scan(got, blocks, groups, q)
			scanPortable(want, blocks, groups, q)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: scan of %d groups: %v, want %v", k.name, groups, got, want)
			}
		}
	}
}

// Texts made from one template are all similar: every query finds every row.
func TestAboveReadsEachRowOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	vectors := clustered(rng, 300, 64, 1, 0.01)
	reads := map[int64]int{}
	exact := func(keys []int64) ([][]float32, error) {
		for _, key := range keys {
			reads[key]++
		}
		return exactOf(vectors, 5)(keys)
	}
	hits, gone, err := build(t, best, vectors).Above(vectors[:100], 0.95, exact)
	if err != nil || !slices.Equal(gone, []int64{5}) {
		t.Fatal(gone, err)
	}
	for key, n := range reads {
		if n > 1 {
			t.Fatalf("row %d was read %d times", key, n)
		}
	}
	for i, h := range hits {
		if !sameCosines(h, bruteForce(vectors, vectors[i], 5)) {
			t.Fatalf("query %d: %d rows", i, len(h))
		}
	}
}
