package sshtest

import (
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections, and can stop to: as if packets were lost, nothing is
// closed or reset.
type Proxy struct {
	Address string

	listener net.Listener
	work     sync.WaitGroup

	mu    sync.Mutex
	flows chan struct{} // closed while it forwards; guarded by mu
	conns []net.Conn    // guarded by mu
	total int           // guarded by mu
}

// NewProxy starts a proxy to an address, and ends it with the test.
func NewProxy(t testing.TB, to string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), listener: l, flows: make(chan struct{})}
	close(p.flows)
	p.work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.total++
			p.mu.Unlock()
			p.work.Go(func() { p.forward(in, out) })
			p.work.Go(func() { p.forward(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.Flow()
		p.work.Wait()
	})
	return p
}

func (p *Proxy) forward(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		flows := p.flows
		p.mu.Unlock()
		<-flows
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = from.Close(), to.Close()
}

// Stall stops to forward. New connections are accepted.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flows = make(chan struct{})
}

// Flow forwards again, first what has come meanwhile.
func (p *Proxy) Flow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flows:
	default:
		close(p.flows)
	}
}

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close() // it may have been closed
	}
	p.conns = nil
}

// Total returns how many connections were made.
func (p *Proxy) Total() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}
