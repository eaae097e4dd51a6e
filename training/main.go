// Command training trains the built-in embedding model of agento with the texts of
// Debian packages. `make model` runs it; docs/knowledge.md describes the result.
// It is a separate module, so that it is not compiled when agento is built.
//
//	cd training && go run . -texts ../.cache/texts -out ../internal/knowledge/embed/builtin.model
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// repeats is how often the pairs of each source occur in one epoch. The order of the
// names affects the random numbers: another name gives another model.
var repeats = map[string]float64{
	"wordnet": 2, "gcide": 0.5, "foldoc": 1, "jargon": 1, "senses": 2.5, "german": 1.3, "packages": 0.8, "headings": 2, "neighbours": 0.7,
	"relations": 0.8, "terms": 1, "pictograms": 3, "commonsense": 2, "described": 1, "translated": 0.7,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s := settings{Dimension: 256}
	texts := flag.String("texts", "../.cache/texts", "folder for the packages")
	out := flag.String("out", "../internal/knowledge/embed/builtin.model", "the model file to write")
	manualsOut := flag.String("manuals", "", "only write the evaluation set of the held-out manuals to this file")
	flag.IntVar(&s.Batch, "batch", 2048, "pairs per batch")
	flag.Float64Var(&s.Dropout, "dropout", 0.15, "share of a text's words that are ignored each time")
	flag.Float64Var(&s.Epochs, "epochs", 1.2, "passes over the pairs")
	flag.Float64Var(&s.Rate, "rate", 0.12, "learning rate")
	flag.Float64Var(&s.Temperature, "temperature", 0.08, "temperature of the softmax")
	flag.Uint64Var(&s.Seed, "seed", 1, "seed of all random numbers")
	flag.Parse()
	folder, err := filepath.Abs(*texts) // apt runs in another directory
	if err != nil {
		return err
	}
	*texts = folder
	if err := fetch(ctx, *texts, slices.Concat(dictionaries, catalogues, manuals, heldOut)); err != nil {
		return err
	}
	if *manualsOut != "" {
		return writeManuals(*texts, *manualsOut)
	}
	start := time.Now()
	pairs, err := makePairs(*texts, s.Seed)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		fmt.Printf("%-12s %7d pairs\n", name, len(pairs[name]))
	}
	model, err := trainModel(ctx, s, pairs, start)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, model, 0o644)
}

// trainModel trains a model with the pairs and returns its file.
func trainModel(ctx context.Context, s settings, pairs map[string][]pair, start time.Time) ([]byte, error) {
	words, pieces, counts := buildVocabulary(pairs)
	vocabulary := newTrainingVocabulary(words, pieces, pairs, counts)
	fmt.Printf("%d words, %d pieces, %d buckets\n", len(words), len(pieces), bucketRows)
	learned, heldBack := makeExamples(s, vocabulary, pairs)
	fmt.Printf("%d examples, %d held back, after %s\n", len(learned), len(heldBack), time.Since(start).Round(time.Second))

	t := newTrainer(s, initialLengths(vocabulary.size(), words, counts, len(learned)))
	if err := t.train(ctx, learned, heldBack); err != nil {
		return nil, err
	}
	n := min(len(learned), 20000)
	sample, _ := t.embed(n, func(i int) []embed.Weighted { return learned[i].b })
	rotate(t.rows, sample, s.Dimension)
	name := fmt.Sprintf("agento-static-%d-v2", s.Dimension)
	rows := t.rows[:vocabulary.ownRows*s.Dimension]
	return encodeModel(embed.Header{Name: name, Dimension: s.Dimension, Recipe: s}, words, pieces, bucketRows, rows)
}

// initialLengths returns the initial length of each row: rare words get longer rows.
func initialLengths(size int, words []string, counts map[string]int, texts int) []float64 {
	lengths := slices.Repeat([]float64{0.6}, size)
	for i, w := range words {
		p := float64(counts[w]) / float64(texts)
		lengths[i] = 1e-2 / (1e-2 + p)
	}
	return lengths
}

// makeExamples converts pairs to examples and shuffles them. One in 400, but at most
// 2,048, is held back, to measure the model with examples that it did not learn.
func makeExamples(s settings, v *trainingVocabulary, pairs map[string][]pair) (learned, heldBack []example) {
	rng := rand.New(rand.NewPCG(s.Seed, 3))
	var all []example
	for group, name := range slices.Sorted(maps.Keys(pairs)) {
		for _, p := range pairs[name] {
			source, _, _ := strings.Cut(name, "/")
			for copies := repeats[source]; copies > 0; copies-- {
				if copies < 1 && rng.Float64() >= copies {
					break
				}
				e := example{group: group, a: v.rowsOf(rng, maybeQuestion(rng, p.a)), b: v.rowsOf(rng, p.b)}
				if len(e.a) == 0 || len(e.b) == 0 {
					break
				}
				e.hashA, e.hashB = hashRows(e.a), hashRows(e.b)
				if e.hashA != e.hashB {
					all = append(all, e)
				}
			}
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	n := min(2048, len(all)/400)
	return all[n:], all[:n]
}

func hashRows(rows []embed.Weighted) uint64 {
	h := fnv.New64a()
	for _, w := range rows {
		_, _ = h.Write([]byte{byte(w.Row), byte(w.Row >> 8), byte(w.Row >> 16)})
	}
	return h.Sum64()
}

// train learns the examples, Epochs times.
func (t *trainer) train(ctx context.Context, learned, heldBack []example) error {
	rng := rand.New(rand.NewPCG(t.Seed, 4))
	steps := int(t.Epochs * float64(len(learned)) / float64(t.Batch))
	order := shuffleBlocks(rng, learned)
	start, next, loss := time.Now(), 0, 0.0
	batch := make([]example, t.Batch)
	for step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range batch {
			if next == len(order) {
				next = 0
				order = shuffleBlocks(rng, learned)
			}
			batch[i] = learned[order[next]]
			batch[i].a, batch[i].b = t.dropout(rng, batch[i].a), t.dropout(rng, batch[i].b)
			next++
		}
		done := float64(step) / float64(steps)
		loss += t.step(batch, t.Rate*max(0.05, 1-done))
		if (step+1)%200 == 0 || step+1 == steps {
			fmt.Printf("step %d of %d: loss %.3f, accuracy on %d examples held back %.3f, %s\n",
				step+1, steps, loss/float64(step%200+1), len(heldBack), t.accuracy(heldBack), time.Since(start).Round(time.Second))
			loss = 0
		}
	}
	return nil
}

// dropout removes some rows of a longer text, so that no word depends on another.
func (t *trainer) dropout(rng *rand.Rand, rows []embed.Weighted) []embed.Weighted {
	if len(rows) < 4 || t.Dropout == 0 {
		return rows
	}
	kept := make([]embed.Weighted, 0, len(rows))
	for _, w := range rows {
		if rng.Float64() >= t.Dropout {
			kept = append(kept, w)
		}
	}
	if len(kept) == 0 {
		return rows
	}
	return kept
}

// blockPairs is the number of consecutive pairs from one source. A batch then has
// texts about the same subject, which are hard to distinguish.
const blockPairs = 32

// shuffleBlocks returns the indexes of the examples in a random order, in blocks of one
// group.
func shuffleBlocks(rng *rand.Rand, learned []example) []int {
	order := rng.Perm(len(learned))
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(learned[x].group, learned[y].group) })
	blocks := slices.Collect(slices.Chunk(order, blockPairs))
	rng.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	return slices.Concat(blocks...)
}

// accuracy returns the share of examples whose b is the nearest of all b.
func (t *trainer) accuracy(examples []example) float64 {
	a, _ := t.embed(len(examples), func(i int) []embed.Weighted { return examples[i].a })
	b, _ := t.embed(len(examples), func(i int) []embed.Weighted { return examples[i].b })
	d := t.Dimension
	right := make([]int, len(examples))
	parallel(len(examples), func(i int) {
		truePair := index.Dot(a[i*d:(i+1)*d], b[i*d:(i+1)*d])
		for j := range examples {
			if index.Dot(a[i*d:(i+1)*d], b[j*d:(j+1)*d]) > truePair && examples[j].hashB != examples[i].hashB {
				return
			}
		}
		right[i] = 1
	})
	sum := 0
	for _, r := range right {
		sum += r
	}
	return float64(sum) / float64(cmp.Or(len(examples), 1))
}
