package pool_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/runtime/docker/dockertest"
)

func sshKeys(signers ...ssh.Signer) []ssh.PublicKey {
	var all []ssh.PublicKey
	for _, s := range signers {
		all = append(all, s.PublicKey())
	}
	return all
}

// TestCheck: for each thing that a server lacks, check says what it is and how it is repaired.
func TestCheck(t *testing.T) {
	change := func(path, field string, value any) func(map[string]any) {
		return func(m map[string]any) {
			answer := m[path].(map[string]any)
			answer[field] = value
		}
	}
	for _, c := range []struct {
		name     string
		sshd     string
		engine   func(map[string]any)
		socket   string
		breaking func(*sshtest.Server, pool.Server)
		lacks    string // What of the finding that is not OK and no warning; empty: nothing is lacking
		state    string
		repair   string
	}{
		{name: "nothing"},
		{name: "down", breaking: func(s *sshtest.Server, _ pool.Server) { s.Stop() }, lacks: "connection", state: "cannot be reached", repair: "systemctl enable --now ssh"},
		{name: "login refused", breaking: func(s *sshtest.Server, _ pool.Server) { s.Authorize() }, lacks: "login", state: "refuses", repair: "restrict,port-forwarding ssh-ed25519"},
		{name: "no stream-local forwarding", sshd: "AllowStreamLocalForwarding no", lacks: "engine", state: "AllowStreamLocalForwarding", repair: "AllowStreamLocalForwarding yes"},
		{name: "no port-forwarding", breaking: func(s *sshtest.Server, n pool.Server) {
			s.Authorize(strings.Replace(n.PublicKey, "restrict,port-forwarding", "restrict", 1))
		}, lacks: "engine", repair: "must begin with restrict,port-forwarding"},
		{name: "no socket", socket: "/nowhere/docker.sock", lacks: "engine", state: "/nowhere/docker.sock", repair: "usermod -aG docker"},
		{name: "old engine", engine: change("GET /version", "ApiVersion", "1.40"), lacks: "engine", state: "20.10", repair: "docker.io"},
		{name: "strange engine", engine: change("GET /version", "ApiVersion", "new"), lacks: "engine", state: "20.10"},
		{name: "new engine", engine: change("GET /version", "ApiVersion", "1.52")},
		{name: "no seccomp", engine: change("GET /info", "SecurityOptions", []string{"name=apparmor"}), lacks: "seccomp", repair: "CONFIG_SECCOMP_FILTER"},
		{name: "unconfined", engine: change("GET /info", "SecurityOptions", []string{"name=seccomp,profile=unconfined"}), lacks: "seccomp", repair: "daemon.json"},
		{name: "no limits", engine: change("GET /info", "PidsLimit", false), lacks: "limits", repair: "cgroup_enable=memory"},
		{name: "no image", engine: func(m map[string]any) { m["GET /images/json"] = []any{} }, lacks: "image", state: "agento/openclaw:1 is missing", repair: "docker load"},
		{name: "image of Podman", engine: func(m map[string]any) {
			m["GET /images/json"] = []map[string]any{{"RepoTags": []string{"localhost/agento/openclaw:1"}}}
		}},
		{name: "little disk", engine: func(m map[string]any) { m["GET /containers/c1/logs"] = "Avail\n1000000\n" }, lacks: "disk", repair: "docker image prune"},
		{name: "broken engine", engine: func(m map[string]any) { delete(m, "GET /info") }, lacks: "engine", state: "404", repair: "journalctl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sshtest.Start(t, c.sshd)
			e := newEnv(t)
			answers := goodEngine()
			if c.engine != nil {
				c.engine(answers)
			}
			socket := c.socket
			if socket == "" {
				socket = fakeEngine(t, answers)
			}
			n := e.add(t, s, "one", socket)
			if c.breaking != nil {
				c.breaking(s, n)
			}
			found, err := e.Check(t.Context(), "one")
			if err != nil {
				t.Fatal(err)
			}
			var lacking []pool.Finding
			for _, f := range found {
				if !f.OK && !f.Warning {
					lacking = append(lacking, f)
				}
				if !f.OK && (f.State == "" || len(f.Repair) == 0 && f.What != "disk") {
					t.Errorf("says not what to do: %+v", f)
				}
			}
			if c.lacks == "" {
				now, err := e.Find(t.Context(), "one")
				if len(lacking) > 0 || err != nil || now.ReachedAt.IsZero() || now.DiskFree != 36405739520 {
					t.Errorf("%+v, %+v, %v", lacking, now, err)
				}
				return
			}
			if len(lacking) != 1 || lacking[0].What != c.lacks || !strings.Contains(lacking[0].State, c.state) || !strings.Contains(fmt.Sprint(lacking[0].Repair), c.repair) {
				t.Errorf("%+v", lacking)
			}
		})
	}
}

// TestCheckLocal: without an engine, the machine that agento runs on lacks nothing.
func TestCheckLocal(t *testing.T) {
	e := newEnv(t)
	e.Engine = filepath.Join(t.TempDir(), "none")
	if f, err := e.Check(t.Context(), "local"); err != nil || len(f) != 1 || !f[0].Warning || !strings.Contains(f[0].State, "as processes") {
		t.Errorf("%+v, %v", f, err)
	}
	e.Engine = fakeEngine(t, goodEngine())
	if f, err := e.Check(t.Context(), "local"); err != nil || len(f) != 6 || !f[0].OK {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestCheckOnARealEngine: on the engine at POOL_TEST_ENGINE, or one of its own, over SSH.
func TestCheckOnARealEngine(t *testing.T) {
	socket := os.Getenv("POOL_TEST_ENGINE")
	if socket == "" {
		socket = strings.TrimPrefix(dockertest.Start(t).Host(), "unix://")
	}
	s := sshtest.Start(t)
	e := newEnv(t)
	e.Image = os.Getenv("POOL_TEST_IMAGE")
	e.add(t, s, "one", socket)
	found, err := e.Check(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.MarshalIndent(found, "", " ")
	t.Logf("%s", text)
	for _, f := range found {
		if !f.OK && !f.Warning {
			t.Errorf("%+v", f)
		}
	}
}
