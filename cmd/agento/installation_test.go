package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver named sqlite

	"agento.host/agento/client"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// waitTimeout limits every wait of these tests. A gateway takes up to 80 s to boot on
// a loaded machine (docs/openclaw.md).
const waitTimeout = 4 * time.Minute

// installation is a data directory and its server process, which can be killed and
// started again.
type installation struct {
	t      testing.TB
	data   string
	model  *devmodel.Server
	bot    *openclawtest.Telegram
	keys   map[string]string // by account
	passed []*os.File        // that the server inherits

	cmd  *exec.Cmd
	logs *serverLog
	done chan struct{} // closed when the server has ended
	url  string
}

// newInstallation makes a data directory with accounts of these names, and a scripted
// model for the agents of the test. Everything is stopped at the end of the test.
func newInstallation(t testing.TB, accounts ...string) *installation {
	t.Helper()
	return newInstallationIn(t, t.TempDir(), accounts...)
}

// newInstallationIn is newInstallation with a data directory of the caller.
func newInstallationIn(t testing.TB, data string, accounts ...string) *installation {
	t.Helper()
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, data: data, model: model, bot: openclawtest.NewTelegram(), keys: map[string]string{}}
	t.Cleanup(func() {
		in.kill()
		in.removeGateways()
		in.bot.Close()
		if err := model.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() && in.logs != nil {
			t.Logf("the server's log:\n%s", in.logs)
		}
	})
	in.run("migrate")
	for _, name := range accounts {
		in.run("accounts", "create", name)
		in.keys[name] = strings.TrimSpace(in.run("keys", "create", name, "--rate-limit", "10000"))
	}
	return in
}

// program returns a command that runs this test binary as agento; see TestMain.
func (in *installation) program(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		in.t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "agento"
	cmd.Env = append(os.Environ(), "AGENTO_DATA="+in.data, "SERVER_ONLY=hidden-from-agents")
	return cmd
}

// run runs an admin command and returns its output.
func (in *installation) run(args ...string) string {
	in.t.Helper()
	cmd := in.program(args...)
	var failure strings.Builder
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		in.t.Fatalf("agento %s: %v\n%s", strings.Join(args, " "), err, failure.String())
	}
	return string(out)
}

// start starts the server and returns when it prints its address.
func (in *installation) start() {
	in.t.Helper()
	cmd := in.program("serve", "--listen=127.0.0.1:0", "--allow-private-endpoints", "--log-level=debug", "--telegram-url="+in.bot.URL)
	cmd.ExtraFiles = in.passed
	in.startAs(cmd)
}

// startAs starts the server by a command, and returns when it prints its address.
func (in *installation) startAs(cmd *exec.Cmd) {
	in.t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	in.logs = newServerLog()
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.cmd, in.done = cmd, make(chan struct{})
	go func() {
		in.logs.read(stderr)
		_ = cmd.Wait() // a killed server returns an error
		close(in.done)
	}()
	match, err := in.logs.await(waitTimeout, regexp.MustCompile(`agento listens on (http://\S+)`))
	if err != nil {
		in.t.Fatalf("the server did not start: %v\n%s", err, in.logs)
	}
	in.url = match[1]
}

// kill kills the server as a crash does, without any cleanup.
func (in *installation) kill() {
	if in.cmd == nil {
		return
	}
	_ = in.cmd.Process.Kill() // it may have ended already
	<-in.done
	in.cmd = nil
}

// stop stops the server with SIGTERM.
func (in *installation) stop() {
	in.t.Helper()
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		in.t.Fatal(err)
	}
	<-in.done
	if code := in.cmd.ProcessState.ExitCode(); code != 0 {
		in.t.Errorf("the server ended with code %d", code)
	}
	in.cmd = nil
}

// openDatabase opens the database of the running server, for data that no API returns.
func (in *installation) openDatabase() *sql.DB {
	in.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(in.data, "agento.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		in.t.Fatal(err)
	}
	return db
}

// client returns an API client with the key of an account.
func (in *installation) client(account string) *client.Client {
	return &client.Client{URL: in.url, APIKey: in.keys[account], HTTP: &http.Client{Timeout: waitTimeout}, Retries: -1}
}

// newAgent returns a request for an agent that uses the scripted model.
func (in *installation) newAgent(name string) client.CreateAgentRequest {
	return client.CreateAgentRequest{
		Name:    name,
		Secrets: map[string]string{"anthropicApiKey": "sk-ant-" + name},
		Config:  map[string]any{"baseUrl": in.model.URL()},
	}
}

// gateways returns the gateways and homes that exist on the machine, whatever the records say.
func (in *installation) gateways() []runtime.Found {
	in.t.Helper()
	found, err := in.driver().List(context.Background())
	if err != nil {
		in.t.Fatal(err)
	}
	return found
}

func (in *installation) driver() runtime.Driver {
	d, err := process.Flags{}.Open(runtime.Settings{Installation: in.id(), Dir: filepath.Join(in.data, "agents"), Command: []string{"true"}})
	if err != nil {
		in.t.Fatal(err)
	}
	return d
}

// id returns the id of the installation, from the mark of a home; empty: there is none.
func (in *installation) id() string {
	marks, err := filepath.Glob(filepath.Join(in.data, "agents", "*", "installation"))
	if err != nil || len(marks) == 0 {
		return ""
	}
	mark, err := os.ReadFile(marks[0])
	if err != nil {
		in.t.Fatal(err)
	}
	return strings.TrimSpace(string(mark))
}

// copy copies the data directory, as cp does, and returns the installation of the copy.
// Its server has been killed, its gateways may run.
func (in *installation) copy() *installation {
	in.t.Helper()
	other := newInstallation(in.t)
	other.model, other.keys = in.model, in.keys
	if out, err := exec.Command("cp", "-a", in.data+"/.", other.data).CombinedOutput(); err != nil {
		in.t.Fatalf("copy: %v\n%s", err, out)
	}
	return other
}

func (in *installation) removeGateways() {
	d := in.driver()
	found, err := d.List(context.Background())
	for _, f := range found {
		err = errors.Join(err, d.Remove(context.Background(), f.Place, f.ID))
	}
	if err != nil {
		in.t.Error(err)
	}
}

// serverLog collects the output of a server process.
type serverLog struct {
	mu    sync.Mutex
	text  strings.Builder // guarded by mu
	more  chan struct{}   // closed at the next line; guarded by mu
	ended bool            // guarded by mu
}

func newServerLog() *serverLog { return &serverLog{more: make(chan struct{})} }

func (l *serverLog) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		l.add(in.Text()+"\n", false)
	}
	l.add("", true)
}

func (l *serverLog) add(text string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(text)
	l.ended = ended
	close(l.more)
	l.more = make(chan struct{})
}

// String implements fmt.Stringer.
func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *serverLog) await(limit time.Duration, pattern *regexp.Regexp) ([]string, error) {
	deadline := time.After(limit)
	for {
		l.mu.Lock()
		found, ended, more := pattern.FindStringSubmatch(l.text.String()), l.ended, l.more
		l.mu.Unlock()
		if found != nil {
			return found, nil
		}
		if ended {
			return nil, errors.New("the server ended")
		}
		select {
		case <-more:
		case <-deadline:
			return nil, errors.New("timeout")
		}
	}
}

// send sends a message and returns the whole answer.
func send(t testing.TB, c *client.Client, agent string, in client.ChatRequest) string {
	t.Helper()
	text, err := trySend(t.Context(), c, agent, in)
	if err != nil {
		t.Fatalf("chat %q: %v", in.Message, err)
	}
	return text
}

func trySend(ctx context.Context, c *client.Client, agent string, in client.ChatRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	var text strings.Builder
	for e, err := range c.Chat(ctx, agent, in) {
		if err != nil {
			return text.String(), err
		}
		if e.Type == "error" {
			return text.String(), &client.Error{Code: e.Code, Message: e.Message}
		}
		text.WriteString(e.Content)
	}
	return text.String(), nil
}

// waitUntil polls until ok returns true.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(waitTimeout)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timeout; waited until %s", what)
		}
		<-tick.C
	}
}
