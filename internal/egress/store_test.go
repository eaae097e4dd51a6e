package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// Programs keep addresses: after a restart, also after a crash, they mean the same names.
func TestNamesSurviveTheServer(t *testing.T) {
	n := newNet(t, []any{"*.example.com"})
	n.Host("a.example.com", public)
	n.At(public+":22", echo(t))
	first := n.Query("a.example.com", dnsmessage.TypeA).Addr
	if err := n.manager.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	unsaved := n.Query("b.example.com", dnsmessage.TypeA).Addr // when the server crashes
	n.startServer()
	speak(t, n.Connect(netip.AddrPortFrom(first, 22)), "the address from before")
	for i := range 100 {
		if a := n.Query(fmt.Sprintf("c%d.example.com", i), dnsmessage.TypeA).Addr; a == first || a == unsaved {
			t.Fatalf("another name has the address %s", a)
		}
	}
	expectReset(t, n.Connect(netip.AddrPortFrom(unsaved, 22)), "an address that was not stored")
}

// The least recently used name goes, and its address is not given to the next name.
func TestNamesAreBounded(t *testing.T) {
	n := newNet(t, []any{"*.example.com"}, func(s *egress.Settings) { s.Limits.Names = 3 })
	given := map[netip.Addr]bool{}
	for i := range 10 {
		given[n.Query(fmt.Sprintf("h%d.example.com", i), dnsmessage.TypeA).Addr] = true
		n.Query("h0.example.com", dnsmessage.TypeA) // stays in use
	}
	if len(given) != 10 {
		t.Errorf("10 names had %d addresses", len(given))
	}
	if err := n.manager.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := database.All(t.Context(), n.db, database.Scalar[string], `SELECT name FROM egress_names ORDER BY name`)
	if err != nil || fmt.Sprint(names) != "[h0.example.com h8.example.com h9.example.com]" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestDestinationsAreBoundedAndTheirSumStays(t *testing.T) {
	n := newNet(t, "open", func(s *egress.Settings) { s.Limits.Destinations = 3 })
	for port := range 5 {
		began := time.Now()
		await(t, "a later millisecond, which is what is stored", func() bool { return time.Now().UnixMilli() > began.UnixMilli() })
		at := fmt.Sprintf("%s:%d", public, port+1)
		n.At(at, echo(t))
		speak(t, n.Connect(addrPort(at)), at)
		n.report() // each has its own time and batch
		expectReset(t, n.Connect(addrPort(fmt.Sprintf("198.18.9.%d:1", port+1))), at)
		n.report()
	}
	r := n.report()
	if len(r.Destinations) != 4 || len(r.Refused) != 3 {
		t.Fatalf("%+v", r)
	}
	if sum := r.Destinations[3]; sum.Host != "" || sum.Connections != 2 || sum.BytesIn != 10 || sum.BytesOut != 10 {
		t.Errorf("the sum: %+v", sum)
	}
	for _, d := range r.Destinations[:3] {
		if d.Host != public || d.Port < 3 {
			t.Errorf("%+v", d)
		}
	}
}

// Refusals are events, each once an hour, and all of an agent at most so many.
func TestEventsOfRefusalsAreLimited(t *testing.T) {
	n := newNet(t, []any{"example.com"})
	for range 3 {
		n.Query("a.example.org", dnsmessage.TypeA)
	}
	events := n.refusalEvents()
	if len(events) != 1 || events[0].Topic != event.AgentTopic(testAgent) || events[0].Data["host"] != "a.example.org" || events[0].Data["reason"] != "policy" ||
		events[0].Data["allow"] != `Add "a.example.org" to the list config.egress.` || events[0].Actor.Kind != identity.System {
		t.Errorf("%+v", events)
	}
	for i := range 60 {
		n.Query(fmt.Sprintf("h%d.example.org", i), dnsmessage.TypeA)
	}
	if events := n.refusalEvents(); len(events) != 30 {
		t.Errorf("%d events of 61 names", len(events))
	}
}

func (n *testNet) refusalEvents() []event.Event {
	n.t.Helper()
	if err := n.manager.Flush(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	all, err := n.events.List(n.t.Context(), testAccount, event.Filter{Kind: "egress.refused", Limit: 100})
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// What could not be stored is stored later, and counts once.
func TestFlushIsTriedAgain(t *testing.T) {
	n := newNet(t, "open")
	n.At(public+":22", echo(t))
	speak(t, n.Connect(addrPort(public+":22")), "a connection")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.manager.Flush(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 {
		if d := n.report().Destinations; len(d) != 1 || d[0].Connections != 1 || d[0].BytesOut != 5 {
			t.Errorf("%+v", d)
		}
	}
}

func TestDeletedAgentLeavesNothing(t *testing.T) {
	n := newNet(t, []any{public})
	n.At(public+":22", echo(t))
	speak(t, n.Connect(addrPort(public+":22")), "a connection")
	n.Query("a.example.com", dnsmessage.TypeA)
	n.report()
	n.Query("b.example.com", dnsmessage.TypeA) // not stored yet
	n.manager.Detach(testAgent)
	err := n.db.Tx(t.Context(), "egress.test_delete", func(ctx context.Context, tx *database.Tx) error {
		return n.manager.DeleteAgent(ctx, tx, identity.BySystem(testAccount), testAgent)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.manager.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"egress_names", "egress_destinations", "egress_refused"} {
		if rows, err := database.One(t.Context(), n.db, database.Scalar[int], `SELECT count(*) FROM `+table); err != nil || rows != 0 {
			t.Errorf("%s has %d rows, %v", table, rows, err)
		}
	}
}

func TestReportIsOfTheAccount(t *testing.T) {
	n := newNet(t, "open")
	n.At(public+":22", echo(t))
	speak(t, n.Connect(addrPort(public+":22")), "a connection")
	r, err := n.manager.Report(t.Context(), "acct_other", testAgent)
	if err != nil || len(r.Destinations)+len(r.Refused) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A damaged row hides nothing else.
func TestDamagedRows(t *testing.T) {
	n := newNet(t, []any{"*.example.com", public})
	n.At(public+":22", echo(t))
	n.At(public+":25", echo(t))
	speak(t, n.Connect(addrPort(public+":22")), "a connection")
	speak(t, n.Connect(addrPort(public+":25")), "another one")
	known := n.Query("a.example.com", dnsmessage.TypeA).Addr
	n.Query("b.example.com", dnsmessage.TypeA)
	n.Query("c.example.org", dnsmessage.TypeA)
	n.report()
	err := n.db.Tx(t.Context(), "egress.test_damage", func(ctx context.Context, tx *database.Tx) error {
		for _, damage := range []string{
			`UPDATE egress_names SET address = '{damaged' WHERE name = 'b.example.com'`,
			`UPDATE egress_destinations SET bytes_in = '{damaged' WHERE port = 22`,
			`UPDATE egress_refused SET last_at = '{damaged'`,
		} {
			if _, err := tx.ExecContext(ctx, damage); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n.startServer()
	if a := n.Query("a.example.com", dnsmessage.TypeA).Addr; a != known {
		t.Errorf("a name has another address: %s, before %s", a, known)
	}
	if a := n.Query("b.example.com", dnsmessage.TypeA); !inNames(a) {
		t.Errorf("the name of a damaged row: %+v", a)
	}
	if r := n.report(); len(r.Destinations) != 2 || len(r.Refused) != 1 {
		t.Errorf("%+v", r)
	}
}

// Run applies what the record says after a notification, also of one that came before Run.
func TestRunFollowsTheRecord(t *testing.T) {
	n := newNet(t, "none")
	await(t, "the network is served", func() bool { return n.Query("a.example.com", dnsmessage.TypeA).RCode == dnsmessage.RCodeNameError })
	n.setRecord("model")
	n.events.Notify(event.ReconcileTopic(testAgent))
	n.setRecord([]any{"a.example.com"})
	n.runManager()
	await(t, "the name is answered", func() bool { return n.Query("a.example.com", dnsmessage.TypeA).Addr.IsValid() })
	n.setRecord([]any{"b.example.com"})
	n.events.Notify(event.ReconcileTopic(testAgent))
	await(t, "the name is not answered any more", func() bool { return !n.Query("a.example.com", dnsmessage.TypeA).Addr.IsValid() })
}

// setRecord changes what the agent's record says.
func (n *testNet) setRecord(policy any) {
	p := mustParse(n.t, policy)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.policy = p
}
