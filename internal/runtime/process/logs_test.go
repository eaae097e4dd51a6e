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

// newLog returns a log and its file, opened as a gateway opens it.
func newLog(t *testing.T, dir string, maxBytes int64) (*gatewayLog, *os.File) {
	t.Helper()
	b := &gatewayLog{dir: filepath.Join(dir, "log"), maxBytes: maxBytes, keep: 2}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.path(0), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return b, f
}

func readAll(t *testing.T, b *gatewayLog, tail int) string {
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

// A gateway writes, the server rotates, and a reader follows. It must get every
// line once, in order.
func TestLogsAreCompleteOverRotation(t *testing.T) {
	b, f := newLog(t, t.TempDir(), 4*blockSize)
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
			if _, err := fmt.Fprintf(f, "line %06d of a gateway that prints a lot\n", i); err != nil {
				written <- err
				return
			}
			if i%2000 == 0 { // the writer must not be ahead of the reader by the whole log
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
		if want := fmt.Sprintf("line %06d of a gateway that prints a lot", i); s.Text() != want {
			t.Fatalf("line %d is %q", i, s.Text())
		}
		if i%2000 == 0 && i+2000 < lines {
			if err := b.rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			turn <- struct{}{}
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if b.trimmed == 0 {
		t.Error("the log was never rotated")
	}
	checkKept(t, b, lines)
}

// checkKept reads everything that is kept, and then tails of it.
func checkKept(t *testing.T, b *gatewayLog, lines int) {
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

// The file system cannot remove the head of a file.
func TestLogsTruncatedWhereHeadsCannotBeRemoved(t *testing.T) {
	b, f := newLog(t, t.TempDir(), 2*blockSize)
	line := strings.Repeat("x", 99) + "\n"
	for range 3000 {
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	current, err := os.OpenFile(b.path(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = current.Close() }()
	if err := b.archive(t.Context(), current, 0, 4*blockSize); err != nil {
		t.Fatal(err)
	}
	if err := b.truncate(t.Context(), current, 4*blockSize); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("next\n"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, -1); got != strings.Repeat(line, 3000)+"next\n" {
		t.Errorf("%d bytes, the end is %q", len(got), got[max(0, len(got)-10):])
	}
}

// An agent has made its log look like a terabyte.
func TestLogsOfEndlessFileAreRotated(t *testing.T) {
	b, f := newLog(t, t.TempDir(), 2*blockSize)
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\nthe end\n"); err != nil {
		t.Fatal(err)
	}
	if err := b.rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, 1); got != "the end\n" {
		t.Errorf("tail: %q", got)
	}
	for n := range 2 {
		if st, err := os.Stat(b.path(n)); err != nil || st.Size() > 4*blockSize {
			t.Errorf("part %d: %v %v", n, st.Size(), err)
		}
	}
	// The agent truncates its log and continues.
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

func TestLogsTailIncludesIncompleteLine(t *testing.T) {
	b, f := newLog(t, t.TempDir(), blockSize)
	if _, err := f.WriteString("one\ntwo\nthr"); err != nil {
		t.Fatal(err)
	}
	for tail, want := range map[int]string{0: "", 1: "thr", 2: "two\nthr", 3: "one\ntwo\nthr", 9: "one\ntwo\nthr", -1: "one\ntwo\nthr"} {
		if got := readAll(t, b, tail); got != want {
			t.Errorf("tail %d: %q", tail, got)
		}
	}
}

// Between two reads, an agent makes its log so large that rotation deletes what the
// reader was to return.
func TestLogsTrimmedUnderAReader(t *testing.T) {
	b, f := newLog(t, t.TempDir(), 2*blockSize)
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
	if err := b.rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("after its range was removed: %q, %v", rest, err)
	}
}

// The search for the last lines in a terabyte without any is limited, because it
// blocks the rotation of all logs.
func TestLogsTailOfEndlessFileIsLimited(t *testing.T) {
	b, f := newLog(t, t.TempDir(), 2*blockSize)
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\nthe end\n"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, b, 1); got != "the end\n" {
		t.Errorf("tail: %q", got)
	}
	if got := readAll(t, b, 3); len(got) > maxOversize*2*blockSize || !strings.HasSuffix(got, "\nthe end\n") {
		t.Errorf("a longer tail has %d bytes", len(got))
	}
}
