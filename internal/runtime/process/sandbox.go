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

// What a sandboxed gateway sees, on every machine.
const (
	boxHome    = "/home/agent"
	boxSecrets = "/run/agento"
	boxHost    = "agent"
)

// sandbox is how gateways are confined: a bubblewrap with its own file system,
// process, IPC, host name and control group namespaces, and without
// capabilities. As root, bubblewrap sets the mounts up with root's rights, so
// that the homes may lie where no ordinary user can go, and setpriv then
// becomes the agent's user. As an ordinary user it uses a user namespace.
type sandbox struct {
	bwrap, setpriv string
	filter         []byte // refuses system calls; nil: none
	reason         string // why there is none
}

// probing bounds one trial of the sandbox. Source: 25-65 ms when quiet.
const probing = 30 * time.Second

// probeSandbox finds out whether a sandbox stands on this machine by building
// one.
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
			return sandbox{reason: "root of this container has no other users to give to agents"}
		}
		if b.setpriv, err = exec.LookPath("setpriv"); err != nil {
			return sandbox{reason: "setpriv is not installed: install the package util-linux"}
		}
	}
	b.reason = b.try(s, users)
	return b
}

// try runs the gateway's command's file test in a sandbox of a home made for
// it. It returns why that failed.
func (b sandbox) try(s Settings, users userRange) string {
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
	if err := b.furnish(a); err != nil {
		return err.Error()
	}
	const script = `touch "$HOME/probe" && [ -x "$1" ] || { echo "agents cannot run $1: everybody must be allowed to read it" >&2; exit 1; }`
	inside := []string{"/usr/bin/env", "HOME=" + boxHome, "/bin/sh", "-c", script, "probe", s.Command[0]}
	line := b.wrap(a, s, "", inside)

	ctx, cancel := context.WithTimeout(context.Background(), probing)
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

// furnish writes what the sandbox needs beside the home.
func (b sandbox) furnish(a agent) error {
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
		"passwd": fmt.Sprintf("root:x:0:0:root:/:/bin/false\nagent:x:%d:%d:agent:%s:/bin/sh\n", uid, gid, boxHome),
		"group":  fmt.Sprintf("root:x:0:\nagent:x:%d:\n", gid),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shared lists what agents see of /etc.
var shared = []string{
	"alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "hosts", "ld.so.cache", "ld.so.conf",
	"ld.so.conf.d", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "resolv.conf", "services",
	"ssl", "terminfo", "timezone",
}

// wrap returns the command line that runs inside in an agent's sandbox, or
// inside itself where there is none. Nothing on it is secret. Descriptor 3 is
// the lock file, 4 is left for inside, 5 is the filter of system calls.
func (b sandbox) wrap(a agent, s Settings, secrets string, inside []string) []string {
	if b.reason != "" {
		return inside
	}
	l := line{b.bwrap,
		// The shim is the parent, not the server: a shim that is killed takes
		// the sandbox with it. The lock file is held until all in it has ended.
		"--die-with-parent", "--sync-fd", "3",
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session", "--hostname", boxHost,
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
	l.system()
	for _, name := range shared {
		l.add("--ro-bind-try", "/etc/"+name, "/etc/"+name)
	}
	l.add("--ro-bind", a.path("etc/passwd"), "/etc/passwd", "--ro-bind", a.path("etc/group"), "/etc/group")
	l.add("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp")
	for _, path := range s.ReadOnly {
		l.bind("--ro-bind", path, path)
	}
	if !slices.ContainsFunc(s.ReadOnly, func(dir string) bool { return within(s.Command[0], dir) }) {
		l.bind("--ro-bind", s.Command[0], s.Command[0])
	}
	l.bind("--bind", a.home, boxHome)
	if secrets != "" {
		l.bind("--ro-bind", secrets, boxSecrets)
	}
	l.add("--remount-ro", "/", "--chdir", "/", "--")
	if b.setpriv != "" {
		l.add(b.setpriv, fmt.Sprintf("--reuid=%d", a.owner.UID), fmt.Sprintf("--regid=%d", a.owner.GID), "--clear-groups", "--inh-caps=-setuid,-setgid")
	}
	return append(l, inside...)
}

// line is a command line in the making.
type line []string

func (l *line) add(args ...string) { *l = append(*l, args...) }

// system binds the programs and libraries of the machine.
func (l *line) system() {
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

// bind mounts a path, with directories above it that the agent can pass:
// bubblewrap makes missing ones for root alone.
func (l *line) bind(how, from, to string) {
	var above []string
	for dir := filepath.Dir(to); dir != "/"; dir = filepath.Dir(dir) {
		above = append(above, dir)
	}
	slices.Reverse(above)
	for _, dir := range above {
		if !within(dir, "/usr") && !slices.Contains([]string{"/tmp", "/dev", "/proc", "/etc"}, dir) {
			l.add("--perms", "0755", "--dir", dir)
		}
	}
	if !within(to, "/usr") {
		l.add(how, from, to)
	}
}

// searchPath is PATH of a gateway: the program that runs it, then the system's.
func (d *Driver) searchPath() string {
	return filepath.Dir(d.set.Command[0]) + ":/usr/local/bin:/usr/bin:/bin"
}
