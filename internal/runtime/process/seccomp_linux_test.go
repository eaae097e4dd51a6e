package process_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/runtimetest"
)

// makeCall makes a system call, whose number and arguments are numbers in text, and prints
// its error.
func makeCall(words []string) {
	var n [5]uintptr
	for i, word := range words {
		v, _ := strconv.ParseUint(word, 10, 64)
		n[i] = uintptr(v)
	}
	pid, _, errno := unix.RawSyscall6(n[0], n[1], n[2], n[3], n[4], 0, 0)
	if n[0] == unix.SYS_CLONE && errno == 0 && pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	name := unix.ErrnoName(errno)
	if errno == 0 {
		name = "allowed"
	}
	fmt.Println(name)
}

// Agents can make the system calls of the list, and no others.
func TestSandboxAllowsListedCalls(t *testing.T) {
	settings := newSettings(t)
	g := runtimetest.Start(t, open(t, settings), runtimetest.Spec(runtimetest.NewID()))
	type call struct {
		want, name string
		words      []uint64
	}
	calls := []call{
		{"EPERM", "ptrace", []uint64{unix.SYS_PTRACE}},
		{"EPERM", "process_vm_readv", []uint64{unix.SYS_PROCESS_VM_READV, 1}},
		{"EPERM", "process_vm_writev", []uint64{unix.SYS_PROCESS_VM_WRITEV, 1}},
		{"EPERM", "pidfd_getfd", []uint64{unix.SYS_PIDFD_GETFD, 99}},
		{"EPERM", "memfd_secret", []uint64{unix.SYS_MEMFD_SECRET}},
		{"EPERM", "kcmp", []uint64{unix.SYS_KCMP, 1, 1}},
		{"EPERM", "io_uring_setup", []uint64{unix.SYS_IO_URING_SETUP}},
		{"EPERM", "io_uring_enter", []uint64{unix.SYS_IO_URING_ENTER, 99}},
		{"EPERM", "io_uring_register", []uint64{unix.SYS_IO_URING_REGISTER, 99}},
		{"EPERM", "userfaultfd", []uint64{unix.SYS_USERFAULTFD}},
		{"EPERM", "bpf", []uint64{unix.SYS_BPF, 99}},
		{"EPERM", "keyctl", []uint64{unix.SYS_KEYCTL, 99}},
		{"EPERM", "add_key", []uint64{unix.SYS_ADD_KEY}},
		{"EPERM", "request_key", []uint64{unix.SYS_REQUEST_KEY}},
		{"EPERM", "perf_event_open", []uint64{unix.SYS_PERF_EVENT_OPEN}},
		{"EPERM", "setns", []uint64{unix.SYS_SETNS, 99}},
		{"EPERM", "mount", []uint64{unix.SYS_MOUNT}},
		{"EPERM", "umount2", []uint64{unix.SYS_UMOUNT2}},
		{"EPERM", "pivot_root", []uint64{unix.SYS_PIVOT_ROOT}},
		{"EPERM", "chroot", []uint64{unix.SYS_CHROOT}},
		{"EPERM", "fsopen", []uint64{unix.SYS_FSOPEN}},
		{"EPERM", "fspick", []uint64{unix.SYS_FSPICK}},
		{"EPERM", "fsmount", []uint64{unix.SYS_FSMOUNT, 99}},
		{"EPERM", "move_mount", []uint64{unix.SYS_MOVE_MOUNT, 99}},
		{"EPERM", "open_tree", []uint64{unix.SYS_OPEN_TREE, 99}},
		{"EPERM", "mount_setattr", []uint64{unix.SYS_MOUNT_SETATTR, 99}},
		{"EPERM", "open_by_handle_at", []uint64{unix.SYS_OPEN_BY_HANDLE_AT, 99}},
		{"EPERM", "fanotify_init", []uint64{unix.SYS_FANOTIFY_INIT, 0xffff}},
		{"EPERM", "init_module", []uint64{unix.SYS_INIT_MODULE}},
		{"EPERM", "kexec_load", []uint64{unix.SYS_KEXEC_LOAD}},
		{"EPERM", "syslog", []uint64{unix.SYS_SYSLOG, 99}},
		{"EPERM", "swapon", []uint64{unix.SYS_SWAPON}},
		{"EPERM", "acct", []uint64{unix.SYS_ACCT}},
		{"EPERM", "unshare a user namespace", []uint64{unix.SYS_UNSHARE, unix.CLONE_NEWUSER}},
		{"EPERM", "unshare a time namespace", []uint64{unix.SYS_UNSHARE, unix.CLONE_NEWTIME}},
		{"EPERM", "unshare a network", []uint64{unix.SYS_UNSHARE, unix.CLONE_NEWNET}},
		{"EPERM", "clone with a user namespace", []uint64{unix.SYS_CLONE, unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}},
		{"EPERM", "no random addresses", []uint64{unix.SYS_PERSONALITY, 0x40000}},
		{"EPERM", "readable means executable", []uint64{unix.SYS_PERSONALITY, 0x400000}},
		{"EPERM", "input for a terminal", []uint64{unix.SYS_IOCTL, 0, unix.TIOCSTI}},
		{"EPERM", "input for a terminal, with high bits", []uint64{unix.SYS_IOCTL, 0, 1<<32 | unix.TIOCSTI}},
		{"ENOSYS", "clone3", []uint64{unix.SYS_CLONE3}},
		{"ENOSYS", "statmount", []uint64{unix.SYS_STATMOUNT}},
		{"ENOSYS", "listmount", []uint64{unix.SYS_LISTMOUNT}},
		{"ENOSYS", "newer than the list", []uint64{unix.SYS_REMOVEXATTRAT + 1}},
		{"ENOSYS", "much newer than the list", []uint64{5000}},
		{"EAFNOSUPPORT", "vsock", []uint64{unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM}},
		{"EAFNOSUPPORT", "vsock, with high bits", []uint64{unix.SYS_SOCKET, 1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}},
		{"EAFNOSUPPORT", "packets", []uint64{unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_DGRAM}},
		{"EAFNOSUPPORT", "the kernel's cryptography", []uint64{unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET}},
		{"EAFNOSUPPORT", "tipc", []uint64{unix.SYS_SOCKETPAIR, unix.AF_TIPC, unix.SOCK_STREAM}},
		{"EPROTONOSUPPORT", "netlink, audit", []uint64{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}},
		{"EPROTONOSUPPORT", "netlink, netfilter", []uint64{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}},
		{"allowed", "netlink, route", []uint64{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}},
		{"allowed", "inet", []uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM}},
		{"allowed", "inet6", []uint64{unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_DGRAM}},
		{"allowed", "unix", []uint64{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM}},
		{"allowed", "clone", []uint64{unix.SYS_CLONE, uint64(unix.SIGCHLD)}},
		{"allowed", "unshare without a namespace", []uint64{unix.SYS_UNSHARE, unix.CLONE_FS}},
		{"allowed", "which personality", []uint64{unix.SYS_PERSONALITY, 0xffffffff}},
		{"allowed", "eventfd2", []uint64{unix.SYS_EVENTFD2}},
	}
	if goruntime.GOARCH == "amd64" {
		const modifyLDT, getpid = 154, 39
		calls = append(calls, call{"EPERM", "modify_ldt", []uint64{modifyLDT, 99}}, call{"ENOSYS", "an x32 number", []uint64{0x40000000 | getpid}})
	}
	for _, c := range calls {
		words := strings.Trim(fmt.Sprint(c.words), "[]")
		if got := strings.TrimSpace(g.Shell("%s call %s", settings.Command[0], words)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What an agent sees of the machine's kernel and of the server.
func TestSandboxMasksTheMachine(t *testing.T) {
	settings := newSettings(t)
	g := runtimetest.Start(t, open(t, settings), runtimetest.Spec(runtimetest.NewID()))
	for _, name := range []string{"cmdline", "interrupts", "kcore", "keys", "timer_list", "sched_debug", "kallsyms", "config.gz", "modules", "iomem", "acpi", "scsi", "driver"} {
		if _, err := os.Stat("/proc/" + name); err != nil {
			continue // not in this kernel
		}
		if out := g.Shell("if [ -d /proc/%s ]; then ls -A /proc/%s; else cat /proc/%s | head -c 100; fi", name, name, name); out != "" {
			t.Errorf("/proc/%s: %q", name, out)
		}
	}
	if out := g.Shell("ls /sys; echo 1 >/proc/sys/kernel/core_pattern; echo b >/proc/sysrq-trigger"); strings.Count(out, "No such file") != 1 || strings.Count(out, "denied")+strings.Count(out, "nonexistent")+strings.Count(out, "Read-only") != 2 {
		t.Errorf("the kernel's settings: %s", out)
	}
	if out := g.Shell(`cat /proc/[0-9]*/cmdline | tr '\0' ' '`); !strings.Contains(out, "bwrap") || strings.Contains(out, settings.Dir) || strings.Contains(out, settings.RunDir) {
		t.Errorf("command lines: %s", out)
	}
	if out := g.Shell("cat /proc/self/status"); !strings.Contains(out, "CapBnd:\t0000000000000000") {
		t.Errorf("the bounding set: %s", out)
	}
	if out := g.Shell("ls /proc/$$/fd"); slices.ContainsFunc(strings.Fields(out), func(fd string) bool { return fd == "7" || fd == "8" }) {
		t.Errorf("open files: %s", out)
	}
}

// pinnedNode returns the Node.js that gateways run on, or that of the machine.
func pinnedNode(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	must(t, err)
	found, _ := filepath.Glob(filepath.Join(cache, "agento", "runtime", "*", "node", "node_modules", "node", "bin", "node"))
	if len(found) > 0 {
		return found[0]
	}
	node, err := exec.LookPath("node")
	must(t, err)
	return node
}

// The programs that agents use need nothing that the filter takes from them.
func TestSandboxRunsPrograms(t *testing.T) {
	settings := newSettings(t)
	node := pinnedNode(t)
	tools := t.TempDir()
	must(t, os.Chmod(tools, 0o755))
	copied, err := os.ReadFile(node)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(tools, "node"), copied, 0o755))
	settings.ReadOnly = []string{tools}
	g := runtimetest.Start(t, open(t, settings), runtimetest.Spec(runtimetest.NewID()))
	const script = `
const { Worker } = require('node:worker_threads'), { execFileSync, spawn } = require('node:child_process'), fs = require('node:fs'), net = require('node:net'), crypto = require('node:crypto');
(async () => {
  const worker = await new Promise((ok, bad) => new Worker('require("node:worker_threads").parentPort.postMessage(6*7)', { eval: true }).on('message', ok).on('error', bad));
  const child = execFileSync('/bin/sh', ['-c', 'echo child']).toString().trim();
  const piped = await new Promise(ok => { const p = spawn('cat'); let s = ''; p.stdout.on('data', d => s += d).on('end', () => ok(s)); p.stdin.end('piped'); });
  fs.writeFileSync('watched', ''); const watched = new Promise(ok => { const w = fs.watch('watched', () => { w.close(); ok('watched') }) }); fs.appendFileSync('watched', 'x');
  const tcp = await new Promise((ok, bad) => { const s = net.createServer(c => c.end('tcp')).listen(0, '127.0.0.1', () => { let t = ''; net.connect(s.address().port, '127.0.0.1').on('data', d => t += d).on('close', () => { s.close(); ok(t) }).on('error', bad) }) });
  await new Promise((ok, bad) => crypto.scrypt('p', 's', 32, e => e ? bad(e) : ok()));
  fs.cpSync('watched', 'copy'); fs.renameSync('copy', 'moved'); os = require('node:os'); os.cpus(); os.networkInterfaces(); os.setPriority(0, 1);
  const wasm = new WebAssembly.Module(Uint8Array.of(0,97,115,109,1,0,0,0));
  console.log([worker, child, piped, await watched, tcp, typeof wasm, fetch.name].join(' '));
})();`
	g.Ask("/write", "name", "script.js", "data", script)
	if out := g.Shell("%s/node script.js", tools); strings.TrimSpace(out) != "42 child piped watched tcp object fetch" {
		t.Errorf("node: %s", out)
	}
	for name, run := range map[string]string{
		"git":    `mkdir -p r && cd r && git init -q && git config user.email a@example.com && git config user.name a && echo x >f && git add f && git commit -qm first && git clone -q . ../copy-of-r && git -C ../copy-of-r log --oneline | grep -c first`,
		"curl":   `curl -s file:///etc/group | grep -c root`,
		"python": `/usr/bin/python3 -c 'import subprocess,threading,multiprocessing,socket,tempfile; t=threading.Thread(target=print,args=("",),kwargs={"end":""}); t.start(); t.join(); p=multiprocessing.Pool(2); assert p.map(abs,[-1,1])==[1,1]; p.close(); socket.socket(); tempfile.TemporaryFile().write(b"x"); print(subprocess.run(["echo","1"],capture_output=True,text=True).stdout.strip())'`,
		"pip":    `/usr/bin/python3 -m pip --version >/dev/null && echo 1`,
		"tools":  `tar cf t.tar script.js && gzip t.tar && tar xzf t.tar.gz && find . -name script.js | sort | xargs -n1 -P2 cat >/dev/null && df / >/dev/null && ps >/dev/null && echo 1`,
	} {
		if out := g.Shell("%s", run); strings.TrimSpace(out) != "1" {
			t.Errorf("%s: %s", name, out)
		}
	}
}
