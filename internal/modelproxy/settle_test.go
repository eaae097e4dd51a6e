package modelproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/redact"
	"agento.host/agento/internal/usage"
)

// everyForm returns the calls of all APIs, as streams and not.
func everyForm() []call {
	all := calls
	for _, c := range calls {
		c.name += ", no stream"
		c.body = strings.Replace(c.body, `"stream":true,"stream_options":{"include_usage":true}`, `"stream":false`, 1)
		c.body = strings.Replace(c.body, `"stream":true`, `"stream":false`, 1)
		c.path = strings.Replace(c.path, ":streamGenerateContent?alt=sse", ":generateContent", 1)
		all = append(all[:len(all):len(all)], c)
	}
	return all
}

// TestACallIsCountedBeforeTheEndOfItsAnswer: while another transaction has the write lock, the
// gateway gets all of an answer but its end.
func TestACallIsCountedBeforeTheEndOfItsAnswer(t *testing.T) {
	for _, w := range everyForm() {
		t.Run(w.name, func(t *testing.T) {
			upstream := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{"one ", "two"}, Usage: &devmodel.Usage{Input: 7, Output: 9, CacheRead: 3}}))
			p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
			locked, unlock, unlocked := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			go func() {
				unlocked <- p.db.Tx(context.WithoutCancel(t.Context()), "modelproxy.test", func(context.Context, *database.Tx) error {
					close(locked)
					<-unlock
					return nil
				})
			}()
			<-locked
			res := w.send(t.Context(), t, p.url)
			var begun bytes.Buffer
			for !strings.Contains(begun.String(), "one") {
				if _, err := io.CopyN(&begun, res.Body, 1); err != nil {
					t.Fatal(err, begun.String())
				}
			}
			ended := make(chan string, 1)
			go func() {
				rest, err := io.ReadAll(res.Body)
				ended <- fmt.Sprint(string(rest), err)
			}()
			select {
			case rest := <-ended:
				t.Errorf("the answer ended before the call was counted: %s", rest)
			case <-time.After(50 * time.Millisecond):
			}
			if rows := p.usage(); len(rows) != 0 {
				t.Errorf("counted with the lock of another: %+v", rows)
			}
			close(unlock)
			if err := <-unlocked; err != nil {
				t.Fatal(err)
			}
			if rest := <-ended; !strings.HasSuffix(rest, "<nil>") {
				t.Error(rest)
			}
			want := usage.Sum{Tokens: usage.Tokens{Input: 7, Output: 9, CacheRead: 3}, Requests: 1, Unpriced: 1}
			if rows := p.usage(); len(rows) != 1 || rows[0].Sum != want {
				t.Errorf("%+v", rows)
			}
		})
	}
}

// TestCutAnswersAreEstimated: the provider breaks the connection, or has not said what was used.
func TestCutAnswersAreEstimated(t *testing.T) {
	long := strings.Repeat("word ", 400)
	for _, w := range calls {
		t.Run(w.name, func(t *testing.T) {
			upstream := startModel(t, devmodel.Always(devmodel.Reply{Chunks: []string{long, long}, Usage: &devmodel.Usage{Input: 1000, Output: 5000}, Drop: true}))
			p := newTestProxy(t, testResolver{base: upstream.URL()}, netguard.Guard{AllowPrivate: true})
			res := w.send(t.Context(), t, p.url)
			_, _ = io.Copy(io.Discard, res.Body)
			u := p.waitExchange(t).Usage
			// 4000 characters are about 1000 tokens. Anthropic and Google have reported the input, and
			// Google the output so far.
			if u.Requests != 1 || u.Estimated != 1 || u.Input < 10 || u.Output < 900 {
				t.Errorf("%+v", u)
			}
			if reports := w.name == "anthropic" || w.name == "gemini"; reports && u.Input != 1000 {
				t.Errorf("not as the provider has reported: %+v", u)
			}
			if rows := p.usage(); len(rows) != 1 || rows[0].Sum != u {
				t.Errorf("%+v", rows)
			}
		})
	}
}

func TestAnswersWithoutUsageAreEstimated(t *testing.T) {
	for name, answer := range map[string]struct{ kind, body string }{
		"stream":     {"text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"eight letters and more\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"},
		"no stream":  {"application/json", `{"choices":[{"message":{"content":"eight letters and more"},"finish_reason":"stop"}]}`},
		"null usage": {"application/json", `{"choices":[{"message":{"content":"eight letters and more"},"finish_reason":"stop"}],"usage":null}`},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", answer.kind)
				_, _ = io.WriteString(w, answer.body)
			}))
			defer upstream.Close()
			p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
			if body := readAll(t, calls[1].send(t.Context(), t, p.url)); body != answer.body {
				t.Errorf("the answer changed: %s", body)
			}
			if u := p.waitExchange(t).Usage; u.Estimated != 1 || u.Input < 20 || u.Output < 5 || u.Output > 40 {
				t.Errorf("%+v", u)
			}
		})
	}
}

// TestAProviderThatDoesNotCloseIsNotWaitedFor after the last event of its stream.
func TestAProviderThatDoesNotCloseIsNotWaitedFor(t *testing.T) {
	done := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, anthropicStream)
		_ = http.NewResponseController(w).Flush()
		<-done
	}))
	defer upstream.Close()
	defer close(done)
	p := newTestProxy(t, testResolver{base: upstream.URL}, netguard.Guard{AllowPrivate: true})
	res := calls[0].send(testTimeout(t), t, p.url)
	if _, err := io.ReadFull(res.Body, make([]byte, len(anthropicStream))); err != nil {
		t.Fatal(err)
	}
	if rows := p.usage(); len(rows) != 1 || rows[0].Output != 15 || rows[0].Estimated != 0 {
		t.Errorf("%+v", rows)
	}
}

// TestWithheldAnswersAreUnchanged in pieces of any size, with a buffer of any size.
func TestWithheldAnswersAreUnchanged(t *testing.T) {
	for _, a := range answers {
		if a.name == "compressed" {
			continue
		}
		for n := 1; n <= min(len(a.body), 50); n++ {
			body := io.NopCloser(pieces{strings.NewReader(a.body), n})
			var stream *eventStream
			if strings.HasPrefix(a.kind, "text/event-stream") {
				stream = &eventStream{ReadCloser: body, secret: redact.Secret{}, failed: func(*reportedError, error) ([]byte, bool) { return nil, true }}
				body = stream
			}
			settled := 0
			b := &settledBody{ReadCloser: body, stream: stream, settle: func() { settled++ }}
			passed, err := io.ReadAll(iotest.OneByteReader(b))
			if err != nil || !strings.HasPrefix(a.body, strings.TrimSuffix(string(passed), "\n\n")) || len(passed) < len(a.body) || settled != 1 {
				t.Fatalf("%s in pieces of %d: settled %d times, %v, %q", a.name, n, settled, err, passed)
			}
		}
	}
	broken := &settledBody{ReadCloser: io.NopCloser(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(io.ErrUnexpectedEOF))), settle: func() { t.Error("settled") }}
	if passed, err := io.ReadAll(broken); string(passed) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", passed, err)
	}
}

func TestEstimateTokens(t *testing.T) {
	for text, want := range map[string]int64{
		"": 0, "a": 1, "four": 1, "Some words, and more.": 6, "日本語": 3, "é": 1,
		strings.Repeat("QUJD", 100_000):                runTokens,
		`{"data":"` + strings.Repeat("x", 2001) + `"}`: runTokens + 3,
		strings.Repeat("x", 2000):                      500,
	} {
		if got := estimateTokens(text); got != want {
			t.Errorf("%.20q: %d, want %d", text, got, want)
		}
		var e estimate
		for i := range len(text) {
			e.add(text[i : i+1])
		}
		if got := e.tokens(); got != want {
			t.Errorf("%.20q byte by byte: %d, want %d", text, got, want)
		}
	}
}
