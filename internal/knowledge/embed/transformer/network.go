package transformer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/backends/simplego"
	"github.com/gomlx/gomlx/pkg/core/dtypes"
	"github.com/gomlx/gomlx/pkg/core/graph"
	"github.com/gomlx/gomlx/pkg/core/tensors"
	"github.com/gomlx/gomlx/pkg/ml/context"
	"github.com/gomlx/onnx-gomlx/onnx"
)

// network is a model ready to run.
type network struct {
	inputs []input
	padID  int
	exec   *context.Exec
}

// input is what the model takes in; all have a row for each text.
type input struct {
	name string
	kind dtypes.DType
}

// newNetwork reads an ONNX file. Weights outside the file lie in dir;
// they are written to sum.
func newNetwork(file []byte, dir string, padID int, sum io.Writer) (_ *network, err error) {
	defer caught(&err)
	model, err := onnx.Parse(file)
	if err != nil {
		return nil, err
	}
	inputs, err := inputsOf(model)
	if err != nil {
		return nil, err
	}
	output, err := outputOf(model)
	if err != nil {
		return nil, err
	}
	if err := readExternal(model, dir, sum); err != nil {
		return nil, err
	}
	weights := context.New().Reuse()
	if err := model.VariablesToContext(weights); err != nil {
		return nil, err
	}
	forgetRaw(model)
	// One operator at a time: the backend's way to run several at once has data races.
	backend, err := simplego.New("ops_sequential")
	if err != nil {
		return nil, err
	}
	exec, err := context.NewExec(backend, weights, func(ctx *context.Context, in []*graph.Node) *graph.Node {
		named := map[string]*graph.Node{}
		for i, node := range in {
			named[inputs[i].name] = node
		}
		return model.CallGraph(ctx, in[0].Graph(), named, output)[0]
	})
	if err != nil {
		return nil, err
	}
	exec.SetMaxCache(-1) // the shapes are few: see width and rows
	return &network{inputs: inputs, padID: padID, exec: exec}, nil
}

func inputsOf(model *onnx.Model) ([]input, error) {
	var all []input
	for i, name := range model.InputsNames {
		kind := model.InputsShapes[i].DType
		known := slices.Contains([]string{"input_ids", "attention_mask", "token_type_ids", "position_ids"}, name)
		if !known || kind != dtypes.Int64 && kind != dtypes.Int32 {
			return nil, fmt.Errorf("its input %s is unknown: it is no text encoder, or exported in a way of its own. Export it with optimum-cli export onnx --task feature-extraction", name)
		}
		all = append(all, input{name, kind})
	}
	if !slices.Contains(model.InputsNames, "input_ids") || !slices.Contains(model.InputsNames, "attention_mask") {
		return nil, errors.New("it lacks the input input_ids or attention_mask: it is no text encoder")
	}
	return all, nil
}

// outputOf prefers the vectors of tokens, so that the directory's pooling rules.
func outputOf(model *onnx.Model) (string, error) {
	pooled := ""
	for i, name := range model.OutputsNames {
		switch {
		case model.OutputsShapes[i].DType != dtypes.Float32:
		case model.OutputsShapes[i].Rank() == 3:
			return name, nil
		case name == "sentence_embedding":
			pooled = name
		}
	}
	if pooled == "" {
		return "", fmt.Errorf("none of its outputs (%s) has 32-bit vectors of tokens, such as last_hidden_state", strings.Join(model.OutputsNames, ", "))
	}
	return pooled, nil
}

// readExternal brings in weights that lie in files beside the model.
func readExternal(model *onnx.Model, dir string, sum io.Writer) error {
	files := map[string][]byte{}
	for _, tensor := range model.Proto.Graph.Initializer {
		if tensor.DataLocation != 1 {
			continue
		}
		at := map[string]string{}
		for _, entry := range tensor.ExternalData {
			at[entry.Key] = entry.Value
		}
		name := at["location"]
		if !filepath.IsLocal(name) {
			return fmt.Errorf("its weights are in %q, outside of the directory", name)
		}
		if files[name] == nil {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("its weights are in a file of their own: %w", err)
			}
			files[name] = data
			if _, err := sum.Write(data); err != nil {
				return err
			}
		}
		raw, err := part(files[name], at["offset"], at["length"])
		if err != nil {
			return fmt.Errorf("its weights %s in %s: %w", tensor.Name, name, err)
		}
		tensor.RawData, tensor.DataLocation = raw, 0
	}
	return nil
}

func part(data []byte, offset, length string) ([]byte, error) {
	from, to := 0, len(data)
	var err, err2 error
	if offset != "" {
		from, err = strconv.Atoi(offset)
	}
	if length != "" {
		to, err2 = strconv.Atoi(length)
		to += from
	}
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if from < 0 || to < from || to > len(data) {
		return nil, errors.New("the file is cut short")
	}
	return data[from:to], nil
}

// forgetRaw frees the file's copy of the weights. Small tensors stay: the shapes in
// the graph are computed from them.
func forgetRaw(model *onnx.Model) {
	for _, tensor := range model.Proto.Graph.Initializer {
		if len(tensor.RawData) > 64<<10 {
			tensor.RawData = nil
		}
	}
}

// run gives the output for rows of ids, each padded to width.
func (n *network) run(ids [][]int, width int) (_ output, err error) {
	defer caught(&err)
	args := make([]any, len(n.inputs))
	for i, in := range n.inputs {
		flat := n.fill(in.name, ids, width)
		var tensor *tensors.Tensor
		if in.kind == dtypes.Int32 {
			tensor = tensors.FromFlatDataAndDimensions(narrow(flat), len(ids), width)
		} else {
			tensor = tensors.FromFlatDataAndDimensions(flat, len(ids), width)
		}
		defer func() { _ = tensor.FinalizeAll() }()
		args[i] = tensor
	}
	results, err := n.exec.Exec(args...)
	if err != nil {
		return output{}, err
	}
	defer func() { _ = results[0].FinalizeAll() }()
	dims := results[0].Shape().Dimensions
	if dims[0] != len(ids) || len(dims) == 3 && dims[1] != width {
		return output{}, fmt.Errorf("its output has the shape %v for %d texts of %d tokens", dims, len(ids), width)
	}
	out := output{dimension: dims[len(dims)-1], pooled: len(dims) == 2, width: width}
	err = tensors.ConstFlatData(results[0], func(flat []float32) { out.flat = slices.Clone(flat) })
	return out, err
}

func (n *network) fill(name string, ids [][]int, width int) []int64 {
	flat := make([]int64, 0, len(ids)*width)
	for _, row := range ids {
		for i := range width {
			value := 0 // of token_type_ids
			switch {
			case name == "position_ids":
				value = i
			case name == "input_ids" && i < len(row):
				value = row[i]
			case name == "input_ids":
				value = n.padID
			case name == "attention_mask" && i < len(row):
				value = 1
			}
			flat = append(flat, int64(value))
		}
	}
	return flat
}

func narrow(wide []int64) []int32 {
	all := make([]int32, len(wide))
	for i, x := range wide {
		all[i] = int32(x)
	}
	return all
}

// output has a vector for each token, or for each text if the model pools itself.
type output struct {
	flat      []float32
	dimension int
	width     int
	pooled    bool
}

// row is the vector of text i, which has n tokens.
func (o output) row(i, n int, how pooling) []float32 {
	d := o.dimension
	if o.pooled {
		return o.flat[i*d : (i+1)*d]
	}
	tokens := o.flat[i*o.width*d:][:n*d]
	v := slices.Clone(tokens[:d])
	if how == poolCLS {
		return v
	}
	for token := range slices.Chunk(tokens[d:], d) {
		for k, x := range token {
			if how == poolMax {
				v[k] = max(v[k], x)
			} else {
				v[k] += x // not divided: the length is made 1 anyway
			}
		}
	}
	return v
}

// unit scales v to length 1 and says whether it could.
func unit(v []float32) bool {
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	if square == 0 || math.IsNaN(square) || math.IsInf(square, 0) {
		return false
	}
	scale := 1 / math.Sqrt(square)
	for i := range v {
		v[i] = float32(float64(v[i]) * scale)
	}
	return true
}

// caught makes an error of a panic: the library panics at what it cannot do.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the model cannot be run: %v", r)
	}
}
