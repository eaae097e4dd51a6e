package accesslog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/accesslog"
)

var line = accesslog.Line{Method: "GET", Route: "/v1/agents/{id}", Status: 200, Duration: 1500 * time.Microsecond, Account: "acct_1", Key: "key_1", Request: "req_1"}

func TestLinesHaveTheFields(t *testing.T) {
	for format, check := range map[string]func(text string) bool{
		"text": func(text string) bool {
			return strings.HasSuffix(text, "level=INFO msg=request method=GET route=/v1/agents/{id} status=200 ms=1.5 account=acct_1 key=key_1 request=req_1\n")
		},
		"json": func(text string) bool {
			var got map[string]any
			err := json.Unmarshal([]byte(text), &got)
			return err == nil && got["route"] == line.Route && got["status"] == 200.0 && got["ms"] == 1.5 && got["key"] == "key_1" && got["time"] != nil
		},
	} {
		var out bytes.Buffer
		log, err := accesslog.New(&out, format)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(line)
		if err := log.Close(); err != nil || !check(out.String()) {
			t.Errorf("%s: %q %v", format, out.String(), err)
		}
	}
	if _, err := accesslog.New(nil, "xml"); err == nil {
		t.Error("an unknown format is accepted")
	}
}

// TestLinesCannotBeForged: what a caller can choose is one value of one line.
func TestLinesCannotBeForged(t *testing.T) {
	for _, method := range []string{"A B", `A"`, "A=1", `A\`, "A\nlevel=INFO", "A\x1b[2J", "\xff", "Ä", "A\u2028B", ""} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			log, err := accesslog.New(&out, format)
			if err != nil {
				t.Fatal(err)
			}
			forged := line
			forged.Method = method
			log.Write(forged)
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSuffix(out.String(), "\n")
			if strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("%q, %s: %q", method, format, text)
			}
			var got string
			if format == "json" {
				var fields map[string]any
				if err := json.Unmarshal([]byte(text), &fields); err != nil {
					t.Errorf("%q: %v", method, err)
				}
				got, _ = fields["method"].(string)
			} else {
				_, rest, _ := strings.Cut(text, "method=")
				value, _, ok := strings.Cut(rest, " route=/v1/agents/{id} ")
				if got = value; ok && strings.HasPrefix(value, `"`) {
					got, err = strconv.Unquote(value)
				}
			}
			if want := strings.ToValidUTF8(method, "\uFFFD"); err != nil || got != want && got != method {
				t.Errorf("%s: %q became %q, %v", format, method, got, err)
			}
		}
	}
}

// failing fails for its first writes.
type failing struct {
	failures int
	bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	if f.failures--; f.failures >= 0 {
		return 0, errors.New("no room")
	}
	return f.Buffer.Write(p)
}

func TestLinesAreWrittenSoonAlsoAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &failing{failures: 1}
		log, err := accesslog.New(out, "text")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{0, 2} { // the first two are lost
			log.Write(line)
			log.Write(line)
			time.Sleep(150 * time.Millisecond)
			synctest.Wait()
			if got := strings.Count(out.String(), "\n"); got != want {
				t.Errorf("%d lines, not %d", got, want)
			}
		}
	})
}

func TestConcurrentLinesStayWhole(t *testing.T) {
	var out bytes.Buffer
	log, err := accesslog.New(&out, "json")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 100 {
				log.Write(line)
			}
		})
	}
	all.Wait()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(out.String()) {
		if !json.Valid([]byte(text)) {
			t.Fatalf("%q", text)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 2000 {
		t.Errorf("%d lines", got)
	}
}
