//go:build linux

package relay_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
	"agento.host/agento/internal/vault"
)

// TestOthersAreRefused: only who has the key of this place gets a session.
func TestOthersAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t)
	for name, change := range map[string]func(*relay.Identity){
		"key":       func(i *relay.Identity) { i.Key = otherKey(t) },
		"agent":     func(i *relay.Identity) { i.Agent = "a2" },
		"place":     func(i *relay.Identity) { i.Place = "p2" },
		"epoch":     func(i *relay.Identity) { i.Epoch = 4 },
		"old epoch": func(i *relay.Identity) { i.Epoch, i.Key = 2, otherKey(t) },
	} {
		who := r.who
		change(&who)
		if _, err := relay.Connect(t.Context(), r.pipe(), who); !errors.Is(err, relay.ErrRefused) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	s := r.connect()
	if u, err := s.Usage(t.Context()); err != nil || u.Launched {
		t.Errorf("%+v, %v", u, err)
	}
	var silent [20]net.Conn // say nothing, and do not keep others out for long
	for i := range silent {
		c, err := net.Dial("unix", r.socket)
		must(t, err)
		defer func() { _ = c.Close() }()
		silent[i] = c
	}
	await(t, func() bool {
		s, err := relay.Connect(t.Context(), r.pipe(), r.who)
		if err == nil {
			must(t, s.Close())
		}
		return err == nil
	})
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	r := start(t)
	s := r.connect()
	if _, err := s.Dial(t.Context()); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("dial before the launch: %v", err)
	}
	if err := s.PutSecrets(t.Context(), nil); !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("secrets before the launch: %v", err)
	}
	l := launchOf("no-such-program")
	if err := s.Start(t.Context(), l); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a missing program: %v", err)
	}
	trash := filepath.Join(r.dir, "volume/trash")
	must(t, os.MkdirAll(filepath.Join(trash, "old/deep"), 0o700))
	must(t, s.Start(t.Context(), launchOf(programs.gateway)))
	r.awaitGateway(s)
	if _, err := os.Stat(trash + "/old"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the trash is not empty: %v", err)
	}
	home, secrets := filepath.Join(r.dir, "volume/home"), filepath.Join(r.dir, "run/secrets.json")
	for command, want := range map[string]string{
		"env HOME": home, "env WHERE": home + " " + r.server, "env TOKEN": "s3cret", "env TMPDIR": "/tmp",
		"env HTTPS_PROXY": "http://" + r.proxy, "env all_proxy": "socks5h://" + r.proxy, "env NODE_USE_ENV_PROXY": "1", "env AGENTO_RELAY_KEY": "",
		"args":                           programs.gateway + " serve " + strconv.Itoa(r.port),
		"cat " + home + "/conf/app.json": `{"home":"` + home + `"}`,
		"cat " + secrets:                 `{"a":1}`,
	} {
		if got := ask(t, s, command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	pid := ask(t, s, "pid")
	must(t, s.PutSecrets(t.Context(), []byte("new")))
	if got := ask(t, s, "cat "+secrets); got != "new" {
		t.Errorf("new secrets: %q", got)
	}
	if st, err := os.Stat(secrets); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	// A newer session ends the older one, and finds the same gateway.
	newer := r.connect()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the older session goes on")
	}
	if s.Err() == nil {
		t.Error("no reason")
	}
	if _, err := s.Dial(t.Context()); err == nil {
		t.Error("an ended session dials")
	}
	l = launchOf(programs.gateway)
	l.Secrets = []byte("other")
	must(t, newer.Start(t.Context(), l))
	if got := ask(t, newer, "pid"); got != pid {
		t.Errorf("another gateway: %s, %s", got, pid)
	}
	if got := ask(t, newer, "cat "+secrets); got != "new" {
		t.Errorf("a second start has written secrets: %q", got)
	}
	ask(t, newer, "print hello log")
	await(t, func() bool { return strings.Contains(r.output.String(), "hello log\n") })
	u, err := newer.Usage(t.Context())
	if err != nil || !u.Launched || time.Since(u.LoggedAt) > time.Minute || time.Since(u.StartedAt) > time.Minute || u.Disk.Files == 0 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := newer.Dial(withTimeout(t, -time.Second)); err == nil {
		t.Error("dial without time")
	}
}

// TestExitCodes: the relay ends as the gateway has.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]int{
		"exit 0": 0, "exit 1": 1, "exit 78": 78, "exit 137": 137, "exit 243": 1, "signal 9": 137, "signal 15": 143,
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			s := r.launch()
			orphan, err := strconv.Atoi(ask(t, s, "spawn"))
			must(t, err)
			ask(t, s, command)
			if got := r.exitCode(); got != want {
				t.Errorf("%s: %d", command, got)
			}
			<-s.Done()
			if alive(orphan) {
				t.Error("an orphan lives on")
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		r := start(t)
		s := r.connect()
		must(t, s.Start(t.Context(), relay.Launch{Command: []string{programs.gateway, "exit", "7"}}))
		if got := r.exitCode(); got != 7 || !strings.Contains(r.output.String(), "last words") {
			t.Errorf("%d, %s", got, r.output)
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		ignore    bool
		grace     time.Duration
		want      int
		terminate bool
	}{
		{"clean", false, 10 * time.Second, 143, false}, // the gateway for tests does not handle SIGTERM
		{"killed", true, 200 * time.Millisecond, 137, false},
		{"docker stop", false, 0, 143, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			s := r.launch()
			if row.ignore {
				ask(t, s, "ignore-term")
			}
			orphan, err := strconv.Atoi(ask(t, s, "spawn"))
			must(t, err)
			if row.terminate {
				must(t, r.cmd.Process.Signal(syscall.SIGTERM))
			} else {
				must(t, s.Stop(t.Context(), row.grace))
			}
			if got := r.exitCode(); got != row.want {
				t.Errorf("%d", got)
			}
			if alive(orphan) {
				t.Error("an orphan lives on")
			}
			must(t, s.Stop(t.Context(), 0)) // it has ended
		})
	}
	t.Run("before the launch", func(t *testing.T) {
		r := start(t)
		must(t, r.connect().Stop(t.Context(), time.Minute))
		if got := r.exitCode(); got != 143 {
			t.Errorf("%d", got)
		}
	})
}

func TestHome(t *testing.T) {
	t.Parallel()
	r := start(t, "files", "-files-idle", "1s")
	s := r.connect()
	if err := s.Start(t.Context(), launchOf(programs.gateway)); err == nil {
		t.Error("a relay for files launches a gateway")
	}
	h, err := s.Home(t.Context())
	must(t, err)
	must(t, h.WriteFile("a/b.md", []byte("text")))
	if got, err := h.ReadFile("a/b.md", 4); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := h.ReadFile("a/b.md", 3); !errors.Is(err, runtime.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := h.ReadFile("none", 3); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := h.ReadDir("a/b.md"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := h.ReadFile("../x", 3); err == nil {
		t.Error("outside")
	}
	must(t, h.WriteFile("a/odd\xff\n", nil))
	entries, err := h.ReadDir("a")
	if err != nil || len(entries) != 2 || entries[0].Name != "b.md" || entries[0].Size != 4 || entries[0].ModTime.IsZero() || entries[1].Name != "odd\xff\n" {
		t.Errorf("%+v, %v", entries, err)
	}
	if entries, err := h.ReadDir("none"); err != nil || entries != nil {
		t.Errorf("%+v, %v", entries, err)
	}
	must(t, h.RemoveAll("a"))
	must(t, h.RemoveAll("a"))
	large := make([]byte, 30<<20)
	_, _ = io.ReadFull(&noise{}, large)
	must(t, h.WriteFile("large", large))
	if got, err := h.ReadFile("large", 1<<40); err != nil || sha256.Sum256(got) != sha256.Sum256(large) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	must(t, h.Close())
	if _, err := h.ReadFile("large", 1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed home: %v", err)
	}
	must(t, s.Close())
	if got := r.exitCode(); got != 0 {
		t.Errorf("%d", got)
	}
}

// TestDialCarriesEverything: half close, resets, and much in both directions.
func TestDialCarriesEverything(t *testing.T) {
	s := start(t).launch()
	open := func(command string) halfCloser {
		t.Helper()
		c, err := s.Dial(t.Context())
		must(t, err)
		t.Cleanup(func() { _ = c.Close() })
		_, err = io.WriteString(c, command+"\n")
		must(t, err)
		return c.(halfCloser)
	}
	const size = 200 << 20
	c := open("sum")
	h := sha256.New()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(h, c), io.LimitReader(&noise{}, size))
		done <- errors.Join(err, c.CloseWrite())
	}()
	var slowest time.Duration
	for sending := true; sending; {
		began := time.Now()
		if got := ask(t, s, "pid"); got == "" {
			t.Error("no answer beside a large transfer")
		}
		slowest = max(slowest, time.Since(began))
		select {
		case err := <-done:
			must(t, err)
			sending = false
		default:
		}
	}
	got, err := io.ReadAll(c)
	if want := fmt.Sprintf("%d %x", size, h.Sum(nil)); err != nil || string(got) != want {
		t.Errorf("200 MB: %s, want %s, %v", got, want, err)
	}
	if slowest > 2*time.Second {
		t.Errorf("a request beside it took %v", slowest)
	}
	c = open(fmt.Sprintf("blob %d", 20<<20))
	if n, err := io.Copy(io.Discard, c); err != nil || n != 20<<20 {
		t.Errorf("%d bytes came back, %v", n, err)
	}
	c = open("reset")
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a reset is read as %v", err)
	}
	c = open("stall")
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a deadline: %v", err)
	}
	must(t, c.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	if n, err := io.Copy(c, &noise{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a gateway that does not read took %d bytes: %v", n, err)
	}
	must(t, c.Close())
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: %v", err)
	}
	// Many at once.
	results := make(chan string)
	for range 100 {
		go func() {
			c, err := s.Dial(t.Context())
			if err != nil {
				results <- err.Error()
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "echo\nhi")
			_ = c.(halfCloser).CloseWrite()
			got, _ := io.ReadAll(c)
			results <- string(got)
		}()
	}
	for range 100 {
		if got := <-results; got != "hi" {
			t.Error(got)
		}
	}
}

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// noise is an endless text without repetition in short distances.
type noise struct{ n uint64 }

func (p *noise) Read(b []byte) (int, error) {
	for i := range b {
		p.n = p.n*6364136223846793005 + 1442695040888963407
		b[i] = byte(p.n >> 56)
	}
	return len(b), nil
}

func TestFilesOverALimit(t *testing.T) {
	t.Parallel()
	r := start(t)
	s := r.connect()
	h, err := s.Home(t.Context())
	must(t, err)
	must(t, h.WriteFile("a", make([]byte, 2<<20)))
	l := launchOf(programs.gateway)
	l.Limits = runtime.Limits{DiskBytes: 1 << 20}
	if over := (*runtime.DiskError)(nil); !errors.As(s.Start(t.Context(), l), &over) || over.Used.Bytes < 2<<20 {
		t.Errorf("%v", over)
	}
	l.Limits = runtime.Limits{DiskBytes: 10 << 20, Files: 100}
	l.Env["X"] = vault.NewSecret("y")
	must(t, s.Start(t.Context(), l))
	r.awaitGateway(s)
	if got := ask(t, s, "fill 20"); got != "filled <nil>" {
		t.Error(got)
	}
	if got := r.exitCode(); got != relay.ExitOverDisk {
		t.Errorf("%d", got)
	}
	if !strings.Contains(r.output.String(), "exceed its limits") {
		t.Errorf("%s", r.output)
	}
}
