package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"agento.host/agento/internal/knowledge/embed"
)

// encodeModel returns a model file, as embed.ReadModel reads it, from rows of
// h.Dimension numbers. It sets the counts of the header.
// Errors: the number of rows is not that of words, pieces and buckets.
func encodeModel(h embed.Header, words, pieces []string, buckets int, rows []float32) ([]byte, error) {
	text := strings.Join(append(slices.Clone(words), pieces...), "\n")
	h.Words, h.Pieces, h.Buckets, h.TextBytes = len(words), len(pieces), buckets, len(text)
	size := len(words) + len(pieces) + buckets
	if len(rows) != size*h.Dimension {
		return nil, fmt.Errorf("encode model: %d numbers for %d rows of %d", len(rows), size, h.Dimension)
	}
	header, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	out := binary.LittleEndian.AppendUint32([]byte(embed.ModelMagic), uint32(len(header)))
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
