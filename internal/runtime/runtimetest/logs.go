package runtimetest

import (
	"bufio"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime"
)

func testLogs(t *testing.T, b Bed) {
	g := Start(t, b.Driver, Spec(NewID()))
	for i := range 10 {
		g.Ask("/print", "line", "line "+strconv.Itoa(i))
	}
	g.AwaitLog("line 9\n")
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
	g.AwaitEnd()
	check("ended")
}

// follow reads lines as they come.
func follow(t *testing.T, d runtime.Driver, g *Gateway, tail int) (lines <-chan string, stop func()) {
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

// awaitLine reads lines until one is as wanted, and returns all.
func awaitLine(t *testing.T, lines <-chan string, want string) []string {
	t.Helper()
	var seen []string
	deadline := time.After(patience)
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

func testFollow(t *testing.T, b Bed) {
	s := Spec(NewID())
	g := Start(t, b.Driver, s)
	g.Ask("/print", "line", "before")
	g.AwaitLog("before\n")
	lines, stop := follow(t, b.Driver, g, 1)
	if first := <-lines; first != "before" {
		t.Errorf("the first line is %q", first)
	}
	g.Ask("/print", "line", "live")
	awaitLine(t, lines, "live")
	_, _ = g.Try("/exit", "code", "1")
	g.AwaitEnd()
	g = StartAgain(t, b.Driver, stopped(t, b.Driver, s, g))
	awaitLine(t, lines, "boot "+g.Ask("/boot"))
	g.Ask("/print", "line", "after")
	awaitLine(t, lines, "after")
	stop()
	for range lines {
	}
}
