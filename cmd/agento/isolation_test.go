package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/client"
)

// TestServeWithoutASandbox: the server starts no agent and says why. Reads and deletes
// work. It starts the agent when it can be isolated. None of the descriptors that it was
// started with go on to the programs that it starts.
func TestServeWithoutASandbox(t *testing.T) {
	real, err := exec.LookPath("bwrap")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	broken := filepath.Join(bin, "broken")
	script := fmt.Sprintf("#!/bin/sh\n[ ! -e %q ] || exit 1\nexec %q \"$@\"\n", broken, real)
	if err := errors.Join(os.WriteFile(filepath.Join(bin, "bwrap"), []byte(script), 0o755), os.WriteFile(broken, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	in := newInstallation(t, "acme")
	for range 50 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		in.passed = append(in.passed, f)
	}
	in.start()
	for fd := 3; fd < 3+len(in.passed); fd++ {
		info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", in.cmd.Process.Pid, fd))
		if err != nil {
			t.Fatal(err)
		}
		flags := regexp.MustCompile(`flags:\s*0([0-7]+)`).FindStringSubmatch(string(info))
		if n, err := strconv.ParseInt(flags[1], 8, 64); err != nil || n&unix.O_CLOEXEC == 0 {
			t.Errorf("descriptor %d goes on to programs: %s", fd, info)
		}
	}
	c := in.client("acme")
	checkUnavailable := func(err error) {
		t.Helper()
		answer := (*client.Error)(nil)
		if !errors.As(err, &answer) || answer.Status != http.StatusServiceUnavailable || !strings.Contains(answer.Message, "bubblewrap does not work on this machine") {
			t.Errorf("the caller gets %v", err)
		}
	}
	_, err = c.CreateAgent(t.Context(), in.newAgent("ada"))
	checkUnavailable(err)
	if list, err := c.ListAgents(t.Context(), client.AgentQuery{}); err != nil || len(list.Data) != 0 {
		t.Errorf("%d agents, %v", len(list.Data), err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if _, err := in.logs.await(waitTimeout, regexp.MustCompile("agents can be isolated again")); err != nil {
		t.Fatal(err)
	}
	ada, err := c.CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}

	// The next server cannot make a sandbox. The gateway that has one goes on.
	in.stop()
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in.start()
	c = in.client("acme")
	if a, err := c.Agent(t.Context(), ada.ID); err != nil || a.Status != client.Running {
		t.Errorf("the agent is %s, %v", a.Status, err)
	}
	_, err = c.RestartAgent(t.Context(), ada.ID)
	checkUnavailable(err)
	_, err = trySend(t.Context(), c, ada.ID, client.ChatRequest{Message: "hello"})
	checkUnavailable(err)
	if _, err := c.StopAgent(t.Context(), ada.ID); err != nil {
		t.Error(err)
	}
	_, err = c.StartAgent(t.Context(), ada.ID)
	checkUnavailable(err)
	if _, err := c.DeleteAgent(t.Context(), ada.ID); err != nil {
		t.Error(err)
	}
}

// withoutBubblewrap returns a PATH with the programs that a server needs, but not
// bubblewrap.
func withoutBubblewrap(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"sh", "env", "setpriv"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(bin, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return "PATH=" + bin
}

// TestDevWithoutASandbox: dev says it in its first line, is not root, and marks its data
// directory for good. It does not start agents without a sandbox where they had one. There
// is no npm either, so that it ends by itself.
func TestDevWithoutASandbox(t *testing.T) {
	open, err := os.MkdirTemp("", "agento-dev-*") // unlike t.TempDir, below no directory of root alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(open) })
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	path := withoutBubblewrap(t)
	run := func(data string, args ...string) (lines []string) {
		t.Helper()
		in := &installation{t: t, data: data}
		cmd := in.program(args...)
		cmd.Env = append(cmd.Env, path, "TMPDIR="+open, "SUDO_UID=")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("agento %v succeeded", args)
		}
		return strings.Split(string(out), "\n")
	}
	data := filepath.Join(open, "data")
	lines := run(data, "dev", "--listen=127.0.0.1:0")
	user := regexp.MustCompile(`^Agents run WITHOUT A SANDBOX and can read and change what the user with id ([1-9]\d*) can: .*bubblewrap is not installed`).FindStringSubmatch(lines[0])
	if user == nil || !strings.Contains(lines[1], "npm") {
		t.Fatalf("dev says %q", lines)
	}
	for _, name := range []string{"", "agento.db", "master.key"} {
		st, err := os.Stat(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		if owner, ok := st.Sys().(*syscall.Stat_t); !ok || fmt.Sprint(owner.Uid) != user[1] || owner.Uid == 0 {
			t.Errorf("%s belongs to %v and dev was %s", st.Name(), owner, user[1])
		}
	}
	for _, sandbox := range []bool{false, true} {
		if sandbox {
			path = "SANDBOX=yes" // the PATH of this test
		}
		if lines := run(data, "serve", "--listen=127.0.0.1:0"); !strings.Contains(lines[0], "is for development") {
			t.Errorf("serve says %q", lines)
		}
	}

	// A directory whose agents are isolated.
	path = withoutBubblewrap(t)
	isolated := filepath.Join(open, "isolated")
	if lines := run(isolated, "serve", "--listen=127.0.0.1:0", "--runtime-dir="+filepath.Join(open, "none")); !strings.Contains(lines[0], "npm") {
		t.Errorf("serve says %q", lines)
	}
	if os.Getuid() == 0 { // dev is another user
		uid, err := strconv.Atoi(user[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{".", "agento.db", "master.key", "server.lock"} {
			if err := os.Chown(filepath.Join(isolated, name), uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lines := run(isolated, "dev", "--listen=127.0.0.1:0"); !strings.Contains(lines[1], "run in a sandbox, which this machine cannot make") {
		t.Errorf("dev says %q", lines)
	}
}

// TestNeeds: scripts/needs.sh installs what is missing. dev can go on without a sandbox,
// tests and a machine without npm cannot.
func TestNeeds(t *testing.T) {
	needs, err := filepath.Abs("../../scripts/needs.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		has, apt, goal string
		ok             bool
		says           string
	}{
		{has: "go npm python3 chromium bwrap setpriv", goal: "test", ok: true},
		{has: "go npm chromium bwrap setpriv", apt: "exit 0", goal: "test", ok: true, says: "install -y -qq python3\n"},
		{has: "go npm python3 bwrap setpriv", apt: "exit 0", goal: "test", ok: true, says: "install -y -qq chromium\n"},
		{has: "go npm setpriv", apt: "exit 0", goal: "run", ok: true, says: "installing: bubblewrap\ninstall -y -qq bubblewrap\n"},
		{has: "go npm setpriv", apt: "exit 1", goal: "run", ok: true, says: "sudo apt-get install  bubblewrap"},
		{has: "go npm python3 chromium setpriv", apt: "exit 1", goal: "test", says: "sudo apt-get install  bubblewrap"},
		{has: "go npm setpriv", goal: "run", ok: true, says: "sudo apt-get install  bubblewrap"},
		{has: "go bwrap setpriv", apt: "exit 1", goal: "run", says: "sudo apt-get install npm"},
		{has: "npm bwrap setpriv", goal: "run", says: "Go 1.26"},
	} {
		bin := t.TempDir()
		put := func(name, text string) {
			if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range strings.Fields(test.has) {
			put(name, "exit 0")
		}
		put("criu", "echo Version: 4.1")
		put("id", "echo 0")
		put("uname", "echo Linux")
		put("env", `shift; exec "$@"`)
		if test.apt != "" {
			put("apt-get", `echo "$*" >>"`+bin+`/asked"; `+test.apt)
		}
		sh, err := exec.LookPath("sh")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/bin/true", filepath.Join(bin, "true")); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(sh, needs, test.goal)
		cmd.Env = []string{"PATH=" + bin}
		out, err := cmd.CombinedOutput()
		asked, _ := os.ReadFile(filepath.Join(bin, "asked"))
		if said := string(out) + string(asked); (err == nil) != test.ok || !strings.Contains(said, test.says) {
			t.Errorf("%+v: %v: %s", test, err, said)
		}
	}
}
