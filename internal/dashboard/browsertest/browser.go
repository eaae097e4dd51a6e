// Package browsertest drives a Chromium for tests, over a pipe by the DevTools protocol: pages are opened, read, clicked
// and typed into as a person does, and everything that they load or complain about is noted.
package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Timeout is how long a test waits for what a page does.
const Timeout = 20 * time.Second

// Browser is a running Chromium. It may be used by several goroutines; each of its tabs by one.
type Browser struct {
	t  testing.TB
	in io.Writer

	mu      sync.Mutex
	last    int                             // number of the last command; guarded by mu
	waiting map[int]chan<- browserMessage   // by the number of the command; guarded by mu
	tabs    map[string]func(browserMessage) // what takes the events of a session; guarded by mu
	ended   error                           // guarded by mu
}

type browserMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`

	SessionID string `json:"sessionId,omitempty"`
}

// Start starts a browser, which ends with the test. On Linux, make test has installed it (scripts/needs.sh test);
// elsewhere the test is skipped where there is none.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if runtime.GOOS != "linux" {
			t.Skip("it needs a program named chromium")
		}
		t.Fatal("it needs Chromium: sh scripts/needs.sh test, or on Debian apt-get install chromium")
	}
	toBrowser, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "agento-browser-") // not t.TempDir: Chromium's helpers may write there until a moment after its end
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(context.WithoutCancel(t.Context()), path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-dev-shm-usage", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "--user-data-dir="+profile, "about:blank")
	c.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	if err := c.Start(); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	_ = toBrowser.Close() // the browser has its own
	_ = fromBrowser.Close()
	b := &Browser{t: t, in: in, waiting: map[int]chan<- browserMessage{}, tabs: map[string]func(browserMessage){}}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(bufio.NewReaderSize(out, 1<<20)) })
	t.Cleanup(func() {
		_ = in.Close()                                                           // it ends with its pipe
		stuck := time.AfterFunc(10*time.Second, func() { _ = c.Process.Kill() }) // or by its id
		_ = c.Wait()
		stuck.Stop()
		reading.Wait()
		_ = out.Close()
		_ = os.RemoveAll(profile)
	})
	return b
}

// read passes on what the browser says, until it ends.
func (b *Browser) read(out *bufio.Reader) {
	var failure error
	for failure == nil {
		text, err := out.ReadBytes(0)
		if err != nil {
			failure = err
			break
		}
		var m browserMessage
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			failure = err
			break
		}
		b.mu.Lock()
		answer, handle := b.waiting[m.ID], b.tabs[m.SessionID]
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m
		case m.ID == 0 && handle != nil:
			handle(m)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = fmt.Errorf("the browser has ended: %w", failure)
	for id, answer := range b.waiting {
		close(answer)
		delete(b.waiting, id)
	}
}

// send sends a command; its answer comes from the channel, which is closed if the browser ends.
func (b *Browser) send(session, method string, params any) (<-chan browserMessage, error) {
	encoded, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	answer := make(chan browserMessage, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return nil, b.ended
	}
	b.last++
	text, err := json.Marshal(browserMessage{ID: b.last, Method: method, Params: encoded, SessionID: session})
	if err != nil {
		return nil, err
	}
	b.waiting[b.last] = answer
	_, err = b.in.Write(append(text, 0))
	return answer, err
}

// call sends a command and decodes its result.
func (b *Browser) call(session, method string, params, result any) error {
	answer, err := b.send(session, method, params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case m, ok := <-answer:
		if !ok {
			return fmt.Errorf("%s: the browser has ended", method)
		}
		if m.Error != nil {
			return fmt.Errorf("%s: %w", method, protocolError(m.Error))
		}
		if result != nil {
			return json.Unmarshal(m.Result, result)
		}
		return nil
	case <-time.After(2 * Timeout):
		return fmt.Errorf("%s: no answer of the browser", method)
	}
}

// protocolError is the browser's own text of a command that failed.
type protocolError json.RawMessage

// Error implements error.
func (e protocolError) Error() string { return string(e) }

// Profile is a person at the browser, with cookies and storage that no other profile sees.
type Profile struct {
	browser *Browser
	context string
}

// Profile returns a new profile.
func (b *Browser) Profile() *Profile {
	b.t.Helper()
	var context struct{ BrowserContextID string }
	if err := b.call("", "Target.createBrowserContext", nil, &context); err != nil {
		b.t.Fatal(err)
	}
	return &Profile{b, context.BrowserContextID}
}

// Tab returns a tab of a new profile.
func (b *Browser) Tab() *Tab {
	b.t.Helper()
	return b.Profile().Tab()
}
