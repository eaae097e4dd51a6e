package reconciler_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/fault"
)

// databaseDir returns the directory of the environment's database.
func databaseDir(t *testing.T, e *agenttest.Env) string {
	t.Helper()
	var path string
	e.Must(e.DB.QueryRowContext(t.Context(), `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&path))
	return filepath.Dir(path)
}

// TestStopOnLockedDatabase: the gateway ends at once, and the request is stored when the
// database can be written.
func TestStopOnLockedDatabase(t *testing.T) {
	e := agenttest.New(t, nil)
	a, other := e.Create("ada"), e.Create("bob")
	unlock := databasetest.Lock(t, databaseDir(t, e))
	_, err := e.Agents.Stop(e.Context(), e.Actor, a.ID)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(fault.From(err).Message, "has been stopped") || !strings.Contains(fault.From(err).Message, string(database.Locked)) {
		t.Errorf("stop: %v", err)
	}
	if e.Driver.RunningCount() != 1 || e.Find(a.ID).DesiredState != agent.DesiredRunning {
		t.Errorf("%d gateways run, the record says %s", e.Driver.RunningCount(), e.Find(a.ID).DesiredState)
	}
	if _, err := e.Agents.Delete(e.Context(), e.Actor, other.ID); !fault.Is(err, fault.Unavailable) || fault.From(err).Message != string(database.Locked) {
		t.Errorf("delete: %v", err)
	}
	if _, err := e.Agents.Stop(e.Context(), e.Actor, "unknown"); !fault.Is(err, fault.NotFound) {
		t.Errorf("stop of an unknown agent: %v", err)
	}
	unlock()
	e.UntilStatus(a.ID, client.Stopped)
	if found := e.Find(a.ID); found.DesiredState != agent.DesiredStopped || e.Driver.Starts(a.ID) != 1 {
		t.Errorf("desired %s after %d starts", found.DesiredState, e.Driver.Starts(a.ID))
	}
	e.CheckCount(1, `SELECT count(*) FROM events WHERE kind = 'agent.stop_requested' AND actor = $1`, e.Actor.String())
	if e.Find(other.ID).Status != client.Running || e.Driver.RunningCount() != 1 {
		t.Error("the other agent does not run")
	}
	e.Start(a.ID)
	if e.Driver.Starts(a.ID) != 2 {
		t.Errorf("%d starts", e.Driver.Starts(a.ID))
	}
}

// TestNewerRequestReplacesHalt: a request that was stored after a stop that could not be
// stored wins.
func TestNewerRequestReplacesHalt(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	recorded := make(chan struct{}, 100)
	e.Must(e.Reconciler.StopUnrecorded(e.Context(), a, func(context.Context) error {
		select {
		case recorded <- struct{}{}:
		default:
		}
		return database.Locked
	}))
	if e.Driver.RunningCount() != 0 {
		t.Fatal("the gateway runs")
	}
	<-recorded
	<-recorded // it is tried again
	if e.Driver.RunningCount() != 0 {
		t.Error("the gateway was started again")
	}
	e.Restart(a.ID)
	if e.Driver.RunningCount() != 1 {
		t.Error("the gateway does not run after a newer request")
	}
}

// TestStopUnrecordedWhoseDriverFails: what remains of the gateway that has ended does not
// matter, but a gateway that still runs is reported.
func TestStopUnrecordedWhoseDriverFails(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	var unknown atomic.Bool
	e.RestartServer(func(s *agenttest.Settings) {
		s.Driver = agenttest.HookedDriver{Driver: e.Driver, Before: func(method string) error {
			if method == "Stop" || method == "Inspect" && unknown.Load() {
				return errors.New("read-only file system")
			}
			return nil
		}}
	})
	e.UntilStatus(a.ID, client.Running)
	record := func(context.Context) error { return database.ReadOnly }
	unknown.Store(true)
	if err := e.Reconciler.StopUnrecorded(e.Context(), a, record); err == nil {
		t.Error("it is not known whether the gateway has ended")
	}
	unknown.Store(false)
	e.Must(e.Reconciler.StopUnrecorded(e.Context(), a, record))
	if e.Driver.RunningCount() != 0 {
		t.Error("the gateway runs")
	}
}
