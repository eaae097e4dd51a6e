package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	// requestTimeout is the longest that a request takes, but Start. Source: 100 MB at 1 MB/s.
	requestTimeout = 2 * time.Minute
	// startTimeout is the longest that Start takes. Source: a million files are purged and
	// measured in 30 s.
	startTimeout = 15 * time.Minute
	// stopSlack is how much longer than the grace period the end of a relay takes.
	stopSlack = 15 * time.Second
)

// Session is an open session with the relay of one container.
type Session struct {
	mux      *wire.Mux
	paths    wire.Paths
	incoming chan struct{} // a place for each stream of the relay whose beginning is awaited
	done     chan struct{} // closed when the session has ended

	mu      sync.Mutex
	network *listeners // that take connections; nil: none; guarded by mu
	err     error      // set before done is closed
}

// Done is closed when the session has ended: it was closed, a newer one has begun, the relay has
// ended, or the connection is dead.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session has ended; nil while it has not.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// errClosed is the reason of a session that Close has ended.
var errClosed = errors.New("the session was closed")

// Close ends the session. The gateway runs on; its connections to the server and to the outside
// are reset.
func (s *Session) Close() error {
	s.mux.CloseFor(errClosed)
	<-s.done
	return nil
}

// acceptAll takes the connections of the agent until the session ends.
func (s *Session) acceptAll() {
	for {
		stream, err := s.mux.Accept()
		if err != nil {
			s.end(s.mux.Reason(err))
			return
		}
		select {
		case s.incoming <- struct{}{}:
			go func() {
				defer func() { <-s.incoming }()
				s.take(stream)
			}()
		default:
			_ = stream.Close()
		}
	}
}

// end closes what depends on the session.
func (s *Session) end(reason error) {
	s.mux.CloseFor(reason)
	s.mu.Lock()
	n := s.network
	s.network, s.err = nil, reason
	s.mu.Unlock()
	if n != nil {
		n.close()
	}
	close(s.done)
}

// stream is a stream of one request.
type stream struct {
	*yamux.Stream
	stop func() bool
}

// open opens a stream and sends a request. The stream is closed when ctx ends; after each step
// the caller has failure judge the error.
func (s *Session) open(ctx context.Context, r wire.Request) (stream, error) {
	raw, err := s.mux.OpenStream()
	if err != nil {
		return stream{}, s.failure(ctx, err)
	}
	st := stream{raw, context.AfterFunc(ctx, func() {
		_ = raw.SetDeadline(time.Unix(1, 0))
		_ = raw.Close()
	})}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	if err := wire.WriteMessage(raw, r); err != nil {
		st.close()
		return stream{}, s.failure(ctx, err)
	}
	return st, nil
}

func (st stream) close() {
	st.stop()
	_ = st.Close()
}

// failure returns the error that says most about a stream that has failed.
func (s *Session) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if ended := s.Err(); ended != nil {
		return fmt.Errorf("the session with the relay has ended: %w", ended)
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return fmt.Errorf("the relay does not answer: %w", os.ErrDeadlineExceeded)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, yamux.ErrSessionShutdown) {
		return errors.New("the relay has ended the request")
	}
	return err
}

// answer reads the answer of a request.
func (s *Session) answer(ctx context.Context, st stream) (wire.Answer, error) {
	var a wire.Answer
	if err := wire.ReadMessage(st, &a, wire.MaxAnswer); err != nil {
		return a, s.failure(ctx, err)
	}
	if a.Code == wire.OverDisk {
		return a, &runtime.DiskError{Used: runtime.Disk(a.Used)}
	}
	err := a.Err()
	if errors.Is(err, wire.ErrNotRunning) {
		err = runtime.ErrNotRunning
	}
	return a, err
}

// call does a request that may have a body, and returns the answer with what follows it, which
// is at most limit bytes.
func (s *Session) call(ctx context.Context, r wire.Request, body []byte, limit int64) (a wire.Answer, data []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r.Size = int64(len(body))
	st, err := s.open(ctx, r)
	if err != nil {
		return a, nil, err
	}
	defer st.close()
	if _, err := st.Write(body); err != nil {
		return a, nil, s.failure(ctx, err)
	}
	if a, err = s.answer(ctx, st); err != nil {
		return a, nil, err
	}
	if a.Size < 0 || a.Size > limit {
		return a, nil, fmt.Errorf("the relay sends %d bytes, where at most %d can be", a.Size, limit)
	}
	if data, err = wire.ReadBody(st, a.Size); err != nil {
		return a, nil, s.failure(ctx, err)
	}
	return a, data, nil
}

// Usage is what a relay knows of its container.
type Usage struct {
	Launched   bool
	StartedAt  time.Time    // of the gateway
	LoggedAt   time.Time    // when the gateway last wrote to its log; zero: never
	Disk       runtime.Disk // what the agent's files used when they were last measured
	MeasuredAt time.Time    // zero: not yet
}

// Usage returns what the relay knows of its container.
func (s *Session) Usage(ctx context.Context) (Usage, error) {
	a, _, err := s.call(ctx, wire.Request{Op: wire.Usage}, nil, 0)
	if err != nil || a.Usage == nil {
		return Usage{}, err
	}
	u := *a.Usage
	return Usage{Launched: u.Launched, StartedAt: u.StartedAt, LoggedAt: u.LoggedAt, Disk: runtime.Disk(u.Used), MeasuredAt: u.MeasuredAt}, nil
}

// Dial connects to the gateway's port. The connection has a CloseWrite. Errors:
// runtime.ErrNotRunning.
func (s *Session) Dial(ctx context.Context) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	st, err := s.open(dialing, wire.Request{Op: wire.Dial})
	if err != nil {
		return nil, err
	}
	if _, err := s.answer(dialing, st); err != nil {
		st.close()
		return nil, fmt.Errorf("connect to the gateway: %w", err)
	}
	if !st.stop() {
		st.close()
		return nil, dialing.Err()
	}
	_ = st.SetDeadline(time.Time{})
	return wire.NewConn(st.Stream, address{"control plane"}, address{"gateway"}), nil
}

// address is an end of a connection that has no address of its own.
type address struct{ name string }

func (address) Network() string { return "relay" }

func (a address) String() string { return a.name }
