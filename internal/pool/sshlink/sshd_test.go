package sshlink_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/pool/sshtest"
)

// TestSocketsAndPorts: sockets and ports of a real server, with half close, over one
// connection that has no sessions.
func TestSocketsAndPorts(t *testing.T) {
	s := sshtest.Start(t, "MaxSessions 1")
	set := settings(t, s)
	proxy := sshtest.NewProxy(t, s.Address)
	set.Address = proxy.Address
	l := link(t, set)
	path := listen(t, echo)
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			text := bytes.Repeat([]byte{byte('a' + i%26)}, i*4000)
			if got, err := exchange(t.Context(), l, path, text); err != nil || string(got) != string(text)+"|end" {
				t.Errorf("%d bytes: got %d, %v", len(text), len(got), err)
			}
		})
	}
	work.Wait()
	if n := proxy.Total(); n != 1 {
		t.Errorf("%d connections", n)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go func() {
		c, err := tcp.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "by TCP")
			_ = c.Close()
		}
	}()
	c, err := l.DialContext(t.Context(), "tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "by TCP" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	if _, err := l.DialContext(t.Context(), "udp", "127.0.0.1:53"); err == nil {
		t.Error("UDP is forwarded")
	}
	state := l.State()
	if !state.Connected || state.LastError != nil || state.Since.IsZero() || state.AnsweredAt.IsZero() {
		t.Errorf("%+v", state)
	}
	eventually(t, "a round trip is measured", func() bool { return l.State().RoundTrip > 0 })
}

// exchange sends a text, ends it, and returns what comes back.
func exchange(ctx context.Context, l *sshlink.Link, path string, text []byte) ([]byte, error) {
	c, err := l.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- errors.Join(err, c.(*sshlink.Conn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	return got, errors.Join(err, <-sent)
}

// TestDeadlines: they end a wait that has begun, can be moved, and leave a reader usable.
func TestDeadlines(t *testing.T) {
	s := sshtest.Start(t)
	l := link(t, settings(t, s))
	hold := make(chan struct{})
	path := listen(t, func(c *net.UnixConn) {
		buffer := make([]byte, 1)
		_, _ = c.Read(buffer)
		_, _ = c.Write(buffer)
		<-hold // reads nothing more
	})
	defer close(hold)
	c := dial(t, l, path)
	buffer := make([]byte, 10)
	for _, at := range []time.Time{time.Now().Add(-time.Second), time.Now().Add(20 * time.Millisecond)} {
		_ = c.SetReadDeadline(at)
		if _, err := c.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a deadline in %s: %v", time.Until(at), err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Hour))
	waiting := make(chan error, 1)
	go func() { _, err := c.Read(buffer); waiting <- err }()
	_ = c.SetReadDeadline(time.Now())
	if err := <-waiting; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a wait whose deadline was moved: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(buffer); string(buffer[:n]) != "x" || err != nil {
		t.Errorf("after a deadline: %q, %v", buffer[:n], err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	n, err := c.Write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Errorf("a write that nobody reads: %d, %v", n, err)
	}
	_ = c.SetWriteDeadline(time.Time{})
	if _, err := c.Write([]byte("y")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write after one of unknown result: %v", err)
	}
	go func() { _, err := c.Read(buffer); waiting <- err }()
	_ = c.Close()
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of a closed connection: %v", err)
	}
	if got, err := exchange(t.Context(), l, listen(t, echo), []byte("others go on")); err != nil || string(got) != "others go on|end" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestRefusals: the error of each setting of sshd that is in the way names it.
func TestRefusals(t *testing.T) {
	path := listen(t, echo)
	for _, c := range []struct {
		name, setting, options, network, address, want string
	}{
		{"no stream-local forwarding", "AllowStreamLocalForwarding no", "restrict,port-forwarding ", "unix", path, "AllowStreamLocalForwarding yes"},
		{"no TCP forwarding", "AllowTcpForwarding no", "restrict,port-forwarding ", "tcp", "127.0.0.1:1", "AllowTcpForwarding yes"},
		{"forwarding disabled", "DisableForwarding yes", "restrict,port-forwarding ", "unix", path, "DisableForwarding no"},
		{"restricted key and a socket", "", "restrict ", "unix", path, "port-forwarding after restrict"},
		{"restricted key", "", "restrict ", "tcp", "127.0.0.1:1", "port-forwarding after restrict"},
		{"no socket", "", "restrict,port-forwarding ", "unix", "/nowhere/docker.sock", "socket /nowhere/docker.sock cannot be opened"},
		{"no port", "", "restrict,port-forwarding ", "tcp", "127.0.0.1:1", "port 127.0.0.1:1 cannot be opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sshtest.Start(t, c.setting)
			set := settings(t, s)
			key, line, _ := sshtest.NewKey(t)
			s.Authorize(strings.Replace(line, "restrict,port-forwarding ", c.options, 1))
			set.Keys = keysOf(key)
			l := link(t, set)
			_, err := l.DialContext(t.Context(), c.network, c.address)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "server one") {
				t.Errorf("%v", err)
			}
			if !l.State().Connected {
				t.Errorf("the connection was given up: %+v", l.State())
			}
		})
	}
}

func TestLoginRefused(t *testing.T) {
	s := sshtest.Start(t)
	set := settings(t, s)
	s.Authorize()
	l := link(t, set)
	_, err := l.DialContext(t.Context(), "unix", "/x")
	if login := (*sshlink.LoginError)(nil); !errors.As(err, &login) || !strings.Contains(err.Error(), "authorized_keys") || !strings.Contains(err.Error(), "ssh-ed25519 AAAA") {
		t.Errorf("%v", err)
	}
	keys, err := set.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Authorize("restrict,port-forwarding " + string(ssh.MarshalAuthorizedKey(keys[0].PublicKey())))
	path := listen(t, echo)
	eventually(t, "it logs in once it may", func() bool {
		_, err := exchange(t.Context(), l, path, nil)
		return err == nil
	})
}

// TestHostKeys: a further kind of key is no change, a missing one of several is none, and
// another key stops everything before the login.
func TestHostKeys(t *testing.T) {
	s := sshtest.Start(t)
	set := settings(t, s)
	logins := 0
	keys := set.Keys
	path := listen(t, echo)
	use := func() error {
		l := sshlink.New(set)
		defer l.Close()
		_, err := exchange(t.Context(), l, path, nil)
		return err
	}
	var kinds []string
	for _, k := range set.HostKeys {
		kinds = append(kinds, k.Type())
	}
	if got := fmt.Sprint(kinds); got != "[ssh-ed25519 ssh-rsa]" {
		t.Errorf("pinned: %s", got)
	}
	if sshlink.Fingerprints(set.HostKeys)[0] != s.Fingerprint("ed25519") || sshlink.Fingerprints(set.HostKeys)[1] != s.Fingerprint("rsa") {
		t.Error("other fingerprints than ssh-keygen's")
	}
	restart := func(change func(), lines ...string) {
		s.Stop()
		change()
		s.Run(lines...)
	}
	restart(func() { s.NewHostKey("ecdsa") })
	if err := use(); err != nil {
		t.Errorf("a further kind of key: %v", err)
	}
	// RSA alone, with SHA-2 only, and then with the one that nobody should take.
	restart(func() { s.RemoveHostKey("ed25519") })
	if err := use(); err != nil {
		t.Errorf("the RSA key alone: %v", err)
	}
	restart(func() {}, "HostKeyAlgorithms rsa-sha2-256")
	if err := use(); err != nil {
		t.Errorf("rsa-sha2-256: %v", err)
	}
	changes := map[string]func(){
		"another RSA key":         func() { s.NewHostKey("rsa") },
		"only unknown kinds":      func() { s.RemoveHostKey("rsa") },
		"another key of the best": func() { s.NewHostKey("ed25519") },
	}
	set.LoggedIn = func(ssh.PublicKey) { logins++ }
	for _, name := range []string{"another RSA key", "only unknown kinds", "another key of the best"} {
		restart(changes[name])
		set.Keys = keys
		noticed := 0
		set.HostKeyChanged = func(*sshlink.HostKeyError) { noticed++ }
		l := sshlink.New(set)
		_, err := l.DialContext(t.Context(), "unix", path)
		changed := (*sshlink.HostKeyError)(nil)
		if !errors.As(err, &changed) || !strings.Contains(err.Error(), changed.Got) || !strings.Contains(err.Error(), sshlink.Fingerprints(set.HostKeys)[0]) || !strings.HasPrefix(changed.Got, "SHA256:") {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.Run(t.Context()); err != nil {
			t.Error(err)
		}
		s.Stop() // whatever it is now, it is not tried
		if _, err := l.DialCopies(t.Context(), "unix", path); !errors.As(err, &changed) {
			t.Errorf("%s: copies: %v", name, err)
		}
		if noticed != 1 {
			t.Errorf("%s: told %d times", name, noticed)
		}
		if _, again := l.DialContext(t.Context(), "unix", path); !errors.As(again, &changed) {
			t.Errorf("%s: tried again: %v", name, again)
		}
		l.Close()
		s.Run()
	}
	if logins != 0 {
		t.Errorf("%d logins", logins)
	}
}

// TestSecondConnectionForCopies: what copies do does not hold up the rest.
func TestSecondConnectionForCopies(t *testing.T) {
	skiptest.UnlessChaos(t, "servers") // its times are short for a busy machine
	s := sshtest.Start(t)
	set := settings(t, s)
	proxy := sshtest.NewProxy(t, s.Address)
	set.Address = proxy.Address
	l := link(t, set)
	sum := make(chan int64, 1)
	path := listen(t, func(c *net.UnixConn) { n, _ := io.Copy(io.Discard, c); sum <- n })
	copies, err := l.DialCopies(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.CopyN(copies, rand.Reader, 64<<20); _ = copies.(*sshlink.Conn).CloseWrite() }()
	if _, err := exchange(t.Context(), l, listen(t, echo), []byte("x")); err != nil {
		t.Error(err)
	}
	if n := <-sum; n != 64<<20 {
		t.Errorf("%d bytes were copied", n)
	}
	_ = copies.Close()
	if proxy.Total() != 2 {
		t.Errorf("%d connections", proxy.Total())
	}
}

// TestLostPackets: nothing is reset, and the loss is noticed within four keepalives. What was
// received until then does not look whole, and a new connection is made afterwards.
func TestLostPackets(t *testing.T) {
	s := sshtest.Start(t)
	set := settings(t, s)
	proxy := sshtest.NewProxy(t, s.Address)
	set.Address = proxy.Address
	l := link(t, set)
	path := listen(t, func(c *net.UnixConn) {
		_, _ = io.WriteString(c, "half")
		_, _ = io.Copy(io.Discard, c)
	})
	c := dial(t, l, path)
	if got, err := io.ReadAll(io.LimitReader(c, 4)); string(got) != "half" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	eventually(t, "keepalives are answered", func() bool { return l.State().RoundTrip > 0 })
	proxy.Stall()
	began := time.Now()
	if _, err := l.DialContext(t.Context(), "unix", path); err == nil {
		t.Error("a socket was opened without packets")
	}
	n, err := c.Read(make([]byte, 10))
	if err == nil || errors.Is(err, io.EOF) || n != 0 {
		t.Errorf("the end of a connection that was cut off: %d, %v", n, err)
	}
	if d := time.Since(began); d > 20*set.Keepalive {
		t.Errorf("noticed after %s", d)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("written after the loss")
	}
	eventually(t, "the state says so", func() bool { s := l.State(); return !s.Connected && s.LastError != nil })
	proxy.Cut()
	proxy.Flow()
	eventually(t, "it is connected again", func() bool { _, err := l.DialContext(t.Context(), "unix", path); return err == nil })
}

// TestCutOff: a connection that is reset does not end its streams as if they were whole.
func TestCutOff(t *testing.T) {
	s := sshtest.Start(t)
	set := settings(t, s)
	proxy := sshtest.NewProxy(t, s.Address)
	set.Address = proxy.Address
	l := link(t, set)
	path := listen(t, func(c *net.UnixConn) { _, _ = io.WriteString(c, "half"); _, _ = io.Copy(io.Discard, c) })
	for range 10 {
		var c net.Conn
		eventually(t, "it is connected", func() (ok bool) {
			var err error
			c, err = l.DialContext(t.Context(), "unix", path)
			return err == nil
		})
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		proxy.Cut()
		if _, err := io.ReadAll(c); err == nil {
			t.Error("what was cut off looks whole")
		}
		_ = c.Close()
	}
}

// TestRunKeepsConnected: without anybody who dials, also after the server has restarted.
func TestRunKeepsConnected(t *testing.T) {
	s := sshtest.Start(t)
	l := link(t, settings(t, s))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	eventually(t, "connected", func() bool { return l.State().Connected })
	s.Stop()
	eventually(t, "not connected", func() bool { s := l.State(); return !s.Connected && s.LastError != nil && !s.NextTry.IsZero() })
	if _, err := l.DialContext(t.Context(), "unix", filepath.Join(s.Dir, "x")); err == nil {
		t.Error("opened without a server")
	}
	s.Run()
	eventually(t, "connected again", func() bool { return l.State().Connected })
}

// TestLostPacketsWhileWriting: a writer that fills every buffer holds up neither the notice of the
// loss nor Close.
func TestLostPacketsWhileWriting(t *testing.T) {
	skiptest.UnlessChaos(t, "servers") // its times are short for a busy machine
	s := sshtest.Start(t)
	set := settings(t, s)
	proxy := sshtest.NewProxy(t, s.Address)
	set.Address = proxy.Address
	l := link(t, set)
	path := listen(t, func(c *net.UnixConn) { _, _ = io.Copy(io.Discard, c) })
	var failed sync.WaitGroup
	written := make(chan struct{}, 1000)
	for range 4 {
		c := dial(t, l, path)
		failed.Go(func() {
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
						t.Errorf("a loss looks like %v", err)
					}
					return
				}
				select {
				case written <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 8 {
		<-written
	}
	proxy.Stall()
	began := time.Now()
	failed.Wait()
	if d := time.Since(began); d > 30*set.Keepalive {
		t.Errorf("noticed after %s", d)
	}
	eventually(t, "the loss shows in the state", func() bool { return !l.State().Connected })
}

// TestKeepalivesOfTheServer: those are answered, too. sshd ends a connection otherwise.
func TestKeepalivesOfTheServer(t *testing.T) {
	s := sshtest.Start(t, "ClientAliveInterval 1", "ClientAliveCountMax 1")
	set := settings(t, s)
	set.Keepalive = time.Hour
	l := link(t, set)
	c := dial(t, l, listen(t, echo))
	_ = c.SetReadDeadline(time.Now().Add(3500 * time.Millisecond)) // more than sshd would wait
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("sshd has ended the connection: %v", err)
	}
}
