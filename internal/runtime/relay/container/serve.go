//go:build linux

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"github.com/hashicorp/yamux"

	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/runtime/relay/wire"
)

const (
	requestTimeout = 2 * time.Minute
	startTimeout   = 15 * time.Minute
	dialTimeout    = 10 * time.Second
	// largeFile is the size from which memory is given back after a request: the container's
	// limit is the agent's.
	largeFile = 4 << 20
)

// slots bound what is done at once.
type slots struct {
	requests chan struct{} // with Dial's connections
	files    chan struct{} // requests that have a whole file in memory
	server   chan struct{} // connections of the agent to the server
	out      chan struct{} // and to the outside
}

func newSlots() slots {
	return slots{requests: make(chan struct{}, 320), files: make(chan struct{}, 4), server: make(chan struct{}, 64), out: make(chan struct{}, 256)}
}

// serve answers one request.
func (r *relay) serve(s *yamux.Stream) {
	defer func() { _ = s.Close() }()
	_ = s.SetDeadline(time.Now().Add(requestTimeout))
	var q wire.Request
	if err := wire.ReadMessage(s, &q, wire.MaxRequest); err != nil {
		return
	}
	if q.Op == wire.Dial {
		r.dial(s)
		return
	}
	a, data, err := r.do(s, q)
	if over := (*overDisk)(nil); errors.As(err, &over) {
		a = wire.Failed(err)
		a.Code, a.Used = wire.OverDisk, over.used
	} else if err != nil {
		a, data = wire.Failed(err), nil
	}
	a.Size = int64(len(data))
	if wire.WriteMessage(s, a) == nil {
		_, _ = s.Write(data)
	}
	if max(a.Size, q.Size) > largeFile {
		debug.FreeOSMemory()
	}
}

// do does what a request asks for, and returns the answer and what follows it.
func (r *relay) do(s *yamux.Stream, q wire.Request) (a wire.Answer, data []byte, err error) {
	switch q.Op {
	case wire.Usage:
		a.Usage = r.usage()
	case wire.Stop:
		select {
		case r.stop <- max(0, q.Grace):
		default: // it ends already
		}
	case wire.Start:
		a.Done, err = r.start(s, q.Launch)
	case wire.PutSecrets, wire.ReadFile, wire.WriteFile, wire.ReadDir, wire.RemoveAll:
		r.slots.files <- struct{}{}
		defer func() { <-r.slots.files }()
		data, err = r.doFile(s, q)
	default:
		err = fmt.Errorf("the relay of this image knows no request %q", q.Op)
	}
	return a, data, err
}

func (r *relay) doFile(s *yamux.Stream, q wire.Request) ([]byte, error) {
	if q.Size > wire.MaxFile {
		return nil, home.ErrTooLarge
	}
	body, err := wire.ReadBody(s, q.Size)
	if err != nil {
		return nil, err
	}
	switch q.Op {
	case wire.PutSecrets:
		if !r.running().runs() {
			return nil, wire.ErrNotRunning
		}
		return nil, r.putSecrets(body)
	case wire.ReadFile:
		return r.home.ReadFile(string(q.Path), min(q.Limit, wire.MaxFile))
	case wire.WriteFile:
		return nil, r.home.WriteFile(string(q.Path), body)
	case wire.RemoveAll:
		return nil, r.home.RemoveAll(string(q.Path))
	}
	entries, err := r.home.ReadDir(string(q.Path))
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	list := make([]wire.Entry, len(entries))
	for i, e := range entries {
		list[i] = wire.Entry{Name: []byte(e.Name), Dir: e.Dir, Size: e.Size, ModTime: e.ModTime}
	}
	return json.Marshal(list)
}

// start launches the gateway, unless one was launched before.
func (r *relay) start(s *yamux.Stream, l *wire.Launch) (before bool, err error) {
	if l == nil || len(l.Command) == 0 || r.filesOnly {
		return false, errors.New("this relay launches nothing")
	}
	_ = s.SetDeadline(time.Now().Add(startTimeout))
	r.starting.Lock()
	defer r.starting.Unlock()
	if r.running() != nil {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := home.Purge(ctx, r.trash()); err != nil {
		return false, err
	}
	if err := r.measureBefore(ctx, *l); err != nil {
		return false, err
	}
	if err := wire.WriteMessage(s, wire.Answer{}); err != nil {
		return false, err
	}
	if err := r.receiveParts(s); err != nil {
		return false, err
	}
	if err := r.launch(*l); err != nil {
		return false, err
	}
	go r.measureRegularly(*l)
	return false, nil
}

// receiveParts writes the files of a start.
func (r *relay) receiveParts(s *yamux.Stream) error {
	for range wire.MaxFiles {
		var p wire.Part
		if err := wire.ReadMessage(s, &p, wire.MaxRequest); err != nil {
			return err
		}
		if p.Size > wire.MaxFile {
			return home.ErrTooLarge
		}
		data, err := wire.ReadBody(s, p.Size)
		if err != nil {
			return err
		}
		if p.Last {
			return r.putSecrets(data)
		}
		if err := r.home.WriteFile(string(p.Path), data); err != nil {
			return err
		}
	}
	return errors.New("too many files")
}

func (r *relay) usage() *wire.UsageReport {
	u := &wire.UsageReport{}
	u.Used, u.MeasuredAt = r.measured.last()
	if g := r.running(); g != nil {
		u.Launched, u.StartedAt = true, g.startedAt
		if at := g.loggedAt.Load(); at != 0 {
			u.LoggedAt = time.Unix(0, at)
		}
	}
	return u
}

// dial connects a stream to the gateway.
func (r *relay) dial(s *yamux.Stream) {
	c, err := r.dialGateway()
	if err != nil {
		_ = wire.WriteMessage(s, wire.Failed(err))
		return
	}
	if err := wire.WriteMessage(s, wire.Answer{}); err != nil {
		_ = c.Close()
		return
	}
	_ = s.SetDeadline(time.Time{})
	join(wire.NewConn(s, c.LocalAddr(), c.RemoteAddr()), c, c)
}

func (r *relay) dialGateway() (*net.TCPConn, error) {
	if !r.running().runs() {
		return nil, wire.ErrNotRunning
	}
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", r.gatewayPort))
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a %T is no TCP connection", c)
	}
	return t, nil
}
