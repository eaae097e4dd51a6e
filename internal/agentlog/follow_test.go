package agentlog

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestQueueBoundsBytes(t *testing.T) {
	q := newQueue(0)
	for range 200 {
		q.push(strings.Repeat("x", maxLine))
	}
	if q.bytes > maxBehindBytes || q.dropped == 0 || q.bytes != len(q.lines)*maxLine {
		t.Errorf("%d bytes in %d lines, %d lost", q.bytes, len(q.lines), q.dropped)
	}
}

func TestReadLines(t *testing.T) {
	long := strings.Repeat("x", 3*maxLine)
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"none": {"", nil}, "one": {"a\n", []string{"a"}}, "no end": {"a\r\nb", []string{"a", "b"}}, "empty": {"\n\n", []string{"", ""}},
		"no text": {"\xff\xfea\n", []string{"�a"}}, "long": {long + "\nb\n", []string{long[:maxLine], "b"}},
	} {
		var got []string
		if err := readLines(strings.NewReader(tt.text), func(s string) { got = append(got, s) }); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d lines, %v", name, len(got), err)
		}
	}
	broken := iotest.ErrReader(io.ErrClosedPipe)
	if err := readLines(broken, func(string) {}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

func TestFollowReturnsTheErrorOfTheLog(t *testing.T) {
	var got []string
	r := io.NopCloser(io.MultiReader(strings.NewReader("a\nb\n"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	keep := func(line string) error { got = append(got, line); return nil }
	if err := follow(t.Context(), r, newQueue(0), keep, keep); !errors.Is(err, io.ErrUnexpectedEOF) || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q, %v", got, err)
	}
}
