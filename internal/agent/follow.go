package agent

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"agento.host/agento/internal/openclaw"
)

// backlog is how many lines a slow reader may be behind.
const backlog = 1000

// queue stands between a log and a slow reader: it takes every line at once and
// drops the oldest when it is full, so that the reader never holds the log up.
type queue struct {
	mu    sync.Mutex
	lines []string // guarded by mu
	lost  int      // guarded by mu
	ended bool     // guarded by mu
	err   error    // guarded by mu
	news  chan struct{}
}

func (q *queue) put(line string) {
	q.mu.Lock()
	if len(q.lines) == backlog {
		q.lines = q.lines[1:]
		q.lost++
	}
	q.lines = append(q.lines, line)
	q.mu.Unlock()
	q.ring()
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

// take returns what has come since, after how many lost lines.
func (q *queue) take() (lines []string, lost int, ended bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, lost = q.lines, q.lost
	q.lines, q.lost = nil, 0
	return lines, lost, q.ended, q.err
}

// follow copies lines from r to emit until ctx ends, r ends or emit fails.
func follow(ctx context.Context, r io.ReadCloser, mask *strings.Replacer, emit func(string) error) error {
	q := &queue{news: make(chan struct{}, 1)}
	var reading sync.WaitGroup
	reading.Go(func() {
		q.end(lines(r, func(line string) error {
			q.put(mask.Replace(openclaw.LogLine(line)))
			return nil
		}))
	})
	defer reading.Wait()
	defer func() { _ = r.Close() }() // ends the reading
	for {
		select {
		case <-q.news:
		case <-ctx.Done():
			return ctx.Err()
		}
		lines, lost, ended, err := q.take()
		if lost > 0 {
			lines = append([]string{fmt.Sprintf("… %d lines were lost: this reader is too slow", lost)}, lines...)
		}
		for _, line := range lines {
			if err := emit(line); err != nil {
				return err
			}
		}
		if ended {
			return err
		}
	}
}
