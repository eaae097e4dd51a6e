//go:build linux

package relay_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// BenchmarkDial compares connections to a gateway in a container, through the engine's exec, with
// those of the loopback network.
func BenchmarkDial(b *testing.B) {
	e := startEngine(b)
	c := e.run("bench")
	s := c.launch()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = near.Close() }()
				line := make([]byte, len("echo\n"))
				_, _ = io.ReadFull(near, line)
				if string(line) == "echo\n" {
					_, _ = io.Copy(near, near)
					return
				}
				_, _ = io.Copy(near, io.LimitReader(&noise{}, 1<<40))
			}()
		}
	}()
	for name, dial := range map[string]func() (net.Conn, error){
		"relay":    func() (net.Conn, error) { return s.Dial(b.Context()) },
		"loopback": func() (net.Conn, error) { return net.Dial("tcp4", l.Addr().String()) },
	} {
		open := func(b *testing.B, command string) net.Conn {
			b.Helper()
			near, err := dial()
			if err == nil {
				_, err = io.WriteString(near, command+"\n")
			}
			if err != nil {
				b.Fatal(err)
			}
			return near
		}
		b.Run("connect/"+name, func(b *testing.B) {
			for b.Loop() {
				near := open(b, "echo")
				_, _ = io.WriteString(near, "x")
				if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				_ = near.Close()
			}
		})
		b.Run("roundtrip/"+name, func(b *testing.B) {
			near := open(b, "echo")
			defer func() { _ = near.Close() }()
			buf := make([]byte, 100)
			for b.Loop() {
				_, _ = near.Write(buf)
				if _, err := io.ReadFull(near, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
		for _, direction := range []string{"down", "up"} {
			b.Run(direction+"/"+name, func(b *testing.B) {
				command := fmt.Sprintf("blob %d", 1<<40)
				if direction == "up" {
					command = "echo"
				}
				near := open(b, command)
				defer func() { _ = near.Close() }()
				const size = 4 << 20
				b.SetBytes(size)
				buf := make([]byte, size)
				began := time.Now()
				for b.Loop() {
					if direction == "up" { // and back
						go func() { _, _ = near.Write(buf) }()
					}
					if _, err := io.CopyN(io.Discard, near, size); err != nil {
						b.Fatalf("after %v: %v", time.Since(began), err)
					}
				}
			})
		}
	}
}
