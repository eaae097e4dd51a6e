package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

const (
	installCRIU = "install criu 4.1.1 or later (package criu; on Debian 12: sh scripts/criu/install.sh)"
	// socketProcess is the argument by which this program is a process with a TCP socket.
	socketProcess = "agento-socket"
)

// init makes every program with this package that process, as it does for helperName.
func init() {
	if len(os.Args) == 2 && os.Args[1] == socketProcess {
		unix.Exit(holdSocket())
	}
}

// holdSocket listens, closes its standard output when it does, and waits to be killed. The sockets of
// package net are of another kind, MPTCP.
func holdSocket() int {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err == nil {
		err = unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		err = unix.Listen(s, 1)
	}
	if err != nil {
		return 1
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR, 0)
	if err != nil {
		return 1
	}
	for fd := range 3 {
		if unix.Dup3(null, fd, 0) != nil {
			return 1
		}
	}
	for {
		_, _, _ = unix.Accept(s)
	}
}

// tryDump dumps a process that has a TCP socket: newer kernels refuse calls by which some versions of
// criu look at one, which criu check does not find out. Errors: *runtime.SuspendError.
func (c criu) tryDump() (err error) {
	dir, err := os.MkdirTemp("", "agento-criu-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	goruntime.LockOSThread() // the process ends with the thread that started it
	defer goruntime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", socketProcess)
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}()
	if _, err := io.ReadAll(output); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), suspendTimeout)
	defer cancel()
	args := append([]string{"dump", "--tree", strconv.Itoa(cmd.Process.Pid), "--images-dir", dir, "--log-file", "dump.log", "--leave-running"}, commonOptions()...)
	if err := (&Driver{criu: c}).runCRIU(ctx, args); err != nil {
		return dumpFailure(filepath.Join(dir, "dump.log"), err)
	}
	return nil
}

// dumpFailure returns why criu could not dump a process, by its log.
func dumpFailure(log string, cause error) *runtime.SuspendError {
	e := &runtime.SuspendError{Missing: whyNotDumped(log), Cause: cause}
	if strings.Contains(e.Missing, "TCP sockets") {
		e.Fix = "install a criu of a newer version, or run this one with a library that answers the calls which this kernel refuses: sh scripts/criu/install.sh makes both"
	}
	return e
}

var criuVersion = regexp.MustCompile(`Version: (\d+)\.(\d+)\S*`)

// checkFailure returns why criu check has failed, by what the programs print and what this process may do.
func checkFailure(version, output string, mayAdminister bool, cause error) *runtime.SuspendError {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	last := lines[len(lines)-1]
	e := &runtime.SuspendError{Missing: "criu does not work on this kernel", Fix: "run criu check", Cause: fmt.Errorf("%w: %s", cause, last[:min(300, len(last))])}
	found := criuVersion.FindStringSubmatch(version)
	if !mayAdminister {
		e.Missing, e.Fix = "the server is root without CAP_SYS_ADMIN, as in a container", "run the server outside of the container, or in a privileged one"
	} else if len(found) > 0 {
		major, _ := strconv.Atoi(found[1])
		minor, _ := strconv.Atoi(found[2])
		number := strings.TrimPrefix(found[0], "Version: ")
		if e.Missing = "criu " + number + " does not work on this kernel"; major < 4 || major == 4 && minor < 1 {
			e.Missing, e.Fix = "criu "+number+" is too old for this kernel", installCRIU
		}
	}
	return e
}

// mayAdminister reports whether this process has CAP_SYS_ADMIN, which criu needs.
func mayAdminister() bool {
	s, err := readStatus(os.Getpid())
	if err != nil {
		return false
	}
	caps, err := strconv.ParseUint(strings.TrimSpace(s.fields["CapEff"]), 16, 64)
	return err == nil && caps&(1<<unix.CAP_SYS_ADMIN) != 0
}

// freeSwapAndMemory returns how much swap the machine has left, and its memory.
func freeSwapAndMemory() (swap, memory int64, err error) {
	swap, err = freeSwap()
	if err == nil {
		memory, err = meminfo("MemTotal")
	}
	return swap, memory, err
}
