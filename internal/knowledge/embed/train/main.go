// Command train makes the built-in embedding model from the texts of Debian
// packages. `make model` runs it; docs/knowledge.md says what came out.
//
//	go run ./internal/knowledge/embed/train -texts .cache/texts -out internal/knowledge/embed/builtin.model
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

// repeats says how often each source is seen in one epoch.
var repeats = map[string]float64{
	"wordnet": 2, "gcide": 0.5, "foldoc": 1, "jargon": 1, "senses": 2.5, "german": 1.3, "packages": 0.8, "headings": 2, "neighbours": 0.7,
	"relations": 0.8, "terms": 1, "pictograms": 3, "commonsense": 2, "described": 1, "translated": 0.7,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	s := settings{Dimension: 256}
	texts := flag.String("texts", ".cache/texts", "folder for the packages")
	out := flag.String("out", "internal/knowledge/embed/builtin.model", "the model file to write")
	manualsOut := flag.String("manuals", "", "write the evaluation set of unseen manuals to this file, and do nothing else")
	flag.IntVar(&s.Batch, "batch", 2048, "pairs a batch")
	flag.Float64Var(&s.Dropout, "dropout", 0.15, "share of a text's words that are left out each time")
	flag.Float64Var(&s.Epochs, "epochs", 1.2, "times that every pair is seen")
	flag.Float64Var(&s.Rate, "rate", 0.12, "learning rate")
	flag.Float64Var(&s.Temperature, "temperature", 0.08, "of the softmax")
	flag.Uint64Var(&s.Seed, "seed", 1, "of all chance")
	flag.Parse()
	folder, err := filepath.Abs(*texts) // apt runs elsewhere
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
	model, err := train(ctx, s, pairs, start)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, model, 0o644)
}

// train learns a model from the pairs and returns its file.
func train(ctx context.Context, s settings, pairs map[string][]pair, start time.Time) ([]byte, error) {
	words, pieces, counts := buildVocabulary(pairs)
	vocabulary := newLearning(embed.NewVocabulary(words, pieces, bucketRows), pairs, counts)
	fmt.Printf("%d words, %d pieces, %d buckets\n", len(words), len(pieces), bucketRows)
	learned, kept := examples(s, vocabulary, pairs)
	fmt.Printf("%d examples, %d kept aside, after %s\n", len(learned), len(kept), time.Since(start).Round(time.Second))

	t := newTrainer(s, firstWeights(vocabulary.size(), words, counts, len(learned)))
	if err := t.learnAll(ctx, learned, kept); err != nil {
		return nil, err
	}
	n := min(len(learned), 20000)
	sample, _ := t.embed(n, func(i int) []embed.Weighted { return learned[i].b })
	rotate(t.rows, sample, s.Dimension)
	name := fmt.Sprintf("agento-static-%d-v2", s.Dimension)
	rows := t.rows[:vocabulary.Size()*s.Dimension]
	return embed.WriteModel(embed.Header{Name: name, Dimension: s.Dimension, Recipe: s}, words, pieces, bucketRows, rows)
}

// firstWeights gives each row a length by how rare it is.
func firstWeights(size int, words []string, counts map[string]int, texts int) []float64 {
	weights := slices.Repeat([]float64{0.6}, size)
	for i, w := range words {
		p := float64(counts[w]) / float64(texts)
		weights[i] = 1e-2 / (1e-2 + p)
	}
	return weights
}

// examples turns pairs into rows, shuffled; every 400th is kept aside to see how
// the model does on what it did not learn.
func examples(s settings, v *learning, pairs map[string][]pair) (learned, kept []example) {
	rng := rand.New(rand.NewPCG(s.Seed, 3))
	var all []example
	for group, name := range slices.Sorted(maps.Keys(pairs)) {
		for _, p := range pairs[name] {
			source, _, _ := strings.Cut(name, "/")
			for copies := repeats[source]; copies > 0; copies-- {
				if copies < 1 && rng.Float64() >= copies {
					break
				}
				e := example{group: group, a: v.rowsOf(rng, ask(rng, p.a)), b: v.rowsOf(rng, p.b)}
				if len(e.a) == 0 || len(e.b) == 0 {
					break
				}
				e.sumA, e.sumB = sumOf(e.a), sumOf(e.b)
				if e.sumA != e.sumB {
					all = append(all, e)
				}
			}
		}
	}
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	aside := min(2048, len(all)/400)
	return all[aside:], all[:aside]
}

func sumOf(rows []embed.Weighted) uint64 {
	h := fnv.New64a()
	for _, w := range rows {
		_, _ = h.Write([]byte{byte(w.Row), byte(w.Row >> 8), byte(w.Row >> 16)})
	}
	return h.Sum64()
}

func (t *trainer) learnAll(ctx context.Context, learned, kept []example) error {
	rng := rand.New(rand.NewPCG(t.Seed, 4))
	steps := int(t.Epochs * float64(len(learned)) / float64(t.Batch))
	order := blocks(rng, learned)
	start, at, loss := time.Now(), 0, 0.0
	batch := make([]example, t.Batch)
	for step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range batch {
			if at == len(order) {
				at = 0
				order = blocks(rng, learned)
			}
			batch[i] = learned[order[at]]
			batch[i].a, batch[i].b = t.thin(rng, batch[i].a), t.thin(rng, batch[i].b)
			at++
		}
		done := float64(step) / float64(steps)
		loss += t.step(batch, t.Rate*max(0.05, 1-done))
		if (step+1)%200 == 0 || step+1 == steps {
			fmt.Printf("step %d of %d: loss %.3f, first right of %d kept aside %.3f, %s\n",
				step+1, steps, loss/float64(step%200+1), len(kept), t.firstRight(kept), time.Since(start).Round(time.Second))
			loss = 0
		}
	}
	return nil
}

// thin leaves some rows of a longer text out, so that no word relies on another.
func (t *trainer) thin(rng *rand.Rand, rows []embed.Weighted) []embed.Weighted {
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

// blockPairs is how many pairs of one source stand together: a batch then holds
// texts about the same things, which are the hard ones to tell apart.
const blockPairs = 32

// blocks returns the examples in a new order, shuffled within their groups and
// then by blocks.
func blocks(rng *rand.Rand, learned []example) []int {
	order := rng.Perm(len(learned))
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(learned[x].group, learned[y].group) })
	cut := slices.Collect(slices.Chunk(order, blockPairs))
	rng.Shuffle(len(cut), func(i, j int) { cut[i], cut[j] = cut[j], cut[i] })
	return slices.Concat(cut...)
}

// firstRight is how often the true b is the nearest of all b.
func (t *trainer) firstRight(kept []example) float64 {
	a, _ := t.embed(len(kept), func(i int) []embed.Weighted { return kept[i].a })
	b, _ := t.embed(len(kept), func(i int) []embed.Weighted { return kept[i].b })
	d := t.Dimension
	right := make([]int, len(kept))
	parallel(len(kept), func(i int) {
		own := index.Dot(a[i*d:(i+1)*d], b[i*d:(i+1)*d])
		for j := range kept {
			if index.Dot(a[i*d:(i+1)*d], b[j*d:(j+1)*d]) > own && kept[j].sumB != kept[i].sumB {
				return
			}
		}
		right[i] = 1
	})
	sum := 0
	for _, r := range right {
		sum += r
	}
	return float64(sum) / float64(cmp.Or(len(kept), 1))
}
