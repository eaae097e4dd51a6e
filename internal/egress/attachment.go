package egress

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"agento.host/agento/internal/identity"
)

// attachment serves the network of one agent.
type attachment struct {
	m       *Manager
	id      identity.AgentID
	network Network
	names   *names
	bytes   *rate.Limiter // of both directions; nil: none
	queries *rate.Limiter
	lookups chan struct{} // has an element for each name that is being resolved
	large   atomic.Int32  // large buffers that are held

	ctx    context.Context // ends with the attachment
	cancel context.CancelFunc

	starting sync.Mutex
	closed   bool // guarded by starting
	group    sync.WaitGroup

	following atomic.Bool // the policy is to be read
	reading   sync.Mutex  // held while the policy is read and applied
	routing   sync.Mutex  // held while routes are set
	stale     atomic.Bool // the routes are not those of the policy

	mu        sync.Mutex
	account   identity.AccountID   // guarded by mu
	policy    Policy               // guarded by mu
	hasPolicy bool                 // policy was set; guarded by mu
	flows     map[*flow]struct{}   // open connections; guarded by mu
	counted   *batch               // without what open connections have; guarded by mu
	told      map[refusedKey]bool  // refusals that the event log has; guarded by mu
	toldAt    time.Time            // when told was last emptied; guarded by mu
	logged    map[string]time.Time // when something was last logged; guarded by mu
	events    *rate.Limiter
}

const (
	// retryLoad is how long a start waits after the database could not be read.
	retryLoad = time.Second
	// eventsAnHour bounds the events of one agent, as does that each refusal is one only
	// once in tellAgain.
	eventsAnHour = 30
	tellAgain    = time.Hour
	// logAgain is how often the log says the same of an agent, which may cause it.
	logAgain = time.Minute
	// burstQueries is how many DNS queries may come at once, in seconds of their limit.
	burstQueries = 4
	// maxRefused bounds the refused destinations of one flush: an agent that tries many must
	// not keep the database busy.
	maxRefused = 100
	// maxTold bounds told.
	maxTold = 1000
)

func (m *Manager) newAttachment(id identity.AgentID, n Network) *attachment {
	a := &attachment{
		m: m, id: id, network: n, names: newNames(m.limits.Names), lookups: make(chan struct{}, maxLookups),
		queries: rate.NewLimiter(rate.Limit(m.limits.QueriesPerSecond), burstQueries*m.limits.QueriesPerSecond),
		policy:  Policy{Mode: None}, flows: map[*flow]struct{}{}, counted: newBatch(), told: map[refusedKey]bool{}, logged: map[string]time.Time{},
		events: rate.NewLimiter(rate.Every(time.Hour/eventsAnHour), eventsAnHour),
	}
	if per := m.limits.BytesPerSecond; per > 0 {
		a.bytes = rate.NewLimiter(rate.Limit(per), max(per/8, largeSize))
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// start serves once the policy and the names are read. Connections wait in the backlog
// until then.
func (a *attachment) start() {
	a.spawn(func() {
		for {
			err := a.load()
			if err == nil {
				break
			}
			if a.ctx.Err() != nil || errors.Is(err, sql.ErrNoRows) {
				return
			}
			a.m.log.WarnContext(a.ctx, "an agent has no network yet: its policy could not be read, retrying", "agent", a.id, "error", err)
			select {
			case <-time.After(retryLoad):
			case <-a.ctx.Done():
				return
			}
		}
		if a.network.DNS != nil {
			a.group.Go(func() { a.serveDNS(a.network.DNS) })
		}
		a.accept(a.network.Out)
	})
}

// spawn runs f, which close waits for. It does not after close.
func (a *attachment) spawn(f func()) {
	a.starting.Lock()
	defer a.starting.Unlock()
	if !a.closed {
		a.group.Go(f)
	}
}

func (a *attachment) load() error {
	stored, err := a.m.readNames(a.ctx, a.id)
	if err != nil {
		return err
	}
	a.names.load(stored)
	return a.readPolicy()
}

// follow reads the policy again, without making the caller wait.
func (a *attachment) follow() {
	if a.following.Swap(true) {
		return // another one has not begun to read
	}
	a.spawn(func() {
		err := a.readPolicy()
		if err != nil && a.ctx.Err() == nil && !errors.Is(err, sql.ErrNoRows) {
			a.warn("an agent's egress policy could not be read: it stays as it was", "error", err)
		}
	})
}

// readPolicy applies the policy of the agent's record.
func (a *attachment) readPolicy() error {
	a.reading.Lock() // what is read last is applied last
	defer a.reading.Unlock()
	a.following.Store(false)
	account, p, err := a.m.policy(a.ctx, a.id)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.account = account
	a.mu.Unlock()
	a.setPolicy(p)
	return nil
}

// close resets the connections and returns when nothing is served any more.
func (a *attachment) close() {
	a.starting.Lock()
	a.closed = true
	a.starting.Unlock()
	a.cancel()
	_ = a.network.Out.Close()
	if a.network.DNS != nil {
		_ = a.network.DNS.Close()
	}
	a.reset(func(*flow) bool { return true })
	a.group.Wait()
}

// reset resets the connections that match.
func (a *attachment) reset(match func(*flow) bool) {
	a.mu.Lock()
	var matching []*flow
	for f := range a.flows {
		if match(f) {
			matching = append(matching, f)
		}
	}
	a.mu.Unlock()
	for _, f := range matching {
		f.reset()
	}
}

func (a *attachment) currentPolicy() Policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.policy
}

func (a *attachment) setPolicy(p Policy) {
	a.mu.Lock()
	changed := !a.hasPolicy || a.policy.Mode != p.Mode || !slices.Equal(a.policy.Hosts, p.Hosts)
	a.policy, a.hasPolicy = p, true
	a.mu.Unlock()
	if !changed {
		return
	}
	a.reset(func(f *flow) bool { return a.check(p, f.to) != nil })
	a.applyRoutes()
}

// applyRoutes makes the addresses local that the policy has. If that fails, retryRoutes
// tries again: until then connections fail that could be made, or are refused by the
// policy when they arrive.
func (a *attachment) applyRoutes() {
	if a.network.SetRoutes == nil {
		return
	}
	a.routing.Lock()
	defer a.routing.Unlock()
	err := a.network.SetRoutes(a.ctx, a.currentPolicy().routes())
	a.stale.Store(err != nil)
	if err != nil && a.ctx.Err() == nil {
		a.m.log.ErrorContext(a.ctx, "the routes of an agent's network could not be set, retrying", "agent", a.id, "error", err)
	}
}

// retryRoutes sets the routes if they could not be set before, without making the caller
// wait.
func (a *attachment) retryRoutes() {
	if a.stale.Load() {
		a.spawn(a.applyRoutes)
	}
}

// count returns how many connections are open.
func (a *attachment) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.flows)
}

func (a *attachment) closeIdle(now time.Time) {
	a.reset(func(f *flow) bool { return now.Sub(f.lastActive()) > a.m.limits.IdleTimeout })
}

// destinationOf returns where an agent's connection goes. The error is a refusal for an
// address of names that no name has.
func (a *attachment) destinationOf(to netip.AddrPort) (destination, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !namesRange.Contains(to.Addr()) {
		return destination{addr: to.Addr(), port: to.Port()}, nil
	}
	if name, ok := a.names.find(to.Addr(), time.Now()); ok {
		return destination{name: name, port: to.Port()}, nil
	}
	return destination{addr: to.Addr(), port: to.Port()}, &refusal{reason: UnknownAddress, detail: "no name has the address " + to.Addr().String()}
}

// named returns the destination that an agent has named to a proxy. The error is a refusal for what is
// neither a name nor an address.
func (a *attachment) named(host string, port uint16) (destination, error) {
	if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return a.destinationOf(netip.AddrPortFrom(addr.WithZone(""), port))
	}
	d := destination{name: canonicalHost(host), port: port}
	if !isName(d.name) {
		return destination{name: quote(host), port: port}, &refusal{reason: UnknownAddress, detail: quote(host) + " is not the name of a host"}
	}
	return d, nil
}

// check returns a refusal if the policy does not allow a destination.
func (a *attachment) check(p Policy, d destination) error {
	if allowed, _ := p.allows(d); allowed {
		return nil
	}
	return a.byPolicy(p)
}

func (a *attachment) byPolicy(p Policy) *refusal {
	return &refusal{reason: ByPolicy, detail: "the policy " + string(p.Mode) + " does not allow it"}
}

// refuse counts a refusal, and has it logged as an event if it is new.
func (a *attachment) refuse(d destination, r *refusal) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	k := refusedKey{destinationKey{a.id, d.host(), d.port}, r.reason}
	if _, known := a.counted.refused[k]; !known && len(a.counted.refused) >= maxRefused {
		return
	}
	a.counted.addRefused(k, Refused{Detail: r.detail, Count: 1, LastAt: now})
	if now.Sub(a.toldAt) > tellAgain {
		clear(a.told)
		a.toldAt = now
	}
	if a.told[k] || len(a.told) >= maxTold || !a.events.AllowN(now, 1) {
		return
	}
	a.told[k] = true
	a.counted.events[k] = refusedEvent{r.detail, a.policy.AllowText(Refused{Host: k.host, Port: k.port, Reason: r.reason, Detail: r.detail})}
}

// hitLimit logs whose limit was hit.
func (a *attachment) hitLimit(limit string, n int) {
	a.warn("an agent has reached a limit of its network", "limit", limit, "at", n)
}

// warn logs a message about the agent, but the same again only after a while. What follows
// the message are attributes; the first one's value tells messages apart.
func (a *attachment) warn(message string, attributes ...any) {
	now, key := time.Now(), message+fmt.Sprint(attributes[1])
	a.mu.Lock()
	again := now.Sub(a.logged[key]) < logAgain
	if !again {
		a.logged[key] = now
	}
	a.mu.Unlock()
	if !again {
		a.m.log.WarnContext(a.ctx, message, append([]any{"agent", a.id}, attributes...)...)
	}
}

// countDestination adds to what is counted of a destination.
func (a *attachment) countDestination(d destination, c Destination) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counted.addDestination(destinationKey{a.id, d.host(), d.port}, c)
}

// take returns what was counted since the last call.
func (a *attachment) take() *batch {
	a.mu.Lock()
	defer a.mu.Unlock()
	for f := range a.flows {
		if c := f.takeBytes(); c.BytesIn+c.BytesOut > 0 {
			a.counted.addDestination(destinationKey{a.id, f.to.host(), f.to.port}, c)
		}
	}
	b := a.counted
	a.counted = newBatch()
	if a.account != "" {
		b.accounts[a.id] = a.account
	}
	for text, n := range a.names.takeDirty() {
		b.names[nameKey{a.id, text}] = n
	}
	return b
}
