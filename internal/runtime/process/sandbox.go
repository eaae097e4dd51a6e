package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/runtime/home"
)

// What a sandboxed gateway sees, the same on every machine.
const (
	sandboxHome    = "/home/agent"
	sandboxSecrets = "/run/agento"
	sandboxHost    = "agent"
)

// sandbox is how gateways are confined. bubblewrap gives each its own file system
// and its own namespaces of processes, IPC, host name and control groups, and takes
// all capabilities away. If the server is root, bubblewrap mounts with root's
// permissions, so that the homes can be in directories that no other user can
// enter, and setpriv then changes to the agent's user. If the server is an ordinary
// user, bubblewrap uses a user namespace.
type sandbox struct {
	bwrap, setpriv string
	filter         []byte // seccomp program that denies system calls; nil: none
	reason         string // why there is no sandbox; empty if there is one
}

// probeTimeout is how long the test of the sandbox may take. Source: 25-65 ms on an
// idle machine.
const probeTimeout = 30 * time.Second

// probeSandbox checks whether this machine supports the sandbox, by running a
// program in one.
func probeSandbox(s Settings, users userRange) sandbox {
	if s.NoSandbox {
		return sandbox{reason: "it is switched off"}
	}
	if goruntime.GOOS != "linux" {
		return sandbox{reason: "bubblewrap needs Linux"}
	}
	b := sandbox{filter: seccompFilter()}
	var err error
	if b.bwrap, err = exec.LookPath("bwrap"); err != nil {
		return sandbox{reason: "bubblewrap is not installed: install the package bubblewrap"}
	}
	if os.Getuid() == 0 {
		if users.count == 0 {
			return sandbox{reason: "root of this container has no other users for agents"}
		}
		if b.setpriv, err = exec.LookPath("setpriv"); err != nil {
			return sandbox{reason: "setpriv is not installed: install the package util-linux"}
		}
	}
	b.reason = b.test(s, users)
	return b
}

// test runs a script in the sandbox that checks the home and the gateway's command.
// It returns why that failed, or "".
func (b sandbox) test(s Settings, users userRange) string {
	dir, err := os.MkdirTemp(s.Dir, ".probe-*")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = home.Purge(dir) }()
	a := agent{id: "probe", dir: dir, home: filepath.Join(dir, "home"), owner: users.ownerOf("probe")}
	h, err := a.openHome()
	if err != nil {
		return err.Error()
	}
	_ = h.Close()
	if err := b.prepare(a); err != nil {
		return err.Error()
	}
	const script = `touch "$HOME/probe" && [ -x "$1" ] || { echo "agents cannot run $1: everybody must be allowed to read it" >&2; exit 1; }`
	inside := []string{"/usr/bin/env", "HOME=" + sandboxHome, "/bin/sh", "-c", script, "probe", s.Command[0]}
	line := b.wrap(a, s, "", inside)

	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = null.Close() }()
	filter, err := filledPipe(b.filter)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = filter.Close() }()
	cmd.ExtraFiles = []*os.File{null, null, filter}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("bubblewrap does not work here: %v: %s", err, strings.TrimSpace(string(out)))
	}
	return ""
}

// prepare writes the files that the sandbox needs besides the home.
func (b sandbox) prepare(a agent) error {
	if b.reason != "" {
		return os.MkdirAll(a.path("tmp"), 0o700)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if a.owner != (home.Owner{}) {
		uid, gid = a.owner.UID, a.owner.GID
	}
	etc := a.path("etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"passwd": fmt.Sprintf("root:x:0:0:root:/:/bin/false\nagent:x:%d:%d:agent:%s:/bin/sh\n", uid, gid, sandboxHome),
		"group":  fmt.Sprintf("root:x:0:\nagent:x:%d:\n", gid),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// etcFiles lists the files and directories of /etc that agents can see.
var etcFiles = []string{
	"alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
	"ld.so.conf.d", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "resolv.conf", "services",
	"ssl", "terminfo", "timezone",
}

// wrap returns a command line that runs command in the sandbox of an agent, or
// command itself if there is no sandbox. The command line contains no secrets.
// Descriptor 3 is the lock file, descriptor 4 is for command, and descriptor 5 is
// the seccomp program.
func (b sandbox) wrap(a agent, s Settings, secrets string, command []string) []string {
	if b.reason != "" {
		return command
	}
	l := commandLine{b.bwrap,
		// The parent is the shim, not the server: the sandbox ends with its shim.
		// The lock file is held until everything in the sandbox has ended.
		"--die-with-parent", "--sync-fd", "3",
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session", "--hostname", sandboxHost,
		"--clearenv", "--cap-drop", "ALL",
	}
	if b.filter != nil {
		l.add("--seccomp", "5")
	}
	if b.setpriv == "" {
		l.add("--unshare-user")
	} else {
		l.add("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
	}
	l.bindSystem()
	for _, name := range etcFiles {
		l.add("--ro-bind-try", "/etc/"+name, "/etc/"+name)
	}
	l.add("--ro-bind", a.path("etc/passwd"), "/etc/passwd", "--ro-bind", a.path("etc/group"), "/etc/group")
	l.add("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp")
	for _, path := range s.ReadOnly {
		l.bind("--ro-bind", path, path)
	}
	if !slices.ContainsFunc(s.ReadOnly, func(dir string) bool { return isWithin(s.Command[0], dir) }) {
		l.bind("--ro-bind", s.Command[0], s.Command[0])
	}
	l.bind("--bind", a.home, sandboxHome)
	if secrets != "" {
		l.bind("--ro-bind", secrets, sandboxSecrets)
	}
	l.add("--remount-ro", "/", "--chdir", "/", "--")
	if b.setpriv != "" {
		l.add(b.setpriv, fmt.Sprintf("--reuid=%d", a.owner.UID), fmt.Sprintf("--regid=%d", a.owner.GID), "--clear-groups", "--inh-caps=-setuid,-setgid")
	}
	return append(l, command...)
}

// commandLine is a command line that is being built.
type commandLine []string

func (l *commandLine) add(args ...string) { *l = append(*l, args...) }

// bindSystem mounts the programs and libraries of the machine, read-only.
func (l *commandLine) bindSystem() {
	l.add("--ro-bind", "/usr", "/usr")
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(dir); err == nil {
			l.add("--symlink", target, dir)
			continue
		}
		l.add("--ro-bind-try", dir, dir)
	}
	l.add("--perms", "0755", "--dir", "/etc")
}

// bind mounts a path. It creates the directories above it so that the agent can
// enter them; bubblewrap alone would create them for root only.
func (l *commandLine) bind(how, from, to string) {
	var above []string
	for dir := filepath.Dir(to); dir != "/"; dir = filepath.Dir(dir) {
		above = append(above, dir)
	}
	slices.Reverse(above)
	for _, dir := range above {
		if !isWithin(dir, "/usr") && !slices.Contains([]string{"/tmp", "/dev", "/proc", "/etc"}, dir) {
			l.add("--perms", "0755", "--dir", dir)
		}
	}
	if !isWithin(to, "/usr") {
		l.add(how, from, to)
	}
}

// searchPath returns the PATH of a gateway: the directory of its command, then
// those of the system.
func (d *Driver) searchPath() string {
	return filepath.Dir(d.settings.Command[0]) + ":/usr/local/bin:/usr/bin:/bin"
}
