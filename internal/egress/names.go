package egress

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

// namesRange has the addresses that names get, a different one for each name of an agent.
// RFC 2544 reserves it for tests of networks, so no host on the internet has one.
var namesRange = netip.MustParsePrefix("198.18.0.0/15")

const (
	firstAddress = 198<<24 | 18<<16 | 1 // 198.18.0.1
	lastAddress  = 198<<24 | 19<<16 | 255<<8 | 254
	// skippedAtLoad is how many addresses are skipped when the names are loaded: programs
	// may know addresses that were given before a crash and not stored. They must not lead
	// to another name.
	skippedAtLoad = 4096
	// usedGranularity is how exact the time of the last use is stored.
	usedGranularity = 10 * time.Minute
)

// names gives each name of one agent an address of its own. There are at most max names:
// the least recently used one is dropped, and its address is given again only after all
// others were.
type names struct {
	max int

	mu     sync.Mutex
	byName map[string]*list.Element // of *name; guarded by mu
	byAddr map[uint32]*list.Element // guarded by mu
	recent *list.List               // the most recently used first; guarded by mu
	last   uint32                   // the address that was given last; guarded by mu
	dirty  map[string]*name         // to be stored; nil: to be deleted; guarded by mu
}

type name struct {
	name    string
	address uint32
	given   time.Time
	used    time.Time
	checked time.Time // when the name was last found to exist; not stored
}

func newNames(limit int) *names {
	return &names{
		max: limit, byName: map[string]*list.Element{}, byAddr: map[uint32]*list.Element{}, recent: list.New(),
		last: firstAddress - 1, dirty: map[string]*name{},
	}
}

// load adds the names that are stored, in the order in which they were used.
func (n *names) load(stored []name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var latest time.Time
	for i := range stored {
		s := stored[i]
		if s.address < firstAddress || s.address > lastAddress || n.byAddr[s.address] != nil {
			continue
		}
		n.add(&s)
		if !s.given.Before(latest) {
			latest, n.last = s.given, s.address
		}
	}
	if len(stored) > 0 {
		n.last = firstAddress + (n.last-firstAddress+skippedAtLoad)%(lastAddress-firstAddress+1)
	}
}

func (n *names) add(e *name) {
	at := n.recent.PushFront(e)
	n.byName[e.name], n.byAddr[e.address] = at, at
}

// give returns the address of a name.
func (n *names) give(text string, now time.Time) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at := n.byName[text]; at != nil {
		n.touch(at, now)
		e := at.Value.(*name)
		e.checked = now
		return toAddr(e.address)
	}
	if n.recent.Len() >= n.max {
		n.drop(n.recent.Back())
	}
	for {
		n.last++
		if n.last > lastAddress {
			n.last = firstAddress
		}
		if n.byAddr[n.last] == nil {
			break
		}
	}
	e := &name{name: text, address: n.last, given: now, used: now, checked: now}
	n.add(e)
	n.dirty[text] = e
	return toAddr(e.address)
}

func (n *names) drop(at *list.Element) {
	e := n.recent.Remove(at).(*name)
	delete(n.byName, e.name)
	delete(n.byAddr, e.address)
	n.dirty[e.name] = nil
}

func (n *names) touch(at *list.Element, now time.Time) {
	n.recent.MoveToFront(at)
	if e := at.Value.(*name); now.Sub(e.used) > usedGranularity {
		e.used = now
		n.dirty[e.name] = e
	}
}

// checkedSince reports whether a name has an address that give returned after t.
func (n *names) checkedSince(text string, t time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.byName[text]
	return at != nil && at.Value.(*name).checked.After(t)
}

// find returns the name of an address.
func (n *names) find(a netip.Addr, now time.Time) (text string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := a.As4()
	at := n.byAddr[binary.BigEndian.Uint32(b[:])]
	if at == nil {
		return "", false
	}
	n.touch(at, now)
	return at.Value.(*name).name, true
}

// takeDirty returns what is to be stored: nil for a name to be deleted.
func (n *names) takeDirty() map[string]*name {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.dirty) == 0 {
		return nil
	}
	taken := make(map[string]*name, len(n.dirty))
	for text, e := range n.dirty {
		if e != nil {
			e = new(*e)
		}
		taken[text] = e
	}
	clear(n.dirty)
	return taken
}

func toAddr(a uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}
