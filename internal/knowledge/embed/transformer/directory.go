package transformer

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pooling is how the vectors of a text's tokens become one vector.
type pooling int

const (
	poolMean pooling = iota
	poolCLS          // the vector of the first token
	poolMax
)

// modelDir is the content of a model's directory.
type modelDir struct {
	onnx      []byte
	onnxName  string // for messages
	onnxDir   string
	tokenizer []byte
	hash      hash.Hash // of everything that affects vectors, except weights outside onnx
	pooling   pooling
	dimension int // 0 if the directory does not state it
	maxTokens int // of a text
	lowercase bool
	padID     int
}

// defaultMaxTokens is BERT's limit, for a directory that states none.
const defaultMaxTokens = 512

func readModelDir(dir string) (modelDir, error) {
	if info, err := os.Stat(dir); err != nil {
		return modelDir{}, err
	} else if !info.IsDir() {
		return modelDir{}, errors.New("it is a file: give its directory instead")
	}
	m, err := readModules(dir)
	if err != nil {
		return modelDir{}, err
	}
	d := modelDir{}
	if err := d.readModel(dir, m.transformer); err != nil {
		return modelDir{}, err
	}
	if err := d.readPooling(m.pooling); err != nil {
		return modelDir{}, err
	}
	if err := d.readLimits(m.transformer); err != nil {
		return modelDir{}, err
	}
	d.hash = sha256.New()
	// Each part is hashed with its length, so that different models never hash the
	// same bytes.
	for _, part := range [][]byte{d.onnx, d.tokenizer} {
		_, _ = fmt.Fprintf(d.hash, "%d\n%s", len(part), part)
	}
	_, _ = fmt.Fprintf(d.hash, "%d %d %t %d", d.pooling, d.maxTokens, d.lowercase, d.padID)
	return d, nil
}

// modules are the directories of a model's parts.
type modules struct{ transformer, pooling string }

// readModules reads modules.json, which lists the steps of a sentence transformer.
func readModules(dir string) (modules, error) {
	m := modules{transformer: dir, pooling: filepath.Join(dir, "1_Pooling")}
	var steps []struct{ Path, Type string }
	if found, err := readJSON(dir, "modules.json", &steps); err != nil || !found {
		return m, err
	}
	for _, step := range steps {
		if step.Path != "" && !filepath.IsLocal(step.Path) {
			return m, fmt.Errorf("modules.json names the folder %q, outside the directory", step.Path)
		}
		stepDir := filepath.Join(dir, step.Path)
		switch kind := step.Type[strings.LastIndex(step.Type, ".")+1:]; kind {
		case "Transformer":
			m.transformer = stepDir
		case "Pooling":
			m.pooling = stepDir
		case "Normalize": // vectors are always scaled to length 1
		default:
			return m, fmt.Errorf("modules.json has a step %q, which is not supported; only Transformer, Pooling and Normalize are", kind)
		}
	}
	return m, nil
}

func (d *modelDir) readModel(dir, transformer string) error {
	file, err := findONNX(dir, transformer)
	if err != nil {
		return err
	}
	d.onnxDir, d.onnxName = filepath.Dir(file), filepath.Base(file)
	if d.onnx, err = os.ReadFile(file); err != nil {
		return err
	}
	if strings.HasPrefix(string(d.onnx[:min(len(d.onnx), 40)]), "version https://git-lfs") {
		return fmt.Errorf("%s is a Git LFS pointer, not a model: fetch the model with git lfs pull", d.onnxName)
	}
	for _, folder := range []string{transformer, dir, d.onnxDir} {
		d.tokenizer, err = os.ReadFile(filepath.Join(folder, "tokenizer.json"))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.New("tokenizer.json is missing. Create it from the older vocab.txt with AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) in Python")
}

// findONNX returns model.onnx or else onnx/model.onnx or else the only other ONNX file.
func findONNX(dir, transformer string) (string, error) {
	for _, file := range []string{
		filepath.Join(dir, "model.onnx"), filepath.Join(dir, "onnx", "model.onnx"),
		filepath.Join(transformer, "model.onnx"), filepath.Join(transformer, "onnx", "model.onnx"),
	} {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	others, weights, err := otherModels(dir)
	switch {
	case err != nil:
		return "", err
	case len(others) == 1:
		return others[0], nil
	case len(others) > 1:
		return "", fmt.Errorf("model.onnx and onnx/model.onnx are missing, and there are several others (%s). Name the one to use model.onnx", strings.Join(others, ", "))
	case weights != "":
		return "", fmt.Errorf("model.onnx is missing: %s alone cannot be run. Export the model in Python: pip install 'optimum[onnxruntime]'; optimum-cli export onnx --task feature-extraction --model DIR DIR", weights)
	}
	return "", errors.New("model.onnx is missing, as is onnx/model.onnx")
}

// otherModels lists the ONNX files below dir, and returns the name of a file with
// weights in another format, if there is one.
func otherModels(dir string) (files []string, weights string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || entry.IsDir():
			return err
		case filepath.Ext(path) == ".onnx":
			files = append(files, path)
		case filepath.Ext(path) == ".safetensors", entry.Name() == "pytorch_model.bin":
			weights = entry.Name()
		}
		return nil
	})
	return files, weights, err
}

// readPooling reads the settings of the pooling step. Without settings it is the
// mean, the default of sentence transformers.
func (d *modelDir) readPooling(dir string) error {
	var config map[string]any
	found, err := readJSON(dir, "config.json", &config)
	if err != nil || !found {
		return err
	}
	if dimension, ok := config["word_embedding_dimension"].(float64); ok {
		d.dimension = int(dimension)
	}
	var modes []string
	if mode, ok := config["pooling_mode"].(string); ok {
		modes = append(modes, mode)
	}
	for key, value := range config {
		if mode, ok := strings.CutPrefix(key, "pooling_mode_"); ok && value == true {
			modes = append(modes, strings.TrimSuffix(strings.TrimSuffix(mode, "_tokens"), "_token"))
		}
	}
	slices.Sort(modes)
	modes = slices.Compact(modes)
	if len(modes) == 0 {
		return nil
	}
	known := map[string]pooling{"mean": poolMean, "mean_sqrt_len": poolMean, "cls": poolCLS, "max": poolMax}
	p, ok := known[modes[0]]
	if !ok || len(modes) > 1 {
		return fmt.Errorf("%s sets the pooling to %s, which is not supported; one of mean, mean_sqrt_len, cls and max is", filepath.Join(dir, "config.json"), strings.Join(modes, " and "))
	}
	d.pooling = p
	return nil
}

// readLimits reads the maximum length of a text from sentence_bert_config.json or
// else from tokenizer_config.json. It is at most the model's number of positions.
func (d *modelDir) readLimits(dir string) error {
	var config struct {
		Type      string `json:"model_type"`
		Positions int    `json:"max_position_embeddings"`
		Pad       int    `json:"pad_token_id"`
	}
	if found, err := readJSON(dir, "config.json", &config); err != nil {
		return err
	} else if !found {
		return errors.New("config.json is missing")
	}
	var sentence struct {
		MaxTokens int  `json:"max_seq_length"`
		Lowercase bool `json:"do_lower_case"`
	}
	if _, err := readJSON(dir, "sentence_bert_config.json", &sentence); err != nil {
		return err
	}
	var tokens struct {
		MaxTokens float64 `json:"model_max_length"` // 1e30 means no limit
	}
	if _, err := readJSON(dir, "tokenizer_config.json", &tokens); err != nil {
		return err
	}
	d.padID, d.lowercase, d.maxTokens = config.Pad, sentence.Lowercase, sentence.MaxTokens
	if d.maxTokens < 1 && tokens.MaxTokens >= 1 && tokens.MaxTokens < 1e6 {
		d.maxTokens = int(tokens.MaxTokens)
	}
	positions := config.Positions
	if slices.Contains([]string{"roberta", "xlm-roberta", "camembert", "mpnet"}, config.Type) {
		positions -= config.Pad + 1 // these models number positions from there on
	}
	if positions < 1 {
		positions = defaultMaxTokens
	}
	if d.maxTokens < 1 || d.maxTokens > positions {
		d.maxTokens = positions
	}
	return nil
}

// readJSON decodes a file into v and reports whether the file exists.
func readJSON(dir, name string, v any) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(filepath.Base(dir), name), err)
	}
	return true, nil
}
