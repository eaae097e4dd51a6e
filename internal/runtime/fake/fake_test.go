package fake_test

import (
	"net/http"
	"testing"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/fake"
	"agento.host/agento/internal/runtime/runtimetest"
)

func open(t *testing.T) *fake.Driver {
	d := fake.New(fake.Settings{Dir: t.TempDir(), Handler: func(g *fake.Gateway) http.Handler { return runtimetest.Handler(g) }})
	t.Cleanup(d.Close)
	return d
}

func TestContract(t *testing.T) {
	runtimetest.Run(t, func(t *testing.T) runtimetest.Bed {
		d := open(t)
		return runtimetest.Bed{Driver: d, Restart: func(*testing.T) runtime.Driver { return d }}
	})
}
