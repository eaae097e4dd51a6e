// Command gateway is a gateway for tests. Each connection to its port begins with a line that is
// a command.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "sleep":
		time.Sleep(time.Hour)
	case "call":
		fmt.Print(call(os.Args[2]))
	case "serve":
		serve(os.Args[2])
	case "exit":
		code, _ := strconv.Atoi(os.Args[2])
		fmt.Println("last words")
		os.Exit(code)
	}
}

func serve(port string) {
	l, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("gateway listens")
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go handle(c.(*net.TCPConn))
	}
}

func handle(c *net.TCPConn) {
	defer c.Close()
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	command, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch command {
	case "echo":
		_, _ = io.Copy(c, r)
	case "sum":
		h := sha256.New()
		n, _ := io.Copy(h, r)
		fmt.Fprintf(c, "%d %x", n, h.Sum(nil))
	case "blob":
		n, _ := strconv.ParseInt(arg, 10, 64)
		_, _ = io.Copy(c, io.LimitReader(&pattern{}, n))
	case "stall": // reads nothing
		time.Sleep(time.Hour)
	case "reset":
		_ = c.SetLinger(0)
	case "pid":
		fmt.Fprint(c, os.Getpid())
	case "env":
		fmt.Fprint(c, os.Getenv(arg))
	case "args":
		fmt.Fprint(c, strings.Join(os.Args, " "))
	case "cat":
		b, err := os.ReadFile(arg)
		fmt.Fprint(c, string(b))
		if err != nil {
			fmt.Fprint(c, "error: ", err)
		}
	case "print":
		fmt.Println(arg)
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "signal":
		n, _ := strconv.Atoi(arg)
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
	case "ignore-term":
		signal.Ignore(syscall.SIGTERM)
		fmt.Fprint(c, "ok")
	case "fill":
		fmt.Fprint(c, fill(arg))
	case "call":
		fmt.Fprint(c, call(arg))
	case "child-call":
		out, err := exec.Command(os.Args[0], "call", arg).CombinedOutput()
		fmt.Fprint(c, string(out))
		if err != nil {
			fmt.Fprint(c, err)
		}
	case "spawn": // a process of a session of its own, and an orphan
		cmd := exec.Command(os.Args[0], "sleep")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Fprint(c, err)
			return
		}
		fmt.Fprint(c, cmd.Process.Pid)
	case "attack":
		attack(c, arg)
	case "relays": // processes of the relay
		names, _ := filepath.Glob("/proc/[0-9]*/comm")
		for _, name := range names {
			if b, _ := os.ReadFile(name); strings.TrimSpace(string(b)) == "agento-relay" {
				fmt.Fprint(c, filepath.Base(filepath.Dir(name)), " ")
			}
		}
	}
}

// call connects, sends a line and returns the answer.
func call(address string) string {
	dial := func() (net.Conn, error) { return net.Dial("tcp4", address) }
	if port, ok := strings.CutPrefix(address, "[::ffff:127.0.0.1]:"); ok {
		dial = func() (net.Conn, error) { return dialMapped(port) }
	}
	c, err := dial()
	if err != nil {
		return "error: " + err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintln(c, "hello")
	b, err := io.ReadAll(c)
	if err != nil {
		return "error: " + err.Error()
	}
	return string(b)
}

// dialMapped connects an IPv6 socket to the IPv4 address 127.0.0.1.
func dialMapped(port string) (net.Conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	to := &syscall.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	to.Port, _ = strconv.Atoi(port)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := syscall.Connect(fd, to); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

func fill(megabytes string) string {
	n, _ := strconv.Atoi(megabytes)
	err := os.WriteFile(filepath.Join(os.Getenv("HOME"), "filled"), make([]byte, n<<20), 0o600)
	return fmt.Sprint("filled ", err)
}

// attack tries what the agent must not be able to do with process pid.
func attack(w io.Writer, arg string) {
	text, socket, _ := strings.Cut(arg, " ")
	pid, _ := strconv.Atoi(text)
	for _, name := range []string{"environ", "mem", "maps", "auxv"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err == nil && len(b) > 0 {
			fmt.Fprintf(w, "read %s: %d bytes\n", name, len(b))
		}
	}
	if f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err == nil {
		fmt.Fprintln(w, "opened mem")
		f.Close()
	}
	if links, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		fmt.Fprintf(w, "listed fd: %d\n", len(links))
	}
	if _, _, e := syscall.Syscall(syscall.SYS_PTRACE, syscall.PTRACE_ATTACH, uintptr(pid), 0); e == 0 {
		fmt.Fprintln(w, "traced")
	}
	if pid == 1 {
		for s := syscall.Signal(1); s < 32; s++ {
			if s != syscall.SIGTERM && s != syscall.SIGINT {
				_ = syscall.Kill(pid, s)
			}
		}
	}
	if c, err := net.Dial("unix", socket); err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "\x00\x00\x00\x02{}")
		b, _ := io.ReadAll(c)
		if strings.Contains(string(b), `"Refused":false`) || !strings.Contains(string(b), `"Refused":true`) {
			fmt.Fprintf(w, "socket: %q\n", b)
		}
	}
	if l, err := net.Listen("unix", socket); err == nil {
		fmt.Fprintln(w, "took the socket")
		l.Close()
	}
	fmt.Fprint(w, "done")
}

// pattern is an endless text without repetition in short distances.
type pattern struct{ n uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*6364136223846793005 + 1442695040888963407
		b[i] = byte(p.n >> 56)
	}
	return len(b), nil
}
