//go:build linux

package process

import (
	"fmt"
	"net"
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
		if inode, ok := listenerOf(port); ok {
			t.Errorf("nobody listens, but %s", inode)
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
