package process

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Limits of what an agent sends. Source: without them, loops of refused connections cost
// the server a core, with them 0.05 CPU seconds a second.
const (
	connectionsPerSecond = 100 // new connections that the server must answer
	connectionsBurst     = 200
	queriesPerSecond     = 200 // packets to the name server
	queriesBurst         = 400
	refusalsPerSecond    = 100 // packets of other protocols that are answered with a refusal
	refusalsBurst        = 200
)

// Offsets in the headers of IPv4 and TCP or UDP.
const (
	offsetDestination = 16
	offsetPort        = 2
)

// addFirewall adds the rules of a namespace:
//
//	chain flood  { type filter hook output priority -300
//	  ip daddr != 127.0.0.0/8 meta l4proto != tcp limit rate over 100/second burst 200 packets drop }
//	chain fresh  { type filter hook output priority -150
//	  ip daddr != 127.0.0.0/8 meta l4proto tcp ct state new limit rate over 100/second burst 200 packets reject with tcp reset
//	  ip daddr 127.0.0.0/8 tcp dport 14-15 ct state new limit rate over … reject with tcp reset
//	  ip daddr 127.0.0.0/8 udp dport 53 limit rate over 200/second burst 400 packets drop }
//	chain redirect { type nat hook output priority -100
//	  ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :15 }
//	chain refuse { type filter hook output priority 0
//	  ip daddr != 127.0.0.0/8 meta l4proto != tcp reject }
//
// The limits come before the redirection, which changes the address, and after the
// connection is known, so that the reset reaches the program. Packets that nobody answers
// are dropped earlier: to track and to refuse each costs the processors of all.
func addFirewall() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "agento"})
	chain := func(name string, kind nftables.ChainType, priority nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: nftables.ChainHookOutput, Priority: &priority})
	}
	add := func(chain *nftables.Chain, parts ...[]expr.Any) {
		rule := &nftables.Rule{Table: table, Chain: chain}
		for _, p := range parts {
			rule.Exprs = append(rule.Exprs, p...)
		}
		c.AddRule(rule)
	}
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	add(chain("flood", nftables.ChainTypeFilter, -300), outside(true), protocol(unix.IPPROTO_TCP, false), limit(refusalsPerSecond, refusalsBurst), drop)
	reset := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	connections := limit(connectionsPerSecond, connectionsBurst)
	fresh := chain("fresh", nftables.ChainTypeFilter, -150)
	add(fresh, outside(true), protocol(unix.IPPROTO_TCP, true), isNew(), connections, reset)
	add(fresh, outside(false), protocol(unix.IPPROTO_TCP, true), ports16(serverPort, outPort), isNew(), connections, reset)
	add(fresh, outside(false), protocol(unix.IPPROTO_UDP, true), ports16(dnsPort, dnsPort), limit(queriesPerSecond, queriesBurst), drop)
	redirect := []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(outPort)},
		&expr.Redir{RegisterProtoMin: 1, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
	add(chain("redirect", nftables.ChainTypeNAT, -100), outside(true), protocol(unix.IPPROTO_TCP, true), redirect)
	add(chain("refuse", nftables.ChainTypeFilter, 0), outside(true), protocol(unix.IPPROTO_TCP, false), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 3}})
	return c.Flush()
}

// outside matches packets to destinations other than loopback, or to loopback.
func outside(yes bool) []expr.Any {
	op := expr.CmpOpEq
	if yes {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDestination, Len: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{127}},
	}
}

func protocol(number byte, equal bool) []expr.Any {
	op := expr.CmpOpNeq
	if equal {
		op = expr.CmpOpEq
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte{number}}}
}

// ports16 matches destination ports.
func ports16(from, to uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(from), ToData: binaryutil.BigEndian.PutUint16(to)},
	}
}

// isNew matches packets that begin a connection.
func isNew() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: binaryutil.NativeEndian.PutUint32(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// limit matches packets that are more than so many a second.
func limit(rate uint64, burst uint32) []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: rate, Burst: burst, Unit: expr.LimitTimeSecond, Over: true}}
}
