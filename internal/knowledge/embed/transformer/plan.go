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

// pooling makes one vector of those of a text's tokens.
type pooling int

const (
	poolMean pooling = iota
	poolCLS          // the vector of the first token
	poolMax
)

// plan is what a model's directory says.
type plan struct {
	onnx      []byte
	onnxName  string // as messages name it
	onnxDir   string
	tokenizer []byte
	sum       hash.Hash // of all that decides a vector, but weights outside of onnx
	pooling   pooling
	dimension int // 0: not said
	longest   int // tokens
	lowercase bool
	padID     int
}

// defaultLongest is BERT's, for a directory that says nothing.
const defaultLongest = 512

func readPlan(dir string) (plan, error) {
	if info, err := os.Stat(dir); err != nil {
		return plan{}, err
	} else if !info.IsDir() {
		return plan{}, errors.New("it is a file: give the directory that it lies in")
	}
	m, err := readModules(dir)
	if err != nil {
		return plan{}, err
	}
	p := plan{}
	if err := p.readModel(dir, m.transformer); err != nil {
		return plan{}, err
	}
	if err := p.readPooling(m.pooling); err != nil {
		return plan{}, err
	}
	if err := p.readLimits(m.transformer); err != nil {
		return plan{}, err
	}
	sum := sha256.New()
	// Each part goes in with its length: no two models give the same bytes.
	for _, part := range [][]byte{p.onnx, p.tokenizer} {
		_, _ = fmt.Fprintf(sum, "%d\n%s", len(part), part)
	}
	_, _ = fmt.Fprintf(sum, "%d %d %t %d", p.pooling, p.longest, p.lowercase, p.padID)
	p.sum = sum
	return p, nil
}

// modules are the folders of a model's parts.
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
			return m, fmt.Errorf("modules.json names the folder %q, outside of the directory", step.Path)
		}
		at := filepath.Join(dir, step.Path)
		switch kind := step.Type[strings.LastIndex(step.Type, ".")+1:]; kind {
		case "Transformer":
			m.transformer = at
		case "Pooling":
			m.pooling = at
		case "Normalize": // vectors are always made length 1
		default:
			return m, fmt.Errorf("modules.json has a step %q, which is not supported: Transformer, Pooling and Normalize are", kind)
		}
	}
	return m, nil
}

func (p *plan) readModel(dir, transformer string) error {
	file, err := findONNX(dir, transformer)
	if err != nil {
		return err
	}
	p.onnxDir, p.onnxName = filepath.Dir(file), filepath.Base(file)
	if p.onnx, err = os.ReadFile(file); err != nil {
		return err
	}
	if strings.HasPrefix(string(p.onnx[:min(len(p.onnx), 40)]), "version https://git-lfs") {
		return fmt.Errorf("%s is a pointer of Git LFS and no model: fetch it with git lfs pull", p.onnxName)
	}
	for _, at := range []string{transformer, dir, p.onnxDir} {
		p.tokenizer, err = os.ReadFile(filepath.Join(at, "tokenizer.json"))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.New("tokenizer.json is missing. Make it from the older vocab.txt with AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) in Python")
}

// findONNX takes model.onnx before onnx/model.onnx before the only other one there is.
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

// otherModels finds the ONNX files below dir, and weights of another format.
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

// readPooling reads the pooling step; without one it is the mean, as it is for
// sentence transformers.
func (p *plan) readPooling(dir string) error {
	var said map[string]any
	found, err := readJSON(dir, "config.json", &said)
	if err != nil || !found {
		return err
	}
	if d, ok := said["word_embedding_dimension"].(float64); ok {
		p.dimension = int(d)
	}
	var modes []string
	if mode, ok := said["pooling_mode"].(string); ok {
		modes = append(modes, mode)
	}
	for key, value := range said {
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
	how, ok := known[modes[0]]
	if !ok || len(modes) > 1 {
		return fmt.Errorf("%s says to pool by %s, which is not supported: one of mean, mean_sqrt_len, cls and max is", filepath.Join(dir, "config.json"), strings.Join(modes, " and "))
	}
	p.pooling = how
	return nil
}

// readLimits learns the longest text: what sentence_bert_config.json or the
// tokenizer says, and never more than the model has positions for.
func (p *plan) readLimits(dir string) error {
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
		Longest   int  `json:"max_seq_length"`
		Lowercase bool `json:"do_lower_case"`
	}
	if _, err := readJSON(dir, "sentence_bert_config.json", &sentence); err != nil {
		return err
	}
	var tokens struct {
		Longest float64 `json:"model_max_length"` // 1e30 for no limit
	}
	if _, err := readJSON(dir, "tokenizer_config.json", &tokens); err != nil {
		return err
	}
	p.padID, p.lowercase, p.longest = config.Pad, sentence.Lowercase, sentence.Longest
	if p.longest < 1 && tokens.Longest >= 1 && tokens.Longest < 1e6 {
		p.longest = int(tokens.Longest)
	}
	positions := config.Positions
	if slices.Contains([]string{"roberta", "xlm-roberta", "camembert", "mpnet"}, config.Type) {
		positions -= config.Pad + 1 // these number their positions from there
	}
	if positions < 1 {
		positions = defaultLongest
	}
	if p.longest < 1 || p.longest > positions {
		p.longest = positions
	}
	return nil
}

// readJSON reads a file into v and says whether there is one.
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
