package modelproxy

import (
	"errors"
	"io"
)

// settledBody passes an answer on, and withholds its end until settle has counted the call: the
// last event of a stream, with what comes after it, or the last byte of another answer. So a
// gateway that has got a whole answer is one whose call is counted, whenever the server dies.
type settledBody struct {
	io.ReadCloser
	stream *eventStream // nil if the answer is no stream
	settle func()

	settled bool
	held    []byte // of a stream from its last event on, or the last byte of another answer
	err     error  // what follows after held
}

// Read implements io.Reader.
func (b *settledBody) Read(p []byte) (int, error) {
	for !b.settled {
		n, err := b.ReadCloser.Read(p)
		switch {
		case err != nil:
			b.held, b.err = append(b.held, p[:n]...), err
			if errors.Is(err, io.EOF) {
				b.settle()
			}
			b.settled = true
		case b.stream == nil:
			if n = b.withholdByte(p[:n]); n > 0 {
				return n, nil
			}
		case !b.stream.last:
			return n, nil
		default:
			b.held = append(b.held, p[:n]...)
			// A provider that goes on after its last event is not waited for.
			if b.stream.complete || len(b.held) > maxEvent {
				b.settle()
				b.settled = true
			}
		}
	}
	if len(b.held) > 0 {
		n := copy(p, b.held)
		b.held = b.held[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.ReadCloser.Read(p)
}

// withholdByte replaces the last byte of a piece by the one that was withheld before, which comes
// first. It returns the length of the piece.
func (b *settledBody) withholdByte(piece []byte) int {
	n := len(piece)
	if n == 0 {
		return 0
	}
	last := piece[n-1]
	if len(b.held) == 0 {
		b.held = append(b.held, last)
		return n - 1
	}
	copy(piece[1:], piece[:n-1])
	piece[0], b.held[0] = b.held[0], last
	return n
}
