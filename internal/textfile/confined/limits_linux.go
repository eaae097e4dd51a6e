package confined

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine makes the process end with this one.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// lockIn limits this process for good: its memory and CPU time, and that it opens nothing
// any more, neither files nor connections. What is open stays so.
func lockIn() error {
	has, err := dataSize()
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_CPU:    uint64(maxCPU.Seconds()),
		unix.RLIMIT_DATA:   has + maxMemory,
		unix.RLIMIT_NOFILE: 0,
		unix.RLIMIT_FSIZE:  0,
		unix.RLIMIT_CORE:   0,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	return nil
}

var vmData = regexp.MustCompile(`(?m)^VmData:\s*(\d+) kB$`)

// dataSize returns what RLIMIT_DATA counts of this process, in bytes. It is not near zero: the
// race detector alone maps many gigabytes, of which it uses few.
func dataSize() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	m := vmData.FindSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("/proc/self/status has no VmData")
	}
	kilobytes, err := strconv.ParseUint(string(m[1]), 10, 64)
	return kilobytes << 10, err
}
