package process

import "golang.org/x/sys/unix"

// auditArch is the kernel's name of the architecture.
const auditArch = unix.AUDIT_ARCH_AARCH64

// archCalls are the allowed system calls that only this architecture has: none.
var archCalls []uint32
