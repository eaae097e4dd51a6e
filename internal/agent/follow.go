package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	// maxBehind is how many lines a reader may be behind, at least.
	maxBehind = 1000
	// maxBehindBytes bounds those lines; the longest tail that may be asked for,
	// 10,000 lines, fits at 400 bytes a line.
	maxBehindBytes = 4 << 20
)

// queue stands between a log and a slow reader: it takes every line at once and
// drops the oldest when it is full, so that the reader never holds the log up.
type queue struct {
	room int
	news chan struct{}

	mu    sync.Mutex
	lines []string // guarded by mu
	bytes int      // of lines; guarded by mu
	lost  int      // guarded by mu
	ended bool     // guarded by mu
	err   error    // guarded by mu
}

// newQueue has room for the tail that was asked for, and for what comes meanwhile.
func newQueue(tail int) *queue {
	return &queue{room: maxBehind + max(0, tail), news: make(chan struct{}, 1)}
}

func (q *queue) put(line string) {
	q.mu.Lock()
	q.lines = append(q.lines, line)
	q.bytes += len(line)
	for len(q.lines) > q.room || q.bytes > maxBehindBytes {
		_ = q.pop()
		q.lost++
	}
	q.mu.Unlock()
	q.ring()
}

// pop takes the oldest line out. The caller holds mu.
func (q *queue) pop() string {
	line := q.lines[0]
	q.lines[0] = "" // the array lives on for a while, the line need not
	q.lines, q.bytes = q.lines[1:], q.bytes-len(line)
	return line
}

func (q *queue) end(err error) {
	q.mu.Lock()
	q.ended, q.err = true, err
	q.mu.Unlock()
	q.ring()
}

func (q *queue) ring() {
	select {
	case q.news <- struct{}{}:
	default:
	}
}

// take returns the oldest line, how many were lost before it, and whether there is
// one. If there is none and the log has ended, err is why, io.EOF at its end.
func (q *queue) take() (line string, lost int, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lost, q.lost = q.lost, 0
	if len(q.lines) > 0 {
		return q.pop(), lost, true, nil
	}
	switch {
	case q.ended && q.err != nil:
		err = q.err
	case q.ended:
		err = io.EOF
	}
	return "", lost, false, err
}

// follow hands lines of r to emit until ctx ends, r ends or emit fails, and then
// closes r. How many were lost is told through tell.
func follow(ctx context.Context, r io.ReadCloser, q *queue, emit, tell func(string) error) error {
	var reading sync.WaitGroup
	reading.Go(func() { q.end(lines(r, q.put)) })
	defer reading.Wait()
	defer func() { _ = r.Close() }() // ends the reading
	for ctx.Err() == nil {
		line, lost, ok, err := q.take()
		if lost > 0 {
			if err := tell(fmt.Sprintf("… %d lines were lost: this reader is too slow", lost)); err != nil {
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
		case <-q.news:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
