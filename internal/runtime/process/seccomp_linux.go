//go:build amd64 || arm64

package process

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// allowedCalls are the system calls that agents may make, besides archCalls and those that
// seccompFilter allows with some arguments only. Source: the default profile of Moby
// (github.com/moby/profiles, seccomp) for a container without capabilities. Not on the list
// although Moby allows them are calls that reach into other processes (ptrace,
// process_vm_readv, process_vm_writev), memory that not even the kernel reads
// (memfd_secret), and calls that no agent can use (fanotify_mark, listmount, statmount).
var allowedCalls = []uint32{
	unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_ADJTIMEX, unix.SYS_BIND, unix.SYS_BRK, unix.SYS_CACHESTAT, unix.SYS_CAPGET, unix.SYS_CAPSET,
	unix.SYS_CHDIR, unix.SYS_CLOCK_ADJTIME, unix.SYS_CLOCK_GETRES, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOSE,
	unix.SYS_CLOSE_RANGE, unix.SYS_CONNECT, unix.SYS_COPY_FILE_RANGE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2, unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_FADVISE64, unix.SYS_FALLOCATE, unix.SYS_FCHDIR, unix.SYS_FCHMOD, unix.SYS_FCHMODAT,
	unix.SYS_FCHMODAT2, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_FCNTL, unix.SYS_FDATASYNC, unix.SYS_FGETXATTR, unix.SYS_FLISTXATTR, unix.SYS_FLOCK,
	unix.SYS_FREMOVEXATTR, unix.SYS_FSETXATTR, unix.SYS_FSTAT, unix.SYS_FSTATFS, unix.SYS_FSYNC, unix.SYS_FTRUNCATE, unix.SYS_FUTEX,
	unix.SYS_FUTEX_REQUEUE, unix.SYS_FUTEX_WAIT, unix.SYS_FUTEX_WAITV, unix.SYS_FUTEX_WAKE, unix.SYS_GETCPU, unix.SYS_GETCWD, unix.SYS_GETDENTS64,
	unix.SYS_GETEGID, unix.SYS_GETEUID, unix.SYS_GETGID, unix.SYS_GETGROUPS, unix.SYS_GETITIMER, unix.SYS_GETPEERNAME, unix.SYS_GETPGID,
	unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETPRIORITY, unix.SYS_GETRANDOM, unix.SYS_GETRESGID, unix.SYS_GETRESUID, unix.SYS_GETRLIMIT,
	unix.SYS_GETRUSAGE, unix.SYS_GETSID, unix.SYS_GETSOCKNAME, unix.SYS_GETSOCKOPT, unix.SYS_GETTID, unix.SYS_GETTIMEOFDAY, unix.SYS_GETUID,
	unix.SYS_GETXATTR, unix.SYS_GETXATTRAT, unix.SYS_GET_ROBUST_LIST, unix.SYS_INOTIFY_ADD_WATCH, unix.SYS_INOTIFY_INIT1, unix.SYS_INOTIFY_RM_WATCH,
	unix.SYS_IOPRIO_GET, unix.SYS_IOPRIO_SET, unix.SYS_IO_CANCEL, unix.SYS_IO_DESTROY, unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS, unix.SYS_IO_SETUP,
	unix.SYS_IO_SUBMIT, unix.SYS_KILL, unix.SYS_LANDLOCK_ADD_RULE, unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_RESTRICT_SELF,
	unix.SYS_LGETXATTR, unix.SYS_LINKAT, unix.SYS_LISTEN, unix.SYS_LISTXATTR, unix.SYS_LISTXATTRAT, unix.SYS_LLISTXATTR, unix.SYS_LREMOVEXATTR,
	unix.SYS_LSEEK, unix.SYS_LSETXATTR, unix.SYS_MADVISE, unix.SYS_MAP_SHADOW_STACK, unix.SYS_MEMBARRIER, unix.SYS_MEMFD_CREATE, unix.SYS_MINCORE,
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MLOCKALL, unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MQ_GETSETATTR,
	unix.SYS_MQ_NOTIFY, unix.SYS_MQ_OPEN, unix.SYS_MQ_TIMEDRECEIVE, unix.SYS_MQ_TIMEDSEND, unix.SYS_MQ_UNLINK, unix.SYS_MREMAP, unix.SYS_MSEAL,
	unix.SYS_MSGCTL, unix.SYS_MSGGET, unix.SYS_MSGRCV, unix.SYS_MSGSND, unix.SYS_MSYNC, unix.SYS_MUNLOCK, unix.SYS_MUNLOCKALL, unix.SYS_MUNMAP,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_NANOSLEEP, unix.SYS_NEWFSTATAT, unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_PIDFD_OPEN,
	unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIPE2, unix.SYS_PKEY_ALLOC, unix.SYS_PKEY_FREE, unix.SYS_PKEY_MPROTECT, unix.SYS_PPOLL, unix.SYS_PRCTL,
	unix.SYS_PREAD64, unix.SYS_PREADV, unix.SYS_PREADV2, unix.SYS_PRLIMIT64, unix.SYS_PROCESS_MRELEASE, unix.SYS_PSELECT6, unix.SYS_PWRITE64,
	unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_READ, unix.SYS_READAHEAD, unix.SYS_READLINKAT, unix.SYS_READV, unix.SYS_RECVFROM, unix.SYS_RECVMMSG,
	unix.SYS_RECVMSG, unix.SYS_REMAP_FILE_PAGES, unix.SYS_REMOVEXATTR, unix.SYS_REMOVEXATTRAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
	unix.SYS_RESTART_SYSCALL, unix.SYS_RSEQ, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPENDING, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGQUEUEINFO,
	unix.SYS_RT_SIGRETURN, unix.SYS_RT_SIGSUSPEND, unix.SYS_RT_SIGTIMEDWAIT, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_SCHED_GETATTR, unix.SYS_SCHED_GETPARAM, unix.SYS_SCHED_GETSCHEDULER, unix.SYS_SCHED_GET_PRIORITY_MAX, unix.SYS_SCHED_GET_PRIORITY_MIN,
	unix.SYS_SCHED_RR_GET_INTERVAL, unix.SYS_SCHED_SETAFFINITY, unix.SYS_SCHED_SETATTR, unix.SYS_SCHED_SETPARAM, unix.SYS_SCHED_SETSCHEDULER,
	unix.SYS_SCHED_YIELD, unix.SYS_SECCOMP, unix.SYS_SEMCTL, unix.SYS_SEMGET, unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP, unix.SYS_SENDFILE, unix.SYS_SENDMMSG,
	unix.SYS_SENDMSG, unix.SYS_SENDTO, unix.SYS_SETFSGID, unix.SYS_SETFSUID, unix.SYS_SETGID, unix.SYS_SETGROUPS, unix.SYS_SETITIMER, unix.SYS_SETPGID,
	unix.SYS_SETPRIORITY, unix.SYS_SETREGID, unix.SYS_SETRESGID, unix.SYS_SETRESUID, unix.SYS_SETREUID, unix.SYS_SETRLIMIT, unix.SYS_SETSID,
	unix.SYS_SETSOCKOPT, unix.SYS_SETUID, unix.SYS_SETXATTR, unix.SYS_SETXATTRAT, unix.SYS_SET_ROBUST_LIST, unix.SYS_SET_TID_ADDRESS, unix.SYS_SHMAT,
	unix.SYS_SHMCTL, unix.SYS_SHMDT, unix.SYS_SHMGET, unix.SYS_SHUTDOWN, unix.SYS_SIGALTSTACK, unix.SYS_SIGNALFD4, unix.SYS_SPLICE, unix.SYS_STATFS,
	unix.SYS_STATX, unix.SYS_SYMLINKAT, unix.SYS_SYNC, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE, unix.SYS_SYSINFO, unix.SYS_TEE, unix.SYS_TGKILL,
	unix.SYS_TIMERFD_CREATE, unix.SYS_TIMERFD_GETTIME, unix.SYS_TIMERFD_SETTIME, unix.SYS_TIMER_CREATE, unix.SYS_TIMER_DELETE,
	unix.SYS_TIMER_GETOVERRUN, unix.SYS_TIMER_GETTIME, unix.SYS_TIMER_SETTIME, unix.SYS_TIMES, unix.SYS_TKILL, unix.SYS_TRUNCATE, unix.SYS_UMASK,
	unix.SYS_UNAME, unix.SYS_UNLINKAT, unix.SYS_UTIMENSAT, unix.SYS_VMSPLICE, unix.SYS_WAIT4, unix.SYS_WAITID, unix.SYS_WRITE, unix.SYS_WRITEV,
}

// newestCall is the newest system call that was considered for allowedCalls. Programs do
// without newer ones if the kernel says that it does not have them.
const newestCall = unix.SYS_REMOVEXATTRAT

// Offsets in struct seccomp_data, and the bit of x86's x32 numbers.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16 // of the first argument's lower half; each has 8 bytes
	x32Bit       = 0x40000000
)

// newNamespaces are the flags of clone and unshare that make namespaces. In a user
// namespace of its own an agent would be root for parts of the kernel that ordinary users
// never reach.
const newNamespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS

// What the filter does with a system call.
const (
	allowCall  = unix.SECCOMP_RET_ALLOW
	denyCall   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown    = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	noSuchKind = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
)

// seccompFilter returns the seccomp program that allows the system calls of agents, or nil
// for an architecture without a list. Arguments are 32 bits wide for the kernel, so the
// filter looks at the lower half.
func seccompFilter() []byte {
	p := filterProgram{}
	p.load(dataArch)
	p.unless(auditArch, unknown)
	p.load(dataNumber)
	p.from(x32Bit, unknown) // on arm64 no number is that high
	p.from(newestCall+1, unknown)
	// The flags of clone3 are in memory, which a filter cannot read. Without clone3,
	// libraries use clone.
	p.when(unix.SYS_CLONE3, func(q *filterProgram) { q.end(unknown) })
	for _, call := range []uint32{unix.SYS_LISTMOUNT, unix.SYS_STATMOUNT} {
		p.when(call, func(q *filterProgram) { q.end(unknown) })
	}
	p.when(unix.SYS_CLONE, func(q *filterProgram) {
		q.argument(0)
		q.withAny(newNamespaces, denyCall)
		q.end(allowCall)
	})
	p.when(unix.SYS_UNSHARE, func(q *filterProgram) {
		q.argument(0)
		q.withAny(newNamespaces|unix.CLONE_NEWTIME, denyCall)
		q.end(allowCall)
	})
	p.when(unix.SYS_SOCKET, func(q *filterProgram) {
		q.argument(0)
		for _, family := range []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
			q.is(family, allowCall)
		}
		q.unless(unix.AF_NETLINK, noSuchKind)
		q.argument(2)
		q.is(unix.NETLINK_ROUTE, allowCall)
		q.end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT))
	})
	p.when(unix.SYS_SOCKETPAIR, func(q *filterProgram) {
		q.argument(0)
		q.is(unix.AF_UNIX, allowCall)
		q.end(noSuchKind)
	})
	p.when(unix.SYS_PERSONALITY, func(q *filterProgram) {
		q.argument(0)
		for _, persona := range []uint32{0, linux32, uname26, uname26 | linux32, onlyAsk} {
			q.is(persona, allowCall)
		}
		q.end(denyCall)
	})
	// Both put input into a terminal, where a program outside of the sandbox may read it.
	p.when(unix.SYS_IOCTL, func(q *filterProgram) {
		q.argument(1)
		q.is(unix.TIOCSTI, denyCall)
		q.is(tioclinux, denyCall)
		q.end(allowCall)
	})
	for _, r := range ranges(slices.Concat(allowedCalls, archCalls)) {
		p.within(r[0], r[1], allowCall)
	}
	p.end(denyCall)
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, []unix.SockFilter(p)) // a buffer never fails
	return b.Bytes()
}

// Values that package unix lacks.
const (
	linux32   = 0x8        // a personality: 32-bit names of the machine
	uname26   = 0x20000    // a personality: the kernel calls itself 2.6
	onlyAsk   = 0xffffffff // the personality that changes nothing
	tioclinux = 0x541c
)

// ranges returns the first and last numbers of the ranges that numbers form, in order.
func ranges(numbers []uint32) [][2]uint32 {
	slices.Sort(numbers)
	var all [][2]uint32
	for _, n := range numbers {
		if last := len(all) - 1; last >= 0 && n <= all[last][1]+1 {
			all[last][1] = n
			continue
		}
		all = append(all, [2]uint32{n, n})
	}
	return all
}

// filterProgram is a program for the kernel's packet filter that is being built. Its one
// register has the word that was loaded last.
type filterProgram []unix.SockFilter

const (
	bpfEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bpfAbove   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	bpfAnyBit  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
)

func (p *filterProgram) add(f ...unix.SockFilter) { *p = append(*p, f...) }

func (p *filterProgram) load(offset uint32) {
	p.add(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

func (p *filterProgram) argument(n uint32) { p.load(dataArgument + 8*n) }

// end ends the program with a result.
func (p *filterProgram) end(result uint32) {
	p.add(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: result})
}

// is ends the program with a result if the word is value.
func (p *filterProgram) is(value, result uint32) {
	p.add(unix.SockFilter{Code: bpfEqual, K: value, Jf: 1})
	p.end(result)
}

// unless ends the program with a result if the word is not value.
func (p *filterProgram) unless(value, result uint32) {
	p.add(unix.SockFilter{Code: bpfEqual, K: value, Jt: 1})
	p.end(result)
}

// from ends the program with a result if the word is least or more.
func (p *filterProgram) from(least, result uint32) {
	p.add(unix.SockFilter{Code: bpfAtLeast, K: least, Jf: 1})
	p.end(result)
}

// withAny ends the program with a result if the word has one of the bits.
func (p *filterProgram) withAny(bits, result uint32) {
	p.add(unix.SockFilter{Code: bpfAnyBit, K: bits, Jf: 1})
	p.end(result)
}

// within ends the program with a result if the word is from first to last.
func (p *filterProgram) within(first, last, result uint32) {
	p.add(unix.SockFilter{Code: bpfAbove, K: last, Jt: 2}, unix.SockFilter{Code: bpfAtLeast, K: first, Jf: 1})
	p.end(result)
}

// when adds the part of the program that decides about one system call. The part ends
// with a result, since the register no longer has the number of the call.
func (p *filterProgram) when(call uint32, decide func(*filterProgram)) {
	var part filterProgram
	decide(&part)
	p.add(unix.SockFilter{Code: bpfEqual, K: call, Jf: uint8(len(part))})
	p.add(part...)
}
