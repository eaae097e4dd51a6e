package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what an agent uses now.
type usage struct {
	memory    int64
	cpu       time.Duration
	processes int64
}

// isShim says whether a process is the shim of the start named nonce. One that
// has ended and waits to be reaped is not.
func isShim(pid int, nonce string) bool {
	line, err := os.ReadFile(procPath(pid, "cmdline"))
	return err == nil && bytes.Contains(line, []byte("\x00"+nonce+"\x00"))
}

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// awaitExit returns when a process has ended. still is asked once the process
// is held fast, when its number can no longer pass to another.
func awaitExit(ctx context.Context, pid int, still func() bool) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return pause(ctx, 100*time.Millisecond) // a kernel before 5.10: the caller asks again
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = f.Close() }()
	if !still() {
		return nil
	}
	// A descriptor of the runtime's poller: waiting costs no thread.
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

// lives says whether a process exists and has not ended.
func lives(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(state) > 0 && state[0] != 'Z' && state[0] != 'X'
}

// tree lists a process and all that descend from it, itself first; nothing if
// it is gone.
func tree(pid int) []int {
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

// terminate asks the gateway below a shim to end. False if there is none yet.
func terminate(shim int, sandboxed bool) bool {
	for _, pid := range tree(shim) {
		if pid != shim && (!sandboxed || pidInside(pid) == 2) {
			return unix.Kill(pid, unix.SIGTERM) == nil
		}
	}
	return false
}

// pidInside is a process's number in its own namespace. In a sandbox 1 is
// bubblewrap and 2 the gateway.
func pidInside(pid int) int {
	inside := 0
	_ = eachLine(procPath(pid, "status"), func(text string) { // gone: 0
		if numbers, ok := strings.CutPrefix(text, "NSpid:"); ok {
			if f := strings.Fields(numbers); len(f) > 1 {
				inside, _ = strconv.Atoi(f[len(f)-1])
			}
		}
	})
	return inside
}

// strays finds processes of an agent that have left the tree of its shim: by
// the home in their environment, or on the command line of a sandbox or shim.
func strays(home string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && (livesIn(pid, home) || confines(pid, home)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func livesIn(pid int, home string) bool {
	env, err := os.ReadFile(procPath(pid, "environ"))
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00HOME="+home+"\x00"))
}

func confines(pid int, home string) bool {
	data, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil {
		return false
	}
	args := strings.Split(string(data), "\x00")
	return slices.Contains(args, home) && (filepath.Base(args[0]) == "bwrap" || slices.Contains(args, shimName))
}

// ticks is how the kernel counts CPU time in /proc, on every architecture.
const ticks = 100

// usageOf adds up what processes use. Memory is without the pages of files,
// which all agents share, as it is when control groups measure it.
func usageOf(pids []int) usage {
	var u usage
	for _, pid := range pids {
		stat, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything.
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(f) < 15 {
			continue
		}
		u.processes++
		for _, i := range []int{11, 12, 13, 14} { // utime, stime and those of reaped children
			n, _ := strconv.ParseInt(f[i], 10, 64)
			u.cpu += time.Duration(n) * time.Second / ticks
		}
		u.memory += statusBytes(pid, "RssAnon:", "RssShmem:")
	}
	return u
}

// statusBytes adds up fields of a process's status that are given in kB.
func statusBytes(pid int, names ...string) (sum int64) {
	_ = eachLine(procPath(pid, "status"), func(text string) { // gone: nothing
		f := strings.Fields(text)
		if len(f) == 3 && slices.Contains(names, f[0]) {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			sum += kib << 10
		}
	})
	return sum
}

// growPipe makes room for n bytes. Pipes usually have 64 KiB, those of a user who
// has many of them less.
func growPipe(w *os.File, n int) error {
	size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
	if err == nil && size < n {
		_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, n)
	}
	return err
}

// isMemory says whether a directory is on a memory file system.
func isMemory(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
}

// cutHead takes the first n bytes, whole blocks, off a file that others append
// to, in one step. Not every file system can.
func cutHead(f *os.File, n int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 0, n)
}
