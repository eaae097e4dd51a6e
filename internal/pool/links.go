package pool

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"sync"
	"time"

	"agento.host/agento/internal/pool/sshlink"
)

// storeEvery is how often it is stored that an engine answers.
const storeEvery = 10 * time.Minute

// Status is what is known of a server at the moment.
type Status struct {
	sshlink.State
	EngineAt    time.Time // when its engine has answered last, since this process began; zero: it has not
	EngineError error     // of the last call of the engine; nil: it has answered
	upFor       time.Duration
}

// Up reports whether agents can be placed on the server: its engine has answered lately. A
// connection alone shows only that sshd lives.
func (s Status) Up() bool {
	return s.Connected && s.EngineError == nil && time.Since(s.EngineAt) < s.upFor
}

// Links keeps the servers of the pool connected, whatever happens to their records.
type Links struct {
	service *Service

	mu    sync.Mutex
	links map[string]*kept // by name; guarded by mu
}

// kept is the link of one server as its record was.
type kept struct {
	server Server
	link   *sshlink.Link
	end    context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	status Status // without State; guarded by mu
}

// NewLinks returns the links of the servers of a service. Run makes them.
func NewLinks(s *Service) *Links { return &Links{service: s, links: map[string]*kept{}} }

// Run keeps a link to each server with which something may be done, until ctx ends.
func (l *Links) Run(ctx context.Context) error {
	changed, stop := l.service.Events.Subscribe(Topic)
	defer stop()
	defer l.keep(nil)
	for {
		servers, err := l.service.List(ctx)
		if err == nil {
			l.keep(servers)
		} else if ctx.Err() == nil {
			l.service.Log.ErrorContext(ctx, "the servers of the pool could not be read: the links stay as they are", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// keep makes and ends links, so that there is one for each of the servers.
func (l *Links) keep(servers []Server) {
	wanted := map[string]Server{}
	for _, s := range servers {
		if !s.IsLocal() && s.Problem == "" {
			wanted[s.Name] = s
		}
	}
	var gone []*kept
	l.mu.Lock()
	for name, k := range l.links {
		if s, ok := wanted[name]; !ok || !sameLogin(s, k.server) {
			gone = append(gone, k)
			delete(l.links, name)
		}
	}
	for name, s := range wanted {
		if l.links[name] != nil {
			continue
		}
		if link, err := l.service.Connect(s); err == nil { // err is that of a problem, which it has not
			l.links[name] = l.service.keepLink(s, link)
		}
	}
	l.mu.Unlock()
	for _, k := range gone {
		k.close()
	}
}

// sameLogin reports whether a link to one record is one to the other.
func sameLogin(a, b Server) bool {
	return a.ID == b.ID && a.User == b.User && a.Address == b.Address && a.Socket == b.Socket && reflect.DeepEqual(sshlink.Fingerprints(a.HostKeys), sshlink.Fingerprints(b.HostKeys))
}

func (s *Service) keepLink(n Server, link *sshlink.Link) *kept {
	ctx, end := context.WithCancel(context.Background())
	k := &kept{server: n, link: link, end: end, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		var work sync.WaitGroup
		work.Go(func() { _ = link.Run(ctx) }) // its errors are in the state
		work.Go(func() { s.ping(ctx, k) })
		work.Wait()
		_ = link.Close()
	}()
	return k
}

func (k *kept) close() {
	k.end()
	<-k.ended
}

// ping asks the engine again and again whether it answers, each time by a new socket.
func (s *Service) ping(ctx context.Context, k *kept) {
	e := newEngine(k.link.Dialer(k.server.Socket))
	defer e.close()
	var stored time.Time
	for {
		err := e.call(ctx, http.MethodGet, "/_ping", nil, func(body io.Reader) error { _, err := io.Copy(io.Discard, body); return err })
		e.close()
		k.mu.Lock()
		if k.status.EngineError = err; err == nil {
			k.status.EngineAt = time.Now()
		}
		k.mu.Unlock()
		if err == nil && time.Since(stored) > storeEvery {
			if s.Reached(ctx, k.server, -1) == nil { // it is only to be shown; the next answer will do
				stored = time.Now()
			}
		}
		pause := time.NewTimer(s.pingPause(err))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// pingPause is shorter while the engine does not answer, so that its return is noticed.
func (s *Service) pingPause(err error) time.Duration {
	if err != nil {
		return min(time.Second, s.PingEvery)
	}
	return s.PingEvery
}

// Status returns what is known of a server; ok is false if it has no link.
func (l *Links) Status(name string) (s Status, ok bool) {
	l.mu.Lock()
	k := l.links[name]
	l.mu.Unlock()
	if k == nil {
		return Status{}, false
	}
	return l.statusOf(k), true
}

// Of returns the link to the server of a record, with its status. ok is false if there is none, also if
// there still is one to a former server of that name.
func (l *Links) Of(n Server) (link *sshlink.Link, s Status, ok bool) {
	l.mu.Lock()
	k := l.links[n.Name]
	l.mu.Unlock()
	if k == nil || k.server.ID != n.ID {
		return nil, Status{}, false
	}
	return k.link, l.statusOf(k), true
}

// Servers returns the servers that have links, in no order.
func (l *Links) Servers() []Server {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Server, 0, len(l.links))
	for _, k := range l.links {
		all = append(all, k.server)
	}
	return all
}

func (l *Links) statusOf(k *kept) (s Status) {
	k.mu.Lock()
	s = k.status
	k.mu.Unlock()
	if s.EngineAt.IsZero() && s.EngineError == nil {
		s.EngineError = errNotAsked
	}
	s.State, s.upFor = k.link.State(), 3*l.service.PingEvery
	return s
}

var errNotAsked = errors.New("it has not been asked yet")
