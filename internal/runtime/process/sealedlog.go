package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"agento.host/agento/internal/vault"
)

// A sealed file has the text in blocks of blockSize, each sealed for its number; the last
// one can be shorter. So each part of it can be read alone, and its size tells how long the
// text is.
const (
	// sealedSuffix is the end of the name of a sealed file. What a file has in it says nothing:
	// the agent writes it.
	sealedSuffix = ".sealed"
	sealedBlock  = blockSize + vault.TextOverhead
)

var (
	// errDiscarded means that the head of a log was removed because it cannot be sealed.
	errDiscarded = errors.New("the agent's data key is lost, so a part of the log was discarded")
	// errNotOpened means that a block of a sealed file cannot be opened. Readers leave the
	// rest of the file out.
	errNotOpened = errors.New("a part of the log cannot be opened")
)

// sealing returns the key for a new file and the end of its name; no key if the file is
// not sealed. Errors: errDiscarded.
func (l *gatewayLog) sealing(ctx context.Context) (key *vault.TextKey, suffix string, err error) {
	if l.key == nil {
		return nil, "", nil
	}
	k, err := l.key(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("read the key of the log: %w", err)
	}
	if !k.Seals() {
		return nil, "", nil
	}
	if _, err := k.SealBytes(nil); err != nil {
		return nil, "", errDiscarded
	}
	return &k, sealedSuffix, nil
}

// copyTo copies a text to a file, sealed if there is a key. first is the number of its first
// block.
func copyTo(out io.Writer, in io.Reader, key *vault.TextKey, first int64) error {
	if key == nil {
		_, err := io.Copy(out, in)
		return err
	}
	block := make([]byte, blockSize)
	for number := first; ; number++ {
		n, err := io.ReadFull(in, block)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		box, err := key.SealBytes(block[:n], blockPlace(number)...)
		if err != nil {
			return err
		}
		if _, err := out.Write(box); err != nil {
			return err
		}
	}
}

func blockPlace(number int64) []string { return []string{"log", strconv.FormatInt(number, 10)} }

// olderSegment returns an older file, without its offset. ok is false if there is none.
func olderSegment(path string) (c segment, ok bool) {
	if st, err := os.Stat(path + sealedSuffix); err == nil {
		rest := max(0, st.Size()%sealedBlock-vault.TextOverhead)
		return segment{path: path + sealedSuffix, size: st.Size()/sealedBlock*blockSize + rest, sealed: true}, true
	}
	st, err := os.Stat(path)
	if err != nil {
		return segment{}, false
	}
	return segment{path: path, size: st.Size()}, true
}

// readAt is the function readAt for a file that may be sealed. Errors: errNotOpened.
func (l *gatewayLog) readAt(ctx context.Context, c segment, buf []byte, at int64) error {
	if !c.sealed {
		return readAt(c.path, buf, at)
	}
	for len(buf) > 0 {
		block, err := l.openBlock(ctx, c, at/blockSize)
		if err != nil {
			return err
		}
		n := copy(buf, block[min(at%blockSize, int64(len(block))):])
		if n == 0 {
			return nil // as the function readAt: the rest has been removed meanwhile
		}
		buf, at = buf[n:], at+int64(n)
	}
	return nil
}

// openBlock returns a block of a sealed file. Errors: errNotOpened.
func (l *gatewayLog) openBlock(ctx context.Context, c segment, number int64) ([]byte, error) {
	if l.key == nil {
		return nil, errNotOpened
	}
	key, err := l.key(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the key of the log: %w", err)
	}
	f, err := os.Open(c.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	box := make([]byte, sealedBlock)
	n, err := f.ReadAt(box, number*sealedBlock)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	block, err := key.OpenBytes(box[:n], blockPlace(number)...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotOpened, err)
	}
	return block, nil
}

// readPart reads from a file of the log at r.at into p, which is not longer than what the
// file has left. It keeps the block of a sealed file, of which p may be a small part.
// Errors: errNotOpened.
func (r *logReader) readPart(c segment, p []byte) (int, error) {
	if !c.sealed {
		return len(p), readAt(c.path, p, r.at-c.start)
	}
	number := (r.at - c.start) / blockSize
	if at := c.start + number*blockSize; r.block == nil || r.blockAt != at {
		block, err := r.log.openBlock(r.ctx, c, number)
		if err != nil {
			return 0, err
		}
		r.block, r.blockAt = block, at
	}
	n := copy(p, r.block[min(r.at-r.blockAt, int64(len(r.block))):])
	if n == 0 {
		return 0, errNotOpened
	}
	return n, nil
}
