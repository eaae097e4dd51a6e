package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
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

// shared is the engine of all tests of a package that need none of their own.
var shared struct {
	once   sync.Once
	engine *Engine
	err    error
}

// Shared returns an engine with the test image for all tests of a package. Main ends it. The test is
// skipped where no engine can run.
func Shared(t testing.TB) *Engine {
	t.Helper()
	shared.once.Do(func() {
		if shared.engine, shared.err = New(); shared.err == nil {
			shared.err = LoadImage(context.Background(), shared.engine.Host())
		}
	})
	Check(t, shared.err)
	return shared.engine
}

// Main runs the tests of a package, and ends the engine that they share. It returns the exit code.
func Main(run func() int) int {
	code := run()
	if shared.engine == nil {
		return code
	}
	if err := shared.engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "end the engine:", err)
		return 1
	}
	return code
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
