package process

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes returns how the first process of a sandbox is started: in a network
// namespace of its own and, if the server is an ordinary user, in a user namespace that
// owns it, as its root.
func (b sandbox) attributes() *syscall.SysProcAttr {
	if b.off {
		return &syscall.SysProcAttr{}
	}
	if os.Getuid() == 0 {
		a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if b.suspendable {
			// With a clock of its own no timer is late when the gateway is resumed.
			a.Unshareflags = unix.CLONE_NEWTIME
		}
		return a
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}
