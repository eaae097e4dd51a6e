package transformer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/embed/transformer/transformertest"
)

var _ embed.Embedder = (*Transformer)(nil)

func smallEncoder(seed uint64) *transformertest.Encoder {
	return transformertest.New(seed, 2, 32, 4, 64, transformertest.Words())
}

func newTransformer(t *testing.T, dir string) *Transformer {
	t.Helper()
	m, err := New(Settings{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// samples are texts and their pieces, split by hand.
var samples = []struct{ text, pieces string }{
	{"Hello, wörld!", "hello , world !"},
	{"a", "a"},
	{"Refunds are paid within 14 days.", "refunds are paid within 1 ##4 days ."},
	{"The  HÉLLO\tof\u00a0the\nbooks \u0000and\u200bmore", "the hello of the books and ##m ##o ##r ##e"},
	{"playing helped newest; quickly?", "play ##ing help ##ed new ##est ; q ##u ##i ##c ##k ##ly ?"},
	{"(don't)—e-mail: x=y+z $5", "( do ##n ' t ) [UNK] e - mail : x = y + z $ 5"},
	{"東京は good", "東 [UNK] は good"},
	{"хорошо здравствуйте", "хо ##рошо [UNK]"},
	{"hello[SEP]world [mask] ok", "hello [SEP] world [UNK] m ##a ##s ##k [UNK] o ##k"},
	{strings.Repeat("x", 101) + " is long", "[UNK] is l ##o ##n ##g"},
	{strings.Repeat("the city ", 100), strings.Repeat("the city ", 19)},
	{"bad \xff byte", "b ##a ##d by ##t ##e"},
}

func ids(e *transformertest.Encoder, pieces string) []int {
	var all []int
	for _, p := range strings.Fields("[CLS] " + pieces + " [SEP]") {
		id := slices.Index(e.Vocabulary, p)
		if id < 0 {
			panic("no piece " + p)
		}
		all = append(all, id)
	}
	return all
}

// wantVector returns the vector that the model must return, computed by Encoder.Forward.
func wantVector(e *transformertest.Encoder, pooling string, ids []int) []float64 {
	states := e.Forward(ids)
	v := slices.Clone(states[0])
	for _, s := range states[1:] {
		for k := range v {
			switch pooling {
			case "mean_tokens":
				v[k] += s[k]
			case "max_tokens":
				v[k] = max(v[k], s[k])
			}
		}
	}
	var square float64
	for _, x := range v {
		square += x * x
	}
	for k := range v {
		v[k] /= math.Sqrt(square)
	}
	return v
}

// compare fails the test if two vectors differ by 1e-5 or more.
func compare(t *testing.T, name string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d dimensions, not %d", name, len(got), len(want))
	}
	for k := range got {
		if d := math.Abs(float64(got[k]) - want[k]); !(d < 1e-5) {
			t.Fatalf("%s: dimension %d is %g, not %g", name, k, got[k], want[k])
		}
	}
}

func TestEncode(t *testing.T) {
	e := smallEncoder(1)
	m := newTransformer(t, e.Write(t, nil))
	for _, s := range samples {
		if s.pieces != "" && !slices.Equal(m.tokens.encode(s.text).ids, ids(e, s.pieces)) {
			var got []string
			for _, id := range m.tokens.encode(s.text).ids {
				got = append(got, e.Vocabulary[id])
			}
			t.Errorf("%q: got %s, want %s", s.text, strings.Join(got, " "), s.pieces)
		}
	}
}

func TestEmbedEqualsForwardPass(t *testing.T) {
	for _, pooling := range []string{"mean_tokens", "cls_token", "max_tokens"} {
		t.Run(pooling, func(t *testing.T) {
			e := smallEncoder(1)
			m := newTransformer(t, e.Write(t, map[string]any{"1_Pooling/config.json": transformertest.Pooled(32, pooling)}))
			var texts []string
			for range 5 { // more than one batch, each with texts of all lengths
				for _, s := range samples {
					texts = append(texts, s.text)
				}
			}
			vectors, err := m.Embed(t.Context(), texts)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range vectors {
				compare(t, texts[i], v, wantVector(e, pooling, ids(e, samples[i%len(samples)].pieces)))
			}
			alone, err := m.Embed(t.Context(), texts[2:3])
			if err != nil {
				t.Fatal(err)
			}
			compare(t, "alone", alone[0], wantVector(e, pooling, ids(e, samples[2].pieces)))
			if m.Dimension() != 32 {
				t.Error(m.Dimension())
			}
		})
	}
}

// A text of which the vocabulary has no part is similar to itself only.
func TestUnknownTextsAreNotSimilar(t *testing.T) {
	m := newTransformer(t, smallEncoder(1).Write(t, nil))
	texts := []string{"", "здравствуйте", "京", "the", "здравствуйте"}
	vectors, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		for j, w := range vectors {
			var cosine float64
			for k := range v {
				cosine += float64(v[k]) * float64(w[k])
			}
			if same := texts[i] == texts[j]; len(v) != 32 || same != (cosine > 0.999) || !same && cosine > 0.8 {
				t.Errorf("%q and %q: %d dimensions, cosine %v", texts[i], texts[j], len(v), cosine)
			}
		}
	}
	if none, err := m.Embed(t.Context(), nil); err != nil || len(none) != 0 {
		t.Error(none, err)
	}
}

func TestMaxTokens(t *testing.T) {
	e := smallEncoder(1)
	for name, c := range map[string]struct {
		changes map[string]any
		tokens  int
	}{
		"sentence_bert_config.json":   {nil, 40},
		"tokenizer_config.json":       {map[string]any{"sentence_bert_config.json": nil, "tokenizer_config.json": map[string]any{"model_max_length": 30}}, 30},
		"positions":                   {map[string]any{"sentence_bert_config.json": nil, "tokenizer_config.json": map[string]any{"model_max_length": 1e30}}, 64},
		"positions below the setting": {map[string]any{"sentence_bert_config.json": map[string]any{"max_seq_length": 512}}, 64},
		"positions after the padding id": {map[string]any{
			"sentence_bert_config.json": nil, "config.json": map[string]any{"model_type": "mpnet", "max_position_embeddings": 64, "pad_token_id": 1},
		}, 62},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTransformer(t, e.Write(t, c.changes))
			long := m.tokens.encode(strings.Repeat("the ", 500))
			if len(long.ids) != c.tokens || long.ids[c.tokens-1] != 3 {
				t.Errorf("%d tokens, the last %d", len(long.ids), long.ids[len(long.ids)-1])
			}
		})
	}
}

func TestSupportedDirectories(t *testing.T) {
	e := smallEncoder(1)
	file, _ := e.ONNX(false)
	external, weights := e.ONNX(true)
	bert := map[string]any{"type": "BertProcessing", "cls": []any{"[CLS]", 2}, "sep": []any{"[SEP]", 3}}
	for name, changes := range map[string]map[string]any{
		"model.onnx":       {"onnx/model.onnx": nil, "model.onnx": file},
		"other name":       {"onnx/model.onnx": nil, "onnx/model_O2.onnx": file},
		"several files":    {"onnx/model_O2.onnx": []byte("other"), "onnx/model_qint8.onnx": []byte("other"), "model.safetensors": []byte("x")},
		"external weights": {"onnx/model.onnx": external, "onnx/model.onnx_data": weights},
		"no pooling":       {"1_Pooling/config.json": nil, "modules.json": nil},
		"pooling by name":  {"1_Pooling/config.json": map[string]any{"pooling_mode": "mean"}},
		"root of mean":     {"1_Pooling/config.json": transformertest.Pooled(32, "mean_sqrt_len_tokens")},
		"BertProcessing":   {"tokenizer.json": changedTokenizer(t, e, "post_processor", bert)},
		"module folders":   {"modules.json": []map[string]any{{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}}, "0_Transformer/config.json": map[string]any{"max_position_embeddings": 40}},
	} {
		t.Run(name, func(t *testing.T) {
			vectors, err := newTransformer(t, e.Write(t, changes)).Embed(t.Context(), []string{samples[0].text, samples[10].text})
			if err != nil {
				t.Fatal(err)
			}
			compare(t, name, vectors[0], wantVector(e, "mean_tokens", ids(e, samples[0].pieces)))
			compare(t, name, vectors[1], wantVector(e, "mean_tokens", ids(e, samples[10].pieces)))
		})
	}
}

// changedTokenizer returns a tokenizer.json with another value for a key.
func changedTokenizer(t *testing.T, e *transformertest.Encoder, key string, value any) map[string]any {
	t.Helper()
	var file map[string]any
	if _, err := readJSON(e.Write(t, nil), "tokenizer.json", &file); err != nil {
		t.Fatal(err)
	}
	file[key] = value
	return file
}

func TestNewRejectsUnsupportedModels(t *testing.T) {
	e := smallEncoder(1)
	other, _ := transformertest.New(1, 1, 16, 4, 64, transformertest.Words()).ONNX(false)
	external, weights := e.ONNX(true)
	for message, changes := range map[string]map[string]any{
		"model.onnx is missing, as is":      {"onnx/model.onnx": nil},
		"optimum-cli export onnx":           {"onnx/model.onnx": nil, "model.safetensors": []byte("x")},
		"pytorch_model.bin alone":           {"onnx/model.onnx": nil, "pytorch_model.bin": []byte("x")},
		"Name the one to use model.onnx":    {"onnx/model.onnx": nil, "onnx/a.onnx": []byte("x"), "onnx/b.onnx": []byte("x")},
		"a Git LFS pointer":                 {"onnx/model.onnx": []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")},
		"failed to parse ONNX":              {"onnx/model.onnx": []byte("not a model")},
		"tokenizer.json is missing":         {"tokenizer.json": nil},
		"config.json is missing":            {"config.json": nil},
		`of type "Unigram"`:                 {"tokenizer.json": changedTokenizer(t, e, "model", map[string]any{"type": "Unigram", "vocab": []any{[]any{"a", -1.5}}})},
		"its normalizer":                    {"tokenizer.json": changedTokenizer(t, e, "normalizer", map[string]any{"type": "NFC"})},
		"its pre_tokenizer":                 {"tokenizer.json": changedTokenizer(t, e, "pre_tokenizer", map[string]any{"type": "ByteLevel"})},
		"its post_processor":                {"tokenizer.json": changedTokenizer(t, e, "post_processor", map[string]any{"type": "Sequence"})},
		"for unknown words":                 {"tokenizer.json": changedTokenizer(t, e, "model", map[string]any{"type": "WordPiece", "unk_token": "<unk>", "vocab": map[string]any{"a": 1}})},
		"pooling to weightedmean":           {"1_Pooling/config.json": map[string]any{"pooling_mode_weightedmean_tokens": true}},
		"pooling to cls and mean":           {"1_Pooling/config.json": map[string]any{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}},
		`a step "Dense"`:                    {"modules.json": []map[string]any{{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}}},
		"outside the directory":             {"modules.json": []map[string]any{{"path": "../x", "type": "sentence_transformers.models.Pooling"}}},
		"belong to different models":        {"onnx/model.onnx": other},
		"1_Pooling/config.json: unexpected": {"1_Pooling/config.json": []byte("{")},
		"weights are in another file":       {"onnx/model.onnx": external},
		"the file is truncated":             {"onnx/model.onnx": external, "onnx/model.onnx_data": weights[:1000]},
		"leaves no space":                   {"sentence_bert_config.json": map[string]any{"max_seq_length": 2}},
	} {
		dir := e.Write(t, changes)
		_, err := New(Settings{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), dir) {
			t.Errorf("want %q, got %v", message, err)
		}
	}
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none"), filepath.Join(e.Write(t, nil), "config.json")} {
		if _, err := New(Settings{Dir: dir}); err == nil {
			t.Errorf("%q is accepted", dir)
		}
	}
}

func TestNewRejectsUnknownOperators(t *testing.T) {
	e := smallEncoder(1)
	file, _ := e.ONNX(false)
	file = []byte(strings.ReplaceAll(string(file), "Softmax", "Sofdmax"))
	_, err := New(Settings{Dir: e.Write(t, map[string]any{"onnx/model.onnx": file})})
	if err == nil || !strings.Contains(err.Error(), "Sofdmax") || !strings.Contains(err.Error(), "cannot be run") {
		t.Error(err)
	}
}

func TestNameDependsOnEverythingThatAffectsVectors(t *testing.T) {
	e := smallEncoder(1)
	name := newTransformer(t, e.Write(t, nil)).Name()
	if !strings.HasPrefix(name, "transformer/tiny-bert/32/") || newTransformer(t, e.Write(t, nil)).Name() != name {
		t.Error(name)
	}
	external, weights := e.ONNX(true)
	weights2 := slices.Clone(weights)
	weights2[0]++
	names := map[string]string{name: "the same files"}
	for change, dir := range map[string]string{
		"weights":                smallEncoder(2).Write(t, nil),
		"tokenizer":              e.Write(t, map[string]any{"tokenizer.json": changedTokenizer(t, e, "version", "2.0")}),
		"pooling":                e.Write(t, map[string]any{"1_Pooling/config.json": transformertest.Pooled(32, "cls_token")}),
		"max tokens":             e.Write(t, map[string]any{"sentence_bert_config.json": nil}),
		"external weights":       e.Write(t, map[string]any{"onnx/model.onnx": external, "onnx/model.onnx_data": weights}),
		"other external weights": e.Write(t, map[string]any{"onnx/model.onnx": external, "onnx/model.onnx_data": weights2}),
	} {
		n := newTransformer(t, dir).Name()
		if names[n] != "" {
			t.Errorf("%s: the name is the same as with %s", change, names[n])
		}
		names[n] = change
	}
}

func TestEmbedStopsWhenContextEnds(t *testing.T) {
	m := newTransformer(t, smallEncoder(1).Write(t, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Embed(ctx, []string{"the city"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	m.running <- struct{}{} // as if another batch were running
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := m.Embed(ctx, []string{"the city"})
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestConcurrentEmbed(t *testing.T) {
	e := smallEncoder(1)
	m := newTransformer(t, e.Write(t, nil))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 4 {
				s := samples[(i+j)%len(samples)]
				vectors, err := m.Embed(t.Context(), []string{s.text, "the city"})
				if err != nil {
					t.Error(err)
					return
				}
				for k, x := range wantVector(e, "mean_tokens", ids(e, s.pieces)) {
					if math.Abs(float64(vectors[0][k])-x) > 1e-5 {
						t.Errorf("%q: dimension %d is %g, not %g", s.text, k, vectors[0][k], x)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestFewShapes(t *testing.T) {
	m := &Transformer{tokens: &tokenizer{maxTokens: 512}}
	seen := map[string]bool{}
	for n := 1; n <= 512; n++ {
		w := m.paddedLength(n)
		if w < n || w > 512 || w >= n+16 {
			t.Errorf("%d tokens are padded to %d", n, w)
		}
		for waiting := range 200 {
			r := batchRows(waiting+1, w)
			if r > waiting+1 || r > 1 && r*w > batchTokens {
				t.Errorf("%d rows of %d", r, w)
			}
			seen[fmt.Sprint(r, w)] = true
		}
	}
	if len(seen) > 80 {
		t.Errorf("%d shapes", len(seen))
	}
}

// BenchmarkMiniLM runs a model of the size of all-MiniLM-L6-v2 on texts of about
// 100 tokens.
func BenchmarkMiniLM(b *testing.B) {
	vocabulary := transformertest.Words()
	for i := len(vocabulary); i < 30522; i++ {
		vocabulary = append(vocabulary, fmt.Sprintf("[unused%d]", i))
	}
	e := transformertest.New(1, 6, 384, 12, 512, vocabulary)
	m, err := New(Settings{Dir: e.Write(b, map[string]any{"sentence_bert_config.json": map[string]any{"max_seq_length": 256}})})
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 1))
	texts := make([]string, 32)
	for i := range texts {
		for range 80 + random.IntN(40) {
			texts[i] += transformertest.Words()[100+random.IntN(200)] + " "
		}
	}
	for _, n := range []int{1, len(texts)} {
		b.Run(fmt.Sprintf("%d texts", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := m.Embed(b.Context(), texts[:n]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "texts/s")
		})
	}
}
