//go:build !linux

package confined

import (
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine makes the process one that can be ended with its children.
func confine(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// lockIn limits this process for good: its CPU time, and that it opens nothing any more. This
// system has no limit of memory that holds.
func lockIn() error {
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_CPU:    uint64(maxCPU.Seconds()),
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
