package confined

import (
	"os/exec"
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
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_CPU:    uint64(maxCPU.Seconds()),
		unix.RLIMIT_DATA:   maxMemory,
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
