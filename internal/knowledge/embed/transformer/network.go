package transformer

import (
	"errors"
	"fmt"
	"io"
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

	"agento.host/agento/internal/knowledge/index"
)

// network is a model that is ready to run.
type network struct {
	inputs []input
	padID  int
	exec   *context.Exec
}

// input is a tensor that the model reads; each has one row per text.
type input struct {
	name     string
	dataType dtypes.DType
}

// newNetwork loads an ONNX file. If its weights are in files of their own, they are
// read from dir and written to hash.
func newNetwork(file []byte, dir string, padID int, hash io.Writer) (_ *network, err error) {
	defer recoverError(&err)
	model, err := onnx.Parse(file)
	if err != nil {
		return nil, err
	}
	inputs, err := modelInputs(model)
	if err != nil {
		return nil, err
	}
	output, err := chooseOutput(model)
	if err != nil {
		return nil, err
	}
	if err := loadExternalWeights(model, dir, hash); err != nil {
		return nil, err
	}
	weights := context.New().Reuse()
	if err := model.VariablesToContext(weights); err != nil {
		return nil, err
	}
	releaseRawData(model)
	// The backend runs one operator at a time, because its parallel mode has data races.
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
	exec.SetMaxCache(-1) // no limit: there are few shapes, see paddedLength and batchRows
	return &network{inputs: inputs, padID: padID, exec: exec}, nil
}

func modelInputs(model *onnx.Model) ([]input, error) {
	var all []input
	for i, name := range model.InputsNames {
		dataType := model.InputsShapes[i].DType
		known := slices.Contains([]string{"input_ids", "attention_mask", "token_type_ids", "position_ids"}, name)
		if !known || dataType != dtypes.Int64 && dataType != dtypes.Int32 {
			return nil, fmt.Errorf("its input %s is not supported: the model is not a text encoder, or it was exported in an unusual way. Export it with optimum-cli export onnx --task feature-extraction", name)
		}
		all = append(all, input{name, dataType})
	}
	if !slices.Contains(model.InputsNames, "input_ids") || !slices.Contains(model.InputsNames, "attention_mask") {
		return nil, errors.New("it has no input input_ids or no input attention_mask: it is not a text encoder")
	}
	return all, nil
}

// chooseOutput returns the output with the vectors of the tokens, which are then
// pooled as the directory says, or else the output that the model pooled itself.
func chooseOutput(model *onnx.Model) (string, error) {
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
		return "", fmt.Errorf("none of its outputs (%s) holds 32-bit vectors of tokens, such as last_hidden_state", strings.Join(model.OutputsNames, ", "))
	}
	return pooled, nil
}

// loadExternalWeights reads weights that are stored in files beside the model.
func loadExternalWeights(model *onnx.Model, dir string, hash io.Writer) error {
	files := map[string][]byte{}
	for _, tensor := range model.Proto.Graph.Initializer {
		if tensor.DataLocation != 1 {
			continue
		}
		location := map[string]string{}
		for _, entry := range tensor.ExternalData {
			location[entry.Key] = entry.Value
		}
		name := location["location"]
		if !filepath.IsLocal(name) {
			return fmt.Errorf("its weights are in %q, outside the directory", name)
		}
		if files[name] == nil {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return fmt.Errorf("its weights are in another file: %w", err)
			}
			files[name] = data
			if _, err := hash.Write(data); err != nil {
				return err
			}
		}
		raw, err := byteRange(files[name], location["offset"], location["length"])
		if err != nil {
			return fmt.Errorf("its weights %s in %s: %w", tensor.Name, name, err)
		}
		tensor.RawData, tensor.DataLocation = raw, 0
	}
	return nil
}

// byteRange returns the bytes at an offset, both given as decimal numbers; "" means
// from the start, or up to the end.
func byteRange(data []byte, offset, length string) ([]byte, error) {
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
		return nil, errors.New("the file is truncated")
	}
	return data[from:to], nil
}

// releaseRawData frees the file's copy of the weights, which the variables now hold.
// Small tensors are kept, because shapes in the graph are computed from them.
func releaseRawData(model *onnx.Model) {
	for _, tensor := range model.Proto.Graph.Initializer {
		if len(tensor.RawData) > 64<<10 {
			tensor.RawData = nil
		}
	}
}

// run returns the output for rows of token ids, each padded to width.
func (n *network) run(ids [][]int, width int) (_ output, err error) {
	defer recoverError(&err)
	args := make([]any, len(n.inputs))
	for i, in := range n.inputs {
		flat := n.inputData(in.name, ids, width)
		var tensor *tensors.Tensor
		if in.dataType == dtypes.Int32 {
			tensor = tensors.FromFlatDataAndDimensions(toInt32(flat), len(ids), width)
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

// inputData returns the values of one input, row after row.
func (n *network) inputData(name string, ids [][]int, width int) []int64 {
	flat := make([]int64, 0, len(ids)*width)
	for _, row := range ids {
		for i := range width {
			value := 0 // also for token_type_ids
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

func toInt32(values []int64) []int32 {
	all := make([]int32, len(values))
	for i, x := range values {
		all[i] = int32(x)
	}
	return all
}

// output holds one vector per token, or one per text if the model pools itself.
type output struct {
	flat      []float32
	dimension int
	width     int
	pooled    bool
}

// vector returns the vector of text i, which has n tokens. It is not normalised.
func (o output) vector(i, n int, p pooling) []float32 {
	d := o.dimension
	if o.pooled {
		return o.flat[i*d : (i+1)*d]
	}
	tokens := o.flat[i*o.width*d:][:n*d]
	v := slices.Clone(tokens[:d])
	if p == poolCLS {
		return v
	}
	for token := range slices.Chunk(tokens[d:], d) {
		if p == poolMean {
			index.AddScaled(v, token, 1) // not divided, because the result is normalised
			continue
		}
		for k, x := range token {
			v[k] = max(v[k], x)
		}
	}
	return v
}

// recoverError turns a panic into an error: the library panics if it cannot run a model.
func recoverError(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the model cannot be run: %v", r)
	}
}
