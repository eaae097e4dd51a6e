package pool_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
)

// TestSimulation places 10,000 agents on 100 servers that come and go: no server is ever
// overfull, no agent leaves its region, and nothing moves but what must. It prints how even the
// servers are filled, the moves, and the time of a placement.
func TestSimulation(t *testing.T) {
	const servers, agents = 100, 10_000
	random := rand.New(rand.NewPCG(1, 18))
	sizes := []int64{gib / 2, gib, 2 * gib}
	var all []pool.Candidate
	for i := range servers {
		all = append(all, candidate(fmt.Sprintf("s%03d", i), func(c *pool.Candidate) {
			c.Regions, c.Memory, c.Agents, c.Disk = []string{[]string{"eu", "us"}[i%2]}, 200*gib, 200, 4000*gib
		}))
	}
	needs := make([]pool.Need, agents)
	rooms := pool.NewRooms()
	where := make([]string, agents)
	moves, forced, placements := 0, 0, 0
	var took time.Duration
	place := func(i int) {
		began := time.Now()
		name, err := rooms.Place(all, identity.AgentID(fmt.Sprint(i)), needs[i])
		took += time.Since(began)
		placements++
		if err != nil {
			t.Fatalf("agent %d: %v", i, err)
		}
		if where[i] != "" && where[i] != name {
			moves++
		}
		where[i], needs[i].Home = name, name
	}
	for i := range agents {
		needs[i] = pool.Need{Region: []string{"eu", "us"}[random.IntN(2)], Image: "v1", Memory: sizes[random.IntN(len(sizes))], Disk: gib}
		place(i)
		rooms.Started(identity.AgentID(fmt.Sprint(i)))
	}
	spread := func() (least, most float64) {
		least = 1
		for _, c := range all {
			_, memory := rooms.Used(c.Name)
			if memory > c.Memory {
				t.Errorf("%s is overfull", c.Name)
			}
			if c.Up {
				least, most = min(least, float64(memory)/float64(c.Memory)), max(most, float64(memory)/float64(c.Memory))
			}
		}
		return least, most
	}
	least, most := spread()
	t.Logf("filled: %.1f to %.1f %% of memory", 100*least, 100*most)
	if most-least > 0.05 {
		t.Errorf("uneven: %.3f to %.3f", least, most)
	}
	for range 60 { // a server goes or comes back, and some agents start again
		i := random.IntN(servers)
		all[i].Up = !all[i].Up
		for a := range agents {
			switch {
			case where[a] == all[i].Name && !all[i].Up:
				forced++
				place(a)
			case random.IntN(500) == 0:
				place(a) // it was stopped and is started
			}
		}
		spread()
	}
	if moves != forced {
		t.Errorf("%d moves, and %d had to", moves, forced)
	}
	for i, n := range needs {
		c := all[slices.IndexFunc(all, func(c pool.Candidate) bool { return c.Name == where[i] })]
		if !slices.Contains(c.Regions, n.Region) {
			t.Errorf("agent %d is in %v, not %s", i, c.Regions, n.Region)
		}
	}
	least, most = spread()
	t.Logf("after servers came and went: %.1f to %.1f %%, %d moves, all needed; %s for each of %d placements", 100*least, 100*most, moves, took/time.Duration(placements), placements)
}
