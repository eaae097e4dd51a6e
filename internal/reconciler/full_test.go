//go:build !race

// A day of a full server is 86,400 rounds of the reconciler.

package reconciler_test

import (
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
)

// TestFullServer: requests wait a minute for room. Agents wait longer, and start by
// themselves.
func TestFullServer(t *testing.T) {
	agenttest.InBubble(t, func(s *agenttest.Settings) { s.Memory = roomFor(2) }, func(t *testing.T, e *agenttest.Env) {
		ada, bob := e.Create("ada"), e.Create("bob")
		refused := func(what string, request func() error) {
			t.Helper()
			began := time.Now()
			err := request()
			if took := time.Since(began); !fault.Is(err, fault.Unavailable) || fault.From(err).RetryAfter == 0 || took < time.Minute || took > 61*time.Second {
				t.Errorf("%s: after %s: %v", what, took, err)
			}
		}
		refused("a creation", func() error {
			_, err := e.Agents.CreateWithRoom(t.Context(), e.Actor, agenttest.NewAgent("eve"))
			return err
		})
		e.CheckCount(2, `SELECT count(*) FROM agents`)
		e.CheckCount(2, `SELECT count(*) FROM events WHERE kind = 'agent.created'`)
		e.CheckCount(2, `SELECT count(DISTINCT owner_id) FROM data_keys`)
		e.CheckCount(2, `SELECT count(DISTINCT agent_id) FROM documents`)
		found, err := e.Driver.List(t.Context())
		if err != nil || len(found) != 2 {
			t.Errorf("the driver has %v, %v", found, err)
		}

		eve := createAs(e, agenttest.Account, "eve") // as with Prefer: respond-async
		refused("a start", func() error {
			accepted, err := e.Agents.Start(t.Context(), e.Actor, eve)
			e.Must(err)
			_, err = e.Agents.AwaitRunning(t.Context(), accepted)
			return err
		})
		refused("a message", func() error {
			_, err := e.Gateways.Connect(t.Context(), eve)
			return err
		})
		waiting := e.Find(eve)
		if waiting.DesiredState != agent.DesiredRunning || !waiting.WaitsForRoom() || len(waiting.Retry.Failures) > 0 || !strings.Contains(waiting.LastError, "memory") {
			t.Errorf("%+v", waiting)
		}
		time.Sleep(24 * time.Hour)
		if !e.Find(eve).WaitsForRoom() {
			t.Errorf("after a day: %+v", e.Find(eve))
		}
		if e.Restart(bob.ID); e.Driver.Starts(eve) != 0 {
			t.Error("a restart gives its room away")
		}

		e.Stop(ada.ID)
		if now := e.UntilStatus(eve, client.Running); now.LastError != "" || now.ErrorCategory != "" {
			t.Errorf("it runs with %q", now.LastError)
		}
		refused("a start without room", func() error {
			accepted, err := e.Agents.Start(t.Context(), e.Actor, ada.ID)
			e.Must(err)
			_, err = e.Agents.AwaitRunning(t.Context(), accepted)
			return err
		})
		e.Delete(bob.ID)
		e.UntilStatus(ada.ID, client.Running)
	})
}
