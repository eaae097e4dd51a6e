package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func TestLogs(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.set(a.ID, map[string]string{"MY_VAR": "first line\nsecond\tline", "SHORT": "abc", "LONGER": "first line and more"})
	w.driver.Print(identity.AgentID(a.ID), "not shown")
	w.driver.Print(identity.AgentID(a.ID), `{"time":"2026-02-10T14:00:05.123Z","level":"warn","subsystem":"x","message":"keys: sk-ant-test abc"}`)
	w.driver.Print(identity.AgentID(a.ID), "plain \x1b[31mfirst line\x1b[0m of it, first line and more")
	w.driver.Print(identity.AgentID(a.ID), "then second\tline and "+w.token(a, gatewayToken).Reveal()[len(a.ID)+1:])
	want := "2026-02-10T14:00:05.123Z [warn] x: keys: [secret] abc\nplain [secret] of it, [secret]\nthen [secret] and [secret]\n"
	if got, err := w.Logs(t.Context(), w.who, a.ID, 3); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitStopped(w.ctx(), asked)
	w.must(err)
	if got, err := w.Logs(t.Context(), w.who, a.ID, 3); err != nil || got != want {
		t.Errorf("when stopped: %s, %v", got, err)
	}
	stranger := access.Principal{AccountID: "acct_2"}
	if _, err := w.Logs(t.Context(), stranger, a.ID, 3); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stranger: %v", err)
	}
	if err := w.FollowLogs(t.Context(), stranger, a.ID, 3, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stranger: %v", err)
	}
}

// reader follows a log in the background.
type reader struct {
	lines chan string
	ended chan error
}

func (w *world) follow(ctx context.Context, id string, tail int) *reader {
	r := &reader{make(chan string), make(chan error, 1)}
	go func() {
		r.ended <- w.FollowLogs(ctx, w.who, id, tail, func(line string) error {
			select {
			case r.lines <- line:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return r
}

func (w *world) next(r *reader) string {
	w.t.Helper()
	select {
	case line := <-r.lines:
		return line
	case err := <-r.ended:
		w.t.Fatalf("ended: %v", err)
	case <-w.ctx().Done():
		w.t.Fatal("no line")
	}
	return ""
}

func TestFollow(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	for _, line := range []string{"one", "two", "three"} {
		w.driver.Print(identity.AgentID(a.ID), line)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := w.follow(ctx, a.ID, 2)
	if got := []string{w.next(r), w.next(r)}; !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("%q", got)
	}
	w.driver.Print(identity.AgentID(a.ID), "four sk-ant-test")
	if got := w.next(r); got != "four [secret]" {
		t.Errorf("%q", got)
	}
	w.driver.Kill(identity.AgentID(a.ID), 1) // over a restart of the gateway
	if _, err := w.turn(a.ID); err != nil {
		t.Fatal(err)
	}
	w.driver.Print(identity.AgentID(a.ID), "five")
	if got := w.next(r); got != "five" {
		t.Errorf("%q", got)
	}
	cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestFollowLearnsSecrets masks what the gateway was given after the reader came,
// and what it had before.
func TestFollowLearnsSecrets(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.set(a.ID, map[string]string{"MY_VAR": "old-secret"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.driver.Print(identity.AgentID(a.ID), "old-secret")
	r := w.follow(ctx, a.ID, 1)
	got := w.next(r)
	w.set(a.ID, map[string]string{"MY_VAR": "new-secret"})
	asked, err := w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	w.driver.Print(identity.AgentID(a.ID), "new-secret and old-secret")
	if got += "; " + w.next(r); got != "[secret]; [secret] and [secret]" {
		t.Errorf("%q", got)
	}
}

func TestFollowEndsWithTheAgent(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Print(identity.AgentID(a.ID), "here")
	r := w.follow(t.Context(), a.ID, 1)
	w.next(r)
	asked, err := w.Delete(w.ctx(), w.who, a.ID)
	w.must(err)
	w.must(w.AwaitDeleted(w.ctx(), asked))
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestFollowEndsWithItsReader(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.driver.Print(identity.AgentID(a.ID), "here")
	gone := errors.New("the reader has gone")
	if err := w.FollowLogs(t.Context(), w.who, a.ID, 1, func(string) error { return gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// TestSlowReader loses lines, is told how many, and holds nobody up.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, quick := w.follow(ctx, a.ID, 1), w.follow(ctx, a.ID, 1)
	w.driver.Print(identity.AgentID(a.ID), "0")
	if w.next(slow) != "0" || w.next(quick) != "0" {
		t.Error("no first line")
	}
	const lines = 5 * maxBehind
	for i := 1; i <= lines; i++ {
		w.driver.Print(identity.AgentID(a.ID), fmt.Sprint(i))
		if got := w.next(quick); got != fmt.Sprint(i) {
			t.Fatalf("the quick reader got %q for %d", got, i)
		}
	}
	seen, lost, markers := 0, 0, 0
	for {
		line := w.next(slow)
		var n int
		if _, err := fmt.Sscanf(line, "… %d lines were lost", &n); err == nil {
			lost, markers = lost+n, markers+1
			continue
		}
		if seen++; line == fmt.Sprint(lines) {
			break
		}
	}
	if seen+lost != lines || lost == 0 || markers == 0 {
		t.Errorf("%d seen, %d lost of %d, by %d markers", seen, lost, lines, markers)
	}
}

// TestLongTail is given whole to a reader that is quick enough.
func TestLongTail(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	const lines = 9000
	for i := range lines {
		w.driver.Print(identity.AgentID(a.ID), fmt.Sprint(i, strings.Repeat("x", 100)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := w.follow(ctx, a.ID, lines)
	for i := range lines {
		if got := w.next(r); !strings.HasPrefix(got, fmt.Sprint(i, "x")) {
			t.Fatalf("line %d is %.20q", i, got)
		}
	}
}

func TestQueueBoundsBytes(t *testing.T) {
	q := newQueue(0)
	for range 200 {
		q.put(strings.Repeat("x", maxLogLine))
	}
	if q.bytes > maxBehindBytes || q.lost == 0 || q.bytes != len(q.lines)*maxLogLine {
		t.Errorf("%d bytes in %d lines, %d lost", q.bytes, len(q.lines), q.lost)
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLogLine)
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"none": {"", nil}, "one": {"a\n", []string{"a"}}, "no end": {"a\r\nb", []string{"a", "b"}}, "empty": {"\n\n", []string{"", ""}},
		"no text": {"\xff\xfea\n", []string{"�a"}}, "long": {long + "\nb\n", []string{long[:maxLogLine], "b"}},
	} {
		var got []string
		if err := lines(strings.NewReader(tt.text), func(s string) { got = append(got, s) }); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
	}
	broken := iotest.ErrReader(io.ErrClosedPipe)
	if err := lines(broken, func(string) {}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestBrokenLog(t *testing.T) {
	var got []string
	r := io.NopCloser(io.MultiReader(strings.NewReader("a\nb\n"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	keep := func(line string) error { got = append(got, line); return nil }
	if err := follow(t.Context(), r, newQueue(0), keep, keep); !errors.Is(err, io.ErrUnexpectedEOF) || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
}
