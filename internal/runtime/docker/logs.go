package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// followInterval is the pause between two looks whether a followed agent was started again, or
	// whether the engine answers again.
	followInterval = 250 * time.Millisecond
	// lookInterval is the pause between two looks whether the container of a log that is followed has
	// ended, and endTimeout is how long the stream may take then to end.
	lookInterval, endTimeout = 5 * time.Second, 2 * time.Second
	// extraMessages is how many messages more than lines are read of the end of a log: a long line is
	// several messages of the same time, of which the reader has to know the number.
	extraMessages = 64
)

// Logs implements runtime.Driver. The log of an agent is that of its kept containers and of the present
// one.
func (d *Driver) Logs(ctx context.Context, _ runtime.Place, id identity.AgentID, tail int, follow bool) (io.ReadCloser, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	all, err := d.gateways(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", id, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	l := &logReader{driver: d, agent: a, out: w}
	var first []string
	if tail >= 0 {
		if first, err = l.seek(ctx, all, tail); err != nil {
			cancel()
			return nil, fmt.Errorf("read the log of %s: %w", id, err)
		}
		all = all[max(0, len(all)-1):]
		if !follow {
			all = nil
		}
	}
	go func() {
		defer cancel()
		w.CloseWithError(l.run(ctx, first, all, follow))
	}()
	return &logStream{PipeReader: r, cancel: cancel, ended: context.AfterFunc(ctx, func() { _ = w.Close() })}, nil
}

// logStream is what the caller reads.
type logStream struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  func() bool
}

// Close implements io.Closer. A waiting Read returns io.EOF.
func (s *logStream) Close() error {
	s.cancel()
	return nil
}

// position is how far the log of a container was read. Times are those of the engine: a message is
// recognized by its time, and by its number among those of the same time.
type position struct {
	container string
	epoch     int64
	at        int64 // when the last message was logged that was read, in nanoseconds; 0: none was
	same      int   // messages of that time that were read
	ended     bool  // the container has ended, and everything was read
}

// advance reports whether a message comes after the position, which becomes its own; seen counts the
// messages of the position's time in this reading.
func (p *position) advance(at int64, seen *int) bool {
	switch {
	case at < p.at:
		return false
	case at > p.at:
		p.at, p.same, *seen = at, 1, 1
		return true
	}
	*seen++
	if *seen <= p.same {
		return false
	}
	p.same = *seen
	return true
}

// logReader reads the log of an agent.
type logReader struct {
	driver *Driver
	agent  agent
	out    io.Writer
	at     position
	read   atomic.Int64 // the time of the last message that was read
}

// seek returns the last lines of the containers, and goes to the end of the last one.
func (l *logReader) seek(ctx context.Context, all []container.Summary, tail int) ([]string, error) {
	var lines []string
	for i, c := range slices.Backward(all) {
		if len(lines) >= tail && i < len(all)-1 {
			break
		}
		at := position{container: c.ID, epoch: epochOf(c.Labels)}
		found, err := l.lastLines(ctx, &at, tail-len(lines))
		if err != nil {
			return nil, err
		}
		lines = append(found, lines...)
		if i == len(all)-1 {
			l.at = at
		}
	}
	return lines[max(0, len(lines)-tail):], nil
}

// lastLines returns the last lines of the log of a container.
func (l *logReader) lastLines(ctx context.Context, at *position, n int) ([]string, error) {
	messages, err := l.driver.openLog(ctx, at.container, client.ContainerLogsOptions{Tail: strconv.Itoa(n + extraMessages)})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer messages.close()
	var lines []string
	complete, seen := true, 0
	for {
		m, err := messages.next()
		if errors.Is(err, io.EOF) {
			return lines[max(0, len(lines)-n):], nil
		}
		if err != nil {
			return nil, err
		}
		at.advance(m.at, &seen)
		if complete {
			lines = append(lines, string(m.text))
		} else {
			lines[len(lines)-1] += string(m.text)
		}
		complete = m.endsLine()
		if len(lines) > 2*(n+extraMessages) {
			lines = slices.Clone(lines[len(lines)-n:])
		}
	}
}

// run writes the first lines and then what the containers have logged since. It returns when all is read,
// or, if it follows, when ctx ends or the agent is removed.
func (l *logReader) run(ctx context.Context, first []string, all []container.Summary, follow bool) error {
	for _, line := range first {
		if _, err := io.WriteString(l.out, line); err != nil {
			return nil //nolint:nilerr // the reader has left
		}
	}
	for ctx.Err() == nil {
		next := l.nextContainer(all)
		if next == nil && !follow {
			return nil
		}
		if next != nil {
			if next.ID != l.at.container {
				l.at = position{container: next.ID, epoch: epochOf(next.Labels)}
			}
			err := l.copyAll(ctx, next, follow)
			if !follow && err != nil {
				return err
			}
			if err == nil {
				l.at.ended = true
				continue
			}
		}
		if pause(ctx, followInterval) != nil {
			break
		}
		// If the engine does not answer, it will again.
		if found, err := l.driver.gateways(ctx, l.agent); err == nil {
			if len(found) == 0 && l.agent.isRemoved() {
				return nil
			}
			all = found
		}
	}
	return nil //nolint:nilerr // a log that is followed ends with its agent or its reader
}

// nextContainer returns the container to read: the present one again if it has not been read to its end,
// else the next one.
func (l *logReader) nextContainer(all []container.Summary) *container.Summary {
	for i, c := range all {
		if c.ID == l.at.container && !l.at.ended || epochOf(c.Labels) > l.at.epoch {
			return &all[i]
		}
	}
	return nil
}

// copyAll writes what a container has logged since the position; with follow, until the container has
// ended. It returns an error if there may be more.
func (l *logReader) copyAll(ctx context.Context, c *container.Summary, follow bool) error {
	if !follow {
		return l.copySince(ctx, c.ID, false)
	}
	if err := l.follow(ctx, c.ID); err != nil {
		return err
	}
	// The engine ends the stream with the container, but also at other times.
	now, err := l.driver.inspectContainer(ctx, c.ID)
	if err != nil {
		return err
	}
	if runs(now) {
		return errMore
	}
	if now == nil {
		return nil
	}
	return l.copySince(ctx, c.ID, false)
}

// follow writes what a container logs from the position on, until it has ended. It returns an error if
// there may be more. An engine that is just starting may never end the stream of a container that its
// predecessor has lost, and one that is busy may send what was logged only with the next line, so the
// reader looks itself now and then.
func (l *logReader) follow(ctx context.Context, containerID string) error {
	following, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		for pause(following, lookInterval) == nil {
			c, err := l.driver.inspectContainer(following, containerID)
			switch {
			case err != nil:
			case !runs(c):
				if pause(following, endTimeout) == nil {
					stop(nil)
				}
			case l.isBehind(following, containerID):
				stop(errMore)
			}
		}
	}()
	err := l.copySince(following, containerID, true)
	switch cause := context.Cause(following); {
	case ctx.Err() != nil || cause == nil:
		return err
	case errors.Is(cause, errMore):
		return errMore
	}
	return nil // what is left is read without following
}

// isBehind reports whether the log of a container has a message that the stream should have brought.
func (l *logReader) isBehind(ctx context.Context, containerID string) bool {
	messages, err := l.driver.openLog(ctx, containerID, client.ContainerLogsOptions{Tail: "1"})
	if err != nil {
		return false
	}
	defer messages.close()
	m, err := messages.next()
	return err == nil && m.at > l.read.Load() && pause(ctx, endTimeout) == nil && m.at > l.read.Load()
}

// copySince writes what a container has logged since the position.
func (l *logReader) copySince(ctx context.Context, containerID string, follow bool) error {
	messages, err := l.driver.openLog(ctx, containerID, client.ContainerLogsOptions{Since: sinceOf(l.at.at), Follow: follow})
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer messages.close()
	for seen := 0; ; {
		m, err := messages.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fresh := l.at.advance(m.at, &seen)
		l.read.Store(l.at.at)
		if !fresh {
			continue
		}
		if _, err := l.out.Write(m.text); err != nil {
			return err
		}
	}
}

// isRemoved reports whether nothing says that the agent exists.
func (a agent) isRemoved() bool {
	rec, err := a.record()
	return err == nil && rec.Place == "" && !a.isLocked()
}
