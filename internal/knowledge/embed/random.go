package embed

import (
	"hash/fnv"
	"math/rand/v2"

	"agento.host/agento/internal/knowledge/index"
)

// RandomVector returns a random vector of length 1 with the text as its seed. It is not
// similar to the vector of any other text: a text that a model cannot embed is a duplicate of
// itself, and is found by its words only.
func RandomVector(text string, dimension int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(dimension))) //nolint:gosec // not a secret
	v := make([]float32, dimension)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	index.Normalize(v)
	return v
}
