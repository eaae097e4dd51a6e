package modelproxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

const (
	anthropicStream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":4,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"usage\\\":{\\\"output_tokens\\\":999}\"}}\n\n" +
		": a comment\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	chatStream = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":9,\"total_tokens\":39,\"prompt_tokens_details\":{\"cached_tokens\":10}}}\n\ndata: [DONE]\n\n"
	responsesStream = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n" +
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":30,\"input_tokens_details\":{\"cached_tokens\":10,\"cache_write_tokens\":5},\"output_tokens\":8,\"output_tokens_details\":{\"reasoning_tokens\":2}}}}\n\n"
	geminiStream = "data: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":12,\"totalTokenCount\":12}}\r\n\r\n" +
		"data: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":12,\"candidatesTokenCount\":6,\"thoughtsTokenCount\":3,\"cachedContentTokenCount\":2}}\r\n\r\n"
)

// answers are answers of providers and the counts that they report.
var answers = []struct {
	name, kind, body string
	want             usage.Tokens
}{
	{"anthropic stream", "text/event-stream; charset=utf-8", anthropicStream, usage.Tokens{Input: 25, Output: 15, CacheRead: 7, CacheWrite: 4}},
	{"anthropic", "application/json", `{"content":[{"text":"x"}],"usage":{"input_tokens":5,"output_tokens":6}}`, usage.Tokens{Input: 5, Output: 6}},
	{"openai chat stream", "text/event-stream", chatStream, usage.Tokens{Input: 20, Output: 9, CacheRead: 10}},
	{"openai chat without usage", "text/event-stream", "data: {\"choices\":[]}\n\ndata: [DONE]\n\n", usage.Tokens{}},
	{"openai chat", "application/json", `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}`, usage.Tokens{Input: 3, Output: 4}},
	{"openai responses stream", "text/event-stream", responsesStream, usage.Tokens{Input: 15, Output: 8, Reasoning: 2, CacheRead: 10, CacheWrite: 5}},
	{"openai embeddings", "application/json", `{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}`, usage.Tokens{Input: 8}},
	{"gemini stream", "text/event-stream", geminiStream, usage.Tokens{Input: 10, Output: 9, Reasoning: 3, CacheRead: 2}},
	{"gemini array", "application/json", `[{"usageMetadata":{"promptTokenCount":1}},{"usageMetadata":{"promptTokenCount":12,"candidatesTokenCount":6}}]`, usage.Tokens{Input: 12, Output: 6}},
	{"a stream that breaks off", "text/event-stream", anthropicStream[:300], usage.Tokens{Input: 25, Output: 1, CacheRead: 7, CacheWrite: 4}},
	{"data in several lines", "text/event-stream", "data: {\"usage\":\ndata: {\"input_tokens\":1,\ndata: \"output_tokens\":2}}\n\n", usage.Tokens{Input: 1, Output: 2}},
	{"carriage returns as line ends", "text/event-stream", "data:{\"usage\":{\"output_tokens\":2}}\r\rdata:{\"usage\":{\"output_tokens\":3}}\r\r", usage.Tokens{Output: 3}},
	{"malformed events", "text/event-stream", "data: }{][\"\n\ndata: {\"usage\":{\"output_tokens\":\"many\"}}\n\ndata: {\"usage\":{\"output_tokens\":4}}\n\n", usage.Tokens{Output: 4}},
	{"negative", "application/json", `{"usage":{"input_tokens":-5,"output_tokens":6}}`, usage.Tokens{Output: 6}},
	{"another type", "text/html", `{"usage":{"input_tokens":5}}`, usage.Tokens{}},
	{"compressed", "application/json", "\x1f\x8b\x08", usage.Tokens{}},
}

// pieces is a reader that reads at most n bytes at a time.
type pieces struct {
	io.Reader
	n int
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.n)]) }

func newTestBody(kind, encoding string, body io.Reader) *responseBody {
	h := http.Header{"Content-Type": {kind}}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	return newResponseBody(&http.Response{Header: h, Body: io.NopCloser(body)})
}

func TestUsageIsCountedInPiecesOfAnySize(t *testing.T) {
	for _, a := range answers {
		t.Run(a.name, func(t *testing.T) {
			encoding := map[bool]string{true: "gzip"}[a.name == "compressed"]
			for n := 1; n <= len(a.body); n++ {
				b := newTestBody(a.kind, encoding, pieces{strings.NewReader(a.body), n})
				passed, err := io.ReadAll(b)
				if err != nil || string(passed) != a.body {
					t.Fatalf("pieces of %d: the bytes changed: %q, %v", n, passed, err)
				}
				if got := b.tally.tokens(); got != a.want {
					t.Fatalf("pieces of %d: %+v, want %+v", n, got, a.want)
				}
			}
		})
	}
}

func TestReadErrorsArePassedOn(t *testing.T) {
	b := newTestBody("text/event-stream", "", iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := io.ReadAll(b); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// FuzzStream checks that a stream passes unchanged, and that the counts do not depend
// on the size of its pieces.
func FuzzStream(f *testing.F) {
	for _, a := range answers {
		f.Add(a.body, uint16(1))
		f.Add(a.body, uint16(4096))
	}
	f.Fuzz(func(t *testing.T, body string, n uint16) {
		for _, kind := range []string{"text/event-stream", "application/json"} {
			cut := newTestBody(kind, "", pieces{strings.NewReader(body), int(n) + 1})
			whole := newTestBody(kind, "", strings.NewReader(body))
			for _, b := range []*responseBody{cut, whole} {
				if passed, err := io.ReadAll(b); err != nil || string(passed) != body {
					t.Fatalf("the bytes changed: %q, %v", passed, err)
				}
			}
			if cut.tally.tokens() != whole.tally.tokens() {
				t.Fatalf("%+v in pieces, %+v whole", cut.tally.tokens(), whole.tally.tokens())
			}
		}
	})
}

func BenchmarkResponseBody(b *testing.B) {
	body := strings.Repeat("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n", 1000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newTestBody("text/event-stream", "", strings.NewReader(body))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRequestBody(b *testing.B) {
	turn := `{"role":"user","content":"` + strings.Repeat(`Some words of a line.\n`, 100) + `"},`
	body := fmt.Sprintf(`{"model":"m","messages":[%s{"role":"user","content":"x"}],"stream":true}`, strings.Repeat(turn, 100))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, newRequestBody(io.NopCloser(strings.NewReader(body)), provider.OpenAI)); err != nil {
			b.Fatal(err)
		}
	}
}
