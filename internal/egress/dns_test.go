package egress_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
)

func TestEachAllowedNameHasAnAddressOfItsOwn(t *testing.T) {
	n := newNet(t, []any{"*.example.com", "one.example.org:443"})
	first, second := n.Query("a.example.com", dnsmessage.TypeA), n.Query("one.example.org", dnsmessage.TypeA)
	if first.Addr == second.Addr || !inNames(first) || !inNames(second) || first.TTL != 60 || first.Answers != 1 {
		t.Errorf("%+v, %+v", first, second)
	}
	for _, again := range []string{"a.example.com", "A.Example.COM"} {
		if a := n.Query(again, dnsmessage.TypeA); a.Addr != first.Addr {
			t.Errorf("%s: %+v, before %+v", again, a, first)
		}
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeAAAA, 65, 64, dnsmessage.TypeMX, dnsmessage.TypeTXT, dnsmessage.TypeALL} { // 65: HTTPS, 64: SVCB
		if a := n.Query("a.example.com", kind); a.RCode != dnsmessage.RCodeSuccess || a.Answers != 0 {
			t.Errorf("%v: %+v", kind, a)
		}
	}
	for _, name := range []string{"example.com", "a.example.com.evil.org", "two.example.org", "1.0.18.198.in-addr.arpa", "127.1", "a_b!.example.com"} {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, 65} {
			if a := n.Query(name, kind); a.RCode != dnsmessage.RCodeNameError || a.Answers != 0 {
				t.Errorf("%s: %+v", name, a)
			}
		}
	}
	if n.Lookups() != 0 {
		t.Errorf("the server resolved %d names before a connection", n.Lookups())
	}
}

func inNames(a egresstest.Answer) bool {
	return strings.HasPrefix(a.Addr.String(), "198.18.") || strings.HasPrefix(a.Addr.String(), "198.19.")
}

func TestOpenPolicyAnswersNamesThatExist(t *testing.T) {
	n := newNet(t, "open")
	n.Host("example.com", public)
	if a := n.Query("missing.example.com", dnsmessage.TypeA); a.RCode != dnsmessage.RCodeNameError {
		t.Errorf("a name that does not exist: %+v", a)
	}
	if a := n.Query("example.com", dnsmessage.TypeA); !inNames(a) {
		t.Errorf("a name that exists: %+v", a)
	}
	before := n.Lookups()
	for range 10 {
		n.Query("example.com", dnsmessage.TypeA)
		n.Query("example.com", dnsmessage.TypeAAAA)
	}
	if n.Lookups() != before {
		t.Errorf("a name that was just found was resolved %d times more", n.Lookups()-before)
	}
	if a := n.Query("localhost", dnsmessage.TypeA); a.Addr.String() != "127.0.0.1" {
		t.Errorf("localhost: %+v", a)
	}
}

func TestPolicyNoneAnswersNoName(t *testing.T) {
	n := newNet(t, "none")
	n.Host("example.com", public)
	for _, name := range []string{"example.com", "localhost", "api.telegram.org"} {
		if a := n.Query(name, dnsmessage.TypeA); a.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

func TestMalformedQueries(t *testing.T) {
	n := newNet(t, []any{"example.com"})
	c, err := net.Dial("udp4", n.DNSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	response := packet(t, dnsmessage.Message{Header: dnsmessage.Header{Response: true}})
	for _, ignored := range []string{"", "x", strings.Repeat("\xff", 12), strings.Repeat("\x00", 11), strings.Repeat("\xc0", 1400), response, "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c"} {
		if _, err := c.Write([]byte(ignored)); err != nil {
			t.Fatal(err)
		}
	}
	question := dnsmessage.Question{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	chaos := question
	chaos.Class = dnsmessage.ClassCHAOS
	for want, m := range map[dnsmessage.RCode]dnsmessage.Message{
		dnsmessage.RCodeNotImplemented: {Header: dnsmessage.Header{OpCode: 5}, Questions: []dnsmessage.Question{question}},
		dnsmessage.RCodeFormatError:    {Questions: []dnsmessage.Question{question, question}},
		dnsmessage.RCodeRefused:        {Questions: []dnsmessage.Question{chaos}},
	} {
		if a := n.Exchange([]byte(packet(t, m))); a.RCode != want || a.Answers != 0 {
			t.Errorf("%+v: %v, want %v", m, a, want)
		}
	}
	if a := n.Query("example.com", dnsmessage.TypeA); !a.Addr.IsValid() {
		t.Errorf("after malformed queries: %+v", a)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Read(make([]byte, 512)); err == nil {
		t.Errorf("%d bytes answer what is no query", got)
	}
}

func packet(t *testing.T, m dnsmessage.Message) string {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A flood of queries is read no faster than the limit, and one line names the agent.
func TestQueriesAreLimited(t *testing.T) {
	n := newNet(t, []any{"example.com"}, func(s *egress.Settings) { s.Limits.QueriesPerSecond = 2 })
	for range 8 { // the burst
		n.Query("example.com", dnsmessage.TypeA)
	}
	start := time.Now()
	for range 2 {
		if a := n.Query("example.com", dnsmessage.TypeA); !a.Addr.IsValid() {
			t.Errorf("over the limit: %+v", a)
		}
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("two queries over the limit of two a second took %s", d)
	}
	if log := n.log.String(); strings.Count(log, "limit of its network") != 1 || !strings.Contains(log, string(testAgent)) {
		t.Errorf("the log: %s", log)
	}
}
