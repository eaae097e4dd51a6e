package embed

import (
	"context"
	_ "embed" // the model
	"math"
	"strings"
	"sync"

	"agento.host/agento/internal/fulltext"
)

//go:embed builtin.model
var builtinModel []byte

// Builtin returns the model inside the binary. It works offline, on the CPU, and
// mainly for English. It is decoded once, at the first call.
var Builtin = sync.OnceValues(func() (*Static, error) { return ReadModel(builtinModel) })

// Name implements Embedder.
func (m *Static) Name() string { return m.header.Name }

// Dimension implements Embedder.
func (m *Static) Dimension() int { return m.header.Dimension }

// Knows implements Judge. It ignores stop words and words with digits, which belong to no language.
func (m *Static) Knows(text string) float64 {
	known, all := 0, 0
	EachWord(text, func(_, word string) {
		if fulltext.IsStopword(word) || strings.ContainsAny(word, "0123456789") {
			return
		}
		all++
		if _, ok := m.vocabulary.words[word]; ok {
			known++
		}
	})
	if all == 0 {
		return 1
	}
	return float64(known) / float64(all)
}

// Embed implements Embedder. Errors: those of ctx.
func (m *Static) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		all[i] = m.embed(text)
	}
	return all, nil
}

func (m *Static) embed(text string) []float32 {
	d := m.header.Dimension
	sum := make([]float32, d)
	for _, w := range Weigh(m.vocabulary.Append(nil, text)) {
		scale := m.scales[w.Row] * w.Weight
		for i, b := range m.rows[int(w.Row)*d : (int(w.Row)+1)*d] {
			sum[i] += scale * float32(int8(b))
		}
	}
	var square float64
	for _, x := range sum {
		square += float64(x) * float64(x)
	}
	if square > 0 {
		scale := float32(1 / math.Sqrt(square))
		for i := range sum {
			sum[i] *= scale
		}
	}
	return sum
}
