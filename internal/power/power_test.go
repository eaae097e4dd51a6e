package power_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
)

const linger = 25 * time.Second

var (
	policy = power.Policy{Linger: linger, DiskAfter: 5 * time.Minute}
	noon   = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
)

// TestIsDue has each reason for which a gateway stays awake or not.
func TestIsDue(t *testing.T) {
	idle := power.Gateway{ID: "a", Used: noon.Add(-linger)}
	recent := power.Gateway{ID: "a", Used: noon.Add(-linger + 1)}
	with := func(g power.Gateway, set func(*power.Gateway)) power.Gateway { set(&g); return g }
	failed := func(n int, ago time.Duration) power.Gateway {
		return with(idle, func(g *power.Gateway) { g.Failures, g.Failed = n, noon.Add(-ago) })
	}
	for _, c := range []struct {
		name    string
		policy  power.Policy
		gateway power.Gateway
		due     bool
		wanted  bool // due, if another one needs the room
	}{
		{"idle for the linger", policy, idle, true, true},
		{"used a moment ago", policy, recent, false, true},
		{"used in the future: the clock was set back", policy, with(idle, func(g *power.Gateway) { g.Used = noon.Add(time.Hour) }), false, true},
		{"busy", policy, with(idle, func(g *power.Gateway) { g.Busy = true }), false, false},
		{"kept awake", policy, with(idle, func(g *power.Gateway) { g.KeepAwake = true }), false, false},
		{"nothing is known of it", policy, power.Gateway{ID: "a"}, false, false},
		{"sleep is off", power.Policy{}, idle, false, false},
		{"one suspend failed a moment ago", policy, failed(1, 59*time.Second), false, false},
		{"one suspend failed a minute ago", policy, failed(1, time.Minute), true, true},
		{"three failed", policy, failed(3, 4*time.Minute-1), false, false},
		{"three failed four minutes ago", policy, failed(3, 4*time.Minute), true, true},
		{"very many failed", policy, failed(1000, time.Hour-1), false, false},
		{"very many failed an hour ago", policy, failed(1000, time.Hour), true, true},
	} {
		if due, wanted := c.policy.IsDue(c.gateway, false, noon), c.policy.IsDue(c.gateway, true, noon); due != c.due || wanted != c.wanted {
			t.Errorf("%s: due %t, %t if its room is wanted", c.name, due, wanted)
		}
	}
	if left := policy.Left(recent, noon); left != 1 {
		t.Errorf("it lingers for %s", left)
	}
}

// TestMakeRoom has what goes in which order.
func TestMakeRoom(t *testing.T) {
	used := func(seconds int) time.Time { return noon.Add(-time.Duration(seconds) * time.Second) }
	awake := []power.Gateway{
		{ID: "new", Used: used(1), Frees: 10}, {ID: "old", Used: used(20), Frees: 10}, {ID: "busy", Used: used(100), Busy: true, Frees: 10},
		{ID: "kept", Used: used(100), KeepAwake: true, Frees: 10}, {ID: "boots", Frees: 10},
	}
	asleep := []power.Checkpoint{{ID: "empty", Used: used(9999)}, {ID: "hour", Used: used(3600), Bytes: 5}, {ID: "day", Used: used(86400), Bytes: 5}}
	for _, c := range []struct {
		bytes           int64
		suspend, giveUp []identity.AgentID
	}{
		{0, nil, nil},
		{10, []identity.AgentID{"old"}, nil},
		{11, []identity.AgentID{"old"}, []identity.AgentID{"day"}},
		{20, []identity.AgentID{"old"}, []identity.AgentID{"day", "hour"}},
		{21, []identity.AgentID{"old", "new"}, []identity.AgentID{"day", "hour"}},
		{1000, []identity.AgentID{"old", "new"}, []identity.AgentID{"day", "hour"}},
	} {
		suspend, giveUp := policy.MakeRoom(c.bytes, awake, asleep, noon)
		if !slices.Equal(suspend, c.suspend) || !slices.Equal(giveUp, c.giveUp) {
			t.Errorf("for %d bytes: suspend %v, give up %v", c.bytes, suspend, giveUp)
		}
	}
	if suspend, giveUp := policy.MakeRoom(5, awake[2:], asleep, noon); suspend != nil || !slices.Equal(giveUp, []identity.AgentID{"day"}) {
		t.Errorf("all are busy: suspend %v, give up %v", suspend, giveUp)
	}
}

// TestProperties holds for whatever there is: nothing that is busy or kept awake is suspended, what
// can be freed is freed and no more than needed, and the order of the arguments does not count.
func TestProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		awake, asleep := make([]power.Gateway, random.IntN(8)), make([]power.Checkpoint, random.IntN(8))
		for i := range awake {
			awake[i] = randomGateway(random, i)
		}
		for i := range asleep {
			asleep[i] = power.Checkpoint{ID: identity.AgentID(fmt.Sprint("s", i)), Used: randomTime(random), Bytes: random.Int64N(4)}
		}
		bytes := random.Int64N(20)
		suspend, giveUp := policy.MakeRoom(bytes, awake, asleep, noon)
		var freed, possible, least int64
		var latest time.Time
		for _, g := range awake {
			may := !g.Busy && !g.KeepAwake && !g.Used.IsZero() && g.Failures == 0
			if may {
				possible += g.Frees
			}
			if !slices.Contains(suspend, g.ID) {
				continue
			}
			if g.Busy || g.KeepAwake || g.Used.IsZero() {
				t.Fatalf("%+v is suspended", g)
			}
			freed += g.Frees
			latest = maxTime(latest, g.Used)
		}
		for _, g := range awake {
			if len(suspend) > 0 && policy.MaySuspend(g, noon) && !slices.Contains(suspend, g.ID) && g.Used.Before(latest) {
				t.Fatalf("%+v stays awake and was used longer ago than what is suspended", g)
			}
		}
		for _, c := range asleep {
			possible += c.Bytes
			if slices.Contains(giveUp, c.ID) {
				freed += c.Bytes
				least = max(least, c.Bytes)
			}
		}
		if freed < min(bytes, possible) {
			t.Fatalf("%d of %d bytes are freed, and %d could be: %+v %+v", freed, bytes, possible, awake, asleep)
		}
		if len(giveUp) > 0 && len(suspend) < 2 && freed-least >= bytes+3 {
			t.Fatalf("%d bytes are freed for %d", freed, bytes)
		}
		slices.Reverse(awake)
		slices.Reverse(asleep)
		if s, u := policy.MakeRoom(bytes, awake, asleep, noon); !slices.Equal(s, suspend) || !slices.Equal(u, giveUp) {
			t.Fatalf("in another order: %v %v, %v %v", suspend, s, giveUp, u)
		}
	}
}

// TestNothingStarves: an idle gateway is suspended when its linger is over, and its last failure a
// while ago; what is suspended for room moves to the end of the order by its next use.
func TestNothingStarves(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 1000 {
		g := randomGateway(random, i)
		g.Busy, g.KeepAwake, g.Used = false, false, noon
		if !policy.IsDue(g, false, noon.Add(linger+time.Hour)) {
			t.Fatalf("%+v is awake for ever", g)
		}
	}
	gateways := make([]power.Gateway, 10)
	for i := range gateways {
		gateways[i] = power.Gateway{ID: identity.AgentID(fmt.Sprint(i)), Used: noon.Add(time.Duration(random.IntN(1000))), Frees: 1}
	}
	suspends := map[identity.AgentID]int{}
	for step := range 100 {
		at := noon.Add(time.Duration(step+1) * time.Second)
		suspend, _ := policy.MakeRoom(1, gateways, nil, at)
		for _, id := range suspend { // it is woken at once again
			suspends[id]++
			gateways[slices.IndexFunc(gateways, func(g power.Gateway) bool { return g.ID == id })].Used = at
		}
	}
	for id, n := range suspends {
		if len(suspends) != 10 || n != 10 {
			t.Errorf("%s was suspended %d times of 100, of %d gateways", id, n, len(suspends))
		}
	}
}

func randomGateway(random *rand.Rand, i int) power.Gateway {
	g := power.Gateway{ID: identity.AgentID(fmt.Sprint("g", i)), Used: randomTime(random), Busy: random.IntN(3) == 0, KeepAwake: random.IntN(4) == 0, Frees: random.Int64N(4)}
	if random.IntN(4) == 0 {
		g.Failures, g.Failed = 1+random.IntN(100), noon.Add(-time.Duration(random.IntN(7200))*time.Second)
	}
	return g
}

// randomTime returns a time of the last minutes, or the zero time.
func randomTime(random *rand.Rand) time.Time {
	if random.IntN(10) == 0 {
		return time.Time{}
	}
	return noon.Add(-time.Duration(random.IntN(300)) * time.Second)
}

func maxTime(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func TestNextWake(t *testing.T) {
	now := time.Unix(1e9, 0)
	if at := power.NextWake(power.Wakes{}); !at.IsZero() {
		t.Errorf("an agent that nothing waits for wakes at %s", at)
	}
	if at := power.NextWake(power.Wakes{Message: now}); !at.Equal(now) {
		t.Errorf("it wakes at %s", at)
	}
}

// TestTries: a message that is new wakes at once, and one that was not taken later and later.
func TestTries(t *testing.T) {
	now := time.Unix(1e9, 0)
	tries := power.Tries{}.Next(7, 0, now)
	if !tries.At.Equal(now) {
		t.Errorf("the first wake is at %s", tries.At)
	}
	if again := tries.Next(7, 0, now.Add(time.Second)); !again.At.Equal(now.Add(time.Second)) || again.Count != 1 {
		t.Errorf("a wake that did not come about: %+v", again)
	}
	for i, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour} {
		last, wakes := tries.At, int64(i+1)
		tries = tries.Next(7, wakes, last.Add(time.Second))
		if got := tries.At.Sub(last); got != pause {
			t.Errorf("after %d wakes the next one comes after %s, want %s", wakes, got, pause)
		}
		if again := tries.Next(7, wakes, last.Add(2*time.Second)); again != tries {
			t.Errorf("a wake that is to come was replaced: %+v", again)
		}
	}
	if late := tries.Next(7, 9, tries.At.Add(24*time.Hour)); !late.At.Equal(tries.At.Add(24 * time.Hour)) {
		t.Errorf("a wake that is due is at %s", late.At)
	}
	if newer := tries.Next(8, 9, now.Add(time.Second)); !newer.At.Equal(now.Add(time.Second)) || newer.Count != 1 {
		t.Errorf("another message: %+v", newer)
	}
}

// TestStore has what moves to the disk, and what is given up for it.
func TestStore(t *testing.T) {
	ago := func(minutes int) time.Time { return noon.Add(-time.Duration(minutes) * time.Minute) }
	asleep := []power.Checkpoint{
		{ID: "memory", Used: ago(90), Bytes: 10}, {ID: "hour", Used: ago(60), Stored: 5}, {ID: "day", Used: ago(1440), Stored: 5}, {ID: "new", Used: ago(1), Stored: 5},
	}
	for _, c := range []struct {
		bytes, room int64
		used        time.Time
		giveUp      []identity.AgentID
		ok          bool
	}{
		{5, 5, ago(10), nil, true},
		{5, 0, ago(10), []identity.AgentID{"day"}, true},
		{7, 1, ago(10), []identity.AgentID{"day", "hour"}, true},
		{5, -5, ago(10), []identity.AgentID{"day", "hour"}, true}, // more is used than may be
		{5, -6, ago(10), nil, false},
		{11, 0, ago(10), nil, false}, // the one that was used later stays
		{6, 0, ago(100), nil, false}, // it is older than another one that it would need
		{5, 0, ago(2000), nil, false},
		{5, 5, time.Time{}, nil, true},
	} {
		giveUp, ok := power.Store(power.Checkpoint{ID: "it", Used: c.used, Bytes: c.bytes}, c.room, asleep)
		if ok != c.ok || !slices.Equal(giveUp, c.giveUp) {
			t.Errorf("%d bytes for %d: give up %v, %t", c.bytes, c.room, giveUp, ok)
		}
	}
	if ids := power.GiveUp(6, asleep); !slices.Equal(ids, []identity.AgentID{"day", "hour"}) {
		t.Errorf("given up: %v", ids)
	}
	if ids := power.Leave(1, asleep); !slices.Equal(ids, []identity.AgentID{"memory"}) {
		t.Errorf("leave the memory: %v", ids)
	}
	for used, want := range map[time.Time]time.Duration{ago(0): 5 * time.Minute, ago(4): time.Minute, ago(5): 0, ago(600): 0, {}: 0, ago(-60): 65 * time.Minute} {
		if got := policy.MoveIn(power.Checkpoint{Used: used}, noon); got != want {
			t.Errorf("used at %s it moves in %s", used, got)
		}
	}
}

// TestStoreProperties holds for whatever there is: a checkpoint that moves fits, and nothing is given
// up for it that was used later, or that is not needed.
func TestStoreProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		asleep := make([]power.Checkpoint, random.IntN(8))
		for i := range asleep {
			asleep[i] = power.Checkpoint{ID: identity.AgentID(fmt.Sprint("s", i)), Used: randomTime(random), Stored: random.Int64N(4)}
		}
		c, room := power.Checkpoint{ID: "it", Used: randomTime(random), Bytes: 1 + random.Int64N(8)}, random.Int64N(10)-5
		giveUp, ok := power.Store(c, room, asleep)
		freed, possible, last := int64(0), int64(0), int64(0)
		for _, s := range asleep {
			if s.Used.Before(c.Used) {
				possible += s.Stored
			}
			if !slices.Contains(giveUp, s.ID) {
				continue
			}
			freed += s.Stored
			if s.ID == giveUp[len(giveUp)-1] {
				last = s.Stored
			}
			if !s.Used.Before(c.Used) || s.Stored == 0 {
				t.Fatalf("%+v is given up for %+v", s, c)
			}
		}
		if ok != (room+possible >= c.Bytes) || ok && room+freed < c.Bytes || len(giveUp) > 0 && (!ok || room+freed-last >= c.Bytes) {
			t.Fatalf("%+v with %d bytes left: give up %v of %+v, %t", c, room, giveUp, asleep, ok)
		}
	}
}
