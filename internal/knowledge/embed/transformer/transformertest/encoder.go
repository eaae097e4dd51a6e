// Package transformertest creates sentence transformers with random weights, and
// computes the vectors that they must return.
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

// Encoder is a BERT with random weights. It writes itself as an ONNX file like those
// of exporters, and computes its output in plain Go, in 64 bits and without padding.
type Encoder struct {
	layers, hidden, heads, inner, positions int
	Vocabulary                              []string
	weights                                 map[string][]float32
	dims                                    map[string][]int
	order                                   []string
}

// New returns an Encoder. The same seed gives the same weights.
func New(seed uint64, layers, hidden, heads, positions int, vocabulary []string) *Encoder {
	e := &Encoder{
		layers: layers, hidden: hidden, heads: heads, inner: 4 * hidden, positions: positions, Vocabulary: vocabulary,
		weights: map[string][]float32{}, dims: map[string][]int{},
	}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not a secret
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
	layerNorm := func(name string) {
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
	layerNorm("norm")
	for l := range layers {
		prefix := strconv.Itoa(l) + "."
		for _, name := range []string{"query", "key", "value", "attended"} {
			linear(prefix+name, hidden, hidden)
		}
		layerNorm(prefix + "norm1")
		linear(prefix+"up", hidden, e.inner)
		linear(prefix+"down", e.inner, hidden)
		layerNorm(prefix + "norm2")
	}
	linear("pooler", hidden, hidden)
	return e
}

// Forward returns the last hidden state, one vector per token.
func (e *Encoder) Forward(ids []int) [][]float64 {
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = make([]float64, e.hidden)
		for k := range x[i] {
			x[i][k] = float64(e.weights["word"][id*e.hidden+k]) + float64(e.weights["position"][i*e.hidden+k]) + float64(e.weights["type"][k])
		}
	}
	x = e.layerNorm("norm", x)
	for l := range e.layers {
		prefix := strconv.Itoa(l) + "."
		x = e.layerNorm(prefix+"norm1", add(x, e.linear(prefix+"attended", e.attend(prefix, x))))
		inner := e.linear(prefix+"up", x)
		for _, row := range inner {
			for k, v := range row {
				row[k] = v * 0.5 * (1 + math.Erf(v/math.Sqrt2))
			}
		}
		x = e.layerNorm(prefix+"norm2", add(x, e.linear(prefix+"down", inner)))
	}
	return x
}

// attend computes the attention of a layer.
func (e *Encoder) attend(prefix string, x [][]float64) [][]float64 {
	q, k, v := e.linear(prefix+"query", x), e.linear(prefix+"key", x), e.linear(prefix+"value", x)
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

func (e *Encoder) layerNorm(name string, x [][]float64) [][]float64 {
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

// add returns the sum of two matrices, in the memory of b.
func add(a, b [][]float64) [][]float64 {
	for i := range a {
		for k := range a[i] {
			b[i][k] += a[i][k]
		}
	}
	return b
}

// graph encodes the nodes and tensors of an ONNX graph.
type graph struct {
	encoded []byte
	count   int // nodes and tensors with a generated name
}

// The data types of a tensor, in ONNX.
const (
	typeFloat = 1
	typeInt64 = 7
)

// tensor adds a tensor and returns its name.
func (g *graph) tensor(name string, dataType uint64, raw []byte, dims ...int) string {
	g.encoded = message(g.encoded, 5, encodeTensor(name, dataType, raw, dims...))
	return name
}

func (g *graph) ints(values ...int) string {
	g.count++
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(int64(v)))
	}
	return g.tensor("ints_"+strconv.Itoa(g.count), typeInt64, raw, len(values))
}

func (g *graph) scalar(v float64) string {
	g.count++
	name := "/Constant_" + strconv.Itoa(g.count) + "_output_0"
	raw := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
	g.node("Constant", nil, name, func(b []byte) []byte {
		return message(b, 5, attribute("value", 4, message(nil, 5, encodeTensor("", typeFloat, raw))))
	})
	return name
}

// op adds a node and returns the name of its output.
func (g *graph) op(operator string, inputs []string, attributes ...[]byte) string {
	g.count++
	name := "/" + operator + "_" + strconv.Itoa(g.count) + "_output_0"
	g.node(operator, inputs, name, func(b []byte) []byte {
		for _, a := range attributes {
			b = message(b, 5, a)
		}
		return b
	})
	return name
}

func (g *graph) node(operator string, inputs []string, output string, attributes func([]byte) []byte) {
	var b []byte
	for _, in := range inputs {
		b = message(b, 1, []byte(in))
	}
	b = message(b, 2, []byte(output))
	b = message(b, 3, []byte(strings.TrimSuffix(output, "_output_0")))
	b = message(b, 4, []byte(operator))
	g.encoded = message(g.encoded, 1, attributes(b))
}

func message(b []byte, field protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), body)
}

func number(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func encodeTensor(name string, dataType uint64, raw []byte, dims ...int) []byte {
	var b []byte
	for _, d := range dims {
		b = number(b, 1, uint64(d))
	}
	b = number(b, 2, dataType)
	b = message(b, 8, []byte(name))
	return message(b, 9, raw)
}

func attribute(name string, attributeType uint64, value []byte) []byte {
	return append(number(message(nil, 1, []byte(name)), 20, attributeType), value...)
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

// valueInfo declares an input or output. A dimension that is not a number is variable.
func valueInfo(name string, dataType uint64, dims ...string) []byte {
	var shape []byte
	for _, d := range dims {
		if n, err := strconv.ParseUint(d, 10, 31); err == nil {
			shape = message(shape, 1, number(nil, 1, n))
		} else {
			shape = message(shape, 1, message(nil, 2, []byte(d)))
		}
	}
	tensor := message(number(nil, 1, dataType), 2, shape)
	return message(message(nil, 1, []byte(name)), 2, message(nil, 1, tensor))
}

// ONNX returns the model as an ONNX file. If external is true, the weights are not in
// the file but in the second result.
func (e *Encoder) ONNX(external bool) (file, weights []byte) {
	g := &graph{}
	for _, name := range e.order {
		var raw []byte
		for _, v := range e.weights[name] {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		if !external {
			g.tensor(name, typeFloat, raw, e.dims[name]...)
			continue
		}
		g.encoded = message(g.encoded, 5, encodeExternalTensor(name, len(weights), len(raw), e.dims[name]))
		weights = append(weights, raw...)
	}
	g.rename(e.addLayers(g), "last_hidden_state")
	first := g.op("Gather", []string{"last_hidden_state", g.scalarInt(0)}, integer("axis", 1))
	g.rename(g.op("Tanh", []string{g.op("Gemm", []string{first, "pooler.weight", "pooler.bias"})}), "pooler_output")
	g.encoded = message(g.encoded, 2, []byte("main_graph"))
	for _, in := range []string{"input_ids", "attention_mask", "token_type_ids"} {
		g.encoded = message(g.encoded, 11, valueInfo(in, typeInt64, "batch_size", "sequence_length"))
	}
	g.encoded = message(g.encoded, 12, valueInfo("last_hidden_state", typeFloat, "batch_size", "sequence_length", strconv.Itoa(e.hidden)))
	g.encoded = message(g.encoded, 12, valueInfo("pooler_output", typeFloat, "batch_size", strconv.Itoa(e.hidden)))
	file = message(number(nil, 1, 8), 2, []byte("pytorch"))
	file = message(file, 8, number(message(nil, 1, nil), 2, 17))
	return message(file, 7, g.encoded), weights
}

func encodeExternalTensor(name string, offset, length int, dims []int) []byte {
	b := encodeTensor(name, typeFloat, nil, dims...)
	b = b[:len(b)-2] // no raw data
	for key, value := range map[string]string{"location": "model.onnx_data", "offset": strconv.Itoa(offset), "length": strconv.Itoa(length)} {
		b = message(b, 13, message(message(nil, 1, []byte(key)), 2, []byte(value)))
	}
	return number(b, 14, 1)
}

// rename adds a node that copies a tensor to another name.
func (g *graph) rename(from, to string) {
	g.node("Identity", []string{from}, to, func(b []byte) []byte { return b })
}

func (g *graph) scalarInt(v int) string {
	g.count++
	raw := binary.LittleEndian.AppendUint64(nil, uint64(int64(v)))
	return g.tensor("index_"+strconv.Itoa(g.count), typeInt64, raw)
}

// addLayers adds all layers to the graph and returns the name of the last output.
func (e *Encoder) addLayers(g *graph) string {
	mask := g.op("Unsqueeze", []string{g.op("Unsqueeze", []string{"attention_mask", g.ints(1)}), g.ints(2)})
	mask = g.op("Sub", []string{g.scalar(1), g.op("Cast", []string{mask}, integer("to", typeFloat))})
	mask = g.op("Mul", []string{mask, g.scalar(-math.MaxFloat32)})
	x := g.op("Add", []string{
		g.op("Add", []string{
			g.op("Gather", []string{"word", "input_ids"}), g.op("Gather", []string{"type", "token_type_ids"}),
		}),
		g.op("Gather", []string{"position", e.positionIDs(g)}),
	})
	x = g.layerNormFromPrimitives("norm", x)
	for l := range e.layers {
		prefix := strconv.Itoa(l) + "."
		x = g.layerNorm(prefix+"norm1", g.op("Add", []string{g.linear(prefix+"attended", e.addAttention(g, prefix, x, mask)), x}))
		inner := g.linear(prefix+"up", x)
		erf := g.op("Add", []string{g.op("Erf", []string{g.op("Div", []string{inner, g.scalar(math.Sqrt2)})}), g.scalar(1)})
		inner = g.op("Mul", []string{g.op("Mul", []string{inner, erf}), g.scalar(0.5)})
		x = g.layerNorm(prefix+"norm2", g.op("Add", []string{g.linear(prefix+"down", inner), x}))
	}
	return x
}

// positionIDs adds the positions up to the length of the input.
func (e *Encoder) positionIDs(g *graph) string {
	var raw []byte
	for i := range e.positions {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(i))
	}
	all := g.tensor("embeddings.position_ids", typeInt64, raw, 1, e.positions)
	length := g.op("Unsqueeze", []string{g.dim("input_ids", 1), g.ints(0)})
	return g.op("Slice", []string{all, g.ints(0), length, g.ints(1), g.ints(1)})
}

// dim adds a node that reads one dimension of a tensor.
func (g *graph) dim(tensor string, axis int) string {
	return g.op("Gather", []string{g.op("Shape", []string{tensor}), g.scalarInt(axis)}, integer("axis", 0))
}

func (e *Encoder) addAttention(g *graph, prefix, x, mask string) string {
	batch := g.op("Unsqueeze", []string{g.dim(x, 0), g.ints(0)})
	length := g.op("Unsqueeze", []string{g.dim(x, 1), g.ints(0)})
	size := e.hidden / e.heads
	split := g.op("Concat", []string{batch, length, g.ints(e.heads), g.ints(size)}, integer("axis", 0))
	part := func(name string, order ...int) string {
		return g.op("Transpose", []string{g.op("Reshape", []string{g.linear(prefix+name, x), split})}, integers("perm", order...))
	}
	q, k, v := part("query", 0, 2, 1, 3), part("key", 0, 2, 3, 1), part("value", 0, 2, 1, 3)
	scores := g.op("Div", []string{g.op("MatMul", []string{q, k}), g.scalar(math.Sqrt(float64(size)))})
	weights := g.op("Softmax", []string{g.op("Add", []string{scores, mask})}, integer("axis", -1))
	out := g.op("Transpose", []string{g.op("MatMul", []string{weights, v})}, integers("perm", 0, 2, 1, 3))
	return g.op("Reshape", []string{out, g.op("Concat", []string{batch, length, g.ints(e.hidden)}, integer("axis", 0))})
}

func (g *graph) linear(name, x string) string {
	return g.op("Add", []string{name + ".bias", g.op("MatMul", []string{x, name + ".weight"})})
}

func (g *graph) layerNorm(name, x string) string {
	return g.op("LayerNormalization", []string{x, name + ".weight", name + ".bias"}, integer("axis", -1), float("epsilon", 1e-12))
}

// layerNormFromPrimitives adds a layer normalisation as exporters wrote it before ONNX
// had an operator for it.
func (g *graph) layerNormFromPrimitives(name, x string) string {
	centred := g.op("Sub", []string{x, g.op("ReduceMean", []string{x}, integers("axes", -1))})
	square := g.op("ReduceMean", []string{g.op("Pow", []string{centred, g.scalar(2)})}, integers("axes", -1))
	scaled := g.op("Div", []string{centred, g.op("Sqrt", []string{g.op("Add", []string{square, g.scalar(1e-12)})})})
	return g.op("Add", []string{g.op("Mul", []string{scaled, name + ".weight"}), name + ".bias"})
}

// Words returns the vocabulary of the small model, special tokens first.
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

// Write writes a directory in the format of Hugging Face and returns its path. changes
// replaces the content of files; nil removes a file.
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
		writeFile(tb, filepath.Join(dir, name), content)
	}
	return dir
}

// Pooled returns a 1_Pooling/config.json with one mode, such as mean_tokens.
func Pooled(dimension int, mode string) map[string]any {
	config := map[string]any{"word_embedding_dimension": dimension}
	for _, m := range []string{"cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"} {
		config["pooling_mode_"+m] = m == mode
	}
	return config
}

// writeFile writes bytes unchanged and any other content as JSON. It writes no file for
// nil.
func writeFile(tb testing.TB, path string, content any) {
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
