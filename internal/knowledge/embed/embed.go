// Package embed turns texts into vectors. The cosine of two vectors is the
// similarity of the meaning of their texts.
//
// The built-in model splits texts with code of its own (words.go, vocabulary.go),
// because it knows only the words that its training saw. The word splitters
// github.com/rivo/uniseg v0.4.7 and github.com/blevesearch/segment v0.9.1 were tried:
// both follow Unicode's UAX #29, so they keep max_connections, v2.10 and 1,00 as one
// word, drop the & of "cats & dogs", and return no pairs of ideographs. The stemmer
// github.com/kljensen/snowball v0.10.0 was tried for inflected words: it makes
// "studi" of "studies", which is not the word "study" of the model.
package embed

import "context"

// Embedder is a model that embeds texts.
type Embedder interface {
	// Name identifies the model. Vectors of different names are never compared.
	Name() string
	// Dimension returns the number of dimensions of every vector.
	Dimension() int
	// Embed returns one vector of length 1 for each text, in order. A text in
	// which the model recognises nothing gets a vector of zeros.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Judge is an Embedder that knows only some words.
type Judge interface {
	// Knows returns the share of a text's words that the model has learned, from 0 to 1.
	// The vector of the others says little: it compares their letters.
	Knows(text string) float64
}
