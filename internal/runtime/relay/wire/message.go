package wire

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// WriteMessage writes a value as JSON, preceded by its length.
func WriteMessage(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// ReadMessage reads a value that WriteMessage has written, and not a byte more. It fails if the
// value is longer than limit.
func ReadMessage(r io.Reader, v any, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	if int64(size) > int64(limit) {
		return fmt.Errorf("a message of %d bytes is too long", size)
	}
	text, err := ReadBody(r, int64(size))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("a message is damaged: %w", err)
	}
	return nil
}

// ReadBody reads so many bytes. It needs memory only for those that come.
func ReadBody(r io.Reader, size int64) ([]byte, error) {
	if size < 0 {
		return nil, errors.New("a negative size")
	}
	const small = 1 << 20
	if size <= small {
		data := make([]byte, size)
		_, err := io.ReadFull(r, data)
		return data, err
	}
	data, err := io.ReadAll(io.LimitReader(r, size))
	if err == nil && int64(len(data)) < size {
		err = io.ErrUnexpectedEOF
	}
	return data, err
}
