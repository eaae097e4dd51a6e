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

// TestListener: the kernel's answer and its tables agree.
func TestListener(t *testing.T) {
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
		asked, ok := askForListener(port)
		read, found := listenerIn("/proc/net/tcp", port)
		if !found { // of both families
			read, found = listenerIn("/proc/net/tcp6", port)
		}
		if !ok || !found || asked != read {
			t.Errorf("%s: asked %q %v, read %q %v", address, asked, ok, read, found)
		}
		_, _ = conn.Close(), l.Close()
		if inode, known := listenerOf(port); inode != "" || !known {
			t.Errorf("nobody listens, but %q %v", inode, known)
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
		if _, ok := askForListener(l.Addr().(*net.TCPAddr).Port); !ok {
			b.Fatal("no answer")
		}
	}
}

// TestConnectionWithoutAListener: who accepted a connection and closed the door
// behind it, or took the port of a gateway that has died, is not taken for it.
func TestConnectionWithoutAListener(t *testing.T) {
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
	b := newPortBook(port, port)
	ours := func() []int { return tree(os.Getpid()) }
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for name, pids := range map[string][]int{"no processes": nil, "a process that has ended": {dead.Process.Pid}} {
		if err := b.verify(port, "a", "nonce", func() []int { return pids }); !errors.Is(err, errImpostor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.verify(port, "a", "nonce", ours); err != nil {
		t.Errorf("its own listener: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.verify(port, "a", "nonce", ours); !errors.Is(err, errImpostor) {
		t.Errorf("nobody listens any more: %v", err)
	}
}
