// Package sshtest starts real sshds on loopback for tests, and proxies that lose packets.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/skiptest"
)

// Server is an sshd with its own configuration, keys and authorized_keys in a temporary
// directory.
type Server struct {
	Address string // 127.0.0.1:port
	User    string // who can log in: the user of the test
	Dir     string

	t       testing.TB
	program string
	process *exec.Cmd
}

// Start starts an sshd, and ends it with the test. It has the host keys "ed25519" and
// "rsa". lines are added to its configuration: of a setting, sshd takes the first. The test
// is skipped where no sshd can run.
func Start(t testing.TB, lines ...string) *Server {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		if program = "/usr/sbin/sshd"; !exists(program) {
			skiptest.Without(t, skiptest.SSHD, "there is no sshd (apt-get install openssh-server)")
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd separates privileges there
			skiptest.Without(t, skiptest.SSHD, "it needs /run/sshd: ", err)
		}
	}
	s := &Server{User: me.Username, Dir: t.TempDir(), Address: freeAddress(t), t: t, program: program}
	for _, kind := range []string{"ed25519", "rsa"} {
		s.NewHostKey(kind)
	}
	s.Authorize()
	s.Run(lines...)
	t.Cleanup(s.Stop)
	return s
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (s *Server) hostKey(kind string) string { return filepath.Join(s.Dir, "host_"+kind) }

// NewHostKey makes another host key of a kind: "ed25519", "rsa" or "ecdsa". sshd has it after the
// next Run.
func (s *Server) NewHostKey(kind string) {
	s.t.Helper()
	s.RemoveHostKey(kind)
	args := []string{"-q", "-t", kind, "-N", "", "-f", s.hostKey(kind)}
	if kind == "rsa" {
		args = append(args, "-b", "2048") // a longer one takes seconds
	}
	if out, err := exec.CommandContext(s.t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

// RemoveHostKey removes the host key of a kind.
func (s *Server) RemoveHostKey(kind string) {
	for _, name := range []string{s.hostKey(kind), s.hostKey(kind) + ".pub"} {
		_ = os.Remove(name) // it need not be there
	}
}

// Fingerprint returns that of the host key of a kind, as ssh-keygen shows it.
func (s *Server) Fingerprint(kind string) string {
	s.t.Helper()
	out, err := exec.CommandContext(s.t.Context(), "ssh-keygen", "-lf", s.hostKey(kind)+".pub").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Fields(string(out))[1]
}

// Authorize lets the keys of these lines log in, and no others.
func (s *Server) Authorize(lines ...string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, "authorized_keys"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Run starts sshd, after Stop again on the same port.
func (s *Server) Run(lines ...string) {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.Address)
	config := append(lines, "ListenAddress 127.0.0.1", "Port "+port, "UsePAM no", "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "LogLevel ERROR", "PidFile "+filepath.Join(s.Dir, "pid"), "AuthorizedKeysFile "+filepath.Join(s.Dir, "authorized_keys"))
	keys, err := filepath.Glob(s.hostKey("*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, k := range keys {
		if !strings.HasSuffix(k, ".pub") {
			config = append(config, "HostKey "+k)
		}
	}
	file := filepath.Join(s.Dir, "sshd_config")
	if err := os.WriteFile(file, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.process = exec.Command(s.program, "-D", "-e", "-f", file) //nolint:noctx // it ends with Stop
	s.process.Stderr = log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Since(began) > 10*time.Second {
			text, _ := os.ReadFile(log.Name())
			s.Stop()
			s.t.Fatalf("sshd does not listen: %v: %s", err, text)
		}
	}
}

// Stop kills sshd with the processes of its connections.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	all := append(s.Connections(), s.process.Process.Pid)
	for _, pid := range all {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Error(err)
		}
	}
	_ = s.process.Wait() // it was killed
	s.process = nil
}

// Connections returns the pids of the processes that serve connections.
func (s *Server) Connections() []int {
	parents := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, e := range entries {
		text, err := os.ReadFile(e)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(e)))
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			parents[parent] = append(parents[parent], pid)
		}
	}
	var all []int
	for next := parents[s.process.Process.Pid]; len(next) > 0; {
		pid := next[0]
		next = append(next[1:], parents[pid]...)
		all = append(all, pid)
	}
	return all
}

// NewKey returns a new key, its line for authorized_keys, and its private part as OpenSSH writes it.
func NewKey(t testing.TB) (key ssh.Signer, line string, private []byte) {
	t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err = ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "test")
	if err != nil {
		t.Fatal(err)
	}
	return key, fmt.Sprintf("restrict,port-forwarding %s", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))), pem.EncodeToMemory(block)
}
