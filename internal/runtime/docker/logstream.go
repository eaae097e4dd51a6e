package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/client"
)

// errMore means that the stream of a log has ended although the container runs.
var errMore = errors.New("the container engine has ended the log of a container that runs")

// maxMessage bounds a message of a log. Source: an engine splits lines at 16 KiB.
const maxMessage = 1 << 20

// message is one entry of a log: a line, or a part of a long one.
type message struct {
	at   int64 // when the engine got it, in nanoseconds
	text []byte
}

func (m message) endsLine() bool { return bytes.HasSuffix(m.text, []byte("\n")) }

// messageStream is the log of a container as the engine sends it.
type messageStream struct {
	body io.ReadCloser
	in   *bufio.Reader
	stop context.CancelFunc
}

// openLog reads the log of a container with the times of its messages.
func (d *Driver) openLog(ctx context.Context, containerID string, o client.ContainerLogsOptions) (*messageStream, error) {
	o.ShowStdout, o.ShowStderr, o.Timestamps = true, true, true
	ctx, cancel := context.WithCancel(ctx)
	// The answer begins at once; its end may be far.
	timer := time.AfterFunc(callTimeout, cancel)
	body, err := open(ctx, d.engine, func(ctx context.Context, c *client.Client) (client.ContainerLogsResult, error) {
		return c.ContainerLogs(ctx, containerID, o)
	})
	timer.Stop()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("read the log of the container: %w", err)
	}
	return &messageStream{body: body, in: bufio.NewReaderSize(body, 64<<10), stop: cancel}, nil
}

func (s *messageStream) close() {
	s.stop()
	_ = s.body.Close() // it was only read
}

// next returns the next message. Errors: io.EOF at the end.
func (s *messageStream) next() (message, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(s.in, header[:]); err != nil {
		return message{}, err
	}
	size := binary.BigEndian.Uint32(header[4:])
	if size > maxMessage {
		return message{}, fmt.Errorf("the container engine sends a message of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(s.in, data); err != nil {
		return message{}, err
	}
	at, text, _ := bytes.Cut(data, []byte(" "))
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return message{}, errors.New("the container engine sends a message without a time")
	}
	return message{at: t.UnixNano(), text: text}, nil
}

// sinceOf returns the time of a message as the engine takes it; empty: from the beginning.
func sinceOf(at int64) string {
	if at == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", at/int64(time.Second), at%int64(time.Second))
}
