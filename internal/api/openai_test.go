package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
)

const completions = "/openai/v1/chat/completions"

const png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

// bearer returns the caller as a client of OpenAI's API: with its key in Authorization alone.
func (c *caller) bearer() *bearer { return &bearer{caller{env: c.env, account: c.account}, c.key} }

type bearer struct {
	caller
	key string
}

// ask sends a request with the key, and other headers.
func (b *bearer) ask(method, path string, body any, headers ...string) *response {
	b.env.T.Helper()
	return b.do(method, path, body, append([]string{"Authorization", "Bearer " + b.key}, headers...)...)
}

// said is a request of a completion with messages, whose roles alternate, the user's first.
func said(model string, texts ...string) map[string]any {
	messages := []any{}
	for i, text := range texts {
		messages = append(messages, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": text})
	}
	return map[string]any{"model": model, "messages": messages}
}

// withParam returns a request with one more parameter.
func withParam(request map[string]any, name string, value any) map[string]any {
	out := map[string]any{name: value}
	for k, v := range request {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// expectOpenAIError fails the test unless the response is an error as OpenAI's clients read it.
func (r *response) expectOpenAIError(status int, kind, code string, final bool) *response {
	r.t.Helper()
	r.expect(status)
	var body map[string]map[string]any
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || len(body) != 1 {
		r.t.Fatalf("%s: %q is no error: %v", r.request, r.body, err)
	}
	e := body["error"]
	_, hasParam := e["param"]
	if message, _ := e["message"].(string); message == "" || e["type"] != kind || e["code"] != code || !hasParam {
		r.t.Errorf("%s: the error is %s, want type %s, code %s", r.request, r.body, kind, code)
	}
	if got := r.header.Get("X-Should-Retry"); (got == "false") != final || r.header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s: X-Should-Retry is %q, Content-Type %q", r.request, got, r.header.Get("Content-Type"))
	}
	return r
}

func TestKeyInAuthorization(t *testing.T) {
	env := newEnv(t, options{})
	mine, other := env.newAccount("mine", ""), env.newAccount("other", "")
	nobody := &caller{env: env}
	for _, c := range []struct {
		name   string
		status int
		header []string
	}{
		{"Bearer", 200, []string{"Authorization", "Bearer " + mine.key}},
		{"bearer", 200, []string{"Authorization", "bearer  " + mine.key}},
		{"both, equal", 200, []string{"Authorization", "Bearer " + mine.key, "X-Api-Key", mine.key}},
		{"both, different", 400, []string{"Authorization", "Bearer " + mine.key, "X-Api-Key", other.key}},
		{"a proxy's credentials beside a key", 200, []string{"Authorization", "Basic dTpw", "X-Api-Key", mine.key}},
		{"a proxy's token beside a key", 200, []string{"Authorization", "Bearer eyJhbGciOi", "X-Api-Key", mine.key}},
		{"another scheme", 401, []string{"Authorization", "Basic " + mine.key}},
		{"an unknown key", 401, []string{"Authorization", "Bearer " + access.SecretPrefix + strings.Repeat("0", 32)}},
		{"no key", 401, nil},
		{"an empty one", 401, []string{"Authorization", "Bearer"}},
	} {
		for _, path := range []string{"/v1/account", "/v1/agents", "/openai/v1/models"} {
			r := nobody.do("GET", path, nil, c.header...)
			if r.status != c.status {
				t.Errorf("%s: %s answers %d: %s", c.name, path, r.status, r.body)
			}
			if c.status == 400 && !strings.Contains(r.body, "X-Api-Key and Authorization") {
				t.Errorf("%s: %s", c.name, r.body)
			}
		}
	}
}

func TestOpenAIModels(t *testing.T) {
	env := newEnv(t, options{})
	mine, other := env.newAccount("mine", ""), env.newAccount("other", "")
	ada, twin1, twin2 := mine.newAgent("Ada"), mine.newAgent("Twin"), mine.newAgent("Twin")
	foreign := other.newAgent("Foreign")
	mine.do("POST", "/v1/agents/"+twin1+"/stop", nil).expect(200)
	env.execute(`UPDATE agents SET power = 'asleep' WHERE id = $1`, twin2)
	me := mine.bearer()
	list := me.ask("GET", "/openai/v1/models", nil).expect(200)
	var models struct {
		Object string
		Data   []struct {
			ID, Object, Name string
			OwnedBy          string `json:"owned_by"`
			Created          int64
		}
	}
	if err := json.Unmarshal([]byte(list.body), &models); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range models.Data {
		ids = append(ids, m.ID)
		if m.Object != "model" || m.Created < 1e9 || m.OwnedBy != "agento" || m.Name == "" {
			t.Errorf("model %+v", m)
		}
	}
	slices.Sort(ids)
	want := []string{ada, twin1, twin2}
	slices.Sort(want)
	if models.Object != "list" || !slices.Equal(ids, want) {
		t.Errorf("models %s %v, want %v", models.Object, ids, want)
	}
	for _, name := range []string{ada, "Ada", ada + ":task", "Ada:task", twin1, twin2} {
		if r := me.ask("GET", "/openai/v1/models/"+name, nil).expect(200); r.field("id") != name || r.field("object") != "model" {
			t.Errorf("%s: %s", name, r.body)
		}
	}
	for _, name := range []string{"Twin", "ada", foreign, "Foreign", "nobody", "a/b", ":task", "Ada:task:task"} {
		me.ask("GET", "/openai/v1/models/"+name, nil).expectOpenAIError(404, "invalid_request_error", "model_not_found", true)
		me.ask("POST", completions, said(name, "hello")).expectOpenAIError(404, "invalid_request_error", "model_not_found", true)
	}
	if r := env.newAccount("empty", "").bearer().ask("GET", "/openai/v1/models", nil).expect(200); strings.TrimSpace(r.body) != `{"data":[],"object":"list"}` {
		t.Errorf("without agents: %s", r.body)
	}
	if n := len(env.Gateways.Turns()); n != 0 {
		t.Errorf("%d turns", n)
	}
	woken, err := database.One(t.Context(), env.DB, database.Scalar[bool], `SELECT wake_wanted <> 0 FROM agents WHERE id = $1`, twin2)
	if err != nil || woken {
		t.Errorf("the agent that sleeps was woken: %t, %v", woken, err)
	}
}

// TestOpenAIErrors have OpenAI's form, whatever has failed, and say whether a retry can help.
func TestOpenAIErrors(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent, stopped := mine.newAgent("Ada"), mine.newAgent("Stopped")
	mine.do("POST", "/v1/agents/"+stopped+"/stop", nil).expect(200)
	me := mine.bearer()
	reader := env.newKey(mine.account, access.NewScopes(access.AgentsRead), access.MaxRateLimit).bearer()
	limited := env.newKey(mine.account, access.NewScopes(access.Chat), 1).bearer()
	invalid := func(param string, body any, headers ...string) {
		t.Helper()
		r := me.ask("POST", completions, body, headers...).expectOpenAIError(400, "invalid_request_error", "invalid_request", true)
		if got := r.field("error.param"); param != "" && got != param {
			t.Errorf("%v: param %q, want %q: %s", body, got, param, r.body)
		}
	}
	hello := said(agent, "hello")
	content := func(parts ...any) map[string]any {
		return map[string]any{"model": agent, "messages": []any{map[string]any{"role": "user", "content": parts}}}
	}
	invalid("", "no json")
	invalid("", `{"model":1}`)
	invalid("model", said("", "hello"))
	invalid("messages", said(agent))
	invalid("messages", map[string]any{"model": agent, "messages": []any{map[string]any{"role": "user", "content": "x"}, map[string]any{"role": "assistant", "content": "x"}}})
	invalid("tools", withParam(hello, "tools", []any{map[string]any{"type": "function", "function": map[string]any{"name": "f"}}}))
	invalid("tools", withParam(hello, "functions", []any{map[string]any{"name": "f"}}))
	invalid("n", withParam(hello, "n", 2))
	invalid("messages", content(map[string]any{"type": "input_audio", "input_audio": map[string]any{"data": "x"}}))
	invalid("messages", content(map[string]any{"type": "image_url", "image_url": map[string]any{"url": "https://example.com/x.png"}}))
	invalid("messages", content(map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:image/png;base64,%%%"}}))
	invalid("messages", content(map[string]any{"type": "image_url", "image_url": map[string]any{"url": "data:application/pdf;base64,eA=="}}))
	invalid("messages", content())
	invalid("messages", map[string]any{"model": agent, "messages": []any{map[string]any{"role": "user", "content": 7}}})
	invalid("messages", map[string]any{"model": agent, "messages": []any{map[string]any{"role": "robot", "content": "x"}}})
	invalid("messages", map[string]any{"model": agent, "messages": []any{map[string]any{"role": "user", "content": "x"}, map[string]any{"role": "tool", "tool_call_id": "c", "content": "x"}, map[string]any{"role": "user", "content": "x"}}})
	invalid("messages", map[string]any{"model": agent, "messages": []any{map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{"id": "c"}}}, map[string]any{"role": "user", "content": "x"}}})
	invalid("peerId", withParam(hello, "user", "  "))
	invalid("Idempotency-Key", hello, "Idempotency-Key", strings.Repeat("x", 256))
	(&bearer{caller{env: env}, access.SecretPrefix + strings.Repeat("0", 32)}).ask("POST", completions, hello).expectOpenAIError(401, "authentication_error", "invalid_api_key", true)
	me.do("POST", completions, hello).expectOpenAIError(401, "authentication_error", "invalid_api_key", true)
	reader.ask("POST", completions, hello).expectOpenAIError(403, "permission_error", "forbidden", true)
	reader.ask("GET", "/openai/v1/models", nil).expectOpenAIError(403, "permission_error", "forbidden", true)
	me.ask("POST", "/openai/v1/embeddings", hello).expectOpenAIError(404, "invalid_request_error", "not_found", true)
	me.ask("GET", completions, nil).expectOpenAIError(405, "invalid_request_error", "invalid_request", true)
	me.ask("POST", completions, said(stopped, "hello")).expectOpenAIError(409, "invalid_request_error", "agent_not_running", true)
	me.ask("POST", completions, said(agent, strings.Repeat("x", 25<<20))).expectOpenAIError(413, "invalid_request_error", "payload_too_large", true)
	limited.ask("GET", "/openai/v1/models", nil).expect(200)
	if r := limited.ask("GET", "/openai/v1/models", nil).expectOpenAIError(429, "rate_limit_error", "rate_limit_exceeded", false); r.header.Get("Retry-After") == "" || r.header.Get("X-RateLimit-Limit") != "1" {
		t.Errorf("headers %v", r.header)
	}
	env.Gateways.SetScript(apitest.AnswerOnce(apitest.FailurePrefix + "overloaded"))
	me.ask("POST", completions, hello).expectOpenAIError(502, "server_error", "upstream_error", true)
	me.ask("POST", completions, withParam(hello, "stream", true)).expectOpenAIError(502, "server_error", "upstream_error", true)
	if n := len(env.Gateways.Turns()); n != 2 {
		t.Errorf("%d turns, want those of the last two requests", n)
	}
	quiet := mine.do("GET", "/v1/agents", nil).expect(200)
	if quiet.header.Get("X-Should-Retry") != "" {
		t.Error("the other API has X-Should-Retry")
	}
}

// chunks reads a stream to its end and returns the data of its events. The stream has nothing
// but data, comments and empty lines after data.
func chunks(t *testing.T, body string) []string {
	t.Helper()
	var all []string
	afterData := false
	for line := range strings.SplitSeq(strings.TrimSuffix(body, "\n"), "\n") {
		data, isData := strings.CutPrefix(line, "data: ")
		switch {
		case isData && data != "":
			all = append(all, data)
		case strings.HasPrefix(line, ": "), line == "" && afterData:
		default:
			t.Errorf("the stream has the line %q", line)
		}
		afterData = isData
	}
	return all
}

// TestOpenAIChunks have all fields in every one.
func TestOpenAIChunks(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	me := mine.bearer()
	began := time.Now().Unix()
	for _, withUsage := range []bool{false, true} {
		request := withParam(said("Ada", "hello <b>"), "stream", true)
		if withUsage {
			request = withParam(request, "stream_options", map[string]any{"include_usage": true})
		}
		r := me.ask("POST", completions, request).expect(200)
		if kind := r.header.Get("Content-Type"); kind != "text/event-stream; charset=utf-8" || r.header.Get("X-Turn-Id") == "" {
			t.Errorf("Content-Type %q, header %v", kind, r.header)
		}
		all := chunks(t, r.body)
		if last := all[len(all)-1]; last != "[DONE]" {
			t.Errorf("the stream ends with %q", last)
		}
		all = all[:len(all)-1]
		var usage map[string]any
		if withUsage {
			if err := json.Unmarshal([]byte(all[len(all)-1]), &usage); err != nil || len(usage["choices"].([]any)) != 0 || usage["usage"].(map[string]any)["total_tokens"] == nil {
				t.Errorf("the last chunk is %q, %v", all[len(all)-1], err)
			}
			all = all[:len(all)-1]
		}
		text, id := "", any(nil)
		for i, data := range all {
			var c map[string]any
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			if i == 0 {
				id = c["id"]
			}
			if c["id"] != id || !strings.HasPrefix(fmt.Sprint(id), "chatcmpl-") || c["object"] != "chat.completion.chunk" || c["model"] != "Ada" || c["created"].(float64) < float64(began)-1 {
				t.Errorf("chunk %s", data)
			}
			if value, has := c["usage"]; has != withUsage || value != nil {
				t.Errorf("usage in %s", data)
			}
			choice := c["choices"].([]any)[0].(map[string]any)
			delta := choice["delta"].(map[string]any)
			reason, hasReason := choice["finish_reason"]
			if _, hasRole := delta["role"]; choice["index"] != 0.0 || hasRole != (i == 0) || !hasReason || (reason == "stop") != (i == len(all)-1) || reason != nil && reason != "stop" {
				t.Errorf("chunk %d of %d: %s", i, len(all), data)
			}
			piece, _ := delta["content"].(string)
			text += piece
		}
		if text != "You said: hello <b>" {
			t.Errorf("the text is %q", text)
		}
	}
	whole := me.ask("POST", completions, said(agent, "hello")).expect(200)
	var c map[string]any
	if err := json.Unmarshal([]byte(whole.body), &c); err != nil {
		t.Fatal(err)
	}
	if c["object"] != "chat.completion" || c["model"] != agent || whole.field("choices.0.message.content") != "You said: hello" || whole.field("choices.0.message.role") != "assistant" || whole.field("choices.0.finish_reason") != "stop" || c["usage"] == nil {
		t.Errorf("completion %s", whole.body)
	}
}

// TestOpenAIStreamThatFails ends with an error object, without a finish_reason and [DONE].
func TestOpenAIStreamThatFails(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("half an")
		_ = send(apitest.FailurePrefix + "overloaded")
	})
	r := mine.bearer().ask("POST", completions, withParam(said(agent, "hello"), "stream", true)).expect(200)
	all := chunks(t, r.body)
	last := all[len(all)-1]
	if !strings.HasPrefix(last, `{"error":{"message":"`) || !strings.Contains(last, `"type":"server_error","param":null,"code":"upstream_error"}}`) || !strings.Contains(r.body, "half an") {
		t.Errorf("the stream is %s", r.body)
	}
	if strings.Contains(r.body, "[DONE]") || strings.Contains(r.body, `"finish_reason":"`) {
		t.Errorf("the stream that failed looks whole: %s", r.body)
	}
}

// TestOpenAISignsOfLife are comments of one line, also before the first chunk.
func TestOpenAISignsOfLife(t *testing.T) {
	env := newEnv(t, options{Heartbeat: 10 * time.Millisecond})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	gate := make(chan struct{})
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		<-gate
		_ = send("one")
		<-gate
		_ = send("two")
	})
	me := mine.bearer()
	ctx, cancel := context.WithTimeout(t.Context(), apitest.WaitTimeout)
	defer cancel()
	res, err := http.DefaultClient.Do(me.request(ctx, "POST", completions, withParam(said(agent, "hello"), "stream", true), "Authorization", "Bearer "+me.key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	in := bufio.NewReader(res.Body)
	for range 2 {
		for range 3 {
			line, err := in.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, ": ") {
				t.Fatalf("read %q, %v", line, err)
			}
		}
		gate <- struct{}{}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, `"content":"one"`) {
				_, _ = in.ReadString('\n')
				break
			}
			if strings.Contains(line, `"content":"two"`) {
				break
			}
		}
	}
	rest, err := io.ReadAll(in)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the end is %q, %v", rest, err)
	}
}

// TestOpenAIConversations says by what a request names its conversation and its peer.
func TestOpenAIConversations(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	me := mine.bearer()
	session := func(request map[string]any, headers ...string) string {
		t.Helper()
		me.ask("POST", completions, request, headers...).expect(200)
		return env.Gateways.LastTurn(t).Session
	}
	hello := said(agent, "hello")
	c1 := session(hello, "X-Agento-Conversation", "c1", "X-OpenWebUI-Chat-Id", "other", "X-Conversation-Id", "other")
	for name, got := range map[string]string{
		"X-OpenWebUI-Chat-Id": session(withParam(hello, "metadata", map[string]any{"conversation_id": "other"}), "X-OpenWebUI-Chat-Id", "c1", "X-Conversation-Id", "other"),
		"X-Conversation-Id":   session(withParam(hello, "metadata", map[string]any{"conversation_id": "other"}), "X-Conversation-Id", "c1", "X-Agento-Conversation", ""),
		"metadata":            session(withParam(hello, "metadata", map[string]any{"conversation_id": "c1"})),
	} {
		if got != c1 {
			t.Errorf("%s names the session %s, want %s", name, got, c1)
		}
	}
	if got := env.Gateways.LastTurn(t); got.Message != "hello" || got.Entry != "openclaw/main" {
		t.Errorf("the turn is %+v", got)
	}
	peer := session(withParam(hello, "user", "ana"), "X-Agento-Conversation", "c1")
	if got := session(hello, "X-OpenWebUI-User-Id", "ana", "X-Agento-Conversation", "c1"); got != peer || peer == c1 {
		t.Errorf("the peer's session is %s, and %s by the header", peer, got)
	}
	if got := session(withParam(hello, "user", "bob"), "X-Agento-Conversation", "c1"); got == peer {
		t.Error("two peers meet")
	}
	byDefault := session(withParam(hello, "user", "ana"))
	mine.do("POST", "/v1/agents/"+agent+"/chat/messages", map[string]any{"message": "native", "peerId": "ana"}).expect(200)
	if got := env.Gateways.LastTurn(t).Session; got != byDefault {
		t.Errorf("the peer's default session is %s here and %s there", byDefault, got)
	}
	once := session(withParam(said(agent, "My name is X", "Noted.", "What is my name?"), "temperature", 0.2))
	if got := env.Gateways.LastTurn(t); got.Entry != "openclaw/guest" || !strings.Contains(got.Message, "User: My name is X\nYou: Noted.\n") || !strings.HasSuffix(got.Message, "\n\nWhat is my name?") {
		t.Errorf("the one-shot turn is %+v", got)
	}
	if again := session(said(agent, "My name is X", "Noted.", "What is my name?")); again == once {
		t.Error("two one-shot turns have a session")
	}
	session(said(agent+":task", "A title, please"), "X-OpenWebUI-Chat-Id", "c1", "X-OpenWebUI-User-Id", "ana")
	if got := env.Gateways.LastTurn(t); got.Entry != "openclaw/task" {
		t.Errorf("the chore is %+v", got)
	}
	system := []any{map[string]any{"role": "system", "content": "one"}, map[string]any{"role": "developer", "content": []any{map[string]any{"type": "text", "text": "two"}}},
		map[string]any{"role": "user", "content": []any{map[string]any{"type": "text", "text": "look"}, map[string]any{"type": "image_url", "image_url": map[string]any{"url": png}}, map[string]any{"type": "text", "text": "here"}}}}
	session(map[string]any{"model": agent, "messages": system}, "X-Agento-Conversation", "c2")
	if got := env.Gateways.LastTurn(t); got.Context != "one\n\ntwo" || got.Message != "look\n[image]\nhere" || got.Images != 1 {
		t.Errorf("the turn is %+v", got)
	}
	list := mine.do("GET", "/v1/agents/"+agent+"/chat/sessions", nil).expect(200)
	if got := list.field("pagination.total"); got != "5" {
		t.Errorf("%s sessions: %s", got, list.body)
	}
}

// TestOpenAIRetries joins the turn of a request whose connection broke.
func TestOpenAIRetries(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			env := newEnv(t, options{})
			mine := env.newAccount("mine", "")
			agent := mine.newAgent("Ada")
			me := mine.bearer()
			gate := make(chan struct{})
			env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
				_ = send("one ")
				select {
				case <-gate:
					_ = send("two")
				case <-ctx.Done():
				}
			})
			request := withParam(said(agent, "hello"), "stream", stream)
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				res, err := http.DefaultClient.Do(me.request(ctx, "POST", completions, request, "Authorization", "Bearer "+me.key, "X-Agento-Conversation", "c1"))
				if err == nil {
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			}()
			apitest.WaitUntil(t, "the turn runs", func() bool { return len(env.Gateways.Turns()) == 1 })
			cancel()
			<-gone
			answer := make(chan *response)
			go func() {
				answer <- me.ask("POST", completions, request, "X-Agento-Conversation", "c1", "X-Stainless-Retry-Count", "1")
			}()
			close(gate)
			r := (<-answer).expect(200)
			if stream && (!strings.Contains(r.body, `"content":"one `) || !strings.Contains(r.body, "two")) || !stream && r.field("choices.0.message.content") != "one two" {
				t.Errorf("the retry got %s", r.body)
			}
			if n := len(env.Gateways.Turns()); n != 1 {
				t.Errorf("%d turns", n)
			}
			history := mine.do("GET", "/v1/agents/"+agent+"/chat/messages", nil).expect(200)
			if got := history.field("pagination.total"); got != "2" {
				t.Errorf("%s messages: %s", got, history.body)
			}
		})
	}
}

// TestOpenAIDisconnect ends the turn three seconds later.
func TestOpenAIDisconnect(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	me := mine.bearer()
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("kept")
		<-ctx.Done()
	})
	for _, stream := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan struct{})
		env.Gateways.ResetTurns()
		go func() {
			defer close(gone)
			res, err := http.DefaultClient.Do(me.request(ctx, "POST", completions, withParam(said(agent, "hello"), "stream", stream), "Authorization", "Bearer "+me.key, "X-Agento-Conversation", fmt.Sprint(stream)))
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		}()
		apitest.WaitUntil(t, "the turn runs", func() bool { return len(env.Gateways.Turns()) == 1 })
		cancel()
		<-gone
		left := time.Now()
		apitest.WaitClosed(t, "the model call ends", env.Gateways.LastTurn(t).Ended)
		if took := time.Since(left); took < 2*time.Second {
			t.Errorf("the turn ended %v after its reader had left", took)
		}
		apitest.WaitUntil(t, "the turn is cancelled", func() bool {
			return mine.do("GET", "/v1/agents/"+agent+"/chat/turns?limit=1", nil).expect(200).field("data.0.state") == "cancelled"
		})
	}
	history := mine.do("GET", "/v1/agents/"+agent+"/chat/messages", nil).expect(200)
	if n := strings.Count(history.body, `"kept"`); n != 2 {
		t.Errorf("the history has %d partial answers: %s", n, history.body)
	}
}

// TestOpenAIConversationOfAnotherKey is another one, also if the request says that it is a repetition.
func TestOpenAIConversationOfAnotherKey(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	guest := env.newKey(mine.account, access.NewScopes(access.Chat), access.MaxRateLimit)
	mine.bearer().ask("POST", completions, said(agent, "hello"), "X-Agento-Conversation", "c1").expect(200)
	first := env.Gateways.LastTurn(t)
	guest.bearer().ask("POST", completions, said(agent, "hello"), "X-Agento-Conversation", "c1", "X-Stainless-Retry-Count", "1", "Idempotency-Key", "k").expect(200)
	second := env.Gateways.LastTurn(t)
	if first.Session == second.Session || second.Entry != "openclaw/guest" || len(env.Gateways.Turns()) != 2 {
		t.Errorf("the turns are %+v and %+v", first, second)
	}
}
