package embed

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// magic starts a model file: a header length (4 bytes, little endian), the
// header in JSON, the words and then the pieces (one a line), a float32 scale
// for each row, and the rows, a signed byte a number.
const magic = "AGENTOEM"

// Header is what a model file says of itself.
type Header struct {
	Name      string `json:"name"`
	Dimension int    `json:"dimension"`
	Words     int    `json:"words"`
	Pieces    int    `json:"pieces"`
	Buckets   int    `json:"buckets"`
	TextBytes int    `json:"textBytes"` // of words and pieces
	Recipe    any    `json:"recipe"`    // how it was trained
}

// Static is a model that has a vector for every word and adds them up. It is
// safe for concurrent use.
type Static struct {
	header     Header
	vocabulary *Vocabulary
	scales     []float32
	rows       []byte // int8
}

// WriteModel makes a model file from rows of h.Dimension numbers; it sets the
// counts of the header.
func WriteModel(h Header, words, pieces []string, buckets int, rows []float32) ([]byte, error) {
	text := strings.Join(append(slices.Clone(words), pieces...), "\n")
	h.Words, h.Pieces, h.Buckets, h.TextBytes = len(words), len(pieces), buckets, len(text)
	size := len(words) + len(pieces) + buckets
	if len(rows) != size*h.Dimension {
		return nil, fmt.Errorf("write model: %d numbers for %d rows of %d", len(rows), size, h.Dimension)
	}
	header, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(header)))
	out = append(append(out, header...), text...)
	quantised := make([]byte, 0, len(rows))
	for row := range slices.Chunk(rows, h.Dimension) {
		var peak float64
		for _, x := range row {
			peak = max(peak, math.Abs(float64(x)))
		}
		scale := float32(peak / 127)
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(scale))
		for _, x := range row {
			q := int8(0)
			if scale > 0 {
				q = int8(max(-127, min(127, math.Round(float64(x/scale)))))
			}
			quantised = append(quantised, byte(q))
		}
	}
	return append(out, quantised...), nil
}

// ReadModel reads a model file. It keeps data.
func ReadModel(data []byte) (*Static, error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok || len(rest) < 4 {
		return nil, fmt.Errorf("read model: not a model file")
	}
	n := int(binary.LittleEndian.Uint32(rest))
	if rest = rest[4:]; n > len(rest) {
		return nil, fmt.Errorf("read model: cut short")
	}
	m := &Static{}
	if err := json.Unmarshal(rest[:n], &m.header); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	rest = rest[n:]
	h := m.header
	size := h.Words + h.Pieces + h.Buckets
	if min(h.Dimension, h.Words, h.Pieces, h.Buckets, h.TextBytes) < 1 || len(rest) != h.TextBytes+size*(4+h.Dimension) {
		return nil, fmt.Errorf("read model: %d bytes do not fit its header", len(data))
	}
	lines := strings.Split(string(rest[:h.TextBytes]), "\n")
	if len(lines) != h.Words+h.Pieces {
		return nil, fmt.Errorf("read model: %d words, not %d", len(lines), h.Words+h.Pieces)
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
