package process

import (
	"bytes"
	"encoding/binary"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// deniedCalls are system calls that no gateway needs and that were used to attack
// kernels: in a user namespace of its own an agent would be root for parts of the
// kernel that ordinary users never reach.
var deniedCalls = []uint32{
	unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_DELETE_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_FSMOUNT, unix.SYS_FSOPEN, unix.SYS_INIT_MODULE,
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_IO_URING_SETUP, unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL, unix.SYS_MOUNT,
	unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_OPEN_TREE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIVOT_ROOT, unix.SYS_REQUEST_KEY,
	unix.SYS_SETNS, unix.SYS_UMOUNT2, unix.SYS_USERFAULTFD,
}

// auditArch has the architectures for which we know the numbers of system calls.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// Offsets in struct seccomp_data, and the bit of x86's x32 numbers.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16
	x32Bit       = 0x40000000
)

// seccompFilter returns the seccomp program that denies system calls, or nil for an
// architecture that auditArch does not have.
func seccompFilter() []byte {
	arch, ok := auditArch[goruntime.GOARCH]
	if !ok {
		return nil
	}
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		same  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		anyOf = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
		allow = unix.SECCOMP_RET_ALLOW
		deny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		never = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	p := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: same, K: arch, Jt: 1},
		{Code: ret, K: never},
		{Code: load, K: dataNumber},
		{Code: least, K: x32Bit, Jf: 1}, // on other architectures no number is that high
		{Code: ret, K: never},
		// The flags of clone3 are in memory, which a filter cannot read. Without
		// clone3, libraries use clone.
		{Code: same, K: unix.SYS_CLONE3, Jf: 1},
		{Code: ret, K: never},
	}
	for _, number := range deniedCalls {
		p = append(p, unix.SockFilter{Code: same, K: number, Jf: 1}, unix.SockFilter{Code: ret, K: deny})
	}
	p = append(p,
		unix.SockFilter{Code: same, K: unix.SYS_CLONE, Jt: 1},
		unix.SockFilter{Code: same, K: unix.SYS_UNSHARE, Jf: 3},
		unix.SockFilter{Code: load, K: dataArgument},
		unix.SockFilter{Code: anyOf, K: unix.CLONE_NEWUSER, Jf: 1},
		unix.SockFilter{Code: ret, K: deny},
		unix.SockFilter{Code: ret, K: allow},
	)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, p) // a buffer never fails
	return b.Bytes()
}
