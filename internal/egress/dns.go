package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// answerTTL is how many seconds programs may keep an address.
	answerTTL = 60
	// existsFor is how long a name is taken to exist that was found to.
	existsFor = answerTTL * time.Second
	// maxQuery is the size of the largest query that is read. Longer ones are cut, and then
	// malformed.
	maxQuery = 1232
	// maxLookups is how many names the server resolves at once for one agent's queries.
	maxLookups = 16
	// lookupTimeout is shorter than that of programs, which ask again after it.
	lookupTimeout = 4 * time.Second
)

// question is a query that is well-formed.
type question struct {
	dnsmessage.Question
	id               uint16
	recursionDesired bool
	name             string // in lower case, without the dot at its end
}

// parseQuery parses a query. If rcode is not success, the query is answered with it. ok is
// false if it deserves no answer.
func parseQuery(packet []byte) (q question, rcode dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.Response {
		return q, 0, false
	}
	q.id, q.recursionDesired = h.ID, h.RecursionDesired
	all, err := p.AllQuestions()
	switch {
	case err != nil:
		return q, 0, false
	case h.OpCode != 0:
		return q, dnsmessage.RCodeNotImplemented, true
	case len(all) != 1:
		return q, dnsmessage.RCodeFormatError, true
	}
	q.Question = all[0]
	q.name = strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Class != dnsmessage.ClassINET {
		return q, dnsmessage.RCodeRefused, true
	}
	return q, dnsmessage.RCodeSuccess, true
}

// answer returns the packet that answers a question. addr is invalid for an answer
// without an address.
func (q question) answer(rcode dnsmessage.RCode, addr netip.Addr) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{
		ID: q.id, Response: true, RecursionDesired: q.recursionDesired, RecursionAvailable: true, RCode: rcode,
	})
	b.EnableCompression()
	if q.Name.Length > 0 {
		if err := errors.Join(b.StartQuestions(), b.Question(q.Question)); err != nil {
			return nil, err
		}
	}
	if addr.IsValid() {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: answerTTL}
		if err := errors.Join(b.StartAnswers(), b.AResource(h, dnsmessage.AResource{A: addr.As4()})); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// serveDNS answers the agent's queries until the socket is closed. It reads no faster than
// the limit: the kernel drops what does not fit into its queue, at no cost for the server.
func (a *attachment) serveDNS(pc net.PacketConn) {
	buf := make([]byte, maxQuery)
	for {
		if !a.queries.Allow() {
			a.hitLimit("DNS queries a second", a.m.limits.QueriesPerSecond)
			if a.queries.Wait(a.ctx) != nil {
				return
			}
		}
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			if a.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		q, rcode, ok := parseQuery(buf[:n])
		switch {
		case !ok:
		case rcode != dnsmessage.RCodeSuccess:
			reply(pc, from, q, rcode, netip.Addr{})
		default:
			a.serveQuestion(pc, from, q)
		}
	}
}

func reply(pc net.PacketConn, to net.Addr, q question, rcode dnsmessage.RCode, addr netip.Addr) {
	if packet, err := q.answer(rcode, addr); err == nil {
		_, _ = pc.WriteTo(packet, to) // a program that gets no answer asks again
	}
}

func (a *attachment) serveQuestion(pc net.PacketConn, from net.Addr, q question) {
	p := a.currentPolicy()
	switch {
	case p.Mode != None && (q.name == "localhost" || strings.HasSuffix(q.name, ".localhost")):
		reply(pc, from, q, dnsmessage.RCodeSuccess, addressFor(q, func() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }))
	case !isName(q.name):
		reply(pc, from, q, dnsmessage.RCodeNameError, netip.Addr{})
	case !p.answers(q.name):
		a.refuse(destination{name: q.name}, a.byPolicy(p))
		reply(pc, from, q, dnsmessage.RCodeNameError, netip.Addr{})
	case p.Mode != Open || a.names.checkedSince(q.name, time.Now().Add(-existsFor)):
		a.replyName(pc, from, q)
	default:
		a.lookUp(pc, from, q)
	}
}

// replyName answers a question for a name that exists. Only its address is known: the
// server chooses between IPv4 and IPv6 when it dials.
func (a *attachment) replyName(pc net.PacketConn, from net.Addr, q question) {
	reply(pc, from, q, dnsmessage.RCodeSuccess, addressFor(q, func() netip.Addr { return a.names.give(q.name, time.Now()) }))
}

func addressFor(q question, addr func() netip.Addr) netip.Addr {
	if q.Type != dnsmessage.TypeA {
		return netip.Addr{}
	}
	return addr()
}

// lookUp answers whether the name exists, by the server's own resolver.
func (a *attachment) lookUp(pc net.PacketConn, from net.Addr, q question) {
	select {
	case a.lookups <- struct{}{}:
	default: // the program asks again
		a.hitLimit("names that are resolved at once", maxLookups)
		return
	}
	a.group.Go(func() {
		defer func() { <-a.lookups }()
		ctx, cancel := context.WithTimeout(a.ctx, lookupTimeout)
		defer cancel()
		_, err := a.m.resolver.LookupNetIP(ctx, "ip", q.name+".")
		missing := (*net.DNSError)(nil)
		switch {
		case err == nil:
			a.replyName(pc, from, q)
		case errors.As(err, &missing) && missing.IsNotFound:
			reply(pc, from, q, dnsmessage.RCodeNameError, netip.Addr{})
		default:
			reply(pc, from, q, dnsmessage.RCodeServerFailure, netip.Addr{})
		}
	})
}
