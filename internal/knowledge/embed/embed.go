// Package embed turns texts into vectors whose cosine says how alike they are
// in meaning.
package embed

import "context"

// Embedder is a model that embeds texts.
type Embedder interface {
	// Name identifies the model; vectors of two names are never compared.
	Name() string
	// Dimension is the length of every vector, in numbers.
	Dimension() int
	// Embed returns one vector of length 1 for each text, in order; a text in
	// which the model sees nothing gets a vector of zeros.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}
