package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
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
	filter         []byte // seccomp program: the system calls that agents may make
	tempBytes      int64  // size of /tmp and of /dev/shm; 0: half of the machine's memory, because bubblewrap cannot limit it
	runsc          string // gVisor's program, which runs inside bubblewrap's sandbox; empty: no gVisor
	off            bool   // gateways run without confinement, in development
	suspendable    bool   // of one gateway: it can be suspended
}

// defaultProbeTimeout is the default of Settings.ProbeTimeout. Source: a test takes
// 25-65 ms on an idle machine.
const defaultProbeTimeout = 30 * time.Second

// probeSandbox returns the sandbox of this machine, after running a program in it.
// Errors: *runtime.IsolationError.
func probeSandbox(s Settings, users userRange) (sandbox, error) {
	if goruntime.GOOS != "linux" {
		return sandbox{}, &runtime.IsolationError{Missing: "bubblewrap needs Linux"}
	}
	b := sandbox{filter: seccompFilter(), tempBytes: s.TempBytes}
	if b.filter == nil {
		return sandbox{}, &runtime.IsolationError{Missing: "there is no list of system calls for the architecture " + goruntime.GOARCH}
	}
	var err error
	if b.bwrap, err = exec.LookPath(s.Bubblewrap); err != nil {
		return sandbox{}, &runtime.IsolationError{Missing: "bubblewrap is not installed (package bubblewrap)"}
	}
	if os.Getuid() == 0 {
		if users.count == 0 {
			return sandbox{}, &runtime.IsolationError{Missing: "root of this container has no other users for agents"}
		}
		if b.setpriv, err = exec.LookPath("setpriv"); err != nil {
			return sandbox{}, &runtime.IsolationError{Missing: "setpriv is not installed (package util-linux)"}
		}
	}
	if s.Sandbox == GVisor {
		if os.Getuid() != 0 {
			return sandbox{}, errNeedsRoot
		}
		if b.runsc, err = s.findRunsc(); err != nil {
			return sandbox{}, err
		}
	}
	err = b.test(s, users)
	if old := (*sandboxError)(nil); errors.As(err, &old) && strings.Contains(old.output, "Unknown option --size") {
		b.tempBytes = 0 // bubblewrap before 0.7
		err = b.test(s, users)
	}
	if err != nil {
		return sandbox{}, &runtime.IsolationError{Missing: s.missing(err), Cause: err}
	}
	return b, nil
}

// missing names what a failed test of the sandbox lacked.
func (s Settings) missing(err error) string {
	full := func() string {
		var fs unix.Statfs_t
		if unix.Statfs(s.Dir, &fs) == nil && fs.Files > 0 && fs.Ffree == 0 {
			return "the disk of the agents has no free inodes"
		}
		return "the disk of the agents is full"
	}
	var failed *sandboxError
	said := func(text string) bool {
		return errors.As(err, &failed) && strings.Contains(strings.ToLower(failed.output), text)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the machine is too busy to start a sandbox within %s", s.ProbeTimeout)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), said("no space left on device"):
		return full()
	case errors.Is(err, unix.EAGAIN), said("resource temporarily unavailable"), said("cannot fork"):
		return "the machine can start no further process"
	case errors.Is(err, unix.ENOMEM), said("cannot allocate memory"):
		return "the machine has no free memory"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return "the server can open no further file"
	case errors.As(err, new(*networkError)):
		return "the machine cannot make a network for an agent (network namespaces with nf_tables)"
	case said("agents cannot run"):
		return "agents may not run the gateway's program"
	}
	if s.Sandbox == GVisor {
		return "gVisor does not work on this machine"
	}
	return "bubblewrap does not work on this machine"
}

// sandboxError is the failure of a program in the sandbox.
type sandboxError struct {
	err    error
	output string
}

// Error implements error.
func (e *sandboxError) Error() string { return fmt.Sprintf("%v: %s", e.err, e.output) }

// Unwrap returns the error of the command.
func (e *sandboxError) Unwrap() error { return e.err }

// test runs a script in the sandbox that checks the home and the gateway's command.
func (b sandbox) test(s Settings, users userRange) error {
	dir, err := os.MkdirTemp(s.Dir, probePrefix+"*")
	if err != nil {
		return err
	}
	defer func() { _ = home.Purge(context.Background(), dir) }()
	a := agent{id: "probe", dir: dir, home: filepath.Join(dir, "home"), owner: users.ownerOf("probe", dir)}
	h, err := a.openHome(context.Background())
	if err != nil {
		return err
	}
	_ = h.Close()
	if err := b.prepare(a); err != nil {
		return err
	}
	const script = `read -r go && [ "$go" = go ] || exit 77; touch "$HOME/probe" || exit 1; [ -x "$1" ] || { echo "agents cannot run $1: everybody must be allowed to read it" >&2; exit 1; }`
	inside := []string{"/usr/bin/env", "HOME=" + sandboxHome, "/bin/sh", "-c", script, "probe", s.Command[0]}
	line, options, err := b.hideOptions(b.wrap(a, s, "", inside))
	if err != nil {
		return err
	}
	defer func() { _ = options.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), s.ProbeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	configuration, err := b.configuration(a, s, "", inside)
	if err != nil {
		return err
	}
	defer func() { _ = configuration.Close() }()
	cmd.ExtraFiles = []*os.File{null, null, configuration, null, null, options}
	cmd.WaitDelay = time.Second // a child of the killed bubblewrap may hold the output
	cmd.SysProcAttr = b.attributes()
	goruntime.LockOSThread() // bubblewrap ends with the thread that started it
	defer goruntime.UnlockOSThread()
	release, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	_, networkErr := namespace{shim: cmd.Process.Pid}.do(ctx, namespaceRequest{Configure: true})
	if networkErr == nil {
		_, _ = release.Write([]byte("go\n")) // fails if the program has failed, which Wait tells
	}
	_ = release.Close()
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case networkErr != nil && (err == nil || cmd.ProcessState.ExitCode() == 77): // nothing else failed
		return &networkError{networkErr}
	case err != nil:
		return &sandboxError{err: err, output: strings.TrimSpace(out.String())}
	}
	return nil
}

// networkError is a failure to make a network for an agent.
type networkError struct{ err error }

// Error implements error.
func (e *networkError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *networkError) Unwrap() error { return e.err }

// prepare writes the files that the sandbox needs besides the home.
func (b sandbox) prepare(a agent) error {
	if b.off {
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
		"hosts":  "127.0.0.1 localhost " + sandboxHost + "\n::1 localhost\n",
		// One name server, at once again: the server answers every query.
		"resolv.conf": "nameserver " + dnsHost + "\noptions timeout:5 attempts:2\n",
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
	"alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "ld.so.cache", "ld.so.conf",
	"ld.so.conf.d", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "pki", "protocols", "services",
	"ssl", "terminfo", "timezone",
}

// wrap returns a command line that runs command in the sandbox of an agent, or
// command itself if the sandbox is off. The command line contains no secrets.
// Descriptor 3 is the lock file, descriptor 4 is for command, and descriptor 5 is what
// configuration returns.
func (b sandbox) wrap(a agent, s Settings, secrets string, command []string) []string {
	if b.off {
		return command
	}
	if b.runsc != "" {
		return b.wrapGVisor(a, s, secrets)
	}
	// The parent is the shim, not the server: the sandbox ends with its shim.
	l := commandLine{b.bwrap, "--die-with-parent"}
	if b.suspendable {
		l.add("--as-pid-1")
	} else {
		l.add("--sync-fd", "3") // the lock file is held until everything in the sandbox has ended
	}
	l.add(
		"--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--new-session", "--hostname", sandboxHost,
		"--clearenv", "--cap-drop", "ALL",
	)
	l.add("--seccomp", "5")
	if b.setpriv == "" {
		// The shim is root of its user namespace, so that the server can enter that; the
		// agent is in one below, without any rights in the network namespace.
		l.add("--unshare-user", "--uid", strconv.Itoa(os.Getuid()), "--gid", strconv.Itoa(os.Getgid()))
	} else {
		l.add("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP")
	}
	l.bindSystem("")
	l.bindEtc("", a)
	l.add("--proc", "/proc", "--dev", "/dev")
	for _, dir := range []string{"/dev/shm", "/tmp"} {
		if b.tempBytes > 0 {
			l.add("--size", strconv.FormatInt(b.tempBytes, 10))
		}
		l.add("--perms", "1777", "--tmpfs", dir)
	}
	l.maskProc()
	l.bindPrograms("", s)
	l.bind("--bind", a.home, "", sandboxHome)
	if secrets != "" {
		l.bind("--ro-bind", secrets, "", sandboxSecrets)
	}
	// /dev is a memory file system of the agent's user, if the server is an ordinary one.
	l.add("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--")
	if b.suspendable {
		l.add("/bin/sh", "-c", initializer, "agento-init")
	}
	if b.setpriv != "" {
		l.add(b.setpriv, fmt.Sprintf("--reuid=%d", a.owner.UID), fmt.Sprintf("--regid=%d", a.owner.GID), "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
	}
	return append(l, command...)
}

// hideOptions moves bubblewrap's options out of its command line, which agents see in
// /proc/1/cmdline, into a pipe that bubblewrap reads as descriptor 8: they name the data
// directory. The caller closes the pipe, which is empty if there is no sandbox.
func (b sandbox) hideOptions(line []string) (short []string, options *os.File, err error) {
	if b.off {
		options, err = os.Open(os.DevNull)
		return line, options, err
	}
	end := slices.Index(line, "--")
	options, err = filledPipe([]byte(strings.Join(line[1:end], "\x00") + "\x00"))
	return append([]string{line[0], "--args", "8"}, line[end:]...), options, err
}

// maskedProc are files and directories of /proc that are the same for the whole machine and
// tell about the kernel, its command line, its devices, or what others do.
var maskedProc = []string{
	"acpi", "asound", "bootconfig", "cmdline", "config.gz", "driver", "interrupts", "iomem", "ioports", "kallsyms", "kcore", "key-users", "keys",
	"kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "modules", "mtrr", "sched_debug", "schedstat", "scsi", "slabinfo", "softirqs",
	"timer_list", "timer_stats", "vmallocinfo", "vmcore",
}

// maskProc makes the files of maskedProc empty for agents.
func (l *commandLine) maskProc() {
	for _, name := range maskedProc {
		path := "/proc/" + name
		switch st, err := os.Stat(path); {
		case err != nil: // this kernel does not have it
		case st.IsDir():
			l.add("--perms", "0555", "--tmpfs", path, "--remount-ro", path)
		default:
			l.add("--dev-bind", os.DevNull, path)
		}
	}
}

// configuration returns a pipe with what the sandbox reads from descriptor 5: bubblewrap
// its seccomp program, gVisor its configuration, which has the command.
func (b sandbox) configuration(a agent, s Settings, secrets string, command []string) (*os.File, error) {
	if b.runsc == "" {
		return filledPipe(b.filter)
	}
	data, err := b.configureGVisor(a.owner, s, secrets, command)
	if err != nil {
		return nil, err
	}
	return filledPipe(data)
}

// commandLine is a command line that is being built.
type commandLine []string

func (l *commandLine) add(args ...string) { *l = append(*l, args...) }

// bindSystem mounts the programs and libraries of the machine below root, read-only.
func (l *commandLine) bindSystem(root string) {
	l.add("--ro-bind", "/usr", root+"/usr")
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(dir); err == nil {
			l.add("--symlink", target, root+dir)
			continue
		}
		l.add("--ro-bind-try", dir, root+dir)
	}
	l.add("--perms", "0755", "--dir", root+"/etc")
}

// bindEtc mounts the files of /etc below root: the machine's, and those that prepare has
// written.
func (l *commandLine) bindEtc(root string, a agent) {
	for _, name := range etcFiles {
		l.add("--ro-bind-try", "/etc/"+name, root+"/etc/"+name)
	}
	for _, name := range []string{"passwd", "group", "hosts", "resolv.conf"} {
		l.add("--ro-bind", a.path("etc/"+name), root+"/etc/"+name)
	}
}

// bindPrograms mounts what gateways may read besides the system below root.
func (l *commandLine) bindPrograms(root string, s Settings) {
	for _, path := range s.programs() {
		l.bind("--ro-bind", path, root, path)
	}
}

// programs lists the files and directories that gateways may read besides those of the
// system.
func (s Settings) programs() []string {
	if slices.ContainsFunc(s.ReadOnly, func(dir string) bool { return isWithin(s.Command[0], dir) }) {
		return s.ReadOnly
	}
	return append(slices.Clone(s.ReadOnly), s.Command[0])
}

// bind mounts a path below root. It creates the directories above it so that the agent can
// enter them; bubblewrap alone would create them for root only.
func (l *commandLine) bind(how, from, root, to string) {
	var above []string
	for dir := filepath.Dir(to); dir != "/"; dir = filepath.Dir(dir) {
		above = append(above, dir)
	}
	slices.Reverse(above)
	for _, dir := range above {
		if !isWithin(dir, "/usr") && !slices.Contains([]string{"/tmp", "/dev", "/proc", "/etc"}, dir) {
			l.add("--perms", "0755", "--dir", root+dir)
		}
	}
	if !isWithin(to, "/usr") {
		l.add(how, from, root+to)
	}
}

// searchPath returns the PATH of a gateway: the directory of its command, then
// those of the system.
func (d *Driver) searchPath() string {
	return filepath.Dir(d.settings.Command[0]) + ":/usr/local/bin:/usr/bin:/bin"
}
