package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/runtimetest"
	"agento.host/agento/internal/vault"
)

func nameOf(s docker.Settings, id identity.AgentID) string {
	return "agento-" + s.Installation + "-" + string(id)
}

// A container has no more than its gateway needs, and whoever looks at it sees no secrets.
func TestContainerIsConfined(t *testing.T) {
	host := sharedHost(t)
	api := newAPI(t, host)
	settings := newSettings(t, host)
	d := openDriver(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	const hidden = "that-stays-hidden"
	s.Env["TOKEN"] = vault.NewSecret("token-" + hidden)
	s.Secrets = []byte("file-" + hidden)
	s.Limits = runtime.Limits{MemoryBytes: 256 << 20, Processes: 100, CPUs: 0.5, CPUWeight: 50}
	g := runtimetest.Start(t, d, s)
	if g.Ask("/env", "name", "TOKEN") != "token-"+hidden || g.Ask("/secrets") != "file-"+hidden {
		t.Fatal("the gateway has no secrets")
	}
	must(t, d.PutSecrets(t.Context(), g.Place, g.ID, []byte("other-"+hidden)))

	found, err := api.ContainerInspect(t.Context(), nameOf(settings, s.ID), client.ContainerInspectOptions{})
	must(t, err)
	history, err := api.ImageHistory(t.Context(), dockertest.Image)
	must(t, err)
	layers, err := json.Marshal(history)
	must(t, err)
	for where, text := range map[string]string{"inspect": string(found.Raw), "history": string(layers), "log": g.Log(-1)} {
		if strings.Contains(text, hidden) || strings.Contains(text, "PRIVATE") {
			t.Errorf("a secret is in %s: %s", where, text)
		}
	}
	h := found.Container.HostConfig
	if !h.ReadonlyRootfs || !h.NetworkMode.IsNone() || h.Privileged || !slices.Equal(h.CapDrop, []string{"ALL"}) || len(h.CapAdd) > 0 ||
		h.RestartPolicy.Name != container.RestartPolicyDisabled || len(h.Binds) > 0 || len(h.PortBindings) > 0 {
		t.Errorf("it is not confined: %s", found.Raw)
	}
	if h.Memory != 256<<20 || h.MemorySwap != h.Memory || h.NanoCPUs != 5e8 || h.CPUShares != 512 || h.PidsLimit == nil || *h.PidsLimit < 100 || *h.PidsLimit > 200 {
		t.Errorf("limits: %+v", h.Resources)
	}
	if h.LogConfig.Type != "json-file" || h.LogConfig.Config["max-size"] == "" || h.LogConfig.Config["max-file"] != "3" {
		t.Errorf("log: %+v", h.LogConfig)
	}
	status := g.Shell("cat /proc/self/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Uid:\t10001\t10001"} {
		if !strings.Contains(status, want) {
			t.Errorf("%q is missing in %s", want, status)
		}
	}
	for what, command := range map[string]string{
		"its root can be written":          "touch /x && echo BAD",
		"its home can leave the volume":    "touch /home/x && echo BAD",
		"it has a network":                 "cat /proc/net/dev | grep -E 'eth|ens|veth' && echo BAD",
		"it has a route":                   "test $(cat /proc/net/route | grep -c .) -gt 1 && echo BAD",
		"it sees the relay's environment":  "cat /proc/1/environ && echo BAD",
		"it sees the memory of the relay":  "head -c 1 /proc/1/mem && echo BAD",
		"it can end the relay":             "kill -9 1; kill -0 1 || echo BAD",
		"it can mount":                     "mount -t tmpfs x /tmp && echo BAD",
		"it sees devices of the machine":   "ls /dev | grep -E '^(sd|vd|nvme|kmsg)' && echo BAD",
		"it sees the engine":               "ls /var/run/docker.sock && echo BAD",
		"programs in it run in its memory": "ls -ld /run/agento | grep -v drwx------ && echo BAD",
	} {
		if out := g.Shell("%s", command); strings.Contains(out, "BAD") {
			t.Errorf("%s: %s", what, out)
		}
	}
	examined, err := d.Examine(t.Context())
	if err != nil || len(examined) != 1 || examined[0].ID != s.ID {
		t.Fatalf("examined: %+v, %v", examined, err)
	}
	for _, c := range examined[0].Checks {
		if !c.OK {
			t.Errorf("%+v", c)
		}
	}
	// The key of the relay is in the record, which others cannot read.
	info, err := os.Stat(settings.Dir + "/" + string(s.ID) + "/place.json")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record: %v, %v", info, err)
	}
}

func TestLimits(t *testing.T) {
	d := openDriver(t, newSettings(t, sharedHost(t)))
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		s := runtimetest.Spec(runtimetest.NewID())
		s.Limits.MemoryBytes = 128 << 20
		g := runtimetest.Start(t, d, s)
		_, _ = g.Try("/use-memory", "bytes", "400000000") // there is no answer
		if state := g.WaitExit(); state.Phase != runtime.Exited || !state.OOMKilled || state.ExitCode != 137 {
			t.Errorf("over its memory: %+v", state)
		}
		g.Stop(0)
		if state := g.Inspect(); !state.OOMKilled {
			t.Errorf("after the stop: %+v", state)
		}
		g = runtimetest.StartAgain(t, d, s)
		_, _ = g.Try("/exit", "code", "137") // there is no answer
		if state := g.WaitExit(); state.OOMKilled || state.ExitCode != 137 {
			t.Errorf("the next gateway, killed otherwise: %+v", state)
		}
	})
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		s := runtimetest.Spec(runtimetest.NewID())
		s.Limits.Processes = 60
		g := runtimetest.Start(t, d, s)
		out := g.Shell(`i=0; while [ $i -lt 300 ]; do sleep 100 </dev/null >/dev/null 2>&1 & i=$((i+1)); done; echo all`)
		if strings.HasSuffix(out, "all\n") {
			t.Errorf("output %q", out)
		}
		g.Stop(0)
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		s := runtimetest.Spec(runtimetest.NewID())
		s.Limits.DiskBytes = 8 << 20
		g := runtimetest.Start(t, d, s)
		g.Shell("cd; dd if=/dev/zero of=full bs=1048576 count=20")
		if state := g.WaitExit(); state.Phase != runtime.Exited || !state.OverDisk {
			t.Errorf("over its disk: %+v", state)
		}
		over := (*runtime.DiskError)(nil)
		if err := d.Start(t.Context(), g.Place, s); !errors.As(err, &over) || over.Used.Bytes < 20<<20 {
			t.Errorf("start: %v", err)
		}
		if state := g.Inspect(); state.Phase == runtime.Running {
			t.Errorf("after it was not started: %+v", state)
		}
	})
}

// What people do with containers by hand is seen, and the next call copes with it.
func TestChangedByHand(t *testing.T) {
	host := sharedHost(t)
	api := newAPI(t, host)
	settings := newSettings(t, host)
	d := openDriver(t, settings)
	s := runtimetest.Spec(runtimetest.NewID())
	g := runtimetest.Start(t, d, s)
	name := nameOf(settings, s.ID)
	g.Ask("/write", "name", "kept", "data", "x")

	ended := make(chan error, 1)
	go func() { ended <- d.Watch(t.Context(), g.Place, g.ID) }()
	_, err := api.ContainerKill(t.Context(), name, client.ContainerKillOptions{Signal: "SIGKILL"})
	must(t, err)
	must(t, <-ended)
	if state := g.Inspect(); state.Phase != runtime.Exited || state.ExitCode != 137 || state.OOMKilled {
		t.Errorf("killed by hand: %+v", state)
	}

	must(t, d.Start(t.Context(), g.Place, s))
	g.WaitReady()
	boot := g.Ask("/boot")
	_, err = api.ContainerPause(t.Context(), name, client.ContainerPauseOptions{})
	must(t, err)
	if state := g.Inspect(); state.Phase != runtime.Frozen {
		t.Errorf("paused by hand: %+v", state)
	}
	// Its relay is silent, which nothing has announced.
	short, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := d.Dial(short, g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial of what was paused by hand: %v", err)
	}
	if got, err := g.Home().ReadFile("kept", 10); err != nil || string(got) != "x" {
		t.Errorf("its home: %q, %v", got, err)
	}
	must(t, d.Thaw(t.Context(), g.Place, g.ID))
	if g.Ask("/boot") != boot {
		t.Error("it was started again")
	}

	_, err = api.ContainerRemove(t.Context(), name, client.ContainerRemoveOptions{Force: true})
	must(t, err)
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("removed by hand: %+v", state)
	}
	if _, err := d.Dial(t.Context(), g.Place, g.ID); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial of what was removed by hand: %v", err)
	}
	g.Stop(0)
	must(t, d.Start(t.Context(), g.Place, s))
	g.WaitReady()
	if got := g.Ask("/read", "name", "kept"); got != "x" {
		t.Errorf("the home has %q", got)
	}
}

// An engine is this machine's and, by SSH, that of a pool server.
func TestOneEngineUnderTwoNames(t *testing.T) {
	host := sharedHost(t)
	here := newSettings(t, host)
	there := here
	there.Server, there.Dir = "alpha", t.TempDir()
	d, e := openDriver(t, here), openDriver(t, there)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	for _, f := range list(t, e) {
		if f.ID == g.ID && (f.Running || f.Place != "") {
			t.Errorf("under another name of the engine it is listed as %+v, so that it would be ended as one that should not run there", f)
		}
	}
	if f := list(t, d); !slices.ContainsFunc(f, func(f runtime.Found) bool { return f.ID == g.ID && f.Running && f.Place == g.Place }) {
		t.Errorf("listed: %+v", f)
	}
}

// Two installations on one engine have agents of the same ids, as after a restore from a backup.
func TestTwoInstallations(t *testing.T) {
	host := sharedHost(t)
	api := newAPI(t, host)
	one, two := newSettings(t, host), newSettings(t, host)
	d, e := openDriver(t, one), openDriver(t, two)
	s := runtimetest.Spec(runtimetest.NewID())
	only := runtimetest.Spec(runtimetest.NewID())
	g, h, o := runtimetest.Start(t, d, s), runtimetest.Start(t, e, s), runtimetest.Start(t, d, only)
	g.Ask("/write", "name", "x", "data", "of one")
	if _, err := h.Try("/read", "name", "x"); err == nil {
		t.Error("they share a home")
	}
	for _, f := range list(t, e) {
		if f.ID == s.ID && (f.Owner != runtime.Own || !f.Running || f.Place != h.Place) || f.ID == only.ID && f.Owner != runtime.Foreign {
			t.Errorf("listed: %+v", f)
		}
	}
	boot := g.Ask("/boot")
	must(t, e.Stop(t.Context(), g.Place, s.ID, 0))
	must(t, e.Remove(t.Context(), g.Place, s.ID))
	must(t, e.Remove(t.Context(), o.Place, only.ID))
	must(t, e.Quarantine(t.Context(), only.ID))
	if g.Ask("/boot") != boot || g.Ask("/read", "name", "x") != "of one" {
		t.Error("the other installation has changed it")
	}
	o.Ask("/boot")

	// What has our name without our labels is left alone, and said.
	third := runtimetest.Spec(runtimetest.NewID())
	name := nameOf(one, third.ID)
	_, err := api.ContainerCreate(t.Context(), client.ContainerCreateOptions{Name: name, Config: &container.Config{Image: dockertest.Image, Cmd: []string{"/bin/sleep", "1000"}}})
	must(t, err)
	t.Cleanup(func() {
		_, _ = api.ContainerRemove(context.WithoutCancel(t.Context()), name, client.ContainerRemoveOptions{Force: true})
	})
	place, err := d.Place(t.Context(), third)
	must(t, err)
	if err := d.Start(t.Context(), place, third); !errors.Is(err, runtime.ErrForeign) || !strings.Contains(err.Error(), name) {
		t.Errorf("start: %v", err)
	}
	must(t, d.Stop(t.Context(), place, third.ID, 0))
	must(t, d.Remove(t.Context(), place, third.ID))
	if _, err := api.ContainerInspect(t.Context(), name, client.ContainerInspectOptions{}); err != nil {
		t.Errorf("the other container: %v", err)
	}
}
