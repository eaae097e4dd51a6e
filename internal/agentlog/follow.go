package agentlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// minBehind is how many lines a reader may be behind, at least.
	minBehind = 1000
	// maxBehindBytes bounds the size of those lines. The longest tail that may be
	// asked for, 10,000 lines, fits at 200 bytes a line.
	maxBehindBytes = 2 << 20
)

// queue holds the lines that a reader has not read yet. It accepts every line at once
// and drops the oldest when it is full: a slow reader never delays the log.
type queue struct {
	maxLines int
	maxBytes int
	changed  chan struct{}

	mu      sync.Mutex
	lines   []string // guarded by mu
	bytes   int      // of lines; guarded by mu
	dropped int      // since the last pop; guarded by mu
	closed  bool     // guarded by mu
	err     error    // why it was closed; guarded by mu
}

// newQueue returns a queue that holds the requested tail and the lines that come
// meanwhile.
func newQueue(tail int) *queue {
	return &queue{maxLines: minBehind + max(0, tail), maxBytes: maxBehindBytes, changed: make(chan struct{}, 1)}
}

func (q *queue) push(line string) {
	q.mu.Lock()
	q.add(line)
	q.mu.Unlock()
	q.signal()
}

// add is push for a caller that holds mu.
func (q *queue) add(line string) {
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	for len(q.lines) > q.maxLines || q.bytes > q.maxBytes {
		_ = q.removeFirst()
		q.dropped++
	}
}

// removeFirst removes and returns the oldest line. The caller holds mu.
func (q *queue) removeFirst() string {
	line := q.lines[0]
	q.lines[0] = "" // the array stays in memory for a while, the line need not
	q.lines, q.bytes = q.lines[1:], q.bytes-len(line)
	return line
}

// close means that no more lines come.
func (q *queue) close(err error) {
	q.mu.Lock()
	q.closed, q.err = true, err
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// pop removes and returns the oldest line, and how many were dropped before it. ok is
// false if there is no line; if no more come either, err is not nil. Errors: io.EOF,
// at the end of the log.
func (q *queue) pop() (line string, dropped int, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	dropped, q.dropped = q.dropped, 0
	if len(q.lines) > 0 {
		return q.removeFirst(), dropped, true, nil
	}
	switch {
	case q.closed && q.err != nil:
		err = q.err
	case q.closed:
		err = io.EOF
	}
	return "", dropped, false, err
}

// follow calls emit with the lines of r until ctx ends, r ends or emit fails, and then
// closes r. Where lines were dropped it calls emitNotice with a line that says so.
func follow(ctx context.Context, r io.ReadCloser, q *queue, emit, emitNotice func(string) error) error {
	var reader sync.WaitGroup
	reader.Go(func() { q.close(readLines(r, q.push)) })
	defer reader.Wait()
	defer func() { _ = r.Close() }() // ends the reader
	for ctx.Err() == nil {
		line, dropped, ok, err := q.pop()
		if dropped > 0 {
			if err := emitNotice(fmt.Sprintf("… %d lines were lost: this reader is too slow", dropped)); err != nil {
				return err
			}
		}
		if ok {
			err = emit(line)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case ok:
			continue
		}
		select {
		case <-q.changed:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
