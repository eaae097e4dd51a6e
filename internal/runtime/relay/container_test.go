//go:build linux

package relay_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/relay"
	"agento.host/agento/internal/skiptest"
)

// engine is a Docker engine for one test, in a directory of its own.
type engine struct {
	t    testing.TB
	host string
}

func startEngine(t testing.TB) *engine {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		skiptest.Without(t, skiptest.Engine, err)
	}
	e := &engine{t, dockertest.Start(t).Host()}
	e.importImage()
	return e
}

// docker runs a command of the client and returns what it prints.
func (e *engine) docker(stdin io.Reader, args ...string) string {
	e.t.Helper()
	cmd := exec.Command("docker", append([]string{"-H", e.host}, args...)...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// importImage makes an image of the relay and the gateway for tests, with nothing else.
func (e *engine) importImage() {
	e.t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"tmp", "run", "run/agento", "home", "home/agent", "proc", "dev", "sys", "etc"} {
		h := &tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}
		if dir == "home/agent" {
			h.Uid, h.Gid, h.Mode = 10001, 10001, 0o700
		}
		if err := w.WriteHeader(h); err != nil {
			e.t.Fatal(err)
		}
	}
	for name, from := range map[string]string{"agento-relay": programs.static, "gateway": programs.gateway} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))})
		}
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			e.t.Fatal(err)
		}
	}
	_ = w.Close()
	e.docker(&b, "import", "-c", `ENTRYPOINT ["/agento-relay"]`, "-", "relaytest")
}

// contained is a relay in a container.
type contained struct {
	*engine
	id  string
	who relay.Identity
}

// run starts a container as the driver does.
func (e *engine) run(name string) contained {
	e.t.Helper()
	key, err := relay.NewKey()
	if err != nil {
		e.t.Fatal(err)
	}
	c := contained{e, name, relay.Identity{Agent: "a1", Place: "p1", Epoch: 7, Key: key}}
	args := []string{"run", "-d", "--name", name, "--network", "none", "--read-only", "--tmpfs", "/tmp:size=16m,mode=1777",
		"--tmpfs", relay.RunPath + ":mode=0700,uid=10001,gid=10001,size=4m", "-v", name + "-home:" + relay.VolumePath, "-u", relay.AgentUser,
		"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m", "--memory-swap", "256m", "--pids-limit", "200"}
	for _, v := range c.who.Environment() {
		args = append(args, "-e", v)
	}
	e.docker(nil, append(args, "relaytest", "run")...)
	return c
}

// pipe executes connect by the engine's API, as the driver does.
func (c contained) pipe() io.ReadWriteCloser {
	c.t.Helper()
	conn, err := net.Dial("unix", strings.TrimPrefix(c.host, "unix://"))
	if err != nil {
		c.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	post := func(path string, body any, header ...string) *http.Response {
		c.t.Helper()
		text, _ := json.Marshal(body)
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, len(text), strings.Join(header, ""), text)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		return resp
	}
	resp := post("/containers/"+c.id+"/exec", map[string]any{"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "User": relay.ConnectUser, "Cmd": relay.ConnectCommand()})
	var made struct {
		ID string `json:"Id"`
	}
	err = json.NewDecoder(resp.Body).Decode(&made)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if err != nil || made.ID == "" {
		c.t.Fatalf("exec: %s, %v", resp.Status, err)
	}
	resp = post("/exec/"+made.ID+"/start", map[string]any{}, "Connection: Upgrade\r\n", "Upgrade: tcp\r\n") //nolint:bodyclose // it is the connection
	if resp.StatusCode != http.StatusSwitchingProtocols {
		c.t.Fatalf("exec: %s", resp.Status)
	}
	return &framed{Conn: conn, r: r}
}

// framed is an attached exec: its output comes in frames of 8 bytes and a length.
type framed struct {
	net.Conn
	r    *bufio.Reader
	left int
}

func (f *framed) Read(p []byte) (int, error) {
	for f.left == 0 {
		var head [8]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, err
		}
		f.left = int(binary.BigEndian.Uint32(head[4:]))
		if head[0] == 2 {
			text, _ := io.ReadAll(io.LimitReader(f.r, int64(f.left)))
			return 0, errors.New(string(text))
		}
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func (c contained) connect() *relay.Session {
	c.t.Helper()
	s, err := relay.Connect(c.t.Context(), c.pipe(), c.who)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (c contained) launch() *relay.Session {
	c.t.Helper()
	s := c.connect()
	if err := s.Start(c.t.Context(), launchOf("/gateway")); err != nil {
		c.t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		near, err := s.Dial(c.t.Context())
		if err == nil {
			_ = near.Close()
			return s
		}
		if time.Now().After(deadline) {
			c.t.Fatal(err)
		}
	}
}

func (c contained) exitCode() string {
	c.t.Helper()
	return c.docker(nil, "wait", c.id)
}

// TestContainer runs the relay as the first process of real containers.
func TestContainer(t *testing.T) {
	t.Parallel()
	e := startEngine(t)
	t.Run("agent cannot take over", func(t *testing.T) {
		c := e.run("attacked")
		s := c.launch()
		for _, change := range []func(*relay.Identity){func(i *relay.Identity) { i.Epoch-- }, func(i *relay.Identity) { i.Key = otherKey(t) }} {
			who := c.who
			change(&who)
			if _, err := relay.Connect(t.Context(), c.pipe(), who); !errors.Is(err, relay.ErrRefused) {
				t.Errorf("%v", err)
			}
		}
		var relays []string // the first process, and the one of the session
		await(t, func() bool {
			relays = strings.Fields(ask(t, s, "relays"))
			return len(relays) == 2 && relays[0] == "1"
		})
		for _, pid := range relays {
			if got := ask(t, s, "attack "+pid+" @agento-relay"); got != "done" {
				t.Errorf("an attack on process %s: %s", pid, got)
			}
		}
		for path, want := range map[string]string{
			relay.SecretsPath: `{"a":1}`, relay.HomePath + "/conf/app.json": `{"home":"/home/agent/home"}`,
		} {
			if got := ask(t, s, "cat "+path); got != want {
				t.Errorf("%s: %q", path, got)
			}
		}
		if got := ask(t, s, "env HOME"); got != relay.HomePath {
			t.Error(got)
		}
		h, err := s.Home(t.Context())
		must(t, err)
		must(t, h.WriteFile("x", []byte("y")))
		must(t, h.Close())
		n := s.Network()
		go func() {
			for {
				near, err := n.Server.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(near, "gateway: %t", n.FromGateway(near))
				_ = near.Close()
			}
		}()
		for command, want := range map[string]string{"call": "true", "child-call": "false"} {
			for _, to := range []string{"127.0.0.1:18790", "[::ffff:127.0.0.1]:18790"} {
				if got := ask(t, s, command+" "+to); got != "gateway: "+want {
					t.Errorf("%s %s: %s", command, to, got)
				}
			}
		}
		orphan := ask(t, s, "spawn")
		inside := strings.Split(e.docker(nil, "top", c.id, "-eo", "pid"), "\n")[1:]
		ask(t, s, "exit 78")
		if got := c.exitCode(); got != "78" {
			t.Errorf("exit code %s", got)
		}
		for _, pid := range inside {
			if n, err := strconv.Atoi(strings.TrimSpace(pid)); err != nil || alive(n) {
				t.Errorf("process %s of the container lives on; the orphan was %s inside", pid, orphan)
			}
		}
		if out := e.docker(nil, "logs", c.id); !strings.Contains(out, "gateway listens") {
			t.Errorf("the log: %s", out)
		}
	})
	t.Run("exit codes", func(t *testing.T) {
		for i, row := range []struct{ command, want string }{{"exit 1", "1"}, {"exit 137", "137"}, {"signal 9", "137"}, {"signal 1", "129"}} {
			c := e.run(fmt.Sprintf("exit%d", i))
			ask(t, c.launch(), row.command)
			if got := c.exitCode(); got != row.want {
				t.Errorf("%s: %s", row.command, got)
			}
		}
		c := e.run("stopped")
		c.launch()
		began := time.Now()
		e.docker(nil, "stop", c.id)
		if got := c.exitCode(); got != "143" || time.Since(began) > 8*time.Second {
			t.Errorf("docker stop: %s after %v", got, time.Since(began))
		}
		c = e.run("ended")
		s := c.launch()
		ask(t, s, "ignore-term")
		must(t, s.Stop(t.Context(), 100*time.Millisecond))
		if got := c.exitCode(); got != "137" {
			t.Errorf("stop: %s", got)
		}
	})
	t.Run("pause", func(t *testing.T) {
		c := e.run("paused")
		s := c.launch()
		pid := ask(t, s, "pid")
		e.docker(nil, "pause", c.id)
		select {
		case <-s.Done():
		case <-time.After(20 * time.Second):
			t.Error("the session of a paused container goes on")
		}
		e.docker(nil, "unpause", c.id)
		if got := ask(t, c.connect(), "pid"); got != pid {
			t.Errorf("after a pause: %q", got)
		}
		e.docker(nil, "kill", c.id)
	})
	t.Run("200 MB", func(t *testing.T) {
		c := e.run("large")
		s := c.launch()
		near, err := s.Dial(t.Context())
		must(t, err)
		_, _ = io.WriteString(near, "sum\n")
		h := sha256.New()
		_, err = io.Copy(io.MultiWriter(h, near), io.LimitReader(&noise{}, 200<<20))
		must(t, err)
		must(t, near.(halfCloser).CloseWrite())
		got, err := io.ReadAll(near)
		if want := fmt.Sprintf("%d %x", 200<<20, h.Sum(nil)); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
		e.docker(nil, "kill", c.id)
	})
}
