package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

// criu is the program that makes checkpoints.
type criu struct {
	path    string
	err     error         // why it cannot be used; a *runtime.SuspendError
	machine func() string // digest of everything that a checkpoint must fit besides the home
}

// findCRIU looks for criu and tests whether this kernel has what it needs.
func findCRIU(s Settings) criu {
	if s.CRIU == "" {
		return criu{err: &runtime.SuspendError{Missing: "it is switched off", Fix: "serve with --sleep auto"}}
	}
	switch {
	case s.NoSandbox:
		return criu{err: &runtime.SuspendError{Missing: "they run without a sandbox"}}
	case s.Sandbox == GVisor:
		return criu{err: &runtime.SuspendError{Missing: "they run in gVisor"}}
	case os.Getuid() != 0:
		return criu{err: &runtime.SuspendError{Missing: "the server is not root", Fix: "run the server as root"}}
	}
	path, err := exec.LookPath(s.CRIU)
	if err != nil {
		return criu{err: &runtime.SuspendError{Missing: "criu is not installed", Fix: installCRIU}}
	}
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		return criu{err: &runtime.SuspendError{Missing: "the kernel has no time namespaces", Fix: "use Linux 5.6 or later"}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), suspendTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "check").CombinedOutput()
	if err != nil {
		version, _ := exec.CommandContext(ctx, path, "--version").Output() // without one it is not known
		return criu{err: checkFailure(string(version), string(out), mayAdminister(), err)}
	}
	return criu{path: path, machine: sync.OnceValue(func() string { return machineDigest(path, s) })}
}

// machineDigest returns a digest of everything that a checkpoint must fit besides the home.
func machineDigest(criu string, s Settings) string {
	sum := sha256.New()
	parts := machineParts(criu, s)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		_, _ = fmt.Fprintf(sum, "%s %q\n", name, parts[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// machineParts returns what a checkpoint must fit: what runs gateways, and the walls around them.
// The libraries that a gateway has mapped are in the checkpoint itself.
func machineParts(criu string, s Settings) map[string]string {
	parts := map[string]string{
		"criu": stateText(criu), "sandbox": stateText(s.Bubblewrap) + fmt.Sprint(s.Sandbox, s.TempBytes),
		"filter": string(seccompFilter()), "command": fmt.Sprint(s.Command), "runtime": "",
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		parts["kernel"] = string(u.Release[:]) + string(u.Version[:]) + string(u.Machine[:])
	}
	_ = eachLine("/proc/cpuinfo", func(text string) {
		if parts["processor"] == "" && (strings.HasPrefix(text, "flags") || strings.HasPrefix(text, "Features")) {
			parts["processor"] = text
		}
	})
	for _, path := range append(s.programs(), s.Command...) { // a directory changes with each new version
		parts["runtime"] += stateText(path)
	}
	return parts
}

// stateText returns a text that changes with a file, or with the one that is in its place.
func stateText(path string) string {
	if found, err := exec.LookPath(path); err == nil {
		path = found
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	state, _ := stateOf(path)
	return fmt.Sprintf("%s %+v\n", path, state)
}

// CheckSuspend implements runtime.Suspender.
func (d *Driver) CheckSuspend() error {
	if d.criu.err != nil {
		return d.criu.err
	}
	if _, reason := d.Limits(); reason != "" {
		return &runtime.SuspendError{Missing: "there are no control groups", Fix: "mount the control groups"}
	}
	if !d.secrets.inMemory {
		return &runtime.SuspendError{Missing: "there is no memory file system for checkpoints", Fix: "mount /dev/shm"}
	}
	return nil
}

func availableMemory() (int64, error) { return meminfo("MemAvailable") }

// meminfo returns a number of /proc/meminfo.
func meminfo(name string) (bytes int64, err error) {
	err = eachLine("/proc/meminfo", func(text string) {
		if rest, ok := strings.CutPrefix(text, name+":"); ok {
			kilobytes, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			bytes = kilobytes << 10
		}
	})
	return bytes, err
}

func stateOf(path string) (fileState, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileState{}, err
	}
	return fileState{ID: fileID{Dev: st.Dev, Ino: st.Ino}, Size: st.Size, Mode: st.Mode, MTime: st.Mtim.Nano()}, nil
}

// commonOptions are those of both a dump and a restore. Connections are closed: the gateway makes
// them again. Control groups are the shim's.
func commonOptions() []string {
	return []string{"--file-locks", "--tcp-close", "--ext-unix-sk", "--network-lock", "skip", "--manage-cgroups=ignore", "--ghost-limit", "64M", "-v2"}
}

// dump writes the processes below a shim to a checkpoint. They are stopped if it returns nil.
func (d *Driver) dump(ctx context.Context, a agent, rec record, shim int) error {
	root := firstProcess(shim)
	if root == 0 {
		return errors.New("it is just starting")
	}
	dir, err := d.checkpoints.begin(a.id)
	if err != nil {
		return err
	}
	meta, err := d.describe(a, rec, root)
	if err != nil {
		return err
	}
	args := append([]string{
		"dump", "--tree", strconv.Itoa(root), "--images-dir", dir, "--log-file", "dump.log", "--leave-stopped",
		"--skip-in-flight", "--external", fmt.Sprintf("net[%d]:net", meta.Network),
	}, commonOptions()...)
	for i, m := range meta.Mounts {
		args = append(args, "--external", fmt.Sprintf("mnt[%s]:m%d", m.Point, i))
	}
	for _, e := range meta.Externals {
		args = append(args, "--external", e.Name)
	}
	if err := d.runCRIU(ctx, args); err != nil {
		return &runtime.SuspendError{Missing: whyNotDumped(filepath.Join(dir, "dump.log")), Cause: err}
	}
	if !fileExists(dir, "inventory.img") {
		return errors.New("criu has made no checkpoint, although it says so")
	}
	if err := awaitStopped(ctx, root); err != nil {
		return err
	}
	// The processes are stopped, so the files are those of the checkpoint.
	if meta.Files, err = openFiles(a, root); err != nil {
		return err
	}
	if meta.Libraries, err = mappedLibraries(root); err != nil {
		return err
	}
	return d.checkpoints.commit(a.id, dir, meta)
}

// runCRIU runs criu and ends it with ctx, and with the server.
func (d *Driver) runCRIU(ctx context.Context, args []string) error {
	goruntime.LockOSThread() // it ends with the thread that started it
	defer goruntime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, d.criu.path, args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	MarkCloseOnExec()
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// whyNotDumped returns a clause for the last error in criu's log.
func whyNotDumped(log string) string {
	why := "criu failed"
	_ = eachLine(log, func(text string) {
		_, text, found := strings.Cut(text, "Error (")
		switch {
		case !found || strings.Contains(text, "RLIMIT_NOFILE"): // harmless
		case strings.Contains(text, "opt: Operation not supported"):
			why = "this version of criu cannot save TCP sockets on this kernel"
		case why == "criu failed":
			why += ": " + text[:min(200, len(text))]
		}
	})
	return why
}

// firstProcess returns the first process of the sandbox below a shim; 0 if there is none.
func firstProcess(shim int) int {
	for _, pid := range processTree(shim) {
		if pid != shim && pidInside(pid) == 1 {
			return pid
		}
	}
	return 0
}

// stopTimeout bounds how long processes take to stop that criu has let go. Source: less than 1 ms.
const stopTimeout = 5 * time.Second

// awaitStopped waits until a process and those below it are stopped.
func awaitStopped(ctx context.Context, root int) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		running := slices.DeleteFunc(processTree(root), func(pid int) bool { return isStopped(pid) || !isRunning(pid) })
		if len(running) == 0 {
			return nil
		}
		if err := pause(ctx, pollInterval); err != nil {
			return fmt.Errorf("criu has left processes %v running: %w", running, err)
		}
	}
}

// isStopped reports whether a process is stopped.
func isStopped(pid int) bool {
	s, err := readStatus(pid)
	return err == nil && strings.HasPrefix(s.fields["State"], "T")
}

// continueAll ends the stop of processes.
func (d *Driver) continueAll(pids []int) {
	for _, pid := range pids {
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGCONT)
		}
	}
}

// describe returns what a restore must know of a sandbox.
func (d *Driver) describe(a agent, rec record, root int) (m checkpointMeta, err error) {
	m = checkpointMeta{Nonce: rec.Nonce, Machine: d.criu.machine(), Home: rec.Home}
	if m.Network, err = inodeOf(procPath(root, "ns/net")); err != nil {
		return m, err
	}
	inside := map[string]bool{}
	err = eachLine(procPath(root, "mountinfo"), func(text string) {
		f := strings.Fields(text)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+3 {
			return
		}
		inside[f[0]] = true
		if source := d.sourceOf(a, rec, f[3], f[4], f[dash+1]); source != "" {
			m.Mounts = append(m.Mounts, mount{Point: f[4], Source: source})
		}
	})
	if err != nil {
		return m, err
	}
	if m.Options, err = mountOptions(root); err != nil {
		return m, err
	}
	if m.Skeleton, err = skeletonOf(procPath(root, "root")); err != nil {
		return m, err
	}
	m.Externals, err = externalsOf(a, root, inside)
	return m, err
}

// sourceOf returns the path on the machine of what is mounted in a sandbox; empty if the file
// system is the sandbox's own.
func (d *Driver) sourceOf(a agent, rec record, root, point, kind string) string {
	switch {
	case point == "/":
		return ""
	case point == sandboxHome:
		return a.home
	case point == sandboxSecrets:
		return d.secrets.dirOf(a.id + rec.Variant)
	case kind == "devtmpfs":
		return "/dev" + root
	case kind == "proc" || kind == "tmpfs" && root == "/" || kind == "devpts" || kind == "mqueue":
		return ""
	}
	if name, ok := strings.CutPrefix(point, "/etc/"); ok && slices.Contains(ownEtcFiles, name) {
		return a.path("etc/" + name)
	}
	if real, err := filepath.EvalSymlinks(point); err == nil {
		return real // bubblewrap follows symbolic links, criu does not
	}
	return point
}

// ownEtcFiles are the files of /etc that prepare writes for each agent.
var ownEtcFiles = []string{"passwd", "group", "hosts", "resolv.conf"}

// skeletonOf lists the files of the file system of a directory.
func skeletonOf(dir string) ([]skeletonEntry, error) {
	var device uint64
	var all []skeletonEntry
	var walk func(path string) error
	walk = func(path string) error {
		entries, err := os.ReadDir(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		for _, e := range entries {
			inside := filepath.Join(path, e.Name())
			st, err := os.Lstat(filepath.Join(dir, inside))
			if err != nil {
				return err
			}
			entry := skeletonEntry{Path: inside, Mode: st.Mode()}
			if st.Mode()&fs.ModeSymlink != 0 {
				if entry.Link, err = os.Readlink(filepath.Join(dir, inside)); err != nil {
					return err
				}
			}
			all = append(all, entry)
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && st.IsDir() && sys.Dev == device {
				if err := walk(inside); err != nil {
					return err
				}
			}
		}
		return nil
	}
	st, err := os.Stat(dir + "/")
	if err != nil {
		return nil, err
	}
	device = st.Sys().(*syscall.Stat_t).Dev
	return all, walk("/")
}

func makeSkeleton(dir string, entries []skeletonEntry) error {
	for _, e := range entries {
		path := filepath.Join(dir, e.Path)
		var err error
		switch {
		case e.Link != "":
			err = os.Symlink(e.Link, path)
		case e.Mode.IsDir():
			err = errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, e.Mode.Perm()))
		default:
			err = os.WriteFile(path, nil, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// externalsOf lists the files outside of the sandbox that its processes have open: they had
// them when they were started.
func externalsOf(a agent, root int, inside map[string]bool) ([]external, error) {
	log, err := identify(filepath.Join(a.path("log"), logName))
	if err != nil {
		return nil, err
	}
	null, err := identify(os.DevNull)
	if err != nil {
		return nil, err
	}
	var all []external
	for _, pid := range processTree(root) {
		entries, err := os.ReadDir(procPath(pid, "fd"))
		if err != nil {
			continue // it has ended
		}
		for _, entry := range entries {
			path := procPath(pid, "fd/"+entry.Name())
			number := mountOf(pid, entry.Name())
			target, err := os.Readlink(path)
			if err != nil || !strings.HasPrefix(target, "/") || inside[number] {
				continue
			}
			id, err := identify(path)
			if err != nil || id != log && id != null {
				continue // criu says what it is
			}
			n, err := strconv.Atoi(number)
			if err != nil {
				continue
			}
			e := external{Name: fmt.Sprintf("file[%x:%x]", n, id.Ino), Log: id == log}
			if !slices.Contains(all, e) {
				all = append(all, e)
			}
		}
	}
	return all, nil
}

// openFiles returns the states of the files of the home that processes have open for writing.
func openFiles(a agent, root int) (map[string]fileState, error) {
	files := map[string]fileState{}
	for _, pid := range processTree(root) {
		entries, err := os.ReadDir(procPath(pid, "fd"))
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			target, err := os.Readlink(procPath(pid, "fd/"+entry.Name()))
			if err != nil {
				return nil, err
			}
			path, ok := strings.CutPrefix(target, sandboxHome+"/")
			if !ok {
				continue
			}
			state, err := stateOf(filepath.Join(a.home, path))
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted, but open: criu keeps its content
			}
			if err != nil {
				return nil, err
			}
			files[path] = state
		}
	}
	return files, nil
}

// restorer is the argument by which this program is the shim of a gateway that is restored.
const restorer = "agento-restore"

// init makes every program with this package the shim, as it does for helperName.
func init() {
	if len(os.Args) > 2 && os.Args[1] == restorer {
		if err := serveRestore(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			unix.Exit(1)
		}
		unix.Exit(0)
	}
}

// restoreRequest is what the shim of a restored gateway reads from descriptor 4.
type restoreRequest struct {
	CRIU     string
	Dir      string
	Nonce    string
	Groups   []string // the files to write the shim's pid to
	Skeleton []skeletonEntry
	Options  map[string]string // of the mounts
	Args     []string          // of criu
	Inherit  []inherited
}

// inherited is a descriptor that a restored process gets.
type inherited struct {
	Name string
	Log  bool // else the null device; the network namespace if Name is "net"
}

// restore makes a shim that continues the processes of a checkpoint.
func (d *Driver) restore(ctx context.Context, a agent, rec record, c checkpoint, lock *os.File) (err error) {
	if err := c.fits(a, d.criu.machine()); err != nil {
		return err
	}
	b, err := d.testedSandbox()
	if err != nil {
		return err
	}
	if err := b.prepare(a); err != nil {
		return err
	}
	limits := runtime.Limits{MemoryBytes: rec.MemoryLimit, Processes: rec.ProcessLimit, CPUs: rec.CPULimit, CPUWeight: rec.CPUWeight}
	if rec.Groups, err = d.cgroup.create(a.id+rec.Variant, b.limits(limits)); err != nil {
		return err
	}
	if err := errors.Join(a.removeShimFiles(), a.saveRecord(rec)); err != nil {
		return err
	}
	d.supervise(a.id, true)
	request := restoreRequest{CRIU: d.criu.path, Dir: c.dir, Nonce: rec.Nonce, Groups: joinFiles(rec.Groups), Skeleton: c.meta.Skeleton, Options: c.meta.Options, Inherit: []inherited{{Name: "net"}}}
	for i, m := range c.meta.Mounts {
		request.Args = append(request.Args, "--external", fmt.Sprintf("mnt[m%d]:%s", i, m.Source))
	}
	for _, e := range c.meta.Externals {
		request.Inherit = append(request.Inherit, inherited(e))
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return d.launchRestore(ctx, a, rec, b, lock, data)
}

// launchRestore starts the shim, makes its network ready and waits until the gateway runs.
func (d *Driver) launchRestore(ctx context.Context, a agent, rec record, b sandbox, lock *os.File, request []byte) error {
	input, err := filledPipe(request)
	if err != nil {
		return err
	}
	defer func() { _ = input.Close() }()
	logFile, err := a.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }()
	homeDir, err := os.Open(a.home)
	if err != nil {
		return err
	}
	defer func() { _ = homeDir.Close() }()
	released, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _, _ = released.Close(), release.Close() }()
	result, answer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _, _ = result.Close(), answer.Close() }()

	cmd := exec.Command("/proc/self/exe", restorer, shimName, a.dir, rec.Installation, rec.Nonce, "--")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1"}
	cmd.Dir = a.dir
	cmd.Stderr = logFile
	cmd.ExtraFiles = []*os.File{lock, input, answer, homeDir, released, logFile}
	cmd.SysProcAttr = b.attributes()
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS
	cmd.SysProcAttr.Setsid = true
	MarkCloseOnExec()
	d.mu.Lock()
	if err = cmd.Start(); err == nil {
		d.children[cmd.Process.Pid] = true
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	_, _ = answer.Close(), cmd.Process.Release()
	if _, err := (namespace{shim: pid}).do(ctx, namespaceRequest{Configure: true}); err != nil {
		return fmt.Errorf("prepare the network of the gateway: %w", err)
	}
	if _, err := release.WriteString("go\n"); err != nil {
		return err
	}
	return awaitAnswer(ctx, result)
}

// awaitAnswer reads what the shim says of the restore: nothing but "ok" if it succeeded.
func awaitAnswer(ctx context.Context, result *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = result.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := io.ReadAll(io.LimitReader(result, 1000))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case string(data) == "ok":
		return nil
	case len(data) == 0:
		return errors.New("its process ended before it could restore the gateway")
	}
	return fmt.Errorf("restore: %s", data)
}

// Descriptors of the shim of a restored gateway. homeDescriptor is another one.
const (
	requestDescriptor = 4
	answerDescriptor  = 5
	goDescriptor      = 7
	logDescriptor     = 8
)

// serveRestore is the shim of a gateway that is restored. It does what the script shim does, and
// is the parent of the restored processes.
func serveRestore(args []string) error {
	if len(args) < 4 {
		return errors.New("too few arguments")
	}
	// A handler, as criu would inherit that they are ignored, and ends its helpers with SIGTERM.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	MarkCloseOnExec()
	answer := os.NewFile(answerDescriptor, "answer")
	nonce := args[3]
	end := func(code int) error {
		return os.WriteFile("end", []byte(fmt.Sprintf("%d %s\n", code, nonce)), 0o666)
	}
	pid, err := restoreProcesses(nonce)
	if err != nil {
		_, _ = answer.WriteString(err.Error())
		return errors.Join(err, end(125))
	}
	_, _ = answer.WriteString("ok")
	_ = answer.Close()
	var status unix.WaitStatus
	for {
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR), err == nil && got != pid:
		case err != nil:
			return errors.Join(err, end(125))
		case status.Signaled():
			return end(128 + int(status.Signal()))
		default:
			return end(status.ExitStatus())
		}
	}
}

// restoreProcesses writes the pid file, waits until the network is ready and runs criu. It
// returns the first process of the sandbox.
func restoreProcesses(nonce string) (pid int, err error) {
	data, err := io.ReadAll(os.NewFile(requestDescriptor, "request"))
	if err != nil {
		return 0, err
	}
	var r restoreRequest
	if err := json.Unmarshal(data, &r); err != nil {
		return 0, err
	}
	self := strconv.Itoa(os.Getpid())
	if err := os.WriteFile("pid", []byte(self+" "+nonce+"\n"), 0o666); err != nil {
		return 0, err
	}
	for _, group := range r.Groups {
		if err := os.WriteFile(group, []byte(self+"\n"), 0); err != nil {
			return 0, fmt.Errorf("enter control group: %w", err)
		}
	}
	if line, _ := io.ReadAll(io.LimitReader(os.NewFile(goDescriptor, "go"), 3)); string(line) != "go\n" {
		return 0, errors.New("the server has ended")
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	root, err := mountSkeleton(r)
	if err != nil {
		return 0, fmt.Errorf("make the root directory: %w", err)
	}
	return r.run(root)
}

// mountSkeleton mounts a memory file system with the root directory of the sandbox, in the mount
// namespace of the shim alone.
func mountSkeleton(r restoreRequest) (dir string, err error) {
	dir = filepath.Join(r.Dir, "root")
	err = errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""), os.Mkdir(dir, 0o755))
	if err == nil {
		err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755")
	}
	if err == nil {
		err = unix.Mount("", dir, "", unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = makeSkeleton(dir, r.Skeleton)
	}
	return dir, err
}

func (r restoreRequest) run(root string) (pid int, err error) {
	pidFile := filepath.Join(r.Dir, "restored.pid")
	args := append([]string{
		"restore", "--images-dir", r.Dir, "--log-file", "restore.log", "--root", root,
		"--restore-detached", "--restore-sibling", "--pidfile", pidFile,
	}, commonOptions()...)
	args = append(args, r.Args...)
	cmd := exec.Command(r.CRIU)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	for i, h := range r.Inherit {
		var f *os.File
		switch {
		case h.Name == "net":
			f, err = os.Open("/proc/self/ns/net")
		case h.Log:
			f, err = os.OpenFile(filepath.Join("log", logName), os.O_WRONLY|os.O_APPEND, 0)
		default:
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		}
		if err != nil {
			return 0, err
		}
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		args = append(args, "--inherit-fd", fmt.Sprintf("fd[%d]:%s", 3+i, h.Name))
	}
	cmd.Args = append(cmd.Args, args...)
	// criu restores no namespace of control groups: the processes inherit this one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWCGROUP}
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("criu: %w: %s", err, firstError(filepath.Join(r.Dir, "restore.log")))
	}
	data, err := os.ReadFile(pidFile)
	if err == nil {
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	if err == nil {
		err = protectMounts(pid, r.Options)
	}
	return pid, err
}

// protectMounts gives the mounts of a process the options that they had: criu has needed to
// write to the root directory, which only root could meanwhile, and gives mounts of devices
// other options.
func protectMounts(pid int, want map[string]string) error {
	got, err := mountOptions(pid)
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // the thread ends with the goroutine
		done <- func() error {
			fd, err := unix.Open(procPath(pid, "ns/mnt"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			if err := errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(fd, unix.CLONE_NEWNS)); err != nil {
				return err
			}
			for point, options := range want {
				if options == got[point] {
					continue
				}
				if err := unix.Mount("", point, "", unix.MS_REMOUNT|unix.MS_BIND|mountFlags(options), ""); err != nil {
					return fmt.Errorf("%s: %w", point, err)
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("restore the options of the mounts: %w", err)
	}
	return nil
}

// mountOptions returns the options of the mounts of a process, by the directories and files where
// they are.
func mountOptions(pid int) (map[string]string, error) {
	options := map[string]string{}
	err := eachLine(procPath(pid, "mountinfo"), func(text string) {
		if f := strings.Fields(text); len(f) > 5 {
			options[f[4]] = f[5]
		}
	})
	return options, err
}

func mountFlags(options string) (flags uintptr) {
	names := map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
		"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
	}
	for _, name := range strings.Split(options, ",") {
		flags |= names[name]
	}
	return flags
}

// firstError returns the first error in a log of criu.
func firstError(log string) string {
	found := ""
	_ = eachLine(log, func(text string) {
		if _, text, ok := strings.Cut(text, "Error "); ok && found == "" && !strings.Contains(text, "RLIMIT_NOFILE") {
			found = text[:min(300, len(text))]
		}
	})
	return found
}

// mappedLibraries returns the states of the files of the system that processes have mapped, which
// an update replaces.
func mappedLibraries(root int) (map[string]fileState, error) {
	files := map[string]fileState{}
	for _, pid := range processTree(root) {
		err := eachLine(procPath(pid, "maps"), func(text string) {
			_, path, found := strings.Cut(text, "/")
			path = "/" + path
			if _, known := files[path]; !found || known || !isWithin(path, "/usr") {
				return
			}
			if state, err := stateOf(path); err == nil {
				files[path] = state
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}
