// Package transformer embeds with a sentence transformer that the operator has on
// disk: a directory of Hugging Face with an ONNX model, run on the CPU.
package transformer

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// batchTokens bounds what one run of the model takes in, padding included (a longer
// text runs alone): memory, and how long a search waits for an ingest. More at once
// is no faster.
const batchTokens = 512

// Settings say where the model lies.
type Settings struct {
	// Dir has the model as it is published: model.onnx or onnx/model.onnx,
	// tokenizer.json, config.json, and, if the model has them, modules.json,
	// 1_Pooling/config.json and sentence_bert_config.json.
	Dir string
}

// Transformer is a sentence transformer in memory. It is safe for concurrent use;
// it runs one batch at a time, on all cores.
type Transformer struct {
	name      string
	dimension int
	tokens    *tokenizer
	pooling   pooling
	network   *network
	turn      chan struct{} // held while the network runs
}

// New reads the model and embeds one text with it, so that whatever it cannot do
// shows at once. The directory may go afterwards.
func New(s Settings) (*Transformer, error) {
	if s.Dir == "" {
		return nil, errors.New("the transformer embedder needs the directory of a model: give it with --embedder-dir")
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	p, err := readPlan(dir)
	if err != nil {
		return nil, fmt.Errorf("the model in %s: %w", dir, err)
	}
	t, err := load(p)
	if err != nil {
		return nil, fmt.Errorf("the model in %s: %w", dir, err)
	}
	t.name = fmt.Sprintf("transformer/%s/%d/%s", filepath.Base(dir), t.dimension, hex.EncodeToString(p.sum.Sum(nil)[:6]))
	return t, nil
}

func load(p plan) (*Transformer, error) {
	tokens, err := readTokenizer(p.tokenizer)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	tokens.lowercase = tokens.lowercase || p.lowercase
	if err := tokens.limit(p.longest); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	net, err := newNetwork(p.onnx, p.onnxDir, p.padID, p.sum)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.onnxName, err)
	}
	t := &Transformer{tokens: tokens, pooling: p.pooling, network: net, turn: make(chan struct{}, 1)}
	probe, err := t.run([][]int{tokens.encode("a text to begin with").ids})
	if err != nil {
		return nil, fmt.Errorf("%s cannot be run: %w", p.onnxName, err)
	}
	t.dimension = len(probe[0])
	if p.dimension > 0 && p.dimension != t.dimension {
		return nil, fmt.Errorf("%s gives vectors of %d numbers, and the pooling config says %d: the files belong to different models", p.onnxName, t.dimension, p.dimension)
	}
	return t, nil
}

// Name implements embed.Embedder: the directory's name, the dimension and a hash
// of all that decides a vector.
func (t *Transformer) Name() string { return t.name }

// Dimension implements embed.Embedder.
func (t *Transformer) Dimension() int { return t.dimension }

// Embed implements embed.Embedder. The model would give all texts of which the
// vocabulary has nothing the same vector; they get one that nothing but the same text has.
func (t *Transformer) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	all := make([][]float32, len(texts))
	seen := make([]encoded, 0, len(texts))
	for i, text := range texts {
		e := t.tokens.encode(text)
		if e.at = i; e.known {
			seen = append(seen, e)
			continue
		}
		all[i] = strange(text, t.dimension)
	}
	// Texts of like length share a batch, so that little of it is padding.
	slices.SortStableFunc(seen, func(a, b encoded) int { return cmp.Compare(len(b.ids), len(a.ids)) })
	for len(seen) > 0 {
		n := rows(len(seen), t.width(len(seen[0].ids)))
		if err := t.embed(ctx, seen[:n], all); err != nil {
			return nil, err
		}
		seen = seen[n:]
	}
	return all, nil
}

// strange is a direction drawn by the text: close to that of no other text.
func strange(text string, dimension int) []float32 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(dimension))) //nolint:gosec // a direction, no secret
	v := make([]float32, dimension)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	unit(v)
	return v
}

// embed puts the vectors of a batch in their places.
func (t *Transformer) embed(ctx context.Context, batch []encoded, all [][]float32) error {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
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
		all[e.at] = vectors[i]
	}
	return nil
}

// run gives a vector of length 1 for each row, the first of which is the longest.
func (t *Transformer) run(ids [][]int) ([][]float32, error) {
	out, err := t.network.run(ids, t.width(len(ids[0])))
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(ids))
	for i := range ids {
		v := out.row(i, len(ids[i]), t.pooling)
		if !unit(v) {
			return nil, errors.New("the model gave a vector without a direction")
		}
		vectors[i] = v
	}
	return vectors, nil
}

// width is the padded length for n tokens: few lengths, as the network is compiled
// for each shape that comes.
func (t *Transformer) width(n int) int {
	return max(n, min((n+15)/16*16, t.tokens.longest))
}

// rows is how many of n texts to take at once: a power of four, for few shapes.
func rows(n, width int) int {
	r := 1
	for 4*r <= n && 4*r*width <= batchTokens {
		r *= 4
	}
	return r
}
