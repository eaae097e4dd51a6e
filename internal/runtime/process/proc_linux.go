package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// isShim reports whether a process is the shim of the start with this nonce. A
// zombie is not.
func isShim(pid int, nonce string) bool {
	line, err := os.ReadFile(procPath(pid, "cmdline"))
	return err == nil && bytes.Contains(line, []byte("\x00"+nonce+"\x00"))
}

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// awaitExit waits until a process has ended. It calls still when it has a handle of
// the process, so that the pid cannot be reused by another process; if still
// returns false, awaitExit returns.
func awaitExit(ctx context.Context, pid int, still func() bool) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return pause(ctx, 100*time.Millisecond) // kernels before 5.10 lack it: the caller checks again
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = f.Close() }()
	if !still() {
		return nil
	}
	// The descriptor is in Go's network poller, so that waiting needs no thread.
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// isRunning reports whether a process exists and is not a zombie.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

// processTree lists a process and all its descendants, itself first. It returns
// nothing if the process does not exist.
func processTree(pid int) []int {
	pids := []int{pid}
	if _, err := os.Stat(procPath(pid, "")); err != nil {
		return nil
	}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children(pids[i])...)
	}
	return pids
}

func children(pid int) []int {
	threads, err := os.ReadDir(procPath(pid, "task"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range threads {
		data, err := os.ReadFile(filepath.Join(procPath(pid, "task"), t.Name(), "children"))
		if err != nil {
			continue
		}
		for text := range strings.FieldsSeq(string(data)) {
			if child, err := strconv.Atoi(text); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// terminate sends SIGTERM to the gateway below a shim. It reports false if there is
// no gateway yet.
func terminate(shim int, sandboxed bool) bool {
	bubblewrap := 0
	for _, pid := range processTree(shim) {
		switch inside := pidInside(pid); {
		case pid == shim:
		case sandboxed && inside == 1:
			bubblewrap = pid
		case sandboxed && inside != 2:
		case sandboxed && isRunsc(pid):
			return terminateInGVisor(bubblewrap)
		default:
			return unix.Kill(pid, unix.SIGTERM) == nil
		}
	}
	return false
}

// isRunsc reports whether a process is the one that waits for an agent in gVisor.
func isRunsc(pid int) bool {
	line, err := os.ReadFile(procPath(pid, "cmdline"))
	return err == nil && bytes.HasPrefix(line, []byte(gvisorProgram+"\x00"))
}

// terminateInGVisor sends SIGTERM to the gateway in gVisor, with a runsc that enters
// bubblewrap's sandbox. The one that waits there passes no signals on, and its threads have
// different mount namespaces.
func terminateInGVisor(bubblewrap int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), gvisorKillTimeout)
	defer cancel()
	args := []string{"--target", strconv.Itoa(bubblewrap), "--mount", "--pid", "--", gvisorProgram, "--root=" + gvisorState, "kill", "--pid=" + gatewayInGVisor, gvisorContainer, "TERM"}
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	return cmd.Run() == nil
}

// pidInside returns a process's pid in its own pid namespace. In a sandbox 1 is
// bubblewrap and 2 is the gateway, or runsc.
func pidInside(pid int) int {
	inside := 0
	_ = eachLine(procPath(pid, "status"), func(text string) { // 0 if the process has ended
		if numbers, ok := strings.CutPrefix(text, "NSpid:"); ok {
			if f := strings.Fields(numbers); len(f) > 1 {
				inside, _ = strconv.Atoi(f[len(f)-1])
			}
		}
	})
	return inside
}

// processesWithHome lists the processes that have a home in their environment. Inside a
// sandbox every home has the same path.
func processesWithHome(home string) []int {
	return findProcesses(func(pid int) bool {
		env, err := os.ReadFile(procPath(pid, "environ"))
		return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00HOME="+home+"\x00"))
	})
}

// sandboxesWithLock lists the processes of bubblewrap and the shims that have a lock file
// open. Those of a directory that had this path before have another lock file.
func sandboxesWithLock(lock string) []int {
	return findProcesses(func(pid int) bool {
		data, err := os.ReadFile(procPath(pid, "cmdline"))
		if err != nil {
			return false
		}
		args := strings.Split(string(data), "\x00")
		return (filepath.Base(args[0]) == "bwrap" || slices.Contains(args, shimName)) && holdsFile(pid, lock)
	})
}

func findProcesses(match func(pid int) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && match(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// holdsFile reports whether a process has a file open.
func holdsFile(pid int, path string) bool {
	want, err := identify(path)
	if err != nil {
		return false
	}
	fds, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		got, err := identify(filepath.Join(procPath(pid, "fd"), fd.Name()))
		return err == nil && got == want
	})
}

// hasHomeOpen reports whether a shim was started with the home that has this identity.
// The shim has it open, so that no other directory can get the same identity.
func hasHomeOpen(shim int, home fileID) bool {
	got, err := identify(filepath.Join(procPath(shim, "fd"), homeDescriptor))
	return err == nil && got == home
}

// clockTicks is the unit of CPU times in /proc, per second. It is the same on every
// architecture.
const clockTicks = 100

// usageOf adds up what processes use. Memory excludes pages of files, which all
// agents share, as the measurement by control groups does.
func usageOf(pids []int) usage {
	var u usage
	for _, pid := range pids {
		stat, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil {
			continue
		}
		// The process name in parentheses may contain anything, also spaces and
		// parentheses.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		u.processes++
		for _, i := range []int{11, 12, 13, 14} { // utime, stime, and those of reaped children
			n, _ := strconv.ParseInt(f[i], 10, 64)
			u.cpu += time.Duration(n) * time.Second / clockTicks
		}
		u.memory += statusBytes(pid, "RssAnon:", "RssShmem:")
	}
	return u
}

// statusBytes adds up fields of a process's status that are in kB.
func statusBytes(pid int, names ...string) (sum int64) {
	_ = eachLine(procPath(pid, "status"), func(text string) { // 0 if the process has ended
		f := strings.Fields(text)
		if len(f) == 3 && slices.Contains(names, f[0]) {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			sum += kib << 10
		}
	})
	return sum
}

// growPipe makes the capacity of a pipe at least n bytes. The default is 64 KiB,
// less for a user who has many pipes.
func growPipe(w *os.File, n int) error {
	size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
	if err == nil && size < n {
		_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, n)
	}
	return err
}

// isMemory reports whether a directory is on a memory file system.
func isMemory(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
}

// collapseHead removes the first n bytes of a file to which other processes append,
// atomically. n is a multiple of the block size. Not every file system supports it.
func collapseHead(f *os.File, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, n)
}

// eachLine calls do for each line of a file.
func eachLine(file string, do func(string)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	for s.Scan() {
		do(s.Text())
	}
	return s.Err()
}
