// Package eval measures an embedder on texts that no training run has seen, next
// to BM25, which knows words only.
package eval

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	embedder "agento.host/agento/internal/knowledge/embed"
)

//go:embed *.jsonl
var files embed.FS

// Question asks for one of the texts of a Set.
type Question struct {
	Text   string
	Answer int // the index of the text
}

// Set is a collection of texts, and questions about them.
type Set struct {
	Name      string
	Texts     []string
	Questions []Question
}

// Support is a help desk's knowledge, written by hand, with two sets of questions:
// as people ask, and so that they avoid the words of their answers.
func Support() (plain, paraphrased Set, err error) {
	plain, paraphrased = Set{Name: "plain questions"}, Set{Name: "paraphrased questions"}
	err = each("support.jsonl", func(line struct {
		Text, Plain string
		Questions   []string
	}) {
		for _, q := range line.Questions {
			paraphrased.Questions = append(paraphrased.Questions, Question{q, len(paraphrased.Texts)})
		}
		plain.Questions = append(plain.Questions, Question{line.Plain, len(plain.Texts)})
		plain.Texts = append(plain.Texts, line.Text)
		paraphrased.Texts = plain.Texts
	})
	return plain, paraphrased, err
}

// HeldOut is what twelve companies and offices tell their customers, with questions
// in the customers' own words. It was written by somebody who knew neither the model nor
// the other sets, and no choice in the training was made by it.
func HeldOut() (Set, error) {
	s := Set{Name: "held out"}
	err := each("heldout.jsonl", func(line struct {
		Text      string
		Questions []string
	}) {
		for _, q := range line.Questions {
			s.Questions = append(s.Questions, Question{q, len(s.Texts)})
		}
		s.Texts = append(s.Texts, line.Text)
	})
	return s, err
}

// Manuals is sections of manuals on which the built-in model was not trained,
// asked for by their headings, one set for each manual.
func Manuals() ([]Set, error) {
	var all []Set
	err := each("manuals.jsonl", func(line struct{ Manual, Query, Text string }) {
		i := slices.IndexFunc(all, func(s Set) bool { return s.Name == line.Manual })
		if i < 0 {
			i = len(all)
			all = append(all, Set{Name: line.Manual})
		}
		all[i].Questions = append(all[i].Questions, Question{line.Query, len(all[i].Texts)})
		all[i].Texts = append(all[i].Texts, line.Text)
	})
	return all, err
}

// Couple is two texts and how they differ: format, fact, paraphrase, unrelated.
type Couple struct{ Kind, A, B string }

// Couples are the texts that a deduplication must and must not merge.
func Couples() ([]Couple, error) {
	var all []Couple
	err := each("duplicates.jsonl", func(c Couple) { all = append(all, c) })
	return all, err
}

func each[T any](name string, f func(T)) error {
	data, err := files.ReadFile(name)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(data) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		f(v)
	}
	return nil
}

// Score is nDCG@10, from 0 to 1, of each way to search.
type Score struct{ BM25, Vector, Fused float64 }

// Measure asks every question of a set.
func Measure(ctx context.Context, e embedder.Embedder, s Set) (Score, error) {
	texts, err := e.Embed(ctx, s.Texts)
	if err != nil {
		return Score{}, err
	}
	var score Score
	words := newBM25(s.Texts)
	for _, q := range s.Questions {
		v, err := e.Embed(ctx, []string{q.Text})
		if err != nil {
			return Score{}, err
		}
		byVector := ranking(len(texts), func(i int) float64 { return dot(v[0], texts[i]) })
		scores, shares := words.scores(q.Text)
		byWord := ranking(len(texts), func(i int) float64 { return scores[i] })
		score.Vector += gain(byVector, q.Answer)
		score.BM25 += gain(byWord, q.Answer)
		score.Fused += gain(fuse(byVector, byWord, shares), q.Answer)
	}
	n := float64(len(s.Questions))
	return Score{score.BM25 / n, score.Vector / n, score.Fused / n}, nil
}

// ranking returns the texts with a score above 0, best first.
func ranking(n int, score func(int) float64) []int {
	all := make([]int, 0, n)
	scores := make([]float64, n)
	for i := range n {
		if scores[i] = score(i); scores[i] > 0 {
			all = append(all, i)
		}
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return all
}

// fuse joins the first 50 of each ranking by reciprocal rank, as the search of package
// knowledge does it: shares are of the question's words that each text has.
func fuse(byVector, byWord []int, shares []float64) []int {
	scores := make([]float64, len(shares))
	for rank, i := range byVector[:min(50, len(byVector))] {
		scores[i] += 1 / float64(10+rank+1)
	}
	for rank, i := range byWord[:min(50, len(byWord))] {
		scores[i] += 1.5 * shares[i] / float64(10+rank+1)
	}
	return ranking(len(scores), func(i int) float64 { return scores[i] })
}

// gain is nDCG@10 for one right answer.
func gain(ranking []int, answer int) float64 {
	rank := slices.Index(ranking, answer)
	if rank < 0 || rank >= 10 {
		return 0
	}
	return 1 / math.Log2(float64(rank)+2)
}

func dot(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// bm25 ranks by shared words (k1 = 1.2, b = 0.75), the plural's s removed.
type bm25 struct {
	postings map[string]map[int]float64
	lengths  []float64
	mean     float64
}

func newBM25(texts []string) *bm25 {
	b := &bm25{postings: make(map[string]map[int]float64), lengths: make([]float64, len(texts))}
	for i, text := range texts {
		embedder.EachWord(text, func(_, word string) {
			word = stem(word)
			if b.postings[word] == nil {
				b.postings[word] = make(map[int]float64)
			}
			b.postings[word][i]++
			b.lengths[i]++
		})
		b.mean += b.lengths[i] / float64(len(texts))
	}
	return b
}

// scores returns each text's BM25 score, and its share of the query's telling words.
func (b *bm25) scores(query string) (scores, shares []float64) {
	scores, shares = make([]float64, len(b.lengths)), make([]float64, len(b.lengths))
	n := float64(len(b.lengths))
	seen := make(map[string]bool)
	embedder.EachWord(query, func(_, word string) {
		if embedder.Stopword(word) || seen[word] {
			return
		}
		seen[word] = true
		texts := b.postings[stem(word)]
		idf := math.Log(1 + (n-float64(len(texts))+0.5)/(float64(len(texts))+0.5))
		for i, tf := range texts {
			scores[i] += idf * tf * 2.2 / (tf + 1.2*(0.25+0.75*b.lengths[i]/b.mean))
			shares[i]++
		}
	})
	for i := range shares {
		shares[i] /= float64(max(1, len(seen)))
	}
	return scores, shares
}

func stem(word string) string {
	if n := len(word); n > 3 && word[n-1] == 's' && word[n-2] != 's' {
		return word[:n-1]
	}
	return word
}

// Cosine is the cosine of each couple's embeddings.
func Cosine(ctx context.Context, e embedder.Embedder, c Couple) (float64, error) {
	v, err := e.Embed(ctx, []string{c.A, c.B})
	if err != nil {
		return 0, err
	}
	return dot(v[0], v[1]), nil
}
