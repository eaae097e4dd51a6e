package sshlink_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/pool/sshtest"
)

// settings are those of a link to a server that has authorized a new key, with short times.
func settings(t *testing.T, s *sshtest.Server) sshlink.Settings {
	t.Helper()
	key, line, _ := sshtest.NewKey(t)
	s.Authorize(line)
	keys, err := sshlink.ScanHostKeys(t.Context(), s.Address)
	if err != nil {
		t.Fatal(err)
	}
	return short(sshlink.Settings{Name: "one", User: s.User, Address: s.Address, HostKeys: keys, Keys: keysOf(key)})
}

func short(s sshlink.Settings) sshlink.Settings {
	s.ConnectTimeout, s.HandshakeTimeout, s.OpenTimeout = 2*time.Second, 3*time.Second, 500*time.Millisecond
	s.Keepalive, s.MinBackoff, s.MaxBackoff = 100*time.Millisecond, 10*time.Millisecond, 100*time.Millisecond
	return s
}

func keysOf(keys ...ssh.Signer) func(context.Context) ([]ssh.Signer, error) {
	return func(context.Context) ([]ssh.Signer, error) { return keys, nil }
}

// link returns a link that is closed with the test.
func link(t testing.TB, s sshlink.Settings) *sshlink.Link {
	t.Helper()
	l := sshlink.New(s)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// listen serves each connection to a socket, and returns its path.
func listen(t testing.TB, serve func(*net.UnixConn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sshlink") // paths of sockets are short
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "socket")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = l.Close(), os.RemoveAll(dir) })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				serve(c)
			}()
		}
	}()
	return path
}

// echo sends back what comes, until the end of it, and then a last word.
func echo(c *net.UnixConn) {
	_, _ = io.Copy(c, c)
	_, _ = io.WriteString(c, "|end")
}

func dial(t testing.TB, l *sshlink.Link, path string) *sshlink.Conn {
	t.Helper()
	c, err := l.DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*sshlink.Conn)
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("not in time: " + what)
		}
	}
}
