package docker_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/runtimetest"
)

func TestMain(m *testing.M) { os.Exit(dockertest.Main(m.Run)) }

// sharedHost returns the address of an engine with the test image. The test is skipped where none can run.
func sharedHost(t *testing.T) string {
	t.Helper()
	return dockertest.Shared(t).Host()
}

// newSettings returns the settings of an installation of its own.
func newSettings(t *testing.T, host string) docker.Settings {
	t.Helper()
	return docker.Settings{
		Installation: "inst_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Dir: filepath.Join(t.TempDir(), "agents"), Host: host,
		Image: dockertest.Image, Command: []string{dockertest.Gateway}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func openDriver(t *testing.T, s docker.Settings) *docker.Driver {
	t.Helper()
	d, err := docker.New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func newAPI(t *testing.T, host string) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	host := sharedHost(t)
	runtimetest.Run(t, func(t *testing.T) runtimetest.Env {
		s := newSettings(t, host)
		proxy := newProxy(t, host)
		s.Host = proxy.host
		return runtimetest.Env{
			Driver: openDriver(t, s), Processes: true, Break: proxy.removeSeccomp,
			Restart: func(t *testing.T) runtime.Driver { return openDriver(t, s) },
			SetOwner: func(t *testing.T, id identity.AgentID, owner runtime.Owner) {
				to := map[runtime.Owner]string{runtime.Own: s.Installation, runtime.Foreign: "inst_other"}[owner]
				must(t, dockertest.SetInstallation(t.Context(), host, s.Installation, string(id), to))
			},
			NoUnmarked:  "the engine labels everything when it is made",
			UsageIsLate: true,
		}
	})
}
