package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
)

// Network is the way into the network of one agent.
type Network struct {
	// Out accepts the connections that the agent opens: to local addresses, as *net.TCPConn of
	// IPv4, or through a proxy, as runtime.Outgoing.
	Out net.Listener
	// DNS gets the agent's queries. nil: there are none, as proxies get names.
	DNS net.PacketConn
	// SetRoutes makes the IPv4 ranges local and no others. Connections to other addresses
	// fail in connect. nil: routes never change.
	SetRoutes func(ctx context.Context, local []netip.Prefix) error
}

// Limits are the limits of each agent.
type Limits struct {
	Connections      int           // open at the same time
	BytesPerSecond   int           // in both directions together
	QueriesPerSecond int           // of DNS; the burst is four times as much
	DialTimeout      time.Duration // until a connection to the outside is made
	IdleTimeout      time.Duration // without a byte in any direction
	Names            int           // that have addresses
	Destinations     int           // that are listed
}

// DefaultLimits are the limits of each agent unless the operator sets others.
func DefaultLimits() Limits {
	return Limits{
		Connections: 256, BytesPerSecond: 32 << 20, QueriesPerSecond: 50, DialTimeout: 10 * time.Second, IdleTimeout: 15 * time.Minute,
		Names: 1024, Destinations: 200,
	}
}

// Resolver resolves names. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Settings are what a Manager needs.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Log    *slog.Logger // nil: nothing is logged

	// Policy returns an agent's account and policy. Errors: sql.ErrNoRows, if there is no
	// such agent.
	Policy func(context.Context, identity.AgentID) (identity.AccountID, Policy, error)
	// Private are the private ranges that the operator allows to agents whose list names
	// what is there.
	Private []netip.Prefix

	Own      func() ([]netip.Addr, error)                                         // the addresses of the machine; nil: netguard.OwnAddresses
	Limits   Limits                                                               // zero: DefaultLimits
	Resolver Resolver                                                             // nil: the system's
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // dials addresses that the guard allows; nil: the guard's own
	Original func(*net.TCPConn) (netip.AddrPort, error)                           // where the agent connected to; nil: SO_ORIGINAL_DST
}

// Manager serves the networks of all agents. It is safe for concurrent use. A server has
// one.
type Manager struct {
	db       *database.DB
	events   *event.Log
	log      *slog.Logger
	policy   func(context.Context, identity.AgentID) (identity.AccountID, Policy, error)
	private  []netip.Prefix
	own      func() ([]netip.Addr, error)
	limits   Limits
	resolver Resolver
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	original func(*net.TCPConn) (netip.AddrPort, error)

	changes *event.PrefixSubscription // from the start: no change is missed before Run

	writing sync.Mutex // held by Flush

	mu      sync.Mutex
	agents  map[identity.AgentID]*attachment // guarded by mu
	pending *batch                           // guarded by mu
	deleted map[identity.AgentID]bool        // since the batch that is being stored was taken; guarded by mu
}

// NewManager returns a manager. Run makes it follow changes and store what it counts.
func NewManager(s Settings) *Manager {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Limits == (Limits{}) {
		s.Limits = DefaultLimits()
	}
	if s.Own == nil {
		s.Own = netguard.OwnAddresses
	}
	if s.Resolver == nil {
		s.Resolver = net.DefaultResolver
	}
	if s.Original == nil {
		s.Original = originalDestination
	}
	return &Manager{
		db: s.DB, events: s.Events, log: s.Log, policy: s.Policy, private: s.Private, own: s.Own, limits: s.Limits, resolver: s.Resolver,
		dial: s.Dial, original: s.Original, changes: s.Events.SubscribePrefix(event.ReconcilePrefix), agents: map[identity.AgentID]*attachment{}, pending: newBatch(), deleted: map[identity.AgentID]bool{},
	}
}

// Limits returns the limits of each agent.
func (m *Manager) Limits() Limits { return m.limits }

// Attach begins to serve an agent's network. It replaces an earlier one. The manager
// closes Out and DNS when it no longer serves them.
func (m *Manager) Attach(id identity.AgentID, n Network) {
	a := m.newAttachment(id, n)
	m.mu.Lock()
	before := m.agents[id]
	m.agents[id] = a
	m.mu.Unlock()
	if before != nil {
		before.close()
		m.collect(before)
	}
	a.start()
}

// Detach ends serving an agent's network: its connections are reset. It does nothing if
// there is none.
func (m *Manager) Detach(id identity.AgentID) {
	m.mu.Lock()
	a := m.agents[id]
	delete(m.agents, id)
	m.mu.Unlock()
	if a != nil {
		a.close()
		m.collect(a)
	}
}

// SetPolicy applies a policy to an agent's network at once. Connections that it does not
// allow are reset.
func (m *Manager) SetPolicy(id identity.AgentID, p Policy) {
	if a := m.attached(id); a != nil {
		a.reading.Lock()
		defer a.reading.Unlock()
		a.setPolicy(p)
	}
}

func (m *Manager) attached(id identity.AgentID) *attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agents[id]
}

func (m *Manager) all() []*attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*attachment, 0, len(m.agents))
	for _, a := range m.agents {
		all = append(all, a)
	}
	return all
}

const (
	// flushInterval bounds how much a crash of the server loses.
	flushInterval = 2 * time.Second
	// flushTimeout is the time for the last flush, after ctx has ended.
	flushTimeout = 5 * time.Second
	// idleInterval is how often idle connections are looked for, if they may be idle for
	// longer than that.
	idleInterval = 15 * time.Second
)

// Run applies changes of policies, closes idle connections and stores what was counted,
// until ctx ends. Then it ends serving every network.
func (m *Manager) Run(ctx context.Context) error {
	defer m.changes.Close()
	flush, idle := time.NewTicker(flushInterval), time.NewTicker(min(idleInterval, m.limits.IdleTimeout))
	defer flush.Stop()
	defer idle.Stop()
	for {
		select {
		case <-m.changes.Ready():
			for _, t := range m.changes.Take() {
				if a := m.attached(identity.AgentID(t.ID())); a != nil {
					a.follow()
				}
			}
		case <-flush.C:
			if err := m.Flush(ctx); err != nil && ctx.Err() == nil {
				m.log.ErrorContext(ctx, "the traffic of agents was not stored, retrying", "error", err)
			}
		case now := <-idle.C:
			for _, a := range m.all() {
				a.closeIdle(now)
				a.retryRoutes()
			}
		case <-ctx.Done():
			for _, a := range m.all() {
				m.Detach(a.id)
			}
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			return m.Flush(last)
		}
	}
}

// collect moves what an attachment has counted to what is to be stored.
func (m *Manager) collect(a *attachment) {
	b := a.take()
	m.mu.Lock()
	defer m.mu.Unlock()
	older := m.pending
	b.addOlder(older)
	m.pending = b
}

// Flush stores what was counted since the last flush, in one transaction. If that fails,
// the next flush stores it.
func (m *Manager) Flush(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	for _, a := range m.all() {
		m.collect(a)
	}
	m.mu.Lock()
	b := m.pending
	m.pending = newBatch()
	m.mu.Unlock()
	if b.empty() {
		return nil
	}
	err := m.db.Tx(ctx, "egress.store_traffic", func(ctx context.Context, tx *database.Tx) error { return m.write(ctx, tx, b) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.pending.addOlder(b)
		for id := range m.deleted {
			m.pending.remove(id)
		}
	}
	clear(m.deleted)
	if err != nil {
		return fmt.Errorf("store the traffic of agents: %w", err)
	}
	return nil
}

// Report is what an agent has transferred, and what was refused to it.
type Report struct {
	Connections  int // open now
	Destinations []Destination
	Refused      []Refused
}

// Report returns the report of an agent of the account, the latest first.
func (m *Manager) Report(ctx context.Context, account identity.AccountID, id identity.AgentID) (Report, error) {
	if err := m.Flush(ctx); err != nil && ctx.Err() == nil { // what is stored can be read nevertheless
		m.log.ErrorContext(ctx, "the traffic of agents was not stored, retrying", "error", err)
	}
	var r Report
	if a := m.attached(id); a != nil {
		r.Connections = a.count()
	}
	var err, err2 error
	r.Destinations, err = listDestinations(ctx, m.db, account, id)
	r.Refused, err2 = listRefused(ctx, m.db, account, id)
	return r, errors.Join(err, err2)
}

// guard returns what checks the addresses that are dialled. It is the way out's own: what
// the operator allows for config.baseUrl is not allowed here. listed says that the agent's
// list names the destination.
func (m *Manager) guard(listed bool) netguard.Guard {
	g := netguard.Guard{Own: m.own, Flag: "--egress-private"}
	if listed {
		g.Private = m.private
	}
	return g
}

// AllowText returns what to do so that a refused destination of an agent with this policy
// is allowed.
func (p Policy) AllowText(r Refused) string {
	switch r.Reason {
	case PrivateAddress:
		return fmt.Sprintf("Name %q in the list config.egress. The operator must have started the server with --egress-private and a range that has the address.", r.Host)
	case ForbiddenAddress:
		return "It cannot be allowed."
	case ByGreeting:
		return "Connect to the host by the name that the request or the TLS greeting has."
	case UnknownAddress:
		return "Resolve the name of the host again."
	case ByLimit:
		return "Close connections that are not needed."
	case ByPolicy:
	}
	host := r.Host
	if r.Port != 0 && p.Mode == List && p.answers(host) { // on other ports
		host = fmt.Sprintf("%s:%d", host, r.Port)
	}
	if p.Mode == List {
		return fmt.Sprintf("Add %q to the list config.egress.", host)
	}
	return fmt.Sprintf("Set config.egress to a list that has %q, or to %q.", host, Open)
}
