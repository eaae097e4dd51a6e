package process_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/runtimetest"
)

// TestProgramsUseTheWayOut: a program inside resolves names and connects without any
// settings, as far as the policy allows, and all else fails at once.
func TestProgramsUseTheWayOut(t *testing.T) {
	_, d := openIsolated(t)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello from "+r.Host) }))
	defer server.Close()
	outside := egresstest.New(t)
	outside.At(egresstest.Public+":80", server.Listener.Addr())
	for _, name := range []string{"api.example.com", "www.example.org"} {
		outside.Host(name, egresstest.Public)
	}
	db := databasetest.New(t)
	s := egress.Settings{DB: db, Events: event.NewLog(db), Policy: func(context.Context, identity.AgentID) (identity.AccountID, egress.Policy, error) {
		p, err := egress.ParsePolicy([]any{"*.example.com", egresstest.Public + ":80"})
		return "acct_1", p, err
	}}
	outside.Adjust(&s)
	s.Original = nil // the kernel's
	m := egress.NewManager(s)
	n := openNetwork(t, d, g)
	m.Attach(g.ID, egress.Network{Out: n.Out, DNS: n.DNS, SetRoutes: n.SetRoutes})
	defer m.Detach(g.ID)

	const fetch = `python3 -c 'import sys, urllib.request; r = urllib.request.Request(sys.argv[1]); len(sys.argv) > 2 and r.add_header("Host", sys.argv[2]); print(urllib.request.urlopen(r, timeout=8).read())' %s 2>&1 | tail -1`
	for arguments, want := range map[string]string{
		"http://api.example.com/":                 "hello from api.example.com",
		"http://" + egresstest.Public + "/":       "hello from " + egresstest.Public,
		"http://www.example.org/":                 "not known",
		"http://93.184.216.35/":                   "unreachable",
		"http://10.0.0.1/":                        "unreachable",
		"http://api.example.com/ www.example.org": "reset",
		"http://" + egresstest.Public + ":81/":    "reset",
		"http://198.18.77.77/":                    "reset",
	} {
		if got := g.Shell(fetch, arguments); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", arguments, got, want)
		}
	}
	r, err := m.Report(t.Context(), "acct_1", g.ID)
	if err != nil || len(r.Destinations) != 2 || len(r.Refused) != 4 {
		t.Errorf("%+v, %v", r, err)
	}
}
