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
)

const (
	liveLog = "gateway.log"
	// block is what cutHead cuts by; every file system's block size divides it
	// but those of some with larger ones, which then copy.
	block = 64 << 10
	// oversize is how many times its maximum a log may have reached for all of
	// it to be kept or searched. An agent can make its log look endless by seeking.
	oversize = 4
	// polling is how often a reader that follows looks for more. Looking costs
	// 2 µs; watches of the kernel are few and their queues overflow.
	polling = 100 * time.Millisecond
)

// logbook is an agent's log: gateway.log, which the gateway itself appends to,
// and older parts gateway.log.1 and up. Gateways write on while no server
// lives, so the file is never moved: rotation copies its head away and cuts it
// off.
//
// Readers count bytes from where the live file began when this driver first
// saw it; what has been cut since is in cut. Older parts lie before it.
type logbook struct {
	dir  string
	max  int64
	keep int

	mu  sync.Mutex // held while files are cut or read
	cut int64      // guarded by mu
}

func (b *logbook) part(n int) string {
	if n == 0 {
		return filepath.Join(b.dir, liveLog)
	}
	return filepath.Join(b.dir, fmt.Sprintf("%s.%d", liveLog, n))
}

// rotate cuts the head off a live log that has grown past its maximum.
func (b *logbook) rotate() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, err := os.OpenFile(b.part(0), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil || st.Size() <= b.max {
		return err
	}
	size := st.Size()
	from := int64(0)
	if size > oversize*b.max {
		from = size - b.max
	}
	// Whole blocks, and not all: cutHead leaves a rest.
	head := (size - 1) / block * block
	if head <= from {
		return nil
	}
	if err := b.copyAway(f, from, head); err != nil {
		return err
	}
	if err := cutHead(f, head); err == nil {
		b.cut += head
		return nil
	}
	return b.truncate(f, head)
}

// copyAway makes a part of the live log the newest of the older parts.
func (b *logbook) copyAway(f *os.File, from, to int64) error {
	temp := b.part(0) + ".new"
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, from, to-from))
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	for n := b.keep; n > 1; n-- {
		if err := os.Rename(b.part(n-1), b.part(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(temp, b.part(1))
}

// truncate empties the live log where its head alone cannot be cut off. What
// the gateway prints between the last read and the cut, some microseconds, is
// lost.
func (b *logbook) truncate(f *os.File, copied int64) error {
	out, err := os.OpenFile(b.part(1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.NewSectionReader(f, copied, b.max))
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	b.cut += copied + n
	return nil
}

// chapter is one file of the log and where it begins in the reader's count.
type chapter struct {
	path        string
	start, size int64
}

// chapters lists the files, oldest first. The caller holds mu.
func (b *logbook) chapters() []chapter {
	live := chapter{path: b.part(0), start: b.cut}
	if st, err := os.Stat(live.path); err == nil {
		live.size = st.Size()
	}
	out := []chapter{live}
	for n := 1; n <= b.keep; n++ {
		st, err := os.Stat(b.part(n))
		if err != nil {
			break
		}
		out = append([]chapter{{path: b.part(n), start: out[0].start - st.Size(), size: st.Size()}}, out...)
	}
	return out
}

func end(c []chapter) int64 { return c[len(c)-1].start + c[len(c)-1].size }

// read returns a reader of the last tail lines, that goes on if follow.
func (b *logbook) read(ctx context.Context, tail int, follow bool) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	chapters := b.chapters()
	from, err := b.startOf(chapters, tail)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	return &logReader{book: b, ctx: ctx, cancel: cancel, at: from, until: end(chapters), follow: follow}, nil
}

// startOf finds where the last tail lines begin; the first whole line if tail
// is negative.
func (b *logbook) startOf(chapters []chapter, tail int) (int64, error) {
	if tail == 0 {
		return end(chapters), nil
	}
	missing := tail
	if end(chapters) > 0 && !endsLine(chapters) {
		missing-- // the last line is not whole yet, but counts
	}
	for i := len(chapters) - 1; i >= 0 && tail > 0; i-- {
		at, left, err := lineBefore(chapters[i], missing, oversize*b.max)
		if err != nil || left < 0 {
			return at, err
		}
		missing = left
	}
	return b.oldest(chapters)
}

// oldest is the beginning of the log; if parts have been dropped, the first
// line that is whole.
func (b *logbook) oldest(chapters []chapter) (int64, error) {
	first := chapters[0]
	if len(chapters) <= b.keep {
		return first.start, nil
	}
	head := make([]byte, min(first.size, block))
	if err := readAt(first.path, head, 0); err != nil {
		return 0, err
	}
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		return first.start + int64(i) + 1, nil
	}
	return first.start, nil
}

func endsLine(chapters []chapter) bool {
	for i := len(chapters) - 1; i >= 0; i-- {
		if c := chapters[i]; c.size > 0 {
			last := make([]byte, 1)
			return readAt(c.path, last, c.size-1) == nil && last[0] == '\n'
		}
	}
	return true
}

// lineBefore looks backwards for the end of the line that is n lines before
// the end of a chapter, as far as reach allows. left is below 0 if the place to
// begin was found, else how many are still missing.
func lineBefore(c chapter, n int, reach int64) (at int64, left int, err error) {
	buf := make([]byte, block)
	for stop := c.size; stop > 0; {
		if c.size-stop >= reach {
			return c.start + stop, -1, nil
		}
		start := max(0, stop-block)
		part := buf[:stop-start]
		if err := readAt(c.path, part, start); err != nil {
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

// readAt fills buf; what a file has lost meanwhile reads as zero bytes.
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

// logReader reads a logbook from a place on.
type logReader struct {
	book   *logbook
	ctx    context.Context
	cancel context.CancelFunc
	at     int64
	until  int64 // where the log ended at first, for readers that do not follow
	follow bool
}

// Close implements io.Closer; a Read that waits ends.
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
		if !r.follow || pause(r.ctx, polling) != nil {
			return 0, io.EOF
		}
	}
}

// next reads what there is, 0 bytes if nothing yet.
func (r *logReader) next(p []byte) (int, error) {
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	chapters := r.book.chapters()
	if _, err := os.Stat(filepath.Dir(r.book.dir)); err != nil {
		return 0, io.EOF // the agent was removed
	}
	if r.at > end(chapters) || r.at < chapters[0].start {
		// The agent has emptied its log, or we were too slow for it.
		r.at = max(min(r.at, end(chapters)), chapters[0].start)
	}
	until := end(chapters)
	if !r.follow { // what it was to read may be gone since
		until = min(until, r.until)
	}
	for _, c := range chapters {
		left := min(c.start+c.size, until) - r.at
		if left <= 0 {
			continue
		}
		part := p[:min(int64(len(p)), left)]
		if err := readAt(c.path, part, r.at-c.start); err != nil {
			return 0, err
		}
		r.at += int64(len(part))
		return len(part), nil
	}
	return 0, nil
}
