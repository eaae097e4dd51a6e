package pool_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/runtime"
)

const gib = int64(1) << 30

// candidate is an active server in eu with the image v1, 8 GiB and 10 agents.
func candidate(name string, change ...func(*pool.Candidate)) pool.Candidate {
	c := pool.Candidate{Name: name, State: pool.Active, Up: true, Regions: []string{"eu"}, Images: []string{"v1"}, Memory: 8 * gib, Agents: 10, Disk: 100 * gib}
	for _, f := range change {
		f(&c)
	}
	return c
}

func TestChoose(t *testing.T) {
	state := func(s pool.State) func(*pool.Candidate) { return func(c *pool.Candidate) { c.State = s } }
	used := func(memory int64, agents int) func(*pool.Candidate) {
		return func(c *pool.Candidate) { c.UsedMemory, c.UsedAgents = memory, agents }
	}
	regions := func(r ...string) func(*pool.Candidate) { return func(c *pool.Candidate) { c.Regions = r } }
	noLimits := func(c *pool.Candidate) { c.Memory, c.Agents, c.Disk, c.Images = 0, 0, -1, nil }
	need := pool.Need{Region: "eu", Image: "v1", Memory: gib, Disk: gib}
	for _, c := range []struct {
		name    string
		servers []pool.Candidate
		need    func(*pool.Need)
		want    string
		problem string
	}{
		{name: "the only one", servers: []pool.Candidate{candidate("a")}, want: "a"},
		{name: "the most free memory", servers: []pool.Candidate{candidate("a", used(3*gib, 1)), candidate("b", used(2*gib, 5)), candidate("c", used(4*gib, 0))}, want: "b"},
		{name: "then the fewest agents", servers: []pool.Candidate{candidate("a", used(gib, 3)), candidate("b", used(gib, 2))}, want: "b"},
		{name: "then by name", servers: []pool.Candidate{candidate("b"), candidate("a")}, want: "a"},
		{name: "no limits", servers: []pool.Candidate{candidate("a"), candidate("local", noLimits, used(100*gib, 1000))}, want: "local"},
		{name: "the region is kept", servers: []pool.Candidate{candidate("a", regions("us")), candidate("b", regions("us", "eu"), used(6*gib, 1))}, want: "b"},
		{name: "its home", servers: []pool.Candidate{candidate("a"), candidate("b", used(6*gib, 6))}, need: func(n *pool.Need) { n.Home = "b" }, want: "b"},
		{name: "its home is full", servers: []pool.Candidate{candidate("a"), candidate("b", used(8*gib, 6))}, need: func(n *pool.Need) { n.Home = "b" }, want: "a"},
		{name: "its home is elsewhere", servers: []pool.Candidate{candidate("a"), candidate("b", regions("us"))}, need: func(n *pool.Need) { n.Home = "b" }, want: "a"},
		{name: "exactly enough", servers: []pool.Candidate{candidate("a", used(7*gib, 9))}, want: "a"},
		{name: "memory", servers: []pool.Candidate{candidate("a", used(7*gib+1, 1))}, problem: "a has 1024 MiB of memory left, and 1.0 GiB is needed"},
		{name: "agents", servers: []pool.Candidate{candidate("a", used(0, 10))}, problem: "a has 10 of 10 agents"},
		{name: "disk", servers: []pool.Candidate{candidate("a", func(c *pool.Candidate) { c.Disk = gib - 1 })}, problem: "disk left"},
		{name: "image", servers: []pool.Candidate{candidate("a")}, need: func(n *pool.Need) { n.Image = "v2" }, problem: "a lacks the image v2"},
		{name: "down", servers: []pool.Candidate{candidate("a", func(c *pool.Candidate) { c.Up = false })}, problem: "a cannot be reached"},
		{name: "isolation", servers: []pool.Candidate{candidate("a", func(c *pool.Candidate) { c.Lacks = "no seccomp" })}, problem: "a cannot run agents: no seccomp"},
		{name: "states", servers: []pool.Candidate{candidate("c", state(pool.Abandoned)), candidate("a", state(pool.Cordoned)), candidate("b", state(pool.Draining))}, problem: "a is cordoned; b is draining; c is abandoned"},
		{name: "no server of the region", servers: []pool.Candidate{candidate("a")}, need: func(n *pool.Need) { n.Region = "ap" }, problem: "no server serves the region ap"},
		{name: "no server", problem: "no server serves the region eu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := need
			if c.need != nil {
				c.need(&n)
			}
			got, err := pool.Choose(c.servers, n)
			if got != c.want || (err != nil) != (c.problem != "") {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil && (!errors.Is(err, runtime.ErrNoCapacity) || !strings.Contains(err.Error(), c.problem) || !strings.Contains(err.Error(), n.Region)) {
				t.Errorf("%v", err)
			}
		})
	}
	var many []pool.Candidate
	for i := range 100 {
		many = append(many, candidate(fmt.Sprintf("s%02d", i), used(8*gib, 1)))
	}
	if _, err := pool.Choose(many, need); err == nil || len(err.Error()) > 500 || !strings.Contains(err.Error(), "and 95 more") {
		t.Errorf("%v", err)
	}
}

// TestRoomsAreNeverOverfull: two hundred agents at once on three servers that have room for a
// hundred and fifty.
func TestRoomsAreNeverOverfull(t *testing.T) {
	servers := []pool.Candidate{
		candidate("a", func(c *pool.Candidate) { c.Memory, c.Agents = 50*gib, 0 }),
		candidate("b", func(c *pool.Candidate) { c.Memory, c.Agents = 0, 50 }),
		candidate("c", func(c *pool.Candidate) { c.Memory, c.Agents, c.Disk = 0, 0, 50*gib }),
	}
	rooms := pool.NewRooms()
	var work sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for i := range 200 {
		work.Go(func() {
			_, err := rooms.Place(servers, identity.AgentID(fmt.Sprint(i)), pool.Need{Region: "eu", Image: "v1", Memory: gib, Disk: gib})
			if err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
				if !errors.Is(err, runtime.ErrNoCapacity) {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	for _, s := range []string{"a", "b", "c"} {
		if n, memory := rooms.Used(s); n != 50 || memory != 50*gib {
			t.Errorf("%s has %d agents and %d bytes", s, n, memory)
		}
	}
	if refused != 50 {
		t.Errorf("%d were refused", refused)
	}
}

// TestRoomsOfAnAgent: one agent has one room, which it keeps while it can.
func TestRoomsOfAnAgent(t *testing.T) {
	servers := []pool.Candidate{candidate("a", func(c *pool.Candidate) { c.Agents = 1 }), candidate("b")}
	rooms := pool.NewRooms()
	n := pool.Need{Region: "eu", Image: "v1", Memory: gib, Disk: 60 * gib}
	for range 3 { // again: a repetition after a crash or an unknown result
		if name, err := rooms.Place(servers, "x", n); name != "a" || err != nil {
			t.Fatalf("%q, %v", name, err)
		}
	}
	if agents, _ := rooms.Used("a"); agents != 1 {
		t.Errorf("%d rooms", agents)
	}
	servers[0].State = pool.Draining
	if name, err := rooms.Place(servers, "x", n); name != "b" || err != nil {
		t.Fatalf("%q, %v", name, err)
	}
	servers[0].State, servers[1].Up = pool.Active, true
	if name, err := rooms.Place(servers, "y", n); name != "a" || err != nil {
		t.Errorf("%q, %v: what is promised of the disk counts", name, err)
	}
	if _, err := rooms.Place(servers, "z", n); err == nil {
		t.Error("promised twice")
	}
	rooms.Started("x") // the server measures it from now on
	if name, err := rooms.Place(servers, "z", n); name != "b" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
	rooms.Release("x")
	rooms.Release("nobody")
	rooms.Take("w", "b", 3*gib)
	if agents, memory := rooms.Used("b"); agents != 2 || memory != 4*gib {
		t.Errorf("%d agents, %d bytes", agents, memory)
	}
	servers[1].State = pool.Cordoned
	if _, err := rooms.Place(servers, "w", n); err == nil {
		t.Error("placed")
	} else if agents, _ := rooms.Used("b"); agents != 1 {
		t.Errorf("an agent without room counts: %d", agents)
	}
	// Its gateway may run where its home is, although it cannot be placed there now.
	rooms.Take("v", "b", gib)
	n.Home = "b"
	if _, err := rooms.Place(servers[1:], "v", n); err == nil {
		t.Error("placed")
	} else if agents, memory := rooms.Used("b"); agents != 2 || memory != 2*gib {
		t.Errorf("it has lost its room: %d agents, %d bytes", agents, memory)
	}
}
