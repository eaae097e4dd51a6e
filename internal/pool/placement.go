package pool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/runtime"
)

// Candidate is a server as placement sees it: what it offers, and what is taken of it.
type Candidate struct {
	Name    string
	State   State
	Regions []string
	Up      bool     // its engine has answered lately
	Lacks   string   // what keeps agents from being started there; empty: nothing
	Images  []string // that it has; nil: it needs none

	Memory int64 // bytes for agents; 0: there is no limit
	Agents int   // at most; 0: there is no limit
	Disk   int64 // bytes that are free and not promised yet; negative: unknown

	UsedMemory int64 // of the agents that are placed on it, running or not yet
	UsedAgents int
}

// Need is what an agent needs of a server.
type Need struct {
	Region string
	Image  string
	Memory int64
	Disk   int64
	Home   string // the server that has its home, which is taken if it fits; empty: none
}

// noLimit is the free memory of a server without a limit: more than any other has.
const noLimit = 1 << 60

// obstacle returns why the server cannot take the agent, empty if it can. The region is not
// looked at.
func (c Candidate) obstacle(n Need) string {
	switch {
	case c.State != Active:
		return "is " + string(c.State)
	case !c.Up:
		return "cannot be reached"
	case c.Lacks != "":
		return "cannot run agents: " + c.Lacks
	case c.Images != nil && !slices.Contains(c.Images, n.Image):
		return "lacks the image " + n.Image
	case c.Agents > 0 && c.UsedAgents >= c.Agents:
		return fmt.Sprintf("has %d of %d agents", c.UsedAgents, c.Agents)
	case c.free() < n.Memory:
		return fmt.Sprintf("has %s of memory left, and %s is needed", formatBytes(max(c.free(), 0)), formatBytes(n.Memory))
	case c.Disk >= 0 && c.Disk < n.Disk:
		return fmt.Sprintf("has %s of disk left, and %s is needed", formatBytes(c.Disk), formatBytes(n.Disk))
	}
	return ""
}

func (c Candidate) free() int64 {
	if c.Memory == 0 {
		return noLimit - c.UsedMemory
	}
	return c.Memory - c.UsedMemory
}

// Choose returns the server for an agent: in its region, the one that has its home, and
// otherwise the one with the most free memory, then the fewest agents, then the first by name.
// Errors: *NoRoomError.
func Choose(servers []Candidate, n Need) (string, error) {
	var best *Candidate
	none := &NoRoomError{Region: n.Region}
	for i, c := range servers {
		if !slices.Contains(c.Regions, n.Region) {
			continue
		}
		if why := c.obstacle(n); why != "" {
			none.Servers = append(none.Servers, c.Name+" "+why)
			continue
		}
		if c.Name == n.Home {
			return c.Name, nil
		}
		if best == nil || better(c, *best) {
			best = &servers[i]
		}
	}
	if best == nil {
		slices.Sort(none.Servers)
		return "", none
	}
	return best.Name, nil
}

func better(a, b Candidate) bool {
	return cmp.Or(cmp.Compare(b.free(), a.free()), cmp.Compare(a.UsedAgents, b.UsedAgents), cmp.Compare(a.Name, b.Name)) < 0
}

// NoRoomError reports that no server of a region can take an agent.
type NoRoomError struct {
	Region  string
	Home    string   // the server that has the agent's home, so that no other one was asked; empty: it has none
	Servers []string // what is in the way of each server of the region, sorted
}

// maxNamed is how many servers a NoRoomError names.
const maxNamed = 5

// Error implements error.
func (e *NoRoomError) Error() string {
	switch {
	case e.Home != "" && len(e.Servers) == 0:
		return fmt.Sprintf("the server %s, which has the agent's home, is not in the pool", e.Home)
	case e.Home != "":
		return "the server of the agent's home has no room for it: " + e.Servers[0]
	case len(e.Servers) == 0:
		return fmt.Sprintf("no server serves the region %s", e.Region)
	}
	named, rest := e.Servers, ""
	if more := len(named) - maxNamed; more > 0 {
		named, rest = named[:maxNamed], fmt.Sprintf("; and %d more", more)
	}
	return fmt.Sprintf("no server of the region %s has room: %s%s", e.Region, strings.Join(named, "; "), rest)
}

// Unwrap returns runtime.ErrNoCapacity.
func (e *NoRoomError) Unwrap() error { return runtime.ErrNoCapacity }

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d B", n)
}
