package engines

import (
	"context"
	"errors"
	"slices"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/multi"
)

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
	if none := (*pool.NoRoomError)(nil); errors.As(err, &none) {
		none.Home = home
	}
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
	c.Up, c.Lacks = s.ability(n)
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

// ability reports whether the engine of a server answers, and what it lacks to run agents. One whose
// driver is not open yet is not known to lack nothing: an agent that is placed on it stays there.
func (s *Servers) ability(record pool.Server) (up bool, lacks string) {
	_, status, ok := s.Links.Of(record)
	if !ok || record.Problem != "" || !status.Up() {
		return false, ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.servers[record.Name]
	if n == nil || n.record.ID != record.ID || n.driver == nil {
		return false, ""
	}
	missing := (*runtime.IsolationError)(nil)
	switch err := n.driver.CheckIsolation(); {
	case errors.As(err, &missing):
		return true, missing.Missing
	case err != nil:
		return true, err.Error()
	}
	return true, ""
}

// Take implements reconciler.Pool.
func (s *Servers) Take(id identity.AgentID, server string, bytes int64) {
	s.rooms.Take(id, server, bytes)
}

// Release implements reconciler.Pool.
func (s *Servers) Release(id identity.AgentID) { s.rooms.Release(id) }
