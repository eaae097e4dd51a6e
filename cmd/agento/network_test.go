package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// TestPrivateEndpointsDoNotWidenTheWayOut: --allow-private-endpoints is for the server's
// own calls to config.baseUrl. Agents reach no private address by it, and none of the
// machine itself.
func TestPrivateEndpointsDoNotWidenTheWayOut(t *testing.T) {
	r := &resources{db: databasetest.New(t), log: slog.New(slog.DiscardHandler)}
	s, err := serveFlags{AllowPrivateEndpoints: true}.network(r, event.NewLog(r.db))
	if err != nil {
		t.Fatal(err)
	}
	const own = "93.184.216.99" // a public address of the machine
	s.Own = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(own)}, nil }
	s.Policy = func(context.Context, identity.AgentID) (identity.AccountID, egress.Policy, error) {
		p, err := egress.ParsePolicy([]any{"*.example.com"})
		return "acct_1", p, err
	}
	n := egresstest.New(t)
	n.Adjust(&s)
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	m := egress.NewManager(s)
	n.Attach(m, "agent-1")
	defer m.Detach("agent-1")
	for name, addr := range map[string]string{
		"loopback": "127.0.0.1", "loopback6": "::1", "private": "10.0.0.1", "private16": "192.168.1.1", "metadata": "169.254.169.254", "own": own,
	} {
		n.Host(name+".example.com", addr)
		n.At(net.JoinHostPort(addr, "443"), server.Addr())
		c := n.ConnectTo(name+".example.com", 443)
		if size, err := c.Read(make([]byte, 1)); size != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v; want a reset", addr, size, err)
		}
	}
	report, err := m.Report(t.Context(), "acct_1", "agent-1")
	if err != nil || len(report.Refused) != 6 || len(report.Destinations) != 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestEgressPrivateMustBePrivate(t *testing.T) {
	for value, want := range map[string]string{
		"10.0.0.0/8": "", "127.0.0.0/8": "--egress-private: 127.0.0.0/8 is a loopback address, which is never allowed",
		"169.254.0.0/16": "link-local", "8.8.8.0/24": "not within a private range", "0.0.0.0/0": "not within a private range",
	} {
		_, err := serveFlags{EgressPrivate: []netip.Prefix{netip.MustParsePrefix(value)}}.network(&resources{}, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}
