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

// patience bounds every wait of these tests; a loaded machine boots a gateway in
// 80 s (docs/openclaw.md).
const patience = 4 * time.Minute

// installation is a data directory with a server on it that can be killed and
// started again, as an operator's machine would.
type installation struct {
	t     *testing.T
	data  string
	model *devmodel.Server
	bot   *openclawtest.Telegram
	keys  map[string]string // by account

	cmd  *exec.Cmd
	logs *transcript
	done chan struct{} // closed when the server has ended
	url  string
}

// install makes a data directory with the accounts named, and a model that every
// agent of the test talks to. At the end of the test nothing of it runs on.
func newInstallation(t *testing.T, accounts ...string) *installation {
	t.Helper()
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, data: t.TempDir(), model: model, bot: openclawtest.NewTelegram(), keys: map[string]string{}}
	t.Cleanup(func() {
		in.kill()
		in.sweep()
		in.bot.Close()
		if err := model.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() && in.logs != nil {
			t.Logf("the server's log:\n%s", in.logs)
		}
	})
	for _, name := range accounts {
		in.run("accounts", "create", name)
		in.keys[name] = strings.TrimSpace(in.run("keys", "create", name, "--rate-limit", "10000"))
	}
	return in
}

// program is this test binary under the name agento; see TestMain.
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

// run runs an admin command and returns what it printed.
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

// start starts the server and returns when it says where it listens.
func (in *installation) start() {
	in.t.Helper()
	cmd := in.program("serve", "--listen=127.0.0.1:0", "--allow-private-endpoints", "--require-sandbox", "--log-level=debug", "--telegram-url="+in.bot.URL)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	in.logs = newTranscript()
	if err := cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.cmd, in.done = cmd, make(chan struct{})
	go func() {
		in.logs.read(stderr)
		_ = cmd.Wait() // killed servers end with an error
		close(in.done)
	}()
	said, err := in.logs.await(patience, regexp.MustCompile(`agento listens on (http://\S+)`))
	if err != nil {
		in.t.Fatalf("the server did not start: %v\n%s", err, in.logs)
	}
	in.url = said[1]
}

// kill ends the server as a crash does: nothing gets a chance to clean up.
func (in *installation) kill() {
	if in.cmd == nil {
		return
	}
	_ = in.cmd.Process.Kill() // it may be dead already
	<-in.done
	in.cmd = nil
}

// stop ends the server as an operator does.
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

// records opens the server's database beside it, for what no API shows.
func (in *installation) records() *sql.DB {
	in.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(in.data, "agento.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		in.t.Fatal(err)
	}
	return db
}

// as is a client with an account's key.
func (in *installation) as(account string) *client.Client {
	return &client.Client{URL: in.url, APIKey: in.keys[account], HTTP: &http.Client{Timeout: patience}}
}

// newAgent asks for an agent that talks to the test's model.
func (in *installation) newAgent(name string) client.CreateAgentRequest {
	return client.CreateAgentRequest{
		Name:    name,
		Secrets: map[string]string{"anthropicApiKey": "sk-ant-" + name},
		Config:  map[string]any{"baseUrl": in.model.URL()},
	}
}

// gateways is what runs or lies on the machine, whatever the server thinks.
func (in *installation) gateways() []runtime.Found {
	in.t.Helper()
	found, err := in.driver().List(context.Background())
	if err != nil {
		in.t.Fatal(err)
	}
	return found
}

func (in *installation) driver() *process.Driver {
	d, err := process.New(process.Settings{Dir: filepath.Join(in.data, "agents"), Command: []string{"true"}})
	if err != nil {
		in.t.Fatal(err)
	}
	return d
}

func (in *installation) sweep() {
	d := in.driver()
	found, err := d.List(context.Background())
	for _, f := range found {
		err = errors.Join(err, d.Remove(context.Background(), f.Place, f.ID))
	}
	if err != nil {
		in.t.Error(err)
	}
}

// transcript is what a server says, as it says it.
type transcript struct {
	mu    sync.Mutex
	text  strings.Builder // guarded by mu
	more  chan struct{}   // closed at the next line; guarded by mu
	ended bool            // guarded by mu
}

func newTranscript() *transcript { return &transcript{more: make(chan struct{})} }

func (tr *transcript) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		tr.add(in.Text()+"\n", false)
	}
	tr.add("", true)
}

func (tr *transcript) add(text string, ended bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.text.WriteString(text)
	tr.ended = ended
	close(tr.more)
	tr.more = make(chan struct{})
}

// String implements fmt.Stringer.
func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

func (tr *transcript) await(limit time.Duration, pattern *regexp.Regexp) ([]string, error) {
	deadline := time.After(limit)
	for {
		tr.mu.Lock()
		found, ended, more := pattern.FindStringSubmatch(tr.text.String()), tr.ended, tr.more
		tr.mu.Unlock()
		if found != nil {
			return found, nil
		}
		if ended {
			return nil, errors.New("it ended")
		}
		select {
		case <-more:
		case <-deadline:
			return nil, errors.New("it took too long")
		}
	}
}

// say sends a message and returns the whole answer.
func say(t *testing.T, c *client.Client, agent string, in client.ChatRequest) string {
	t.Helper()
	text, err := trySay(t.Context(), c, agent, in)
	if err != nil {
		t.Fatalf("chat %q: %v", in.Message, err)
	}
	return text
}

func trySay(ctx context.Context, c *client.Client, agent string, in client.ChatRequest) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// eventually waits until ok, looking again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}
