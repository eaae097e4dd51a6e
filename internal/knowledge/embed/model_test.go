package embed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

// tinyModel is a model file of two words, one piece and three buckets.
func tinyModel(t *testing.T) []byte {
	t.Helper()
	const dimension, words, text, rows = 4, 2, "one\nsun\nx", 6
	header, err := json.Marshal(Header{Name: "tiny", Dimension: dimension, Words: words, Pieces: 1, Buckets: 3, TextBytes: len(text)})
	if err != nil {
		t.Fatal(err)
	}
	file := binary.LittleEndian.AppendUint32([]byte(ModelMagic), uint32(len(header)))
	file = append(append(file, header...), text...)
	for range rows {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(0.5))
	}
	for i := range rows * dimension {
		file = append(file, byte(int8(i%5-2)))
	}
	return file
}

func TestReadModel(t *testing.T) {
	file := tinyModel(t)
	m, err := ReadModel(file)
	if err != nil || m.Name() != "tiny" || m.Dimension() != 4 || m.header.Words != 2 {
		t.Fatal(m, err)
	}
	for n := range len(file) {
		if _, err := ReadModel(file[:n]); err == nil {
			t.Fatalf("a file truncated to %d bytes is accepted", n)
		}
	}
	vectors, err := m.Embed(t.Context(), []string{"one", "sun"})
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range [][]float64{{-2, -1, 0, 1}, {2, -2, -1, 0}} {
		for k, x := range row {
			var square float64
			for _, y := range row {
				square += y * y
			}
			if got := float64(vectors[i][k]); math.Abs(got-x/math.Sqrt(square)) > 1e-6 {
				t.Errorf("vector %d: number %d is %g", i, k, got)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Embed(ctx, []string{"sun"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBuiltinReturnsUnitVectors(t *testing.T) {
	m, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if len(builtinModel) > 16<<20 {
		t.Errorf("the model has %d bytes, more than 16 MiB", len(builtinModel))
	}
	texts := []string{"Refunds are paid within 14 days.", "How do I get my money back?", "The engine oil is changed once a year.", "👍", "東京は晴れ", strings.Repeat("word ", 2000)}
	vectors, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		var square float64
		for _, x := range v {
			square += float64(x) * float64(x)
		}
		if len(v) != m.Dimension() || math.Abs(square-1) > 1e-5 {
			t.Errorf("%q: %d dimensions, length %g", texts[i], len(v), math.Sqrt(square))
		}
	}
}

func BenchmarkBuiltin(b *testing.B) {
	m, err := Builtin()
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("Refunds are paid within 14 days of the return of the product to our shop. ", 7)[:500]
	for b.Loop() {
		if _, err := m.Embed(b.Context(), []string{text}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "texts/s")
}
