package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// book is a logbook with a writer as a gateway has one.
func book(t *testing.T, dir string, most int64) (*logbook, *os.File) {
	t.Helper()
	b := &logbook{dir: filepath.Join(dir, "log"), max: most, keep: 2}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.part(0), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return b, f
}

func readAll(t *testing.T, b *logbook, tail int) string {
	t.Helper()
	r, err := b.read(t.Context(), tail, false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestLogsRotateUnderAWriter: a gateway writes, the server rotates, readers
// follow; every line comes once and in order.
func TestLogsRotateUnderAWriter(t *testing.T) {
	b, f := book(t, t.TempDir(), 4*block)
	const lines = 50_000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := b.read(ctx, 0, true)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	turn := make(chan struct{}, 1)
	go func() {
		defer close(written)
		for i := range lines {
			if _, err := fmt.Fprintf(f, "line %06d of a gateway that has much to say\n", i); err != nil {
				written <- err
				return
			}
			if i%2000 == 0 { // not faster than the reader for the whole log
				<-turn
			}
		}
	}()
	turn <- struct{}{}
	s := bufio.NewScanner(r)
	for i := range lines {
		if !s.Scan() {
			t.Fatalf("the log ended at line %d", i)
		}
		if want := fmt.Sprintf("line %06d of a gateway that has much to say", i); s.Text() != want {
			t.Fatalf("line %d is %q", i, s.Text())
		}
		if i%2000 == 0 && i+2000 < lines {
			if err := b.rotate(); err != nil {
				t.Fatal(err)
			}
			turn <- struct{}{}
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if b.cut == 0 {
		t.Error("it was never rotated")
	}
	checkKept(t, b, lines)
}

// checkKept reads what is kept, whole and by its end.
func checkKept(t *testing.T, b *logbook, lines int) {
	t.Helper()
	all := strings.SplitAfter(readAll(t, b, -1), "\n")
	all = all[:len(all)-1]
	for i, line := range all {
		if want := fmt.Sprintf("line %06d of", lines-len(all)+i); !strings.HasPrefix(line, want) {
			t.Fatalf("line %d from the start is %q, want %q", i, line, want)
		}
	}
	for _, tail := range []int{1, 2, 999, 3000, len(all) - 1, len(all), len(all) + 1} {
		got := strings.Count(readAll(t, b, tail), "\n")
		if got != min(tail, len(all)) {
			t.Errorf("tail %d of %d: %d lines", tail, len(all), got)
		}
	}
}

// TestLogsWithoutCutting: a file system that cannot cut heads off.
func TestLogsWithoutCutting(t *testing.T) {
	b, f := book(t, t.TempDir(), 2*block)
	line := strings.Repeat("x", 99) + "\n"
	for range 3000 {
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	live, err := os.OpenFile(b.part(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	if err := b.copyAway(live, 0, 4*block); err != nil {
		t.Fatal(err)
	}
	if err := b.truncate(live, 4*block); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("next\n"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, -1); got != strings.Repeat(line, 3000)+"next\n" {
		t.Errorf("%d bytes, the end is %q", len(got), got[max(0, len(got)-10):])
	}
}

// TestLogsEndless: an agent has made its log look like a terabyte.
func TestLogsEndless(t *testing.T) {
	b, f := book(t, t.TempDir(), 2*block)
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\nthe end\n"); err != nil {
		t.Fatal(err)
	}
	if err := b.rotate(); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, 1); got != "the end\n" {
		t.Errorf("tail: %q", got)
	}
	for n := range 2 {
		if st, err := os.Stat(b.part(n)); err != nil || st.Size() > 4*block {
			t.Errorf("part %d: %v %v", n, st.Size(), err)
		}
	}
	// It empties it altogether, and goes on.
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	r, err := b.read(t.Context(), 0, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err := f.WriteString("after\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "after\n" {
		t.Errorf("after: %q %v", line, err)
	}
}

func TestLogsUnfinishedLine(t *testing.T) {
	b, f := book(t, t.TempDir(), block)
	if _, err := f.WriteString("one\ntwo\nthr"); err != nil {
		t.Fatal(err)
	}
	for tail, want := range map[int]string{0: "", 1: "thr", 2: "two\nthr", 3: "one\ntwo\nthr", 9: "one\ntwo\nthr", -1: "one\ntwo\nthr"} {
		if got := readAll(t, b, tail); got != want {
			t.Errorf("tail %d: %q", tail, got)
		}
	}
}

// TestLogsCutUnderAReader: an agent makes its log jump past all that a reader was
// to be given, between two of its reads.
func TestLogsCutUnderAReader(t *testing.T) {
	b, f := book(t, t.TempDir(), 2*block)
	if _, err := f.WriteString("one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	r, err := b.read(t.Context(), -1, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if err := b.rotate(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("after what it was to read had gone: %q, %v", rest, err)
	}
}

// TestLogsEndlessBeforeRotation: the last lines are looked for in a terabyte without
// any, while whoever rotates the logs of all agents waits.
func TestLogsEndlessBeforeRotation(t *testing.T) {
	b, f := book(t, t.TempDir(), 2*block)
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\nthe end\n"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, 1); got != "the end\n" {
		t.Errorf("tail: %q", got)
	}
	if got := readAll(t, b, 3); len(got) > oversize*2*block || !strings.HasSuffix(got, "\nthe end\n") {
		t.Errorf("a longer tail has %d bytes", len(got))
	}
}
