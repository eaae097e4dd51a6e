package sshlink_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/pool/sshtest"
)

// hostile is a server that may do anything after the handshake.
type hostile struct {
	address string
	key     ssh.Signer
	logins  chan struct{}
}

// serve starts a server that lets everybody in and then calls do. do returns when the
// connection has ended.
func serve(t *testing.T, do func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request)) *hostile {
	t.Helper()
	key, _, _ := sshtest.NewKey(t)
	h := &hostile{key: key, logins: make(chan struct{}, 100)}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(key)
	h.address = accept(t, func(raw net.Conn) {
		conn, channels, requests, err := ssh.NewServerConn(raw, config)
		if err != nil {
			return
		}
		h.logins <- struct{}{}
		do(conn, channels, requests)
		_ = conn.Close()
	})
	return h
}

// accept calls do for each connection, and waits for all at the end of the test.
func accept(t *testing.T, do func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { _ = raw.Close() })
			work.Go(func() { defer stop(); defer raw.Close(); do(raw) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return l.Addr().String()
}

func (h *hostile) settings(t *testing.T) sshlink.Settings {
	key, _, _ := sshtest.NewKey(t)
	return short(sshlink.Settings{Name: "bad", User: "u", Address: h.address, HostKeys: []ssh.PublicKey{h.key.PublicKey()}, Keys: keysOf(key)})
}

// forward serves requests for sockets as sshd does.
func forward(channels <-chan ssh.NewChannel) {
	for n := range channels {
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		go func() { _, _ = io.Copy(ch, ch); _ = ch.Close() }()
	}
}

// TestSilentHandshake: a server that is silent, or drips, ends no later than the deadline; the
// same for the look at its host keys, and while the caller gives up before.
func TestSilentHandshake(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"silent":          func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"after a version": func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); _, _ = io.Copy(io.Discard, c) },
		"drips": func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, "a line before the version\r\n"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		},
		"closes": func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, _, _ := sshtest.NewKey(t)
			set := short(sshlink.Settings{Name: "mute", User: "u", Address: accept(t, do), HostKeys: []ssh.PublicKey{key.PublicKey()}, Keys: keysOf(key)})
			set.HandshakeTimeout = 300 * time.Millisecond
			l := link(t, set)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			began := time.Now()
			if _, err := l.DialContext(ctx, "unix", "/x"); err == nil {
				t.Error("connected")
			}
			if d := time.Since(began); d > 250*time.Millisecond {
				t.Errorf("the caller waited for %s", d)
			}
			eventually(t, "the handshake fails", func() bool { return l.State().LastError != nil })
			if d := time.Since(began); d > 10*set.HandshakeTimeout {
				t.Errorf("it took %s", d)
			}
			if s := l.State(); s.Connected || !strings.Contains(s.LastError.Error(), "server mute") {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestClosedDuringHandshake: Close does not wait for a server that is silent.
func TestClosedDuringHandshake(t *testing.T) {
	key, _, _ := sshtest.NewKey(t)
	begun := make(chan struct{}, 10)
	address := accept(t, func(c net.Conn) { begun <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	set := short(sshlink.Settings{User: "u", Address: address, HostKeys: []ssh.PublicKey{key.PublicKey()}, Keys: keysOf(key)})
	set.HandshakeTimeout = time.Hour
	l := sshlink.New(set)
	failed := make(chan error, 1)
	go func() { _, err := l.DialContext(t.Context(), "unix", "/x"); failed <- err }()
	<-begun
	_ = l.Close()
	if err := <-failed; err == nil {
		t.Error("connected")
	}
	if _, err := l.DialContext(t.Context(), "unix", "/x"); !errors.Is(err, sshlink.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// TestSilentKeepalive: a server that takes keepalives and never answers them loses the
// connection; so does one that answers them, but opens nothing.
func TestSilentKeepalive(t *testing.T) {
	never := serve(t, func(c *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		go forward(channels)
		for range requests { // without an answer
		}
	})
	l := link(t, never.settings(t))
	c := dial(t, l, "/x")
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("%v", err)
	}

	deaf := serve(t, func(_ *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		go func() {
			for range channels { // without an answer
			}
		}()
		ssh.DiscardRequests(requests)
	})
	l = link(t, deaf.settings(t))
	for i := range 3 {
		if _, err := l.DialContext(t.Context(), "unix", "/x"); err == nil {
			t.Fatal("opened")
		}
		if s := l.State(); i < 2 && (s.Unopened != i+1 || !s.Connected) {
			t.Errorf("after %d: %+v", i+1, s)
		}
	}
	<-deaf.logins
	eventually(t, "a fresh connection is used", func() bool {
		_, _ = l.DialContext(t.Context(), "unix", "/x")
		return len(deaf.logins) > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.DialContext(ctx, "unix", "/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left: %v", err)
	}
}

// TestFloods: channels, global requests and requests of channels that nobody asked for hold
// nothing up, and too many channels end the connection.
func TestFloods(t *testing.T) {
	h := serve(t, func(c *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		go ssh.DiscardRequests(requests)
		for range 500 {
			go func() {
				if ch, r, err := c.OpenChannel("forwarded-tcpip", nil); err == nil {
					go ssh.DiscardRequests(r)
					_ = ch.Close()
					t.Error("a channel of the server was accepted")
				}
			}()
		}
		for range 200 {
			go func() { _, _, _ = c.SendRequest("hostkeys-00@openssh.com", true, make([]byte, 1000)) }()
		}
		for n := range channels {
			ch, r, err := n.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(r)
			go func() {
				for range 100 { // more than any queue has room for
					_, _ = ch.SendRequest("exit-status", false, make([]byte, 4))
				}
				_, _ = io.Copy(ch.Stderr(), io.LimitReader(zeros{}, 4<<20)) // more than the window
				_, _ = io.Copy(ch, ch)
				_ = ch.Close()
			}()
		}
	})
	l := link(t, h.settings(t))
	for range 3 {
		got, err := exchange(t.Context(), l, "/x", []byte("through"))
		if err != nil || string(got) != "through" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	eventually(t, "keepalives are answered", func() bool { return l.State().RoundTrip > 0 })
	if !l.State().Connected || len(h.logins) != 1 {
		t.Errorf("%+v, %d logins", l.State(), len(h.logins))
	}

	endless := serve(t, func(c *ssh.ServerConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		go ssh.DiscardRequests(requests)
		go forward(channels)
		for {
			if _, _, err := c.OpenChannel("forwarded-tcpip", nil); err != nil {
				if refused := (*ssh.OpenChannelError)(nil); !errors.As(err, &refused) {
					return
				}
			}
		}
	})
	l = link(t, endless.settings(t))
	c := dial(t, l, "/x")
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "more than 1000 channels") {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestOneHandshakeAtATime: many callers cause one; a server that ends each connection is asked
// again with pauses only.
func TestOneHandshakeAtATime(t *testing.T) {
	h := serve(t, func(*ssh.ServerConn, <-chan ssh.NewChannel, <-chan *ssh.Request) {})
	set := h.settings(t)
	set.MinBackoff, set.MaxBackoff = time.Hour, time.Hour
	l := link(t, set)
	var work sync.WaitGroup
	for range 50 {
		work.Go(func() {
			if _, err := l.DialContext(t.Context(), "unix", "/x"); err == nil {
				t.Error("opened")
			}
		})
	}
	work.Wait()
	eventually(t, "the loss is known", func() bool { return l.State().LastError != nil })
	if _, err := l.DialContext(t.Context(), "unix", "/x"); err == nil || !strings.Contains(err.Error(), "server bad") {
		t.Errorf("%v", err)
	}
	if n := len(h.logins); n != 1 {
		t.Errorf("%d logins", n)
	}
	if d := time.Until(l.State().NextTry); d < 29*time.Minute || d > time.Hour {
		t.Errorf("the next one in %s", d)
	}
}
