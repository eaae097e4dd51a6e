package devmodel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/provider"
)

// start serves a model until the test ends.
func start(t *testing.T, rules ...Rule) *Server {
	t.Helper()
	s, err := Start(Settings{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func testTimeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// testAPI is what the tests need to call one API.
type testAPI struct {
	name       string
	protocol   provider.Protocol
	path       string // of a streaming call
	wholePath  string // of a call that does not stream; empty means path
	setKey     func(http.Header)
	body       string // %s: the user's text as JSON, %t: stream
	toolResult string // a request with the result of a call of read
	text       func(t *testing.T, event map[string]any) string
}

var testAPIs = []testAPI{{
	name: "anthropic", protocol: provider.AnthropicMessages, path: "/v1/messages",
	setKey:     func(h http.Header) { h.Set("X-Api-Key", "k1") },
	body:       `{"model":"m1","max_tokens":9,"stream":%t,"system":[{"type":"text","text":"Be brief."}],"messages":[{"role":"user","content":%s}],"tools":[{"name":"read","description":"reads","input_schema":{"type":"object"}}]}`,
	toolResult: `{"model":"m1","stream":true,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"read","input":{"path":"a"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":[{"type":"text","text":"forty-two"}]}]}]}`,
	text: func(t *testing.T, e map[string]any) string {
		if d, ok := e["delta"].(map[string]any); ok && d["type"] == "text_delta" {
			return d["text"].(string)
		}
		return ""
	},
}, {
	name: "openai chat", protocol: provider.OpenAICompletions, path: "/openai/v1/chat/completions",
	setKey:     func(h http.Header) { h.Set("Authorization", "Bearer k1") },
	body:       `{"model":"m1","stream":%t,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":%s}],"tools":[{"type":"function","function":{"name":"read","description":"reads"}}]}`,
	toolResult: `{"model":"m1","stream":true,"messages":[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"read","arguments":"{\"path\":\"a\"}"}}]},{"role":"tool","tool_call_id":"c1","content":"forty-two"}]}`,
	text: func(t *testing.T, e map[string]any) string {
		choices, ok := e["choices"].([]any)
		if !ok || len(choices) == 0 {
			return ""
		}
		text, _ := choices[0].(map[string]any)["delta"].(map[string]any)["content"].(string)
		return text
	},
}, {
	name: "openai responses", protocol: provider.OpenAIResponses, path: "/v1/responses",
	setKey:     func(h http.Header) { h.Set("Authorization", "Bearer k1") },
	body:       `{"model":"m1","stream":%t,"instructions":"Be brief.","input":%s,"tools":[{"type":"function","name":"read","description":"reads"}]}`,
	toolResult: `{"model":"m1","stream":true,"input":[{"role":"user","content":[{"type":"input_text","text":"go"}]},{"type":"function_call","call_id":"c1","name":"read","arguments":"{}"},{"type":"function_call_output","call_id":"c1","output":"forty-two"}]}`,
	text: func(t *testing.T, e map[string]any) string {
		if e["type"] == "response.output_text.delta" {
			return e["delta"].(string)
		}
		return ""
	},
}, {
	name: "gemini", protocol: provider.GoogleGenerativeAI, path: "/google/v1beta/models/m1:streamGenerateContent?alt=sse", wholePath: "/v1beta/models/m1:generateContent",
	setKey:     func(h http.Header) { h.Set("X-Goog-Api-Key", "k1") },
	body:       `{"ignored":%t,"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":%s}]}],"tools":[{"functionDeclarations":[{"name":"read","description":"reads"}]}]}`,
	toolResult: `{"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"functionCall":{"name":"read","args":{"path":"a"}}}]},{"role":"user","parts":[{"functionResponse":{"name":"read","response":{"output":"forty-two"}}}]}]}`,
	text: func(t *testing.T, e map[string]any) string {
		parts := e["candidates"].([]any)[0].(map[string]any)["content"].(map[string]any)["parts"].([]any)
		text, _ := parts[0].(map[string]any)["text"].(string)
		return text
	},
}}

// answer is a response whose body is closed at the end of the test.
type answer struct {
	StatusCode int
	Header     http.Header
	Body       io.Reader
}

func (d testAPI) ask(t *testing.T, s *Server, stream bool, text string) answer {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	path := d.path
	if !stream && d.wholePath != "" {
		path = d.wholePath
	}
	return d.post(t.Context(), t, s.URL()+path, fmt.Sprintf(d.body, stream, quoted))
}

func (d testAPI) post(ctx context.Context, t *testing.T, url, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	d.setKey(req.Header)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return answer{res.StatusCode, res.Header, res.Body}
}

func readAll(t *testing.T, res answer) string {
	t.Helper()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// parseEvents returns the data of a complete stream's events.
func parseEvents(t *testing.T, body string) []map[string]any {
	t.Helper()
	var events []map[string]any
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatalf("event %q: %v", data, err)
		}
		events = append(events, e)
	}
	return events
}

func TestEveryAPI(t *testing.T) {
	for _, d := range testAPIs {
		t.Run(d.name, func(t *testing.T) {
			t.Run("streams word by word and says that it is a script", func(t *testing.T) {
				s := start(t)
				res := d.ask(t, s, true, "hello you")
				if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
					t.Errorf("content type %q", kind)
				}
				var text []string
				for _, e := range parseEvents(t, readAll(t, res)) {
					if piece := d.text(t, e); piece != "" {
						text = append(text, piece)
					}
				}
				if all := strings.Join(text, ""); !strings.Contains(all, "scripted model") || !strings.HasSuffix(all, "You said: hello you") {
					t.Errorf("got %q", all)
				}
				if len(text) < 10 {
					t.Errorf("%d pieces, want one for each word", len(text))
				}
			})
			t.Run("decodes the request", func(t *testing.T) {
				s := start(t)
				readAll(t, d.ask(t, s, true, "hello you"))
				call, err := s.Wait(testTimeout(t), 1)
				if err != nil {
					t.Fatal(err)
				}
				if call.Protocol != d.protocol || call.Model != "m1" || call.System != "Be brief." || call.LastUser() != "hello you" || !call.Stream {
					t.Errorf("got %+v", call.Request)
				}
				if len(call.Tools) != 1 || call.Tools[0] != (Tool{Name: "read", Description: "reads"}) {
					t.Errorf("tools %v", call.Tools)
				}
				if call.Key.Reveal() != "k1" || strings.Contains(fmt.Sprint(call.Header), "k1") {
					t.Errorf("the key is in the headers: %v", call.Header)
				}
			})
			t.Run("answers without a stream", func(t *testing.T) {
				s := start(t)
				body := readAll(t, d.ask(t, s, false, "echo one two"))
				if !json.Valid([]byte(body)) || !strings.Contains(body, `"one two"`) {
					t.Errorf("got %s", body)
				}
			})
			t.Run("calls a tool and reports its answer", func(t *testing.T) {
				s := start(t)
				body := readAll(t, d.ask(t, s, true, `please call read {"path":"a"}`))
				if !strings.Contains(body, `"read"`) || !strings.Contains(body, `path`) {
					t.Errorf("no call in %s", body)
				}
				whole := readAll(t, d.ask(t, s, false, `please call read {"path":"a"}`))
				if !strings.Contains(whole, `"read"`) {
					t.Errorf("no call in %s", whole)
				}
				var text strings.Builder
				for _, e := range parseEvents(t, readAll(t, d.post(t.Context(), t, s.URL()+d.path, d.toolResult))) {
					text.WriteString(d.text(t, e))
				}
				if !strings.HasPrefix(text.String(), "The tool read answered: ") || !strings.Contains(text.String(), "forty-two") {
					t.Errorf("got %q", text.String())
				}
			})
			t.Run("fails in the provider's format", func(t *testing.T) {
				s := start(t, OnlyKey("another"))
				res := d.ask(t, s, true, "hello")
				body := readAll(t, res)
				if res.StatusCode != 401 || !strings.Contains(body, `"message":"invalid key"`) {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			})
			t.Run("reports a caller that disconnects", func(t *testing.T) {
				gate := make(chan struct{})
				s := start(t, Always(Reply{Chunks: []string{"first", "second"}, Gate: gate}))
				ctx, cancel := context.WithCancel(testTimeout(t))
				res := d.post(ctx, t, s.URL()+d.path, fmt.Sprintf(d.body, true, `"x"`))
				gate <- struct{}{} // allows the first chunk
				if _, err := readUntil(res.Body, "first"); err != nil {
					t.Fatal(err)
				}
				call, err := s.Wait(ctx, 1)
				if err != nil {
					t.Fatal(err)
				}
				cancel()
				if gone, err := call.Cancelled(testTimeout(t)); err != nil || !gone {
					t.Errorf("cancelled %t, %v", gone, err)
				}
			})
		})
	}
}

// readUntil reads until text has arrived and returns everything that it read.
func readUntil(r io.Reader, text string) (string, error) {
	var all bytes.Buffer
	buf := make([]byte, 1024)
	for !bytes.Contains(all.Bytes(), []byte(text)) {
		n, err := r.Read(buf)
		all.Write(buf[:n])
		if err != nil && !bytes.Contains(all.Bytes(), []byte(text)) {
			return all.String(), fmt.Errorf("after %q: %w", all.String(), err)
		}
	}
	return all.String(), nil
}

func TestAnthropicEventOrder(t *testing.T) {
	s := start(t, Always(Reply{
		Chunks: []string{"a ", "b"},
		Calls:  []ToolCall{{ID: "t1", Name: "read", Input: `{"n":1}`}},
		Usage:  &Usage{Input: 3, Output: 5, CacheRead: 7, CacheWrite: 9},
	}))
	body := readAll(t, testAPIs[0].ask(t, s, true, "x"))
	var kinds []string
	for _, e := range parseEvents(t, body) {
		kinds = append(kinds, e["type"].(string))
	}
	want := "message_start ping content_block_start content_block_delta content_block_delta content_block_stop " +
		"content_block_start content_block_delta content_block_stop message_delta message_stop"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, part := range []string{`"stop_reason":"tool_use"`, `"output_tokens":5`, `"cache_read_input_tokens":7`, `"partial_json":"{\"n\":1}"`, "event: message_stop"} {
		if !strings.Contains(body, part) {
			t.Errorf("%s is missing in %s", part, body)
		}
	}
}

func TestOpenAIChatSendsUsageOnlyOnRequest(t *testing.T) {
	s := start(t)
	d := testAPIs[1]
	url := s.URL() + d.path
	without := readAll(t, d.post(t.Context(), t, url, `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`))
	with := readAll(t, d.post(t.Context(), t, url, `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}`))
	if strings.Contains(without, "usage") || !strings.Contains(with, `"prompt_tokens":1`) {
		t.Errorf("without %s\nwith %s", without, with)
	}
	if !strings.HasSuffix(with, "data: [DONE]\n\n") {
		t.Errorf("no end in %s", with)
	}
}

func TestLastUserOmitsOpenClawsAdditions(t *testing.T) {
	r := Request{Messages: []Message{
		{Role: User, Text: "[Tue 2026-11-24 12:37 UTC] echo hi\n\nRuntime: agent=main | session=agent:main:peer:p1:c1 | host=vm"},
		{Role: Assistant, Calls: []ToolCall{{ID: "c1", Name: "read"}}},
		{Role: ToolRole, CallID: "c1", Text: "out"},
		{Role: User, Text: "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nConversation data\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"},
	}}
	if r.LastUser() != "echo hi" {
		t.Errorf("last user %q", r.LastUser())
	}
	if results := r.ToolResults(); len(results) != 1 || results[0].Text != "out" || r.CallName("c1") != "read" {
		t.Errorf("results %v", results)
	}
}

func TestScriptRulesComeFirstUntilTheyAreRemoved(t *testing.T) {
	s := start(t)
	d := testAPIs[1]
	remove := s.Script(When("weather", Say("Sunny.")))
	if body := readAll(t, d.ask(t, s, false, "the weather?")); !strings.Contains(body, "Sunny.") {
		t.Errorf("got %s", body)
	}
	if body := readAll(t, d.ask(t, s, false, "echo x")); strings.Contains(body, "Sunny.") {
		t.Errorf("got %s", body)
	}
	remove()
	if body := readAll(t, d.ask(t, s, false, "the weather?")); strings.Contains(body, "Sunny.") {
		t.Errorf("after removal: %s", body)
	}
}

func TestDefaultRules(t *testing.T) {
	s := start(t)
	for ask, want := range map[string]string{
		"count to 3":      `"1 2 3 "`,
		"fail with 503":   "asked to fail",
		"call nothing {}": "scripted model",
	} {
		if body := readAll(t, testAPIs[1].ask(t, s, false, ask)); !strings.Contains(body, want) {
			t.Errorf("%q: got %s", ask, body)
		}
	}
}

func TestTheLogOfRequestsIsBounded(t *testing.T) {
	m := New(Settings{KeepRequests: 3, KeepBytes: 100})
	for i := range 10 {
		m.add(Request{Model: fmt.Sprint(i), Body: []byte("{}")})
	}
	calls := m.Requests()
	if len(calls) != 3 || calls[0].Number != 8 || m.Count() != 10 {
		t.Errorf("%d in the log, first %d, %d in all", len(calls), calls[0].Number, m.Count())
	}
	m.add(Request{Body: make([]byte, 1000)})
	if calls := m.Requests(); len(calls) != 1 || calls[0].Number != 11 {
		t.Errorf("%d in the log after a large one", len(calls))
	}
	if _, err := m.Wait(testTimeout(t), 2); err == nil {
		t.Error("Wait found a request that the log has dropped")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(Settings{}).Wait(ctx, 1); err == nil {
		t.Error("no error")
	}
}

func TestDropBreaksTheConnection(t *testing.T) {
	s := start(t, Always(Reply{Chunks: []string{"a"}, Drop: true}))
	if _, err := io.ReadAll(testAPIs[0].ask(t, s, true, "x").Body); err == nil {
		t.Error("the stream ended without an error")
	}
}

func TestInvalidRequestsAreRejected(t *testing.T) {
	s := start(t)
	for path, want := range map[string]int{
		"/v1/messages": 400, "/v1/chat/completions": 400, "/v1/responses": 400,
		"/v1beta/models/m:explode": 400, "/v1beta/models/m:streamGenerateContent": 400, "/v1/nothing": 405,
	} {
		res := testAPIs[0].post(t.Context(), t, s.URL()+path, `{"messages":`)
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	for path, want := range map[string]int{"/v1/models": 200, "/google/v1beta/models": 200, "/": 404} {
		res, err := http.Get(s.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
}

func TestCloseEndsStreams(t *testing.T) {
	s, err := Start(Settings{Rules: []Rule{Always(Reply{Chunks: []string{"a"}, Gate: make(chan struct{})})}})
	if err != nil {
		t.Fatal(err)
	}
	res := testAPIs[0].ask(t, s, true, "x")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err == nil && s.Count() != 1 {
		t.Error("the stream was not open")
	}
}

func FuzzRequests(f *testing.F) {
	for _, d := range testAPIs {
		f.Add(d.toolResult)
		f.Add(fmt.Sprintf(d.body, true, `"hi"`))
	}
	m := New(Settings{KeepRequests: 1})
	f.Fuzz(func(t *testing.T, body string) {
		for _, d := range testAPIs {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://model.invalid"+d.path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			w := &statusRecorder{header: http.Header{}}
			m.ServeHTTP(w, r)
			if w.status != http.StatusOK && w.status/100 != 4 && !strings.Contains(body, "fail with") {
				t.Errorf("%s: %d", d.name, w.status)
			}
		}
	})
}

// statusRecorder is a ResponseWriter that keeps only the status.
type statusRecorder struct {
	header http.Header
	status int
}

func (s *statusRecorder) Header() http.Header         { return s.header }
func (s *statusRecorder) Write(p []byte) (int, error) { return len(p), nil }
func (s *statusRecorder) WriteHeader(status int)      { s.status = status }
