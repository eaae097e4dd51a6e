package runtimetest

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
)

func testLogs(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	for i := range 10 {
		g.Ask("/print", "line", "line "+strconv.Itoa(i))
	}
	g.WaitLog("line 9\n")
	check := func(when string) {
		if got, want := g.Log(3), "line 7\nline 8\nline 9\n"; got != want {
			t.Errorf("%s, tail 3: %q", when, got)
		}
		if got := g.Log(0); got != "" {
			t.Errorf("%s, tail 0: %q", when, got)
		}
		for _, tail := range []int{-1, 1000} {
			if got := g.Log(tail); !strings.Contains(got, "boot ") || !strings.HasSuffix(got, "line 8\nline 9\n") {
				t.Errorf("%s, tail %d: %q", when, tail, got)
			}
		}
	}
	check("running")
	_, _ = g.Try("/exit", "code", "1")
	g.WaitExit()
	check("ended")
}

// followLogs returns the lines of the log as they are written.
func followLogs(t *testing.T, d runtime.Driver, g *Gateway, tail int) (lines <-chan string, stop func()) {
	t.Helper()
	r, err := d.Logs(t.Context(), g.Place, g.ID, tail, true)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 100_000)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(r); s.Scan(); {
			out <- s.Text()
		}
	}()
	return out, func() { _ = r.Close() }
}

// waitLine reads lines until one is want. It returns the lines that it has read.
func waitLine(t *testing.T, lines <-chan string, want string) []string {
	t.Helper()
	var seen []string
	deadline := time.After(waitTimeout)
	for {
		select {
		case line, ok := <-lines:
			seen = append(seen, line)
			if line == want {
				return seen
			}
			if !ok {
				t.Fatalf("the log ended before %q: %q", want, seen)
			}
		case <-deadline:
			t.Fatalf("no line %q: %q", want, seen)
		}
	}
}

func testLogsFollow(t *testing.T, e Env) {
	s := Spec(NewID())
	g := Start(t, e.Driver, s)
	g.Ask("/print", "line", "before")
	g.WaitLog("before\n")
	lines, stop := followLogs(t, e.Driver, g, 1)
	if first := <-lines; first != "before" {
		t.Errorf("the first line is %q", first)
	}
	g.Ask("/print", "line", "live")
	waitLine(t, lines, "live")
	_, _ = g.Try("/exit", "code", "1")
	g.WaitExit()
	g = StartAgain(t, e.Driver, stopGateway(t, e.Driver, s, g))
	waitLine(t, lines, "boot "+g.Ask("/boot"))
	g.Ask("/print", "line", "after")
	waitLine(t, lines, "after")
	stop()
	for range lines {
	}
}
