package embed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ModelMagic is the first bytes of a model file. After it come the length of the
// header (4 bytes, little endian), the header as JSON, the words and then the pieces
// (one per line), a float32 scale for each row, and the rows, one signed byte per
// dimension. The training program (training/modelfile.go) writes the file.
const ModelMagic = "AGENTOEM"

// Header describes a model file.
type Header struct {
	Name      string `json:"name"`
	Dimension int    `json:"dimension"`
	Words     int    `json:"words"`
	Pieces    int    `json:"pieces"`
	Buckets   int    `json:"buckets"`
	TextBytes int    `json:"textBytes"` // of words and pieces
	Recipe    any    `json:"recipe"`    // settings of the training
}

// Static is a model that has one vector for each word and adds up the vectors of
// a text. It is safe for concurrent use.
type Static struct {
	header     Header
	vocabulary *Vocabulary
	scales     []float32
	rows       []byte // int8
}

// ReadModel decodes a model file. The model refers to data, which must not change.
// Errors: data is not a complete model file.
func ReadModel(data []byte) (*Static, error) {
	rest, ok := bytes.CutPrefix(data, []byte(ModelMagic))
	if !ok || len(rest) < 4 {
		return nil, errors.New("read model: not a model file")
	}
	n := int(binary.LittleEndian.Uint32(rest))
	if rest = rest[4:]; n > len(rest) {
		return nil, errors.New("read model: the file is truncated")
	}
	m := &Static{}
	if err := json.Unmarshal(rest[:n], &m.header); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	rest = rest[n:]
	h := m.header
	size := h.Words + h.Pieces + h.Buckets
	if min(h.Dimension, h.Words, h.Pieces, h.Buckets, h.TextBytes) < 1 || len(rest) != h.TextBytes+size*(4+h.Dimension) {
		return nil, fmt.Errorf("read model: the header does not match the file's %d bytes", len(data))
	}
	lines := strings.Split(string(rest[:h.TextBytes]), "\n")
	if len(lines) != h.Words+h.Pieces {
		return nil, fmt.Errorf("read model: %d words and pieces, not %d", len(lines), h.Words+h.Pieces)
	}
	m.vocabulary = NewVocabulary(lines[:h.Words], lines[h.Words:], h.Buckets)
	rest = rest[h.TextBytes:]
	m.scales = make([]float32, size)
	for i := range m.scales {
		m.scales[i] = math.Float32frombits(binary.LittleEndian.Uint32(rest[4*i:]))
	}
	m.rows = rest[4*size:]
	return m, nil
}
