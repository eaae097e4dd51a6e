package netguard

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// ownFor is how long OwnAddresses returns the same addresses. Reading them needs a few
// system calls.
const ownFor = 5 * time.Second

var own struct {
	mu    sync.Mutex
	addrs []netip.Addr // guarded by mu
	read  time.Time    // guarded by mu
}

// OwnAddresses returns the addresses of this machine's network interfaces, as they were
// at most some seconds ago. It does not know a public address that another machine
// translates to one of them. The caller must not change the slice.
func OwnAddresses() ([]netip.Addr, error) {
	own.mu.Lock()
	defer own.mu.Unlock()
	if own.addrs != nil && time.Since(own.read) < ownFor {
		return own.addrs, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap().WithZone(""))
		}
	}
	own.addrs, own.read = addrs, time.Now()
	return addrs, nil
}
