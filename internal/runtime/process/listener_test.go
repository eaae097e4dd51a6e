//go:build linux

package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
)

// The answer of the kernel and its tables must agree.
func TestListenerOfKernelAndTablesAgree(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		asked, ok := queryListener(port)
		read, found := readListenerTable("/proc/net/tcp", port)
		if !found { // the table of sockets that accept both families
			read, found = readListenerTable("/proc/net/tcp6", port)
		}
		if !ok || !found || asked != read {
			t.Errorf("%s: asked %q %v, read %q %v", address, asked, ok, read, found)
		}
		_, _ = conn.Close(), l.Close()
		if inode, known := listenerOf(port); inode != "" || !known {
			t.Errorf("no listener, but %q %v", inode, known)
		}
	}
}

func BenchmarkListener(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for b.Loop() {
		if _, ok := queryListener(l.Addr().(*net.TCPAddr).Port); !ok {
			b.Fatal("no answer")
		}
	}
}

// A process that closed its listener after accepting, or that uses the port of a
// dead gateway, is not the gateway.
func TestVerifyListenerRejectsOtherProcesses(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	b := newPortAllocator(port, port)
	ours := func() []int { return processTree(os.Getpid()) }
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for name, pids := range map[string][]int{"no processes": nil, "a process that has ended": {dead.Process.Pid}} {
		if err := b.verifyListener(port, "a", "nonce", func() []int { return pids }); !errors.Is(err, errNotGateway) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.verifyListener(port, "a", "nonce", ours); err != nil {
		t.Errorf("its own listener: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.verifyListener(port, "a", "nonce", ours); !errors.Is(err, errNotGateway) {
		t.Errorf("the listener is closed: %v", err)
	}
}
