// Package engines has the drivers of pool servers: one for the container engine of each, reached over
// its SSH connection. It says on which server an agent's gateway runs.
package engines

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
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
	"agento.host/agento/internal/runtime/multi"
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

	mu      sync.Mutex
	drivers map[string]*server // by name; guarded by mu
	run     func(*server)      // runs a driver's regular work; nil before Run; guarded by mu
}

// server is the driver of one server.
type server struct {
	id   string // of the record that the driver was made for
	name string

	opening sync.Mutex // held while the driver is made, and while what is left there is ended
	driver  *docker.Driver
	cleared time.Time // the connection for which that was done
	end     context.CancelFunc
}

// New returns the servers of a pool.
func New(s Settings) *Servers {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Servers{Settings: s, rooms: pool.NewRooms(), drivers: map[string]*server{}}
}

// Run does the regular work of the drivers until ctx ends.
func (s *Servers) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	run := func(n *server) {
		ctx, cancel := context.WithCancel(ctx)
		n.end = cancel
		running.Go(func() {
			if err := n.driver.Run(ctx); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "the regular work for a server has ended", "server", n.name, "error", err)
			}
		})
	}
	s.mu.Lock()
	s.run = run
	for _, n := range s.drivers {
		if n.driver != nil {
			run(n)
		}
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.run = nil
	s.mu.Unlock()
	return nil
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
// connection: a container outlives the loss of its server, and may have a successor elsewhere. Faults:
// Unavailable, if the server cannot be reached.
func (s *Servers) Driver(ctx context.Context, name string) (runtime.Driver, error) {
	record, err := s.Pool.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	status, ok := s.Links.Status(name)
	if !ok || !status.Connected {
		return nil, unreachable(name, status)
	}
	n := s.server(record)
	n.opening.Lock()
	defer n.opening.Unlock()
	if n.driver == nil {
		if err := s.open(n, record); err != nil {
			return nil, err
		}
	}
	if !n.cleared.Equal(status.Since) {
		if err := s.endStale(ctx, n); err != nil {
			return nil, fault.New(fault.Unavailable, "The pool server %s is connected, but what it runs is not known yet: %v.", name, err)
		}
		n.cleared = status.Since
	}
	return n.driver, nil
}

func unreachable(name string, s pool.Status) error {
	why := "it is not connected yet"
	if s.LastError != nil {
		why = s.LastError.Error()
	}
	return fault.New(fault.Unavailable, "The pool server %s cannot be reached (%s). What runs there may go on; agento servers check %s says what to do.", name, why, name)
}

// server returns the entry of a server, and drops that of a former one of the same name.
func (s *Servers) server(record pool.Server) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.drivers[record.Name]
	if n == nil || n.id != record.ID {
		if n != nil && n.end != nil {
			n.end()
		}
		n = &server{id: record.ID, name: record.Name}
		s.drivers[record.Name] = n
	}
	return n
}

// open makes the driver of a server. The caller holds n.opening.
func (s *Servers) open(n *server, record pool.Server) error {
	settings := s.Docker
	settings.Server, settings.Dir = record.Name, filepath.Join(s.Docker.Dir, record.Name)
	settings.Dial = func(ctx context.Context) (net.Conn, error) {
		link, err := s.Links.Link(record.Name)
		if err != nil {
			return nil, err
		}
		return link.DialContext(ctx, "unix", record.Socket)
	}
	d, err := docker.New(settings)
	if err != nil {
		return fmt.Errorf("open the driver of the server %s: %w", record.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.driver = d
	if s.run != nil {
		s.run(n)
	}
	return nil
}

// staleTimeout bounds the look at what a server runs, and its end.
const staleTimeout = 2 * time.Minute

// endStale ends every gateway of this installation on a server that its agent's record does not name.
// What no record knows at all is left to the search for orphans.
func (s *Servers) endStale(ctx context.Context, n *server) error {
	ctx, cancel := context.WithTimeout(ctx, staleTimeout)
	defer cancel()
	found, err := n.driver.List(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if !f.Running || f.Owner != runtime.Own {
			continue
		}
		a, err := s.Store.FindByID(ctx, s.DB, f.ID)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		if a.Place == "" || a.Place == multi.PlaceOn(n.name, f.Place) {
			continue // without a place it is adopted or stopped by the reconciler
		}
		s.Log.WarnContext(ctx, "a server has run a gateway of an earlier epoch: it is ended", "server", n.name, "agent", f.ID, "place", f.Place)
		if err := n.driver.Stop(ctx, f.Place, f.ID, 0); err != nil {
			return err
		}
	}
	return nil
}

// Place implements reconciler.Pool. The home's server is the only one for an agent that has a home.
// Errors: *pool.NoRoomError.
func (s *Servers) Place(ctx context.Context, id identity.AgentID, region, home string, bytes int64) (string, error) {
	if home == multi.Local {
		return multi.Local, nil
	}
	all, err := s.Pool.List(ctx)
	if err != nil {
		return "", err
	}
	var candidates []pool.Candidate
	for _, n := range all {
		if home == "" || n.Name == home {
			candidates = append(candidates, s.candidate(n, all, region, home))
		}
	}
	server, err := s.rooms.Place(candidates, id, pool.Need{Region: region, Memory: bytes, Home: home})
	if server == multi.Local {
		s.rooms.Release(id) // its memory is the reconciler's business
	}
	return server, err
}

// candidate returns a server as placement sees it.
func (s *Servers) candidate(n pool.Server, all []pool.Server, region, home string) pool.Candidate {
	c := pool.Candidate{Name: n.Name, State: n.State, Regions: pool.Serves(n, all), Memory: n.Memory, Agents: n.Agents, Disk: n.DiskFree}
	if n.IsLocal() {
		c.Up, c.Memory, c.Agents, c.Disk = true, 0, 0, -1
		return c
	}
	status, _ := s.Links.Status(n.Name)
	c.Up = status.Up()
	s.mu.Lock()
	if known := s.drivers[n.Name]; known != nil && known.id == n.ID && known.driver != nil {
		c.Up = c.Up && known.driver.CheckIsolation() == nil
	}
	s.mu.Unlock()
	if n.Name == home {
		if c.State == pool.Cordoned {
			c.State = pool.Active // it keeps the agents that it has
		}
		if !slices.Contains(c.Regions, region) {
			c.Regions = append(slices.Clone(c.Regions), region)
		}
	}
	return c
}

// Take implements reconciler.Pool.
func (s *Servers) Take(id identity.AgentID, server string, bytes int64) {
	s.rooms.Take(id, server, bytes)
}

// Release implements reconciler.Pool.
func (s *Servers) Release(id identity.AgentID) { s.rooms.Release(id) }
