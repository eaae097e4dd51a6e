// Package transformertest makes sentence transformers with random weights, and says
// what they must give.
package transformertest

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Encoder is a BERT with random weights. It writes itself as the ONNX file that an
// exporter makes of one, and computes its output in plain Go, in 64 bits and
// without padding.
type Encoder struct {
	layers, hidden, heads, inner, positions int
	Vocabulary                              []string
	weights                                 map[string][]float32
	dims                                    map[string][]int
	order                                   []string
}

// New makes one of the same weights for the same seed.
func New(seed uint64, layers, hidden, heads, positions int, vocabulary []string) *Encoder {
	e := &Encoder{
		layers: layers, hidden: hidden, heads: heads, inner: 4 * hidden, positions: positions, Vocabulary: vocabulary,
		weights: map[string][]float32{}, dims: map[string][]int{},
	}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // no secret
	add := func(name string, mean, spread float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		w := make([]float32, n)
		for i := range w {
			w[i] = float32(mean + spread*random.NormFloat64())
		}
		e.weights[name], e.dims[name] = w, dims
		e.order = append(e.order, name)
	}
	normal := func(name string) {
		add(name+".weight", 1, 0.1, hidden)
		add(name+".bias", 0, 0.1, hidden)
	}
	linear := func(name string, in, out int) {
		add(name+".weight", 0, 1.5/math.Sqrt(float64(in)), in, out)
		add(name+".bias", 0, 0.1, out)
	}
	add("word", 0, 1, len(vocabulary), hidden)
	add("position", 0, 0.5, positions, hidden)
	add("type", 0, 0.5, 2, hidden)
	normal("norm")
	for l := range layers {
		at := strconv.Itoa(l) + "."
		for _, name := range []string{"query", "key", "value", "attended"} {
			linear(at+name, hidden, hidden)
		}
		normal(at + "norm1")
		linear(at+"up", hidden, e.inner)
		linear(at+"down", e.inner, hidden)
		normal(at + "norm2")
	}
	linear("pooler", hidden, hidden)
	return e
}

// Forward gives the last hidden state, a vector for each token.
func (e *Encoder) Forward(ids []int) [][]float64 {
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = make([]float64, e.hidden)
		for k := range x[i] {
			x[i][k] = float64(e.weights["word"][id*e.hidden+k]) + float64(e.weights["position"][i*e.hidden+k]) + float64(e.weights["type"][k])
		}
	}
	x = e.normal("norm", x)
	for l := range e.layers {
		at := strconv.Itoa(l) + "."
		x = e.normal(at+"norm1", plus(x, e.linear(at+"attended", e.attend(at, x))))
		inner := e.linear(at+"up", x)
		for _, row := range inner {
			for k, v := range row {
				row[k] = v * 0.5 * (1 + math.Erf(v/math.Sqrt2))
			}
		}
		x = e.normal(at+"norm2", plus(x, e.linear(at+"down", inner)))
	}
	return x
}

func (e *Encoder) attend(at string, x [][]float64) [][]float64 {
	q, k, v := e.linear(at+"query", x), e.linear(at+"key", x), e.linear(at+"value", x)
	out := make([][]float64, len(x))
	size := e.hidden / e.heads
	for i := range x {
		out[i] = make([]float64, e.hidden)
		for from := 0; from < e.hidden; from += size {
			weights, sum := make([]float64, len(x)), 0.0
			for j := range x {
				var dot float64
				for c := from; c < from+size; c++ {
					dot += q[i][c] * k[j][c]
				}
				weights[j] = math.Exp(dot / math.Sqrt(float64(size)))
				sum += weights[j]
			}
			for j := range x {
				for c := from; c < from+size; c++ {
					out[i][c] += weights[j] / sum * v[j][c]
				}
			}
		}
	}
	return out
}

func (e *Encoder) linear(name string, x [][]float64) [][]float64 {
	w, b := e.weights[name+".weight"], e.weights[name+".bias"]
	out := make([][]float64, len(x))
	for i, row := range x {
		out[i] = make([]float64, len(b))
		for o := range b {
			sum := float64(b[o])
			for k, v := range row {
				sum += v * float64(w[k*len(b)+o])
			}
			out[i][o] = sum
		}
	}
	return out
}

func (e *Encoder) normal(name string, x [][]float64) [][]float64 {
	w, b := e.weights[name+".weight"], e.weights[name+".bias"]
	for _, row := range x {
		var mean, variance float64
		for _, v := range row {
			mean += v / float64(len(row))
		}
		for _, v := range row {
			variance += (v - mean) * (v - mean) / float64(len(row))
		}
		for k, v := range row {
			row[k] = (v-mean)/math.Sqrt(variance+1e-12)*float64(w[k]) + float64(b[k])
		}
	}
	return x
}

func plus(a, b [][]float64) [][]float64 {
	for i := range a {
		for k := range a[i] {
			b[i][k] += a[i][k]
		}
	}
	return b
}

// drawing writes the nodes and tensors of an ONNX graph.
type drawing struct {
	body []byte
	made int
}

// The kinds of a tensor, in ONNX.
const (
	kindFloat = 1
	kindInt64 = 7
)

func (g *drawing) tensor(name string, kind uint64, raw []byte, dims ...int) string {
	g.body = message(g.body, 5, tensorBody(name, kind, raw, dims...))
	return name
}

func (g *drawing) ints(values ...int) string {
	g.made++
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(int64(v)))
	}
	return g.tensor("ints_"+strconv.Itoa(g.made), kindInt64, raw, len(values))
}

func (g *drawing) scalar(v float64) string {
	g.made++
	name := "/Constant_" + strconv.Itoa(g.made) + "_output_0"
	raw := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
	g.node("Constant", nil, name, func(b []byte) []byte {
		return message(b, 5, attribute("value", 4, message(nil, 5, tensorBody("", kindFloat, raw))))
	})
	return name
}

// op adds a node and names its output.
func (g *drawing) op(kind string, inputs []string, attributes ...[]byte) string {
	g.made++
	name := "/" + kind + "_" + strconv.Itoa(g.made) + "_output_0"
	g.node(kind, inputs, name, func(b []byte) []byte {
		for _, a := range attributes {
			b = message(b, 5, a)
		}
		return b
	})
	return name
}

func (g *drawing) node(kind string, inputs []string, output string, attributes func([]byte) []byte) {
	var b []byte
	for _, in := range inputs {
		b = message(b, 1, []byte(in))
	}
	b = message(b, 2, []byte(output))
	b = message(b, 3, []byte(strings.TrimSuffix(output, "_output_0")))
	b = message(b, 4, []byte(kind))
	g.body = message(g.body, 1, attributes(b))
}

func message(b []byte, field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), body)
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func tensorBody(name string, kind uint64, raw []byte, dims ...int) []byte {
	var b []byte
	for _, d := range dims {
		b = number(b, 1, uint64(d))
	}
	b = number(b, 2, kind)
	b = message(b, 8, []byte(name))
	return message(b, 9, raw)
}

func attribute(name string, kind uint64, value []byte) []byte {
	return append(number(message(nil, 1, []byte(name)), 20, kind), value...)
}

func integer(name string, v int) []byte {
	return attribute(name, 2, number(nil, 3, uint64(int64(v))))
}

func integers(name string, all ...int) []byte {
	var value []byte
	for _, v := range all {
		value = number(value, 8, uint64(int64(v)))
	}
	return attribute(name, 7, value)
}

func float(name string, v float32) []byte {
	return attribute(name, 1, protowire.AppendFixed32(protowire.AppendTag(nil, 2, protowire.Fixed32Type), math.Float32bits(v)))
}

// valueInfo declares an input or output; a dimension that is not a number varies.
func valueInfo(name string, kind uint64, dims ...string) []byte {
	var shape []byte
	for _, d := range dims {
		if n, err := strconv.ParseUint(d, 10, 31); err == nil {
			shape = message(shape, 1, number(nil, 1, n))
		} else {
			shape = message(shape, 1, message(nil, 2, []byte(d)))
		}
	}
	tensor := message(number(nil, 1, kind), 2, shape)
	return message(message(nil, 1, []byte(name)), 2, message(nil, 1, tensor))
}

// ONNX is the file. External weights come back apart.
func (e *Encoder) ONNX(external bool) (file, outside []byte) {
	g := &drawing{}
	for _, name := range e.order {
		var raw []byte
		for _, v := range e.weights[name] {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		if !external {
			g.tensor(name, kindFloat, raw, e.dims[name]...)
			continue
		}
		g.body = message(g.body, 5, outsideTensor(name, len(outside), len(raw), e.dims[name]))
		outside = append(outside, raw...)
	}
	g.named(e.body(g), "last_hidden_state")
	first := g.op("Gather", []string{"last_hidden_state", g.scalarInt(0)}, integer("axis", 1))
	g.named(g.op("Tanh", []string{g.op("Gemm", []string{first, "pooler.weight", "pooler.bias"})}), "pooler_output")
	g.body = message(g.body, 2, []byte("main_graph"))
	for _, in := range []string{"input_ids", "attention_mask", "token_type_ids"} {
		g.body = message(g.body, 11, valueInfo(in, kindInt64, "batch_size", "sequence_length"))
	}
	g.body = message(g.body, 12, valueInfo("last_hidden_state", kindFloat, "batch_size", "sequence_length", strconv.Itoa(e.hidden)))
	g.body = message(g.body, 12, valueInfo("pooler_output", kindFloat, "batch_size", strconv.Itoa(e.hidden)))
	file = message(number(nil, 1, 8), 2, []byte("pytorch"))
	file = message(file, 8, number(message(nil, 1, nil), 2, 17))
	return message(file, 7, g.body), outside
}

func outsideTensor(name string, offset, length int, dims []int) []byte {
	b := tensorBody(name, kindFloat, nil, dims...)
	b = b[:len(b)-2] // no raw data
	for key, value := range map[string]string{"location": "model.onnx_data", "offset": strconv.Itoa(offset), "length": strconv.Itoa(length)} {
		b = message(b, 13, message(message(nil, 1, []byte(key)), 2, []byte(value)))
	}
	return number(b, 14, 1)
}

func (g *drawing) named(from, to string) {
	g.node("Identity", []string{from}, to, func(b []byte) []byte { return b })
}

func (g *drawing) scalarInt(v int) string {
	g.made++
	raw := binary.LittleEndian.AppendUint64(nil, uint64(int64(v)))
	return g.tensor("index_"+strconv.Itoa(g.made), kindInt64, raw)
}

func (e *Encoder) body(g *drawing) string {
	mask := g.op("Unsqueeze", []string{g.op("Unsqueeze", []string{"attention_mask", g.ints(1)}), g.ints(2)})
	mask = g.op("Sub", []string{g.scalar(1), g.op("Cast", []string{mask}, integer("to", kindFloat))})
	mask = g.op("Mul", []string{mask, g.scalar(-math.MaxFloat32)})
	x := g.op("Add", []string{
		g.op("Add", []string{
			g.op("Gather", []string{"word", "input_ids"}), g.op("Gather", []string{"type", "token_type_ids"}),
		}),
		g.op("Gather", []string{"position", e.numbered(g)}),
	})
	x = g.normalSpelt("norm", x)
	for l := range e.layers {
		at := strconv.Itoa(l) + "."
		x = g.normal(at+"norm1", g.op("Add", []string{g.linear(at+"attended", e.attention(g, at, x, mask)), x}))
		inner := g.linear(at+"up", x)
		erf := g.op("Add", []string{g.op("Erf", []string{g.op("Div", []string{inner, g.scalar(math.Sqrt2)})}), g.scalar(1)})
		inner = g.op("Mul", []string{g.op("Mul", []string{inner, erf}), g.scalar(0.5)})
		x = g.normal(at+"norm2", g.op("Add", []string{g.linear(at+"down", inner), x}))
	}
	return x
}

// numbered cuts the positions to the length of the input.
func (e *Encoder) numbered(g *drawing) string {
	var raw []byte
	for i := range e.positions {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(i))
	}
	all := g.tensor("embeddings.position_ids", kindInt64, raw, 1, e.positions)
	length := g.op("Unsqueeze", []string{g.dim("input_ids", 1), g.ints(0)})
	return g.op("Slice", []string{all, g.ints(0), length, g.ints(1), g.ints(1)})
}

func (g *drawing) dim(of string, axis int) string {
	return g.op("Gather", []string{g.op("Shape", []string{of}), g.scalarInt(axis)}, integer("axis", 0))
}

func (e *Encoder) attention(g *drawing, at, x, mask string) string {
	batch := g.op("Unsqueeze", []string{g.dim(x, 0), g.ints(0)})
	length := g.op("Unsqueeze", []string{g.dim(x, 1), g.ints(0)})
	size := e.hidden / e.heads
	split := g.op("Concat", []string{batch, length, g.ints(e.heads), g.ints(size)}, integer("axis", 0))
	part := func(name string, order ...int) string {
		return g.op("Transpose", []string{g.op("Reshape", []string{g.linear(at+name, x), split})}, integers("perm", order...))
	}
	q, k, v := part("query", 0, 2, 1, 3), part("key", 0, 2, 3, 1), part("value", 0, 2, 1, 3)
	scores := g.op("Div", []string{g.op("MatMul", []string{q, k}), g.scalar(math.Sqrt(float64(size)))})
	weights := g.op("Softmax", []string{g.op("Add", []string{scores, mask})}, integer("axis", -1))
	out := g.op("Transpose", []string{g.op("MatMul", []string{weights, v})}, integers("perm", 0, 2, 1, 3))
	return g.op("Reshape", []string{out, g.op("Concat", []string{batch, length, g.ints(e.hidden)}, integer("axis", 0))})
}

func (g *drawing) linear(name, x string) string {
	return g.op("Add", []string{name + ".bias", g.op("MatMul", []string{x, name + ".weight"})})
}

func (g *drawing) normal(name, x string) string {
	return g.op("LayerNormalization", []string{x, name + ".weight", name + ".bias"}, integer("axis", -1), float("epsilon", 1e-12))
}

// normalSpelt is how exporters wrote it before ONNX had an operator for it.
func (g *drawing) normalSpelt(name, x string) string {
	centred := g.op("Sub", []string{x, g.op("ReduceMean", []string{x}, integers("axes", -1))})
	square := g.op("ReduceMean", []string{g.op("Pow", []string{centred, g.scalar(2)})}, integers("axes", -1))
	scaled := g.op("Div", []string{centred, g.op("Sqrt", []string{g.op("Add", []string{square, g.scalar(1e-12)})})})
	return g.op("Add", []string{g.op("Mul", []string{scaled, name + ".weight"}), name + ".bias"})
}

// Words are the vocabulary of the small model, special tokens first.
func Words() []string {
	all := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	for r := 'a'; r <= 'z'; r++ {
		all = append(all, string(r), "##"+string(r))
	}
	for r := '!'; r <= '@'; r++ {
		all = append(all, string(r))
		if r >= '0' && r <= '9' {
			all = append(all, "##"+string(r))
		}
	}
	return append(all, strings.Fields(`the of and to in is for on that by this with you it not or be are from at as your all have new more an was we will
		can us about if page my has search free but our one other do no information time they site he up may what which their news out use any there see only so
		his when contact here business who web also now help get view online first am been would how were services some these click its like service than find
		price date back top people list name just over state year day into email two health world next used go work last most products music buy data make them
		should product system post her city add policy number such please available copyright support message after best software then good well where info rights
		public books high school through each links she review years order very privacy book items company read group need many user said does set under general
		research mail full map reviews program life know games way days management part could great united hotel real item international center must store travel
		comments made development report off member details line terms before hotels did send right type because local those using results office education refund
		refunds paid within embed agent hello play ##ing ##ed ##er ##est ##ly ##ness ##able ##ment 東 は хо ##рошо`)...)
}

// Write makes a directory such as Hugging Face has, with the file changes made.
func (e *Encoder) Write(tb testing.TB, changes map[string]any) string {
	tb.Helper()
	vocabulary := map[string]int{}
	for i, w := range e.Vocabulary {
		vocabulary[w] = i
	}
	special := func(id int) map[string]any {
		w := e.Vocabulary[id]
		return map[string]any{"id": w, "ids": []int{id}, "tokens": []string{w}}
	}
	added := []map[string]any{}
	for id := range 5 {
		added = append(added, map[string]any{"id": id, "content": e.Vocabulary[id], "special": true, "normalized": false})
	}
	cls, sep := map[string]any{"SpecialToken": map[string]any{"id": "[CLS]", "type_id": 0}}, map[string]any{"SpecialToken": map[string]any{"id": "[SEP]", "type_id": 0}}
	file, _ := e.ONNX(false)
	files := map[string]any{
		"onnx/model.onnx": file,
		"tokenizer.json": map[string]any{
			"version": "1.0", "truncation": map[string]any{"max_length": 8}, "padding": map[string]any{"strategy": map[string]any{"Fixed": 8}},
			"added_tokens":  added,
			"normalizer":    map[string]any{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
			"pre_tokenizer": map[string]any{"type": "BertPreTokenizer"},
			"post_processor": map[string]any{
				"type": "TemplateProcessing", "single": []any{cls, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, sep},
				"special_tokens": map[string]any{"[CLS]": special(2), "[SEP]": special(3)},
			},
			"model": map[string]any{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
		},
		"config.json": map[string]any{"model_type": "bert", "hidden_size": e.hidden, "max_position_embeddings": e.positions, "pad_token_id": 0},
		"modules.json": []map[string]any{
			{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
			{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
			{"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
		},
		"1_Pooling/config.json":     Pooled(e.hidden, "mean_tokens"),
		"sentence_bert_config.json": map[string]any{"max_seq_length": 40, "do_lower_case": false},
	}
	for name, content := range changes {
		files[name] = content
	}
	dir := filepath.Join(tb.TempDir(), "tiny-bert")
	for name, content := range files {
		put(tb, filepath.Join(dir, name), content)
	}
	return dir
}

// Pooled is a 1_Pooling/config.json with one mode, such as mean_tokens.
func Pooled(dimension int, mode string) map[string]any {
	config := map[string]any{"word_embedding_dimension": dimension}
	for _, m := range []string{"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"} {
		config["pooling_mode_"+m] = m == mode
	}
	return config
}

// put writes bytes as they are, nothing for nil, and JSON of all else.
func put(tb testing.TB, path string, content any) {
	tb.Helper()
	if content == nil {
		return
	}
	data, ok := content.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}
