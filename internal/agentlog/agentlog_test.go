package agentlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func TestTailIsMasked(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.SetSecrets(a.ID, map[string]string{"MY_VAR": "first line\nsecond\tline", "SHORT": "abc", "LONGER": "first line and more"})
	e.Driver.Print(a.ID, "not shown")
	e.Driver.Print(a.ID, `{"time":"2026-02-10T14:00:05.123Z","level":"warn","subsystem":"x","message":"keys: sk-ant-test abc"}`)
	e.Driver.Print(a.ID, "plain \x1b[31mfirst line\x1b[0m of it, first line and more")
	e.Driver.Print(a.ID, "then second\tline and "+e.Token(a, "gateway").Reveal()[len(a.ID)+1:])
	want := "2026-02-10T14:00:05.123Z [warn] x: keys: [secret] abc\nplain [secret] of it, [secret]\nthen [secret] and [secret]\n"
	if got, err := e.Logs.Tail(t.Context(), agenttest.Account, a.ID, 3); err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	e.Stop(a.ID)
	if got, err := e.Logs.Tail(t.Context(), agenttest.Account, a.ID, 3); err != nil || got != want {
		t.Errorf("when stopped: %s, %v", got, err)
	}
	if _, err := e.Logs.Tail(t.Context(), "acct_2", a.ID, 3); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account: %v", err)
	}
	if err := e.Logs.Follow(t.Context(), "acct_2", a.ID, 3, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account: %v", err)
	}
}

// TestLongTailIsCut: a page of a log that nobody reads stays in memory.
func TestLongTailIsCut(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	const lines = 100
	for i := range lines {
		e.Driver.Print(a.ID, fmt.Sprintf(`{"level":"warn","message":"%d %s"}`, i, strings.Repeat("x", 60<<10)))
	}
	got, err := e.Logs.Tail(t.Context(), agenttest.Account, a.ID, lines)
	first, rest, _ := strings.Cut(got, "\n")
	var left int
	if n, scanErr := fmt.Sscanf(first, "… %d earlier lines", &left); err != nil || scanErr != nil || n != 1 || len(rest) > 4<<20 || left+strings.Count(rest, "\n") != lines {
		t.Errorf("%d bytes after %q, %v", len(rest), first, err)
	}
}

// reader follows a log in the background.
type reader struct {
	*agenttest.Env
	t     *testing.T
	lines chan string
	ended chan error
}

func follow(ctx context.Context, t *testing.T, e *agenttest.Env, id identity.AgentID, tail int) *reader {
	t.Helper()
	r := &reader{e, t, make(chan string), make(chan error, 1)}
	go func() {
		r.ended <- e.Logs.Follow(ctx, agenttest.Account, id, tail, func(line string) error {
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

func (r *reader) next() string {
	r.t.Helper()
	select {
	case line := <-r.lines:
		return line
	case err := <-r.ended:
		r.t.Fatalf("ended: %v", err)
	case <-r.Context().Done():
		r.t.Fatal("no line")
	}
	return ""
}

func TestFollowContinuesOverARestart(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	for _, line := range []string{"one", "two", "three"} {
		e.Driver.Print(a.ID, line)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := follow(ctx, t, e, a.ID, 2)
	if got := []string{r.next(), r.next()}; !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("%q", got)
	}
	e.Driver.Print(a.ID, "four sk-ant-test")
	if got := r.next(); got != "four [secret]" {
		t.Errorf("%q", got)
	}
	e.Driver.Kill(a.ID, 1) // over a restart of the gateway
	if _, err := e.Turn(a.ID); err != nil {
		t.Fatal(err)
	}
	e.Driver.Print(a.ID, "five")
	if got := r.next(); got != "five" {
		t.Errorf("%q", got)
	}
	cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

// TestFollowMasksOldAndNewSecrets: those that the gateway got after the reader came, and
// those that it had before.
func TestFollowMasksOldAndNewSecrets(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.SetSecrets(a.ID, map[string]string{"MY_VAR": "old-secret"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e.Driver.Print(a.ID, "old-secret")
	r := follow(ctx, t, e, a.ID, 1)
	got := r.next()
	e.SetSecrets(a.ID, map[string]string{"MY_VAR": "new-secret"})
	e.Restart(a.ID)
	e.Driver.Print(a.ID, "new-secret and old-secret")
	if got += "; " + r.next(); got != "[secret]; [secret] and [secret]" {
		t.Errorf("%q", got)
	}
}

func TestFollowEndsWhenTheAgentIsDeleted(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.Print(a.ID, "here")
	r := follow(t.Context(), t, e, a.ID, 1)
	r.next()
	e.Delete(a.ID)
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestFollowEndsWhenItsReaderFails(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Driver.Print(a.ID, "here")
	gone := errors.New("the reader has gone")
	if err := e.Logs.Follow(t.Context(), agenttest.Account, a.ID, 1, func(string) error { return gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// TestSlowReaderLosesLines: it reads how many, and does not delay another reader.
func TestSlowReaderLosesLines(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, quick := follow(ctx, t, e, a.ID, 1), follow(ctx, t, e, a.ID, 1)
	e.Driver.Print(a.ID, "0")
	if slow.next() != "0" || quick.next() != "0" {
		t.Error("no first line")
	}
	const lines = 5 * agentlog.MinBehind
	for i := 1; i <= lines; i++ {
		e.Driver.Print(a.ID, fmt.Sprint(i))
		if got := quick.next(); got != fmt.Sprint(i) {
			t.Fatalf("the quick reader got %q for %d", got, i)
		}
	}
	seen, lost, markers := 0, 0, 0
	for {
		line := slow.next()
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

func TestFastReaderGetsALongTail(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	const lines = 9000
	for i := range lines {
		e.Driver.Print(a.ID, fmt.Sprint(i, strings.Repeat("x", 100)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := follow(ctx, t, e, a.ID, lines)
	for i := range lines {
		if got := r.next(); !strings.HasPrefix(got, fmt.Sprint(i, "x")) {
			t.Fatalf("line %d is %.20q", i, got)
		}
	}
}
