//go:build !race

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/devmodel"
)

// pageMachine is a machine that the commands of a page run on: a directory in place of /, and
// a systemctl for one service.
type pageMachine struct {
	t       *testing.T
	root    string
	address string // of the server
}

// pagePaths are the directories of a machine that the pages name.
var pagePaths = regexp.MustCompile(`(^|[\s=(])(/(?:var/lib|srv|root|usr/local/bin)(?:/|\b))`)

// systemctlScript starts, stops and restarts a server, as systemd does by the unit file.
const systemctlScript = `#!/bin/sh
set -eu
pid=$ROOT/server.pid log=$ROOT/server.log
stop() {
	[ -f "$pid" ] || return 0
	kill "$(cat "$pid")"
	while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.05; done
	rm "$pid"
}
start() {
	: >"$log"
	setsid agento serve --listen "$ADDRESS" --data "$ROOT/var/lib/agento" --allow-private-endpoints >>"$log" 2>&1 </dev/null &
	echo $! >"$pid"
	until grep -q 'agento listens on' "$log"; do
		kill -0 "$(cat "$pid")" || { cat "$log" >&2; exit 1; }
		sleep 0.05
	done
}
case "$*" in
'stop agento' | 'disable --now agento') stop ;;
'start agento' | 'enable --now agento') start ;;
'restart agento') stop; start ;;
*) echo "systemctl $*: not in this test" >&2; exit 1 ;;
esac
`

// scpScript copies to the other machine.
const scpScript = `#!/bin/sh
set -eu
for last; do :; done
to=$NEW${last#new:}
mkdir -p "$(dirname "$to")"
[ "$1" = -r ] && cp -R "$2" "$to" || cp "$1" "$to"
`

func newPageMachine(t *testing.T) *pageMachine {
	t.Helper()
	m := &pageMachine{t: t, root: t.TempDir()}
	self, err := os.Executable()
	l, listenErr := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err := errors.Join(err, listenErr); err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	err = l.Close()
	for _, dir := range []string{"var/lib", "srv", "root", "usr/local/bin", "bin"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(m.root, dir), 0o755))
	}
	for name, text := range map[string]string{"systemctl": systemctlScript, "scp": scpScript} {
		err = errors.Join(err, os.WriteFile(filepath.Join(m.root, "bin", name), []byte(text), 0o755))
	}
	for _, name := range []string{"usr/local/bin/agento", "root/agento"} {
		err = errors.Join(err, os.Symlink(self, filepath.Join(m.root, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	return m
}

// kill ends the server of the machine, if one runs.
func (m *pageMachine) kill() {
	text, err := os.ReadFile(filepath.Join(m.root, "server.pid"))
	if err != nil {
		return
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	if !m.t.Failed() {
		return
	}
	logs, err := filepath.Glob(filepath.Join(m.data(), agentsDir, "*", "log", "gateway.log"))
	for _, path := range append(logs, filepath.Join(m.root, "server.log")) {
		log, readErr := os.ReadFile(path)
		m.t.Logf("%s:\n%s%v", path, log, errors.Join(err, readErr))
	}
}

func (m *pageMachine) data() string { return filepath.Join(m.root, "var/lib/agento") }

// run runs commands of a page, and returns what they print.
func (m *pageMachine) run(other *pageMachine, commands string) string {
	m.t.Helper()
	commands = pagePaths.ReplaceAllString(commands, "${1}"+m.root+"${2}")
	commands = strings.ReplaceAll(commands, "127.0.0.1:8080", m.address)
	ctx, cancel := context.WithTimeout(m.t.Context(), waitTimeout)
	defer cancel()
	sh := exec.CommandContext(ctx, "sh")
	sh.Stdin = strings.NewReader("set -eux\n" + commands)
	sh.Env = append(os.Environ(), "ROOT="+m.root, "ADDRESS="+m.address, "PATH="+filepath.Join(m.root, "bin")+":"+filepath.Join(m.root, "usr/local/bin")+":"+os.Getenv("PATH"))
	if other != nil {
		sh.Env = append(sh.Env, "NEW="+other.root)
	}
	var out bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &out
	if err := sh.Run(); err != nil {
		m.t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// pageBlocks returns the blocks of commands of a page, with what is said of each behind
// shell: the machine.
func pageBlocks(t *testing.T, page string) (blocks [][2]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^ *```shell *([a-z]*)\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, [2]string{m[1], m[2]})
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/%s has no commands", page)
	}
	return blocks
}

// runPage runs the commands of a page, in order, on the machine and, where the page says so,
// on the other one.
func (m *pageMachine) runPage(page string, other *pageMachine) {
	m.t.Helper()
	for _, b := range pageBlocks(m.t, page) {
		if b[0] == "new" {
			other.run(nil, b[1])
		} else {
			m.run(other, b[1])
		}
	}
}

// installationOn returns an installation whose data are on the machine, with a server that
// its systemctl has started.
func (m *pageMachine) installationOn() *installation {
	m.t.Helper()
	in := newInstallationIn(m.t, m.data(), "acme")
	m.run(nil, "systemctl start agento")
	in.url = "http://" + m.address
	return in
}

// TestOperatorPages runs the commands of the pages for operators, without agents.
func TestOperatorPages(t *testing.T) {
	old, next := newPageMachine(t), newPageMachine(t)
	in := old.installationOn()
	first := installationOf(t, in)
	old.runPage("backup.md", nil)
	second := installationOf(t, in)
	old.runPage("upgrade.md", nil)
	old.runPage("move.md", next)
	in.data, in.url = next.data(), "http://"+next.address
	if third := installationOf(t, in); first == second || second == third {
		t.Errorf("the installations are %s, %s, %s", first, second, third)
	}
	if _, err := in.client("acme").ListAgents(t.Context(), client.AgentQuery{}); err != nil {
		t.Error(err)
	}
}

// TestChaosOperatorPages is TestOperatorPages with a live gateway, and a chat under way in
// every backup.
func TestChaosOperatorPages(t *testing.T) {
	needsChaos(t)
	old, next := newPageMachine(t), newPageMachine(t)
	in := old.installationOn()
	moved := &installation{t: t, data: next.data(), url: "http://" + next.address, model: in.model, bot: in.bot, keys: in.keys}
	t.Cleanup(func() { next.kill(); moved.removeGateways() })
	ada, err := in.client("acme").CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	in.model.Script(func(r devmodel.Request) (devmodel.Reply, bool) {
		// OpenClaw joins a message whose answer was cut off with the next one.
		tells := strings.Contains(r.LastUser(), "tell a long story") && !strings.Contains(r.LastUser(), "echo")
		return devmodel.Reply{Chunks: slices.Repeat([]string{"and then "}, 10_000), Delay: 100 * time.Millisecond}, tells
	})
	for i, page := range []string{"backup.md", "upgrade.md", "move.md"} {
		said := fmt.Sprintf("said before page %d", i)
		if got := send(t, in.client("acme"), ada.ID, client.ChatRequest{Message: "echo " + said}); !strings.HasPrefix(got, said) {
			t.Fatalf("%q", got)
		}
		waitUntil(t, "the home has what was said", func() bool { return homeContains(t, in, ada.ID, said) })
		chat := chatUnderWay(t, in, ada.ID)
		old.runPage(page, next)
		if err := <-chat; err == nil {
			t.Errorf("%s: the answer did not last until the server stopped", page)
		}
		t.Logf("the commands of %s have run", page)
		if page == "move.md" {
			in = moved
		}
		waitUntil(t, "the agent runs", func() bool {
			a, err := in.client("acme").Agent(t.Context(), ada.ID)
			return err == nil && a.Status == client.Running
		})
		if !homeContains(t, in, ada.ID, said) {
			t.Errorf("%s: the home has lost what was said before", page)
		}
		waitUntil(t, "the agent answers", func() bool { // a message may have to be sent again after a restart
			got, err := trySend(t.Context(), in.client("acme"), ada.ID, client.ChatRequest{Message: "echo after it"})
			if err != nil {
				t.Logf("%s: %v", page, err)
			}
			return err == nil && strings.HasPrefix(got, "after it")
		})
	}
	history, err := in.client("acme").History(t.Context(), ada.ID, client.HistoryQuery{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, m := range history {
		said = append(said, m.Content)
	}
	for i := range 3 {
		if want := fmt.Sprintf("said before page %d", i); !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("the history has no %q: %q", want, said)
		}
	}
}

// chatUnderWay starts an answer that is longer than any page takes, and returns when its text
// comes.
func chatUnderWay(t *testing.T, in *installation, agent string) <-chan error {
	t.Helper()
	begun, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*waitTimeout)
	t.Cleanup(cancel)
	go func() {
		first := true
		for e, err := range in.client("acme").Chat(ctx, agent, client.ChatRequest{Message: "tell a long story"}) {
			if err == nil && e.Type == "error" {
				err = errors.New(e.Message)
			}
			if err != nil {
				ended <- err
				return
			}
			if first && e.Content != "" {
				close(begun)
				first = false
			}
		}
		ended <- nil
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatalf("the chat did not begin: %v", err)
	case <-time.After(waitTimeout):
		t.Fatal("the chat did not begin")
	}
	return ended
}
