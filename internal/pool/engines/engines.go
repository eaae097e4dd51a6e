// Package engines has the drivers of pool servers: one for the container engine of each, reached over
// its SSH connection. It says on which server an agent's gateway runs.
package engines

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
)

// Settings of Servers.
type Settings struct {
	DB    *database.DB
	Store *agent.Store
	Pool  *pool.Service
	Links *pool.Links
	Log   *slog.Logger

	// Docker has what the drivers of all servers have in common. Its Dir gets a directory for each.
	Docker docker.Settings
}

// Servers implements multi.Servers and reconciler.Pool. Run must run while it is in use.
type Servers struct {
	Settings
	rooms *pool.Rooms

	ctx  context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup // what goes on although nobody may wait for it

	mu      sync.Mutex
	servers map[string]*server // by name; guarded by mu
	run     func(*server)      // runs a driver's regular work; nil while Run does not run; guarded by mu
}

// New returns the servers of a pool.
func New(s Settings) *Servers {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(context.Background())
	return &Servers{Settings: s, rooms: pool.NewRooms(), ctx: ctx, end: end, servers: map[string]*server{}}
}

// Close ends the connections to gateways, which run on. It is for tests: in a program it all ends with
// the program.
func (s *Servers) Close() {
	s.end()
	s.work.Wait()
	s.mu.Lock()
	all := s.servers
	s.servers = map[string]*server{}
	s.mu.Unlock()
	for _, n := range all {
		n.close()
	}
}

// lookInterval is the pause between two looks for servers that were connected. What a server runs that
// it should not ends that much later, if nothing is done with the server before.
const lookInterval = 2 * time.Second

// Run opens the drivers of servers when they are connected, whether or not they are needed, and does
// their regular work, until ctx ends.
func (s *Servers) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	s.setRun(func(n *server) {
		ctx, cancel := context.WithCancel(ctx)
		n.stop = cancel
		running.Go(func() {
			if err := n.driver.Run(ctx); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "the regular work for a server has ended", "server", n.record.Name, "error", err)
			}
		})
	})
	defer s.setRun(nil)
	ticks := time.NewTicker(lookInterval)
	defer ticks.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (s *Servers) setRun(run func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run = run
	for _, n := range s.servers {
		if run != nil && n.driver != nil {
			run(n)
		}
	}
}

// look opens the driver of each server that is connected, and forgets servers that were removed.
func (s *Servers) look(ctx context.Context) {
	linked := map[string]pool.Server{}
	for _, record := range s.Links.Servers() {
		linked[record.Name] = record
	}
	s.mu.Lock()
	known := slices.Collect(maps.Keys(s.servers))
	s.mu.Unlock()
	for _, name := range known {
		if _, ok := linked[name]; !ok { // it was removed, or nothing may be done with it
			_, _ = s.find(ctx, name)
		}
	}
	for _, record := range linked {
		if _, status, ok := s.Links.Of(record); ok && status.Connected {
			if n := s.server(record); !n.isOpen(status.Since) {
				s.work.Go(func() { n.complain(s.open(s.ctx, n)) })
			}
		}
	}
}

// find returns the record of a server. It forgets a server that was removed.
func (s *Servers) find(ctx context.Context, name string) (pool.Server, error) {
	record, err := s.Pool.Find(ctx, name)
	if fault.Is(err, fault.NotFound) {
		s.mu.Lock()
		n := s.servers[name]
		delete(s.servers, name)
		s.mu.Unlock()
		if n != nil {
			n.close()
		}
	}
	return record, err
}

// server returns the entry of a server, and forgets a former server of the same name.
func (s *Servers) server(record pool.Server) *server {
	s.mu.Lock()
	n, former := s.servers[record.Name], (*server)(nil)
	if n == nil || n.record.ID != record.ID {
		former, n = n, &server{pool: s, record: record}
		s.servers[record.Name] = n
	}
	s.mu.Unlock()
	if former != nil {
		former.close()
	}
	return n
}

// Names implements multi.Servers.
func (s *Servers) Names(ctx context.Context) ([]string, error) {
	all, err := s.Pool.List(ctx)
	var names []string
	for _, n := range all {
		if !n.IsLocal() {
			names = append(names, n.Name)
		}
	}
	return names, err
}

// HomeOf implements multi.Servers.
func (s *Servers) HomeOf(ctx context.Context, id identity.AgentID) (string, error) {
	return s.Store.ServerOf(ctx, s.DB, id)
}

// Driver implements multi.Servers. What the server runs that it should not is ended first, after each
// connection: a container outlives the loss of its server, and may have a successor elsewhere. That
// holds also for a driver that was returned before the connection was lost. Faults: NotFound;
// Unavailable, if the server cannot be reached.
func (s *Servers) Driver(ctx context.Context, name string) (runtime.Driver, error) {
	record, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if record.Problem != "" {
		return nil, unreachable(name, errors.New(record.Problem))
	}
	n := s.server(record)
	if err := s.open(ctx, n); err != nil {
		return nil, err
	}
	return n.driver, nil
}

// unreachable returns the fault for a server with which nothing can be done. Callers of the API see it,
// whom the reason does not concern.
func unreachable(name string, why error) error {
	f := fault.New(fault.Unavailable, "The server %s, where this agent's files are, cannot be reached at the moment. What runs there goes on. Try again in a moment, or ask the operator: agento servers check %[1]s says what is the matter.", name)
	return f.Because(&runtime.UnreachableError{Server: name, Cause: why})
}
