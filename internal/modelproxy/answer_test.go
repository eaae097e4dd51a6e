package modelproxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
)

// readOutcome reads an answer in pieces of n bytes and returns its text and its outcome.
func readOutcome(t *testing.T, name provider.Name, path, kind, body string, n int) (string, modelturn.Outcome) {
	t.Helper()
	var text strings.Builder
	turn := modelturn.New(modelturn.Settings{Emit: func(p string) { text.WriteString(p) }})
	call, _ := turn.Begin()
	x := &exchange{api: &api{Provider: provider.Provider{Name: name}}, call: call}
	res := &http.Response{Header: http.Header{"Content-Type": {kind}}, Request: httptest.NewRequest(http.MethodPost, path, nil)}
	got, err := io.ReadAll(x.readAnswer(res, io.NopCloser(&chunked{text: body, n: n})))
	if err != nil || string(got) != body {
		t.Errorf("the answer was changed: %q, %v", got, err)
	}
	x.endCall()
	return text.String(), turn.Close(false)
}

// chunked is a reader that gives n bytes at a time.
type chunked struct {
	text string
	n    int
}

// Read implements io.Reader.
func (c *chunked) Read(p []byte) (int, error) {
	if c.text == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.text)
	c.text = c.text[n:]
	return n, nil
}

const (
	sseKind  = "text/event-stream"
	jsonKind = "application/json; charset=utf-8"
)

// saidAnswers are what the providers' documentation shows, with the reasons that it names.
var saidAnswers = map[string]struct {
	provider   provider.Name
	path, kind string
	body       string
	text       string
	stop       modelturn.Stop
	failure    string
}{
	"anthropic": {
		provider.Anthropic, "/v1/messages", sseKind,
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"stop_reason\":null}}\n\n" +
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n" +
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"secret\"}}\n\n" +
			"event: ping\ndata: {\"type\": \"ping\"}\n\n" +
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" +
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Gr\\u00f6\\u00dfe \"}}\n\n" +
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"5\"}}\n\n" +
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n" +
			"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		"Größe 5", modelturn.End, "",
	},
	"anthropic, tool": {
		provider.Anthropic, "/v1/messages", sseKind,
		"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"Let me see.\"}}\r\n\r\n" +
			"data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"read\",\"input\":{}}}\r\n\r\n" +
			"data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"path\\\":\"}}\r\n\r\n" +
			"data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"a\\\"}\"}}\r\n\r\n" +
			"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"}}\r\n\r\n",
		"Let me see.", modelturn.Tools, "",
	},
	"anthropic, length":        {provider.Anthropic, "/v1/messages", sseKind, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n", "", modelturn.Length, ""},
	"anthropic, refusal":       {provider.Anthropic, "/v1/messages", sseKind, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"}}\n\n", "", modelturn.Refusal, ""},
	"anthropic, a new reason":  {provider.Anthropic, "/v1/messages", sseKind, "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tired\"}}\n\n", "", modelturn.End, ""},
	"anthropic, cut":           {provider.Anthropic, "/v1/messages", sseKind, "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Half\"}}\n\ndata: {\"type\":\"con", "Half", modelturn.Broken, ""},
	"anthropic, error":         {provider.Anthropic, "/v1/messages", sseKind, "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Half\"}}\n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n", "Half", modelturn.Broken, "Overloaded"},
	"anthropic, not streamed":  {provider.Anthropic, "/v1/messages", jsonKind, `{"type":"message","content":[{"type":"text","text":"Hello"},{"type":"tool_use","name":"a","input":{"b":1}}],"stop_reason":"tool_use"}`, "Hello", modelturn.Tools, ""},
	"chat":                     {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"secret\",\"content\":null}}]}\n\ndata: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}},{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"lo\"}]},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n", "Hello", modelturn.End, ""},
	"chat, length":             {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n", "Hel", modelturn.Length, ""},
	"chat, filter":             {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"content_filter\"}]}\n\n", "", modelturn.Filter, ""},
	"chat, refusal":            {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"I can't.\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", "I can't.", modelturn.Refusal, ""},
	"chat, tools that stop":    {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"a\",\"arguments\":\"{\"}}]}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":\"stop\"}]}\n\n", "", modelturn.Tools, ""},
	"chat, no reason":          {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\ndata: [DONE]\n\n", "Hello", modelturn.End, ""},
	"chat, cut":                {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n", "Hel", modelturn.Broken, ""},
	"chat, error":              {provider.OpenAI, "/v1/chat/completions", sseKind, "data: {\"error\":{\"message\":\"Out of memory\",\"code\":500}}\n\n", "", modelturn.Broken, "Out of memory"},
	"chat, not streamed":       {provider.OpenAI, "/v1/chat/completions", jsonKind, `{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}`, "Hello", modelturn.End, ""},
	"completions":              {provider.OpenAI, "/v1/completions", jsonKind, `{"choices":[{"index":0,"text":"Hello","finish_reason":"length"}]}`, "Hello", modelturn.Length, ""},
	"responses":                {provider.OpenAI, "/v1/responses", sseKind, "event: response.reasoning_summary_text.delta\ndata: {\"type\":\"response.reasoning_summary_text.delta\",\"delta\":\"secret\"}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\"}\n\nevent: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"Hello\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello\"}]}]}}\n\n", "Hello", modelturn.End, ""},
	"responses, tool":          {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"name\":\"a\",\"arguments\":\"{}\"}}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n", "", modelturn.Tools, ""},
	"responses, length":        {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"}}}\n\n", "", modelturn.Length, ""},
	"responses, filter":        {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"}}}\n\n", "", modelturn.Filter, ""},
	"responses, refusal":       {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"response.refusal.delta\",\"delta\":\"No.\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n", "No.", modelturn.Refusal, ""},
	"responses, failed":        {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"It broke.\"}}}\n\n", "", modelturn.Broken, "It broke."},
	"responses, error":         {provider.OpenAI, "/v1/responses", sseKind, "data: {\"type\":\"error\",\"code\":\"ERR\",\"message\":\"Something.\"}\n\n", "", modelturn.Broken, "Something."},
	"responses, not streamed":  {provider.OpenAI, "/v1/responses", jsonKind, `{"object":"response","status":"completed","error":null,"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"Hello"}]}]}`, "Hello", modelturn.End, ""},
	"google":                   {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"secret\",\"thought\":true}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"},{\"text\":\"lo\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{}}\r\n\r\n", "Hello", modelturn.End, ""},
	"google, tool":             {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"name\":\"a\",\"args\":{}}}]},\"finishReason\":\"STOP\"}]}\n\n", "", modelturn.Tools, ""},
	"google, length":           {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}]},\"finishReason\":\"MAX_TOKENS\"}]}\n\n", "Hel", modelturn.Length, ""},
	"google, filter":           {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"candidates\":[{\"finishReason\":\"SAFETY\"}]}\n\n", "", modelturn.Filter, ""},
	"google, prompt blocked":   {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"promptFeedback\":{\"blockReason\":\"PROHIBITED_CONTENT\"}}\n\n", "", modelturn.Filter, ""},
	"google, a bad tool call":  {provider.Google, "/v1beta/models/m:streamGenerateContent", sseKind, "data: {\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]}\n\n", "", modelturn.Broken, "The model ended its answer with MALFORMED_FUNCTION_CALL."},
	"google, an array":         {provider.Google, "/v1beta/models/m:streamGenerateContent", jsonKind, `[{"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]},{"candidates":[{"content":{"parts":[{"text":"lo"}]},"finishReason":"STOP"}]}]`, "Hello", modelturn.End, ""},
	"google, not streamed":     {provider.Google, "/v1beta/models/m:generateContent", jsonKind, `{"candidates":[{"content":{"parts":[{"text":"Hello"}]},"finishReason":"STOP"}]}`, "Hello", modelturn.End, ""},
	"with fields of any types": {provider.OpenAI, "/v1/chat/completions", sseKind, "data: not JSON\n\ndata: 5\n\ndata: {\"choices\":7}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}\n\n", "Hello", modelturn.End, ""},
}

func TestAnswersAreRead(t *testing.T) {
	for name, c := range saidAnswers {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 2, 7, 100, 1 << 20} {
				text, o := readOutcome(t, c.provider, c.path, c.kind, c.body, n)
				if text != c.text || o.Stop != c.stop || o.Failure != c.failure {
					t.Errorf("in pieces of %d bytes: %q, %q, %q", n, text, o.Stop, o.Failure)
				}
			}
		})
	}
}

// TestAnswersThatCannotBeRead: the turn has the text of the gateway then.
func TestAnswersThatCannotBeRead(t *testing.T) {
	for name, header := range map[string]http.Header{
		"another format": {"Content-Type": {"application/x-ndjson"}},
		"compressed":     {"Content-Type": {"application/json"}, "Content-Encoding": {"br"}},
	} {
		turn := modelturn.New(modelturn.Settings{})
		call, _ := turn.Begin()
		x := &exchange{api: &api{Provider: provider.Provider{Name: provider.OpenAI}}, call: call}
		_ = x.readAnswer(&http.Response{Header: header, Request: httptest.NewRequest(http.MethodPost, "/v1/chat/completions", nil)}, http.NoBody)
		if !turn.Silent() {
			t.Error(name)
		}
	}
}

// TestLastSentenceOfATurn: at a limit the proxy answers in place of the provider, streamed or
// not, as the provider would. It reads its own answers to prove it.
func TestLastSentenceOfATurn(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the provider was called") }))
	defer upstream.Close()
	turn := modelturn.New(modelturn.Settings{Limits: modelturn.Limits{ModelCalls: 1}})
	first, _ := turn.Begin()
	first.End(modelturn.Result{Stop: modelturn.Tools})
	var keys []string
	proxy := New(Settings{
		Resolver: testResolver{base: upstream.URL}, Guard: netguard.Guard{AllowPrivate: true}, Check: func(string) error { return nil },
		Turn: func(_ context.Context, account identity.AccountID, agent identity.AgentID, key string, _ func() bool) *modelturn.Turn {
			keys = append(keys, key)
			return turn
		},
	})
	url := newListener(t, proxy)
	for _, c := range calls {
		for _, streamed := range []bool{true, false} {
			t.Run(fmt.Sprint(c.name, streamed), func(t *testing.T) {
				if !streamed {
					c.body = strings.Replace(c.body, `"stream":true,`, "", 1)
					c.path = strings.Replace(c.path, ":streamGenerateContent?alt=sse", ":generateContent", 1)
				}
				got := c.send(t.Context(), t, url)
				body, err := io.ReadAll(got.Body)
				if err != nil {
					t.Fatal(err)
				}
				kind := got.Header.Get("Content-Type")
				if isStream := strings.HasPrefix(kind, sseKind); isStream != streamed || got.StatusCode != http.StatusOK {
					t.Errorf("%d %s", got.StatusCode, kind)
				}
				path, _, _ := strings.Cut(strings.TrimPrefix(c.path, "/"+string(c.provider)), "?")
				text, o := readOutcome(t, c.provider, path, kind, string(body), 1<<20)
				if !strings.Contains(text, "1 model calls") || o.Stop != modelturn.End {
					t.Errorf("%q, %+v: %s", text, o, body)
				}
			})
		}
	}
	for _, key := range keys {
		if key != "agent:main:peer:ana:c1" {
			t.Errorf("the session is %q", key)
		}
	}
}

func TestRequestsThatAnswerTools(t *testing.T) {
	for name, c := range map[string]struct {
		provider provider.Name
		body     string
		want     bool
	}{
		"anthropic":                {provider.Anthropic, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[]},{"role":"user","content":[{"type":"tool_result","content":"b"}]}]}`, true},
		"with OpenClaw's message":  {provider.Anthropic, `{"messages":[{"role":"user","content":[{"type":"tool_result","content":"b"}]},{"role":"user","content":[{"type":"text","text":"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nx\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"}]}]}`, true},
		"chat, OpenClaw's message": {provider.OpenAI, `{"messages":[{"role":"tool","content":"b"},{"role":"user","content":"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nx\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\n\nRuntime: agent=main | session=x"}]}`, true},
		"a message with one":       {provider.Anthropic, `{"messages":[{"role":"user","content":[{"type":"tool_result"}]},{"role":"user","content":"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>x<<<END_OPENCLAW_INTERNAL_CONTEXT>>> hello"}]}`, false},
		"after an answer":          {provider.OpenAI, `{"messages":[{"role":"tool","content":"b"},{"role":"assistant","content":"c"}]}`, false},
		"anthropic, a message":     {provider.Anthropic, `{"messages":[{"role":"user","content":[{"type":"tool_result"}]},{"role":"user","content":"a"}]}`, false},
		"anthropic, parts":         {provider.Anthropic, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}`, false},
		"chat":                     {provider.OpenAI, `{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}`, true},
		"chat, a message":          {provider.OpenAI, `{"messages":[{"role":"tool","content":"b"},{"role":"user","content":"a"}]}`, false},
		"responses":                {provider.OpenAI, `{"input":[{"role":"user","content":"a"},{"type":"function_call_output","output":"b"}]}`, true},
		"responses, a message":     {provider.OpenAI, `{"input":[{"role":"user","content":"a"}]}`, false},
		"responses, a text":        {provider.OpenAI, `{"input":"a"}`, false},
		"google":                   {provider.Google, `{"contents":[{"role":"user","parts":[{"functionResponse":{"name":"a"}}]}]}`, true},
		"google, a message":        {provider.Google, `{"contents":[{"role":"user","parts":[{"text":"a"}]}]}`, false},
		"no JSON":                  {provider.Google, `{`, false},
		"nothing":                  {provider.Anthropic, `{}`, false},
		"of another type":          {provider.Anthropic, `{"messages":[5]}`, false},
		"anthropic, of other type": {provider.Anthropic, `{"messages":[{"role":"user","content":{"a":1}}]}`, false},
	} {
		if got := answersTools(c.provider, []byte(c.body)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestCallsOfProgramsBelongToNoTurn: a program of the agent can send whatever the gateway could,
// but its text is not the agent's answer.
func TestCallsOfProgramsBelongToNoTurn(t *testing.T) {
	model := startModel(t)
	var said strings.Builder
	turn := modelturn.New(modelturn.Settings{Emit: func(p string) { said.WriteString(p) }})
	ofGateway := false
	ended := make(chan Exchange, 10)
	proxy := New(Settings{
		Resolver: testResolver{base: model.URL()}, Guard: netguard.Guard{AllowPrivate: true}, Check: func(string) error { return nil },
		Turn: func(context.Context, identity.AccountID, identity.AgentID, string, func() bool) *modelturn.Turn {
			return turn
		},
		FromGateway: func(context.Context) bool { return ofGateway }, Observe: func(e Exchange) { ended <- e },
	})
	url := newListener(t, proxy)
	for _, ofGateway = range []bool{false, true} {
		for _, c := range calls {
			if got := readAll(t, c.send(t.Context(), t, url)); !strings.Contains(got, "b ") {
				t.Errorf("%s: the answer is %q", c.name, got)
			}
			<-ended
		}
		if said := said.String(); (said != "") != ofGateway || turn.Silent() == ofGateway {
			t.Errorf("from the gateway %t: the text is %q", ofGateway, said)
		}
	}
}
