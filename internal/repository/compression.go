package repository

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// How the content of an object begins. After compressed follows its length before that, as a
// varint.
const (
	stored     = 0
	compressed = 1
)

// encoder and decoder are used without streams, which is safe for concurrent use. The
// decoder writes no more than the buffer of its caller has room for.
var encoder, decoder = newCodec()

func newCodec() (*zstd.Encoder, *zstd.Decoder) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(2), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are wrong
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return e, d
}

// compress compresses data, unless that makes it longer.
func compress(data []byte) []byte {
	out := append(make([]byte, 0, len(data)/2+64), compressed)
	out = encoder.EncodeAll(data, binary.AppendUvarint(out, uint64(len(data))))
	if len(out) > len(data) {
		return append([]byte{stored}, data...)
	}
	return out
}

// decompress returns what compress got, if it has at most limit bytes. Errors: ErrDamaged.
func decompress(data []byte, limit int) ([]byte, error) {
	if len(data) == 0 {
		return nil, ErrDamaged
	}
	kind, data := data[0], data[1:]
	switch kind {
	case stored:
		if len(data) > limit {
			return nil, ErrDamaged
		}
		return data, nil
	case compressed:
		length, n := binary.Uvarint(data)
		if n <= 0 || length > uint64(limit) {
			return nil, ErrDamaged
		}
		out, err := decoder.DecodeAll(data[n:], make([]byte, 0, length))
		if err != nil || uint64(len(out)) != length {
			return nil, ErrDamaged
		}
		return out, nil
	}
	return nil, ErrDamaged
}
