package egress

import (
	"errors"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
)

// Reason is why a destination was refused.
type Reason string

// The reasons.
const (
	ByPolicy         Reason = "policy"            // the agent's policy does not have the destination
	PrivateAddress   Reason = "private_address"   // the operator and the agent's list can allow the address
	ForbiddenAddress Reason = "forbidden_address" // the address is never allowed
	ByGreeting       Reason = "other_name"        // TLS or HTTP named another host than the one that was resolved
	ByLimit          Reason = "limit"             // the agent has too many connections
	UnknownAddress   Reason = "unknown_address"   // an address of names that no name has
)

// refusal is the error of a connection that is refused.
type refusal struct {
	reason Reason
	detail string // a sentence without its dot
}

// Error implements error.
func (r *refusal) Error() string { return r.detail }

// refusalOf returns the refusal that an error is because of, or nil.
func refusalOf(err error) *refusal {
	if g := (*netguard.Refused)(nil); errors.As(err, &g) {
		if !g.Private {
			return &refusal{ForbiddenAddress, g.Error()}
		}
		return &refusal{PrivateAddress, g.Error()}
	}
	var r *refusal
	errors.As(err, &r)
	return r
}

// Destination is what was transferred to and from one host and port.
type Destination struct {
	Host        string // a name or an address; empty: the sum of those that are not listed any more
	Port        uint16
	Connections int64
	Failed      int64 // connections that the host did not accept
	BytesIn     int64 // to the agent
	BytesOut    int64 // from the agent
	LastAt      time.Time
}

func (d *Destination) add(o Destination) {
	d.Connections += o.Connections
	d.Failed += o.Failed
	d.BytesIn += o.BytesIn
	d.BytesOut += o.BytesOut
	if o.LastAt.After(d.LastAt) {
		d.LastAt = o.LastAt
	}
}

// Refused is a destination that was refused for one reason.
type Refused struct {
	Host   string
	Port   uint16 // 0: the name was not resolved
	Reason Reason
	Detail string // a sentence without its dot
	Count  int64
	LastAt time.Time
}

type destinationKey struct {
	agent identity.AgentID
	host  string
	port  uint16
}

type refusedKey struct {
	destinationKey
	reason Reason
}

type nameKey struct {
	agent identity.AgentID
	name  string
}

// batch is what is not stored yet.
type batch struct {
	accounts     map[identity.AgentID]identity.AccountID // of the agents below
	destinations map[destinationKey]Destination
	refused      map[refusedKey]Refused
	names        map[nameKey]*name           // nil: to be deleted
	events       map[refusedKey]refusedEvent // refusals that the event log gets
}

// refusedEvent is what the event log says of a refusal.
type refusedEvent struct{ detail, allow string }

// maxBatch bounds each map of a batch, which grows while the database takes no writes.
const maxBatch = 10_000

func newBatch() *batch {
	return &batch{
		accounts: map[identity.AgentID]identity.AccountID{}, destinations: map[destinationKey]Destination{}, refused: map[refusedKey]Refused{},
		names: map[nameKey]*name{}, events: map[refusedKey]refusedEvent{},
	}
}

func (b *batch) empty() bool {
	return len(b.destinations) == 0 && len(b.refused) == 0 && len(b.names) == 0 && len(b.events) == 0
}

func (b *batch) addDestination(k destinationKey, d Destination) {
	sum, ok := b.destinations[k]
	if !ok && len(b.destinations) >= maxBatch {
		k.host, k.port = "", 0
		sum = b.destinations[k]
	}
	sum.add(d)
	b.destinations[k] = sum
}

func (b *batch) addRefused(k refusedKey, r Refused) {
	sum, ok := b.refused[k]
	if !ok && len(b.refused) >= maxBatch {
		return
	}
	sum.Count += r.Count
	if !r.LastAt.Before(sum.LastAt) {
		sum.LastAt, sum.Detail = r.LastAt, r.Detail
	}
	b.refused[k] = sum
}

// addOlder adds what could not be stored.
func (b *batch) addOlder(older *batch) {
	for id, account := range older.accounts {
		b.accounts[id] = account
	}
	for k, d := range older.destinations {
		b.addDestination(k, d)
	}
	for k, r := range older.refused {
		b.addRefused(k, r)
	}
	for k, n := range older.names {
		if _, newer := b.names[k]; !newer && len(b.names) < maxBatch {
			b.names[k] = n
		}
	}
	for k, e := range older.events {
		b.events[k] = e
	}
}

// remove removes everything of an agent.
func (b *batch) remove(id identity.AgentID) {
	delete(b.accounts, id)
	for k := range b.destinations {
		if k.agent == id {
			delete(b.destinations, k)
		}
	}
	for k := range b.refused {
		if k.agent == id {
			delete(b.refused, k)
		}
	}
	for k := range b.names {
		if k.agent == id {
			delete(b.names, k)
		}
	}
	for k := range b.events {
		if k.agent == id {
			delete(b.events, k)
		}
	}
}
