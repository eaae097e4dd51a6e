package dockertest

import (
	"errors"
	"testing"

	"agento.host/agento/internal/skiptest"
)

// Start starts an engine, and ends it with the test, which is skipped where no engine can run.
func Start(t testing.TB) *Engine {
	t.Helper()
	e, err := New()
	Check(t, err)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error("end the engine:", err)
		}
	})
	return e
}

// Check ends a test that could not have an engine: it is skipped if none can run on this machine, and
// fails otherwise.
func Check(t testing.TB, err error) {
	t.Helper()
	if why := Unavailable(""); errors.As(err, &why) {
		skiptest.Without(t, skiptest.Engine, why)
	}
	if err != nil {
		t.Fatal(err)
	}
}
