package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"agento.host/agento/internal/vault"
)

const (
	logName = "gateway.log"
	// blockSize is the unit in which the head of a log is removed. It is a multiple
	// of the block size of almost every file system; on the others the log is
	// truncated.
	blockSize = 64 << 10
	// maxOversize is how many times its maximum size a log may have and still be
	// archived and searched completely. An agent can make its log look endless by
	// seeking.
	maxOversize = 4
	// followInterval is the pause between two reads of a reader that follows. A
	// read costs 2 µs. Inotify watches are limited in number and their queues
	// overflow.
	followInterval = 100 * time.Millisecond
)

// gatewayLog is the log of an agent: gateway.log, to which the gateway itself
// appends, and the older files gateway.log.1 and up. Gateways also write while no
// server runs. Therefore gateway.log is never renamed: rotation copies its head to
// gateway.log.1 and removes the head from the file.
//
// Readers use offsets from where gateway.log began when this driver first opened
// it; trimmed is the number of bytes removed from it since. The older files come
// before it. They are sealed if there is a key; see sealedlog.go.
type gatewayLog struct {
	dir      string
	maxBytes int64
	keep     int
	key      func(context.Context) (vault.TextKey, error) // nil: older files are not sealed

	mu      sync.Mutex // held while files are read or trimmed
	trimmed int64      // guarded by mu
}

func (l *gatewayLog) path(n int) string {
	if n == 0 {
		return filepath.Join(l.dir, logName)
	}
	return filepath.Join(l.dir, fmt.Sprintf("%s.%d", logName, n))
}

// rotate archives the head of gateway.log if the file has grown past its maximum. If the
// key is lost that should seal the head, rotate removes it and returns errDiscarded.
func (l *gatewayLog) rotate(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(l.path(0), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil || st.Size() <= l.maxBytes {
		return err
	}
	size := st.Size()
	from := int64(0)
	if size > maxOversize*l.maxBytes {
		from = (size - l.maxBytes) / blockSize * blockSize // a sealed file has complete blocks
	}
	// Complete blocks only, and not the whole file, because collapseHead cannot
	// remove everything.
	head := (size - 1) / blockSize * blockSize
	if head <= from {
		return nil
	}
	err = l.archive(ctx, f, from, head)
	if err != nil && !errors.Is(err, errDiscarded) {
		return err
	}
	if collapseHead(f, head) == nil {
		l.trimmed += head
		return err
	}
	if err != nil {
		head = size
	}
	return errors.Join(err, l.truncate(ctx, f, head))
}

// archive makes a range of gateway.log the newest of the older files.
func (l *gatewayLog) archive(ctx context.Context, f *os.File, from, to int64) error {
	key, suffix, err := l.sealing(ctx)
	if err != nil {
		return err
	}
	temp := l.path(0) + ".new"
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = copyTo(out, io.NewSectionReader(f, from, to-from), key, 0)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	for _, s := range []string{"", sealedSuffix} {
		if err := ignoreMissing(os.Remove(l.path(l.keep) + s)); err != nil {
			return err
		}
	}
	for n := l.keep; n > 1; n-- {
		for _, s := range []string{"", sealedSuffix} {
			if err := ignoreMissing(os.Rename(l.path(n-1)+s, l.path(n)+s)); err != nil {
				return err
			}
		}
	}
	return os.Rename(temp, l.path(1)+suffix)
}

// truncate empties gateway.log if the file system cannot remove its head alone.
// What the gateway prints between the last read and the truncation, some
// microseconds, is lost.
func (l *gatewayLog) truncate(ctx context.Context, f *os.File, copied int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rest := min(st.Size()-copied, l.maxBytes)
	if rest > 0 {
		if err := l.appendToNewest(ctx, io.NewSectionReader(f, copied, rest)); err != nil {
			return err
		}
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	l.trimmed += copied + rest
	return nil
}

// appendToNewest appends to the newest of the older files, which archive has written just
// before.
func (l *gatewayLog) appendToNewest(ctx context.Context, in io.Reader) error {
	key, suffix, err := l.sealing(ctx)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(l.path(1)+suffix, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	st, err := out.Stat()
	if err == nil {
		err = copyTo(out, in, key, st.Size()/sealedBlock)
	}
	return errors.Join(err, out.Close())
}

// segment is one file of the log and the offset at which it begins.
type segment struct {
	path        string
	start, size int64 // of the text
	sealed      bool
}

// segments lists the files, oldest first. The caller holds mu.
func (l *gatewayLog) segments() []segment {
	current := segment{path: l.path(0), start: l.trimmed}
	if st, err := os.Stat(current.path); err == nil {
		current.size = st.Size()
	}
	out := []segment{current}
	for n := 1; n <= l.keep; n++ {
		c, ok := olderSegment(l.path(n))
		if !ok {
			break
		}
		c.start = out[0].start - c.size
		out = append([]segment{c}, out...)
	}
	return out
}

// endOf returns the offset of the end of the log.
func endOf(c []segment) int64 { return c[len(c)-1].start + c[len(c)-1].size }

// read returns a reader of the last tail lines. With follow it continues with new
// lines.
func (l *gatewayLog) read(ctx context.Context, tail int, follow bool) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	segments := l.segments()
	from, err := l.tailOffset(ctx, segments, tail)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &logReader{log: l, ctx: ctx, cancel: cancel, at: from, until: endOf(segments), follow: follow}, nil
}

// tailOffset returns the offset of the last tail lines, or of the first complete
// line if tail is negative.
func (l *gatewayLog) tailOffset(ctx context.Context, segments []segment, tail int) (int64, error) {
	if tail == 0 {
		return endOf(segments), nil
	}
	missing := tail
	if endOf(segments) > 0 && !l.endsLine(ctx, segments) {
		missing-- // an incomplete last line counts too
	}
	for i := len(segments) - 1; i >= 0 && tail > 0; i-- {
		at, left, err := l.findLine(ctx, segments[i], missing, maxOversize*l.maxBytes)
		if errors.Is(err, errNotOpened) {
			return segments[i].start + segments[i].size, nil
		}
		if err != nil || left < 0 {
			return at, err
		}
		missing = left
	}
	return l.firstOffset(ctx, segments)
}

// firstOffset returns the offset of the first line. If older files have been
// deleted, it skips the first, incomplete line.
func (l *gatewayLog) firstOffset(ctx context.Context, segments []segment) (int64, error) {
	first := segments[0]
	if len(segments) <= l.keep {
		return first.start, nil
	}
	head := make([]byte, min(first.size, blockSize))
	if err := l.readAt(ctx, first, head, 0); errors.Is(err, errNotOpened) {
		return first.start + first.size, nil
	} else if err != nil {
		return 0, err
	}
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		return first.start + int64(i) + 1, nil
	}
	return first.start, nil
}

func (l *gatewayLog) endsLine(ctx context.Context, segments []segment) bool {
	for i := len(segments) - 1; i >= 0; i-- {
		if c := segments[i]; c.size > 0 {
			last := make([]byte, 1)
			return l.readAt(ctx, c, last, c.size-1) == nil && last[0] == '\n'
		}
	}
	return true
}

// findLine searches a segment backwards for the offset of the line that is n lines
// before the end. It searches at most reach bytes. If it finds the offset, or
// reaches that limit, left is -1; otherwise left is the number of lines that older
// segments must have.
func (l *gatewayLog) findLine(ctx context.Context, c segment, n int, reach int64) (at int64, left int, err error) {
	buf := make([]byte, blockSize)
	for stop := c.size; stop > 0; {
		if c.size-stop >= reach {
			return c.start + stop, -1, nil
		}
		start := max(0, stop-blockSize)
		part := buf[:stop-start]
		if err := l.readAt(ctx, c, part, start); err != nil {
			return 0, 0, err
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if n == 0 {
				return c.start + start + int64(i) + 1, -1, nil
			}
			n--
		}
		stop = start
	}
	return 0, n, nil
}

// readAt fills buf. Bytes that have been removed from the file meanwhile stay as
// they are in buf.
func readAt(path string, buf []byte, at int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.ReadAt(buf, at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// logReader reads a gatewayLog from an offset.
type logReader struct {
	log    *gatewayLog
	ctx    context.Context
	cancel context.CancelFunc
	at     int64
	until  int64 // the end of the log when the reader was created, for readers that do not follow
	follow bool

	block   []byte // of a sealed file; nil: none was read yet
	blockAt int64  // its offset
}

// Close implements io.Closer. A waiting Read returns io.EOF.
func (r *logReader) Close() error {
	r.cancel()
	return nil
}

// Read implements io.Reader.
func (r *logReader) Read(p []byte) (int, error) {
	for {
		if r.ctx.Err() != nil || len(p) == 0 {
			return 0, io.EOF
		}
		if !r.follow && r.at >= r.until {
			return 0, io.EOF
		}
		n, err := r.next(p)
		if n > 0 || err != nil {
			return n, err
		}
		if !r.follow || pause(r.ctx, followInterval) != nil {
			return 0, io.EOF
		}
	}
}

// next reads what is available; it returns 0 bytes if there is nothing yet.
func (r *logReader) next(p []byte) (int, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	segments := r.log.segments()
	if _, err := os.Stat(filepath.Dir(r.log.dir)); err != nil {
		return 0, io.EOF // the agent was removed
	}
	if r.at > endOf(segments) || r.at < segments[0].start {
		// The agent has truncated its log, or the reader was slower than rotation.
		r.at = max(min(r.at, endOf(segments)), segments[0].start)
	}
	until := endOf(segments)
	if !r.follow { // the range may have been removed since
		until = min(until, r.until)
	}
	for _, c := range segments {
		left := min(c.start+c.size, until) - r.at
		if left <= 0 {
			continue
		}
		part := p[:min(int64(len(p)), left)]
		n, err := r.readPart(c, part)
		if errors.Is(err, errNotOpened) {
			r.at = c.start + c.size
			continue
		}
		r.at += int64(n)
		return n, err
	}
	return 0, nil
}
