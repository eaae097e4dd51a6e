package process

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// setNoNewPrivileges takes from the calling thread, and the programs that it starts, the
// possibility to get more permissions.
func setNoNewPrivileges() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// countsByNamespace reports whether the kernel counts a user's processes separately
// in each user namespace, as it does since 5.14.
func countsByNamespace() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 5 || major == 5 && minor >= 14)
}
