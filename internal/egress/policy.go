package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"agento.host/agento/internal/netguard"
)

// Mode is the kind of a policy.
type Mode string

// The modes.
const (
	Open  Mode = "open"  // every public address
	List  Mode = "list"  // only the hosts of the list
	Model Mode = "model" // only the hosts that the enabled channels need; model calls go through the server
	None  Mode = "none"  // nothing
)

// Policy says where an agent may connect to.
type Policy struct {
	Mode  Mode
	Hosts []Host // of List, and of Model for the channels
}

// maxHosts bounds a list, which is stored in the agent's config.
const maxHosts = 200

// ParsePolicy parses the value of config.egress: the name of a mode, or a list of hosts.
// The error's text completes a sentence that begins with the name of the field.
func ParsePolicy(v any) (Policy, error) {
	switch v := v.(type) {
	case string:
		switch mode := Mode(v); mode {
		case Open, Model, None:
			return Policy{Mode: mode}, nil
		case List:
			return Policy{}, errors.New(`must be the list itself, such as ["example.com", "*.example.com", "203.0.113.7:443"]`)
		}
	case []any:
		return parseList(v)
	}
	return Policy{}, errors.New(`must be "open", "model", "none" or a list of hosts such as ["example.com", "*.example.com", "203.0.113.7:443"]`)
}

func parseList(items []any) (Policy, error) {
	p := Policy{Mode: List}
	switch {
	case len(items) == 0:
		return p, errors.New(`must name at least one host; for none, set "none"`)
	case len(items) > maxHosts:
		return p, fmt.Errorf("must have at most %d hosts, it has %d", maxHosts, len(items))
	}
	for i, item := range items {
		text, ok := item.(string)
		if !ok {
			return p, fmt.Errorf("has at [%d] something that is not a string", i)
		}
		h, err := ParseHost(text)
		if err != nil {
			return p, fmt.Errorf("has at [%d] %s, which %w", i, quote(text), err)
		}
		if !slices.Contains(p.Hosts, h) {
			p.Hosts = append(p.Hosts, h)
		}
	}
	return p, nil
}

// quote returns s in quotes, cut to what fits into a message.
func quote(s string) string {
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return strconv.Quote(s)
}

// Host is an item of a list. It has a name or a range of addresses.
type Host struct {
	Name     string       // lower case, in ASCII, without a dot at its end
	Wildcard bool         // every name below Name, but not Name itself
	Range    netip.Prefix // of IPv4 addresses
	Port     uint16       // 0: every port
}

// String returns the item as a list has it.
func (h Host) String() string {
	s := h.Name
	switch {
	case h.Range.IsValid() && h.Range.IsSingleIP():
		s = h.Range.Addr().String()
	case h.Range.IsValid():
		return h.Range.String()
	case h.Wildcard:
		s = "*." + s
	}
	if h.Port != 0 {
		s += ":" + strconv.Itoa(int(h.Port))
	}
	return s
}

// minBits is the length of the largest range that a list may have.
const minBits = 8

// ParseHost parses an item of a list: a name, *.name, an IPv4 address, each with or
// without a port, or a range of IPv4 addresses. The error's text completes a sentence that
// begins with the item.
func ParseHost(text string) (Host, error) {
	s := strings.TrimSpace(text)
	switch {
	case s == "":
		return Host{}, errors.New("is empty")
	case s == "*":
		return Host{}, errors.New(`would be every host: set config.egress to "open" for that`)
	case strings.Contains(s, "://"):
		return Host{}, errors.New("must be a host without a scheme, such as example.com")
	case strings.Count(s, ":") > 1:
		return Host{}, errors.New("must be a name or an IPv4 address: agents connect by IPv4 only, and names that have IPv6 addresses work")
	case strings.Contains(s, "/"):
		return parseRange(s)
	}
	host, port, err := cutPort(s)
	if err != nil {
		return Host{}, err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return Host{Range: netip.PrefixFrom(addr, addr.BitLen()), Port: port}, checkRange(netip.PrefixFrom(addr, addr.BitLen()))
	}
	h := Host{Port: port}
	if h.Name, h.Wildcard = strings.CutPrefix(host, "*."); strings.Contains(h.Name, "*") {
		return Host{}, errors.New("may have * only as its first label, as in *.example.com")
	}
	if h.Name, err = canonicalName(h.Name); err != nil {
		return Host{}, err
	}
	return h, nil
}

func cutPort(s string) (host string, port uint16, err error) {
	host, text, ok := strings.Cut(s, ":")
	if !ok {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("must have a port from 1 to 65535 after its colon")
	}
	return host, uint16(n), nil
}

func parseRange(s string) (Host, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return Host{}, errors.New("must be a host without a path, or a range of addresses such as 203.0.113.0/24")
	}
	if !p.Addr().Is4() || p.Bits() < minBits {
		return Host{}, fmt.Errorf("must be a range of IPv4 addresses, /%d or smaller", minBits)
	}
	return Host{Range: p.Masked()}, checkRange(p.Masked())
}

// checkRange refuses ranges that no operator can allow.
func checkRange(p netip.Prefix) error {
	var refused *netguard.Refused
	err := netguard.Guard{Own: func() ([]netip.Addr, error) { return nil, nil }}.Check(netip.AddrPortFrom(p.Addr(), 0))
	if errors.As(err, &refused) && !refused.Private {
		return fmt.Errorf("is %s, which is never allowed", refused.Reason)
	}
	return nil
}

// canonicalName returns a host's name in lower case and ASCII, without the dot at its end.
func canonicalName(name string) (string, error) {
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(name, "."))
	if err != nil {
		ascii = strings.ToLower(strings.TrimSuffix(name, ".")) // with an underscore, for example
	}
	if !isName(ascii) {
		return "", errors.New("is not the name of a host")
	}
	return ascii, nil
}

// isName reports whether s is a name that a resolver may be asked for: in lower case, and
// not an address in one of the spellings that resolvers know, such as 127.1.
func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || strings.ContainsFunc(label, notInName) {
			return false
		}
		last = label
	}
	return !isNumber(last)
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

func isNumber(label string) bool {
	_, err := strconv.ParseUint(label, 0, 64)
	return err == nil || strings.Trim(label, "0123456789") == "" || strings.HasPrefix(label, "0x")
}

// matches reports whether the item names a host.
func (h Host) matches(name string) bool {
	switch {
	case h.Name == "":
		return false
	case h.Wildcard:
		return strings.HasSuffix(name, "."+h.Name)
	}
	return name == h.Name
}

// answers reports whether the agent may resolve a name.
func (p Policy) answers(name string) bool {
	return p.Mode == Open || p.Mode != None && slices.ContainsFunc(p.Hosts, func(h Host) bool { return h.matches(name) })
}

// allows reports whether the agent may connect to a destination. listed reports whether
// its list names it, which is what a private address needs.
func (p Policy) allows(d destination) (allowed, listed bool) {
	switch p.Mode {
	case Open:
		return true, false
	case List:
		named := p.names(d)
		return named, named
	case Model:
		return p.names(d), false
	}
	return false, false
}

// names reports whether an item names a destination.
func (p Policy) names(d destination) bool {
	return slices.ContainsFunc(p.Hosts, func(h Host) bool {
		named := h.matches(d.name)
		if d.name == "" {
			named = h.Range.IsValid() && h.Range.Contains(d.addr)
		}
		return named && (h.Port == 0 || h.Port == d.port)
	})
}

// routes returns the ranges that are local in the agent's network: connections to them
// come to the way out, all others fail at once.
func (p Policy) routes() []netip.Prefix {
	if p.Mode == None {
		return nil
	}
	local := []netip.Prefix{namesRange}
	if p.Mode == Open {
		return append(local, netguard.PublicIPv4()...)
	}
	for _, h := range p.Hosts {
		if h.Range.IsValid() {
			local = append(local, h.Range)
		}
	}
	return local
}

// Missing returns those of the hosts that the policy does not allow and a list would have
// to name, in canonical form. What is no host is left out.
func (p Policy) Missing(hosts []string) []string {
	var missing []string
	for _, text := range hosts {
		h, err := ParseHost(text)
		if err != nil || p.covers(h) || slices.Contains(missing, h.String()) {
			continue
		}
		missing = append(missing, h.String())
	}
	return missing
}

// covers reports whether the policy allows everything that an item names.
func (p Policy) covers(h Host) bool {
	if p.Mode == Open {
		return true
	}
	return p.Mode != None && slices.ContainsFunc(p.Hosts, func(o Host) bool {
		if o.Port != 0 && o.Port != h.Port {
			return false
		}
		if h.Range.IsValid() {
			return o.Range.IsValid() && o.Range.Bits() <= h.Range.Bits() && o.Range.Contains(h.Range.Addr())
		}
		if h.Wildcard {
			return o.Wildcard && (o.Name == h.Name || strings.HasSuffix(h.Name, "."+o.Name))
		}
		return o.matches(h.Name)
	})
}

// HostNames returns the items of the policy's list as a list has them.
func (p Policy) HostNames() []string {
	names := make([]string, len(p.Hosts))
	for i, h := range p.Hosts {
		names[i] = h.String()
	}
	return names
}

// destination is where a connection goes: to a host's name, or to an address.
type destination struct {
	name string     // empty: the agent named the address itself
	addr netip.Addr // without a name
	port uint16
}

// host returns the name, or the address.
func (d destination) host() string {
	if d.name != "" {
		return d.name
	}
	return d.addr.String()
}
