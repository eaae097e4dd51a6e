package engines_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/runtimetest"
)

// chaosAgent uses an agent as the reconciler does, whatever fails: it knows what the agent must have.
type chaosAgent struct {
	e       *env
	spec    runtime.Spec
	g       *runtimetest.Gateway
	running bool
	written int // what the file in the home has at least, if the engine lives
	calls   int // that succeeded
}

// act does one thing with the agent. It fails while the server is disturbed.
func (c *chaosAgent) act(ctx context.Context) error {
	d := c.e.driver
	switch n := rand.IntN(10); {
	case !c.running:
		place, err := d.Place(ctx, c.spec)
		if err != nil {
			return err
		}
		c.e.setPlace(c.spec.ID, place)
		if err := d.Stop(ctx, c.g.Place, c.spec.ID, 0); err != nil { // as before each start: the last one may have succeeded
			return err
		}
		c.g = runtimetest.At(c.e.t, d, c.spec.ID, place)
		if err := d.Start(ctx, place, c.spec); err != nil {
			return err
		}
		c.running = true
	case n == 0:
		if err := d.Stop(ctx, c.g.Place, c.spec.ID, time.Second); err != nil {
			return err
		}
		c.running = false
	case n == 1:
		if err := c.freeze(ctx); err != nil {
			return err
		}
	case n < 5:
		if _, err := c.g.Try("/write", "name", "count", "data", strconv.Itoa(c.written+1)); err != nil {
			return c.check(ctx, err)
		}
		c.written++
	default:
		got, err := c.g.Try("/read", "name", "count")
		if err != nil {
			return c.check(ctx, err)
		}
		if n, _ := strconv.Atoi(got); n < c.written || n > c.written+1 {
			return fmt.Errorf("WRONG: the file has %q instead of %d", got, c.written)
		}
	}
	c.calls++
	return nil
}

// freeze lets the gateway stand still and go on.
func (c *chaosAgent) freeze(ctx context.Context) error {
	d := c.e.driver
	if err := d.Freeze(ctx, c.g.Place, c.spec.ID); err != nil {
		return c.check(ctx, err)
	}
	return d.Thaw(ctx, c.g.Place, c.spec.ID)
}

// check looks whether the gateway runs that has failed to answer.
func (c *chaosAgent) check(ctx context.Context, failed error) error {
	state, err := c.e.driver.Inspect(ctx, c.g.Place, c.spec.ID)
	switch {
	case err != nil:
		return err
	case state.Phase == runtime.Frozen:
		return c.e.driver.Thaw(ctx, c.g.Place, c.spec.ID)
	case state.Phase != runtime.Running:
		c.running = false
	}
	return failed
}

// disturb runs agents on the server alpha while it is disturbed, and checks that each comes back with its
// files, and that none is there twice.
func disturb(t *testing.T, socket string, address func(sshd) string, disturbances map[string]func(s sshd)) {
	s := newSSHD(t)
	e := newEnv(t)
	e.connect(s.newServer("alpha", socket, address(s)))
	const count, rounds = 5, 20
	all := make([]*chaosAgent, count)
	for i := range all {
		g := e.start("alpha")
		all[i] = &chaosAgent{e: e, spec: runtimetest.Spec(g.ID), g: g, running: true}
		g.Ask("/write", "name", "count", "data", "0")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for _, c := range all {
		wait.Go(func() {
			for ctx.Err() == nil {
				limited, cancel := context.WithTimeout(ctx, 20*time.Second)
				err := c.act(limited)
				cancel()
				if err != nil && strings.Contains(err.Error(), "WRONG") {
					t.Errorf("agent %s: %v", c.spec.ID, err)
				}
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	for round := range rounds {
		names := slices.Sorted(maps.Keys(disturbances))
		name := names[rand.IntN(len(names))]
		t.Logf("round %d: %s", round, name)
		disturbances[name](s)
		if round%5 == 4 {
			e.open() // another process begins, as after a crash
		}
		e.waitOpen("alpha") // after many losses in a row that takes up to 30 s
		time.Sleep(time.Second + rand.N(time.Second))
	}
	cancel()
	wait.Wait()
	e.waitOpen("alpha")
	api := newAPI(t, socket)
	for _, c := range all {
		t.Logf("agent %s: %d calls have succeeded", c.spec.ID, c.calls)
		if c.calls < rounds {
			t.Errorf("agent %s could hardly be used", c.spec.ID)
		}
		if running := strings.Count(strings.Join(objects(t, api, c.spec.ID), ","), "gateway running"); running > 1 {
			t.Errorf("agent %s: %d gateways", c.spec.ID, running)
		}
		e.setPlace(c.spec.ID, "") // the other processes end what has another place than its record
		must(t, e.driver.Stop(t.Context(), c.g.Place, c.spec.ID, time.Second))
		g := runtimetest.StartAgain(t, e.driver, c.spec)
		if n, _ := strconv.Atoi(g.Ask("/read", "name", "count")); n < c.written || n > c.written+1 {
			t.Errorf("agent %s: the file has %d instead of %d", c.spec.ID, n, c.written)
		}
		must(t, e.driver.Remove(t.Context(), g.Place, c.spec.ID))
		if left := objects(t, api, c.spec.ID); len(left) > 0 {
			t.Errorf("agent %s: the engine has %v", c.spec.ID, left)
		}
	}
}

// TestChaosSSHD: sshd is killed, connections are cut, and packets are lost, while agents are used.
func TestChaosSSHD(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	var p *sshtest.Proxy
	through := func(s sshd) string {
		p = sshtest.NewProxy(t, s.Address)
		return p.Address
	}
	disturb(t, sharedSocket(t), through, map[string]func(s sshd){
		"sshd is killed": func(s sshd) {
			s.Stop()
			time.Sleep(rand.N(500 * time.Millisecond))
			s.Run("MaxStartups 200")
		},
		"connections are cut": func(sshd) { p.Cut() },
		"packets are lost": func(sshd) {
			p.Stall()
			time.Sleep(rand.N(8 * keepalive))
			p.Flow()
		},
	})
}

// TestChaosEngine: the engine of a server is killed, and ends, while agents are used.
func TestChaosEngine(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	sharedSocket(t) // skips
	engine, err := dockertest.New()
	dockertest.Check(t, err)
	t.Cleanup(func() { must(t, engine.Close()) })
	must(t, dockertest.LoadImage(t.Context(), engine.Host()))
	disturb(t, socketOf(engine), func(sshd) string { return "" }, map[string]func(sshd){
		"the engine is killed": func(sshd) { must(t, engine.Restart(true)) },
		"the engine ends":      func(sshd) { must(t, engine.Restart(false)) },
	})
}

// TestChaosLostPackets: with the keepalives that servers have, a connection whose packets are lost is
// noticed within 20 s, and the gateway is the same after it.
func TestChaosLostPackets(t *testing.T) {
	skiptest.UnlessChaos(t, "servers")
	socket := sharedSocket(t)
	s := newSSHD(t)
	p := sshtest.NewProxy(t, s.Address)
	e := newEnv(t, func(s *pool.Settings) { s.Keepalive = 0 })
	e.connect(s.newServer("alpha", socket, p.Address))
	g := e.start("alpha")
	serveCalls(t, e.driver, g)
	boot := g.Ask("/boot")
	for range 3 {
		p.Stall()
		began := time.Now()
		if _, err := g.Try("/boot"); err == nil {
			t.Error("it has answered")
		}
		e.waitLost("alpha")
		took := time.Since(began)
		t.Logf("noticed after %s", took)
		if took > 21*time.Second {
			t.Errorf("it was noticed after %s", took)
		}
		p.Cut()
		p.Flow()
		checkSame(t, g, boot)
	}
}
