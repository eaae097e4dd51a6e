// Package transformer embeds texts with a sentence transformer that the operator has
// on disk: a directory in the format of Hugging Face with an ONNX model. It runs on
// the CPU.
//
// The WordPiece tokenizer (tokenizer.go) is our own. The library
// github.com/sugarme/tokenizer v0.3.0 was tried and returns other tokens for three of
// the test texts (TestEncode): it keeps accents if strip_accents is not set, although
// BERT then removes them from lower-case text, it does not split words at a
// no-break space (U+00A0), and it repeats characters after an invalid byte.
// github.com/gomlx/go-huggingface v0.3.1 has only SentencePiece, and
// github.com/daulet/tokenizers needs cgo.
package transformer

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// batchTokens is the maximum number of tokens in one run of the model, including
// padding; a longer text runs alone. It limits the memory, and the time that a search
// waits for an ingest. Larger batches are not faster.
const batchTokens = 512

// Settings are the settings of a Transformer.
type Settings struct {
	// Dir is the directory of the model, as published: model.onnx or onnx/model.onnx,
	// tokenizer.json, config.json and, if the model has them, modules.json,
	// 1_Pooling/config.json and sentence_bert_config.json.
	Dir string
}

// Transformer is a sentence transformer in memory. It is safe for concurrent use. It
// runs one batch at a time, on all cores.
type Transformer struct {
	name      string
	dimension int
	tokens    *tokenizer
	pooling   pooling
	network   *network
	running   chan struct{} // holds a value while the network runs
}

// New loads the model and embeds one text with it, so that an unsupported model fails
// here. The directory is not needed afterwards. Errors: the directory is incomplete,
// or the model is not supported.
func New(s Settings) (*Transformer, error) {
	if s.Dir == "" {
		return nil, errors.New("the transformer embedder needs the directory of a model: give it with --embedder-dir")
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	d, err := readModelDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the model in %s: %w", dir, err)
	}
	t, err := load(d)
	if err != nil {
		return nil, fmt.Errorf("the model in %s: %w", dir, err)
	}
	t.name = fmt.Sprintf("transformer/%s/%d/%s", filepath.Base(dir), t.dimension, hex.EncodeToString(d.hash.Sum(nil)[:6]))
	return t, nil
}

func load(d modelDir) (*Transformer, error) {
	tokens, err := readTokenizer(d.tokenizer)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	tokens.lowercase = tokens.lowercase || d.lowercase
	if err := tokens.setMaxTokens(d.maxTokens); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	net, err := newNetwork(d.onnx, d.onnxDir, d.padID, d.hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.onnxName, err)
	}
	t := &Transformer{tokens: tokens, pooling: d.pooling, network: net, running: make(chan struct{}, 1)}
	vectors, err := t.run([][]int{tokens.encode("a text to begin with").ids})
	if err != nil {
		return nil, fmt.Errorf("%s cannot be run: %w", d.onnxName, err)
	}
	t.dimension = len(vectors[0])
	if d.dimension > 0 && d.dimension != t.dimension {
		return nil, fmt.Errorf("%s returns vectors of %d dimensions, but the pooling config says %d: the files belong to different models", d.onnxName, t.dimension, d.dimension)
	}
	return t, nil
}

// Name implements embed.Embedder: the directory's name, the dimension and a hash of
// everything that affects vectors.
func (t *Transformer) Name() string { return t.name }

// Dimension implements embed.Embedder.
func (t *Transformer) Dimension() int { return t.dimension }

// Embed implements embed.Embedder. The model would return the same vector for all
// texts of which the vocabulary has no part, so each of these gets a random vector
// that depends on the text alone. Errors: those of ctx, or the model failed.
func (t *Transformer) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, len(texts))
	waiting := make([]encoded, 0, len(texts))
	for i, text := range texts {
		e := t.tokens.encode(text)
		if e.index = i; e.known {
			waiting = append(waiting, e)
			continue
		}
		all[i] = embed.RandomVector(text, t.dimension)
	}
	// Texts of similar length share a batch, to reduce padding.
	slices.SortStableFunc(waiting, func(a, b encoded) int { return cmp.Compare(len(b.ids), len(a.ids)) })
	for len(waiting) > 0 {
		n := batchRows(len(waiting), t.paddedLength(len(waiting[0].ids)))
		if err := t.embedBatch(ctx, waiting[:n], all); err != nil {
			return nil, err
		}
		waiting = waiting[n:]
	}
	return all, nil
}

// embedBatch embeds a batch and stores the vectors in all.
func (t *Transformer) embedBatch(ctx context.Context, batch []encoded, all [][]float32) error {
	select {
	case t.running <- struct{}{}:
		defer func() { <-t.running }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	ids := make([][]int, len(batch))
	for i, e := range batch {
		ids[i] = e.ids
	}
	vectors, err := t.run(ids)
	if err != nil {
		return fmt.Errorf("run %s: %w", t.name, err)
	}
	for i, e := range batch {
		all[e.index] = vectors[i]
	}
	return nil
}

// run returns a vector of length 1 for each row of token ids. The first row must be
// the longest.
func (t *Transformer) run(ids [][]int) ([][]float32, error) {
	out, err := t.network.run(ids, t.paddedLength(len(ids[0])))
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(ids))
	for i := range ids {
		v := out.vector(i, len(ids[i]), t.pooling)
		if !index.Normalize(v) {
			return nil, errors.New("the model returned a vector of zeros, or one that is not finite")
		}
		vectors[i] = v
	}
	return vectors, nil
}

// paddedLength returns the length to which n tokens are padded. There are few lengths,
// because the network is compiled once for each shape.
func (t *Transformer) paddedLength(n int) int {
	return max(n, min((n+15)/16*16, t.tokens.maxTokens))
}

// batchRows returns how many of n texts to run at once: a power of four, so that there
// are few shapes.
func batchRows(n, width int) int {
	r := 1
	for 4*r <= n && 4*r*width <= batchTokens {
		r *= 4
	}
	return r
}
