package docker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime/relay"
)

// execute runs the relay's connect command in a container, and returns its standard streams.
func (d *Driver) execute(ctx context.Context, containerID string) (*execConn, error) {
	made, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ExecCreateResult, error) {
		return c.ExecCreate(ctx, containerID, client.ExecCreateOptions{
			User: relay.ConnectUser, Cmd: relay.ConnectCommand(), AttachStdin: true, AttachStdout: true, AttachStderr: true, WorkingDir: "/",
		})
	})
	if err != nil {
		return nil, fmt.Errorf("execute the relay's command: %w", err)
	}
	attached, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ExecAttachResult, error) {
		return c.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	})
	if err != nil {
		return nil, fmt.Errorf("execute the relay's command: %w", err)
	}
	return &execConn{stream: attached.HijackedResponse}, nil
}

// maxComplaint is how much of a command's standard error is kept.
const maxComplaint = 1 << 10

// execConn is the standard input and output of a command in a container.
type execConn struct {
	stream client.HijackedResponse
	left   uint32 // bytes of the frame of standard output that is being read; used by Read only

	mu     sync.Mutex
	stderr []byte // the beginning; guarded by mu
}

// Frames of the engine's streams: a byte that names the stream, three of zero and four of the length.
const (
	frameHeader = 8
	frameStderr = 2
)

// Read implements io.Reader.
func (c *execConn) Read(p []byte) (int, error) {
	for c.left == 0 {
		var header [frameHeader]byte
		if _, err := io.ReadFull(c.stream.Reader, header[:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return 0, err
		}
		size := binary.BigEndian.Uint32(header[4:])
		if header[0] == frameStderr {
			if err := c.keepComplaint(int64(size)); err != nil {
				return 0, err
			}
			continue
		}
		c.left = size
	}
	n, err := c.stream.Reader.Read(p[:min(len(p), int(c.left))])
	c.left -= uint32(n)
	return n, err
}

func (c *execConn) keepComplaint(size int64) error {
	c.mu.Lock()
	room := int64(maxComplaint - len(c.stderr))
	c.mu.Unlock()
	part, err := io.ReadAll(io.LimitReader(c.stream.Reader, min(room, size)))
	c.mu.Lock()
	c.stderr = append(c.stderr, part...)
	c.mu.Unlock()
	if err == nil {
		_, err = io.CopyN(io.Discard, c.stream.Reader, size-int64(len(part)))
	}
	return err
}

// complaint returns what the command has written to its standard error, as an error.
func (c *execConn) complaint() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stderr) == 0 {
		return nil
	}
	return fmt.Errorf("%q", strings.TrimSpace(string(c.stderr)))
}

// Write implements io.Writer.
func (c *execConn) Write(p []byte) (int, error) { return c.stream.Conn.Write(p) }

// Close implements io.Closer. The command ends when its standard input does.
func (c *execConn) Close() error { return c.stream.Conn.Close() }
