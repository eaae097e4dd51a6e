package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/runtimetest"
	"agento.host/agento/internal/vault"
)

func secret(value string) vault.Secret { return vault.NewSecret(value) }

// TestSandboxIsolatesAgents tries to reach another agent, the data directory and
// the server from inside an agent.
func TestSandboxIsolatesAgents(t *testing.T) {
	t.Setenv("AGENTO_TEST_VALUE", "value-of-the-server")
	settings := newSettings(t)
	tools := t.TempDir()
	must(t, os.Chmod(tools, 0o755))
	must(t, os.WriteFile(filepath.Join(tools, "tool"), []byte("shared tool"), 0o644))
	settings.ReadOnly = []string{tools}
	d := open(t, settings)
	data := filepath.Join(filepath.Dir(settings.Dir), "agento.db")
	must(t, os.WriteFile(data, []byte("database"), 0o666))

	victim := runtimetest.Spec(runtimetest.NewID())
	victim.Files["victim-file"] = []byte("file of another")
	victim.Secrets = []byte("secrets of another")
	victim.Env["VICTIM"] = secret("variable of another")
	other := runtimetest.Start(t, d, victim)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))

	t.Run("files", func(t *testing.T) {
		for _, path := range []string{
			data, settings.Dir, filepath.Join(settings.Dir, string(other.ID), "home", "victim-file"), filepath.Join(settings.Dir, string(g.ID), "gateway.json"),
			filepath.Join(settings.RunDir), "/etc/shadow", "/root", "/var", "/sys", "/dev/shm/agento-0", "/work",
		} {
			if out := g.Shell("ls -la %s && cat %s", path, path); !strings.Contains(out, "No such file") {
				t.Errorf("%s: %s", path, out)
			}
		}
		if out := g.Shell(`find / -name victim-file -not -path '/proc/*' 2>/dev/null; grep -rsI "of another" /home /run /tmp /dev/shm`); strings.Contains(out, "another") || strings.Contains(out, "/") {
			t.Errorf("found %s", out)
		}
		if out := g.Shell("cat %s/tool; echo x >%s/tool; echo x >%s/new", tools, tools, tools); !strings.HasPrefix(out, "shared tool") || strings.Count(out, "Read-only") != 2 {
			t.Errorf("read-only files: %s", out)
		}
		if out := g.Shell("echo x >>%s; echo x >/usr/x; echo x >/bin/x; echo x >/etc/passwd; echo x >/x; echo x >/run/agento/x; ls /usr/bin/env", settings.Command[0]); strings.Count(out, "Read-only")+strings.Count(out, "denied") != 6 {
			t.Errorf("the runtime and the system: %s", out)
		}
	})
	t.Run("temporary files", func(t *testing.T) {
		name := "agento-test-" + string(g.ID)
		g.Shell("echo mine >/tmp/%s; echo mine >/dev/shm/%s", name, name)
		if out := g.Shell("cat /tmp/%s /dev/shm/%s", name, name); out != "mine\nmine\n" {
			t.Errorf("its own: %s", out)
		}
		for _, dir := range []string{"/tmp", "/dev/shm"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s of the machine has it", dir)
			}
			if out := other.Shell("ls %s", dir); strings.Contains(out, name) {
				t.Errorf("%s of another has it", dir)
			}
		}
	})
	t.Run("environment", func(t *testing.T) {
		out := g.Shell(`cat /proc/*/environ 2>/dev/null | tr '\0' '\n'`)
		if !strings.Contains(out, "AGENT="+string(g.ID)) {
			t.Errorf("its own: %s", out)
		}
		if strings.Contains(out, "value-of-the-server") || strings.Contains(out, "of another") {
			t.Errorf("of others: %s", out)
		}
		if out := g.Shell("env"); strings.Contains(out, "AGENTO_TEST_VALUE") {
			t.Errorf("inherited: %s", out)
		}
	})
	t.Run("rights", func(t *testing.T) {
		out := g.Shell("cat /proc/self/status; id; cat /proc/self/uid_map; hostname")
		for _, want := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "agent\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in %s", want, out)
			}
		}
		if out := g.Shell("id -u; id -un"); strings.HasPrefix(out, "0\n") || !strings.HasSuffix(out, "agent\n") {
			t.Errorf("its user: %s", out)
		}
		if out := g.Shell("mount -t tmpfs x /tmp; mknod /tmp/d c 1 5; echo 1 >/proc/sys/kernel/printk; ls /tmp/d"); strings.Count(strings.ToLower(out), "permi")+strings.Count(out, "superuser") != 3 {
			t.Errorf("it was allowed: %s", out)
		}
		if out := g.Shell("unshare -U true; unshare -n true; unshare -m true; keyctl show; grep Seccomp: /proc/self/status"); strings.Count(out, "Operation not permitted") != 3 || !strings.Contains(out, "Seccomp:\t2") {
			t.Errorf("namespaces: %s", out)
		}
		if out := g.Shell("ls -l /proc/2/fd"); strings.Contains(out, "lock") || strings.Contains(out, settings.Dir+"/"+string(other.ID)) {
			t.Errorf("open files: %s", out)
		}
	})
	t.Run("processes", func(t *testing.T) {
		if out := g.Shell("ls /proc | grep -c '^[0-9]'; kill -9 %d; kill -TERM %d", os.Getpid(), os.Getppid()); !strings.Contains(out, "o such process") {
			t.Errorf("processes: %s", out)
		}
		boot := other.Ask("/boot")
		_, _ = g.Try("/sh", "do", "kill -9 -1") // it kills itself too
		if g.WaitExit(); other.Ask("/boot") != boot {
			t.Error("the other gateway was killed")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A process that escapes the sandbox of a server that is root has no permissions.
func TestEachAgentHasItsOwnUser(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	settings := newSettings(t)
	d := open(t, settings)
	a, b := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID())), runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	users := map[string]bool{"0": true}
	for _, g := range []*runtimetest.Gateway{a, b} {
		uid := ownerOf(t, filepath.Join(settings.Dir, string(g.ID), "home", "conf", "deep", "app.json"))
		if users[uid] {
			t.Errorf("user %s again", uid)
		}
		users[uid] = true
		g.Ask("/write", "name", "x", "data", "")
		if got := ownerOf(t, filepath.Join(settings.Dir, string(g.ID), "home", "x")); got != uid {
			t.Errorf("the agent writes as %s, the server for %s", got, uid)
		}
	}
	// A home that comes from another user becomes the agent's.
	a.Stop(0)
	home := filepath.Join(settings.Dir, string(a.ID), "home")
	must(t, os.Chown(home, 0, 0))
	must(t, os.Chown(filepath.Join(home, "x"), 0, 0))
	must(t, os.Symlink("/etc/passwd", filepath.Join(home, "link")))
	a = runtimetest.StartAgain(t, d, runtimetest.Spec(a.ID))
	a.Ask("/write", "name", "x", "data", "again")
	if uid := ownerOf(t, "/etc/passwd"); uid != "0" {
		t.Errorf("a link was followed: /etc/passwd belongs to %s", uid)
	}
}

func ownerOf(t *testing.T, path string) string {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return fmt.Sprint(uidOf(st))
}

// Neither deep trees nor modes prevent the removal of a home.
func TestRemoveDeletesHostileHome(t *testing.T) {
	settings := newSettings(t)
	d := open(t, settings)
	run(t, d)
	g := runtimetest.Start(t, d, runtimetest.Spec(runtimetest.NewID()))
	const deep = `mkdir deep; cd deep; for i in 1 2; do mkdir -p $(printf 'd/%.0s' $(seq 400)) && cd -P $(printf 'd/%.0s' $(seq 400)); done; touch leaf; chmod 0 leaf`
	g.Ask("/sh", "do", deep)
	g.Shell(`mkdir -p shut/in; touch shut/in/x; chmod 0 shut/in shut; mkdir many; cd many; seq 300 | xargs mkdir; chmod 0 .`)
	if err := g.Home().RemoveAll("deep"); err != nil {
		t.Errorf("remove a deep directory: %v", err)
	}
	g.Ask("/sh", "do", deep)
	if err := d.Remove(t.Context(), g.Place, g.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(settings.Dir, string(g.ID))); err == nil {
		t.Error("the directory still exists")
	}
	if state := g.Inspect(); state.Phase != runtime.Gone {
		t.Errorf("removed: %+v", state)
	}
	runtimetest.WaitUntil(t, "everything is deleted", func() bool { return len(discarded(t, settings)) == 0 })
}

// TestMemoryFileSystemsAreLimited: what an agent can write into memory has a size, also
// without control groups.
func TestMemoryFileSystemsAreLimited(t *testing.T) {
	s := newSettings(t)
	s.TempBytes = 8 << 20
	g := runtimetest.Start(t, open(t, s), runtimetest.Spec(runtimetest.NewID()))
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		out := g.Shell(`head -c 20000000 /dev/zero >%s/big; wc -c <%s/big; rm %s/big`, dir, dir, dir)
		if !strings.Contains(out, "No space left") || !strings.Contains(out, strconv.Itoa(8<<20)) {
			t.Errorf("%s: %s", dir, out)
		}
	}
	if out := g.Shell("echo x >/dev/x; echo x >/run/x; echo ok >/dev/null && echo writable"); strings.Count(out, "Read-only")+strings.Count(out, "denied") != 2 || !strings.Contains(out, "writable") {
		t.Error(out)
	}
}

// TestOldBubblewrap: one without --size runs agents as before.
func TestOldBubblewrap(t *testing.T) {
	s := newSettings(t)
	real, err := exec.LookPath("bwrap")
	must(t, err)
	s.Bubblewrap = filepath.Join(t.TempDir(), "bwrap")
	must(t, os.WriteFile(s.Bubblewrap, []byte(`#!/bin/sh
for a; do [ "$a" != --size ] || { echo "bwrap: Unknown option --size" >&2; exit 1; }; done
exec `+real+` "$@"
`), 0o755))
	g := runtimetest.Start(t, open(t, s), runtimetest.Spec(runtimetest.NewID()))
	if out := g.Shell("echo x >/tmp/x; cat /tmp/x"); out != "x\n" {
		t.Error(out)
	}
}
