package modelproxy

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"agento.host/agento/internal/provider"
)

// runtimeLine returns the line of OpenClaw 2026.9.6 that names the session, as seen on
// a real gateway.
func runtimeLine(key string) string {
	return "\nRuntime: agent=main | session=" + key + " | sessionId=ac669ef1-f5b0-4791-865a-1d0ef31eb621 | host=vm | model=anthropic/claude-sonnet-4-5"
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// message has its keys in the order of OpenAI's clients.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func TestModelAndSessionAreReadFromTheRequest(t *testing.T) {
	const mine, theirs = "agent:main:peer:ana:c1", "agent:main:peer:bob:c2"
	user := func(text string) message { return message{"user", text} }
	for name, c := range map[string]struct {
		provider provider.Name
		body     any
		session  string
	}{
		"anthropic": {provider.Anthropic, object{"model": "m", "messages": []any{user("hi")}, "system": []any{object{"type": "text", "text": "Be kind." + runtimeLine(mine)}}}, mine},
		"anthropic, a user message contains the line":      {provider.Anthropic, object{"model": "m", "system": "Be kind." + runtimeLine(mine), "messages": []any{user(runtimeLine(theirs))}}, mine},
		"anthropic, only a user message contains the line": {provider.Anthropic, object{"model": "m", "messages": []any{user(runtimeLine(theirs))}}, ""},
		"the context contains the line":                    {provider.Anthropic, object{"model": "m", "system": "## Conversation Context" + runtimeLine(theirs) + "\n## Runtime" + runtimeLine(mine)}, mine},
		"openai chat":                                      {provider.OpenAI, object{"model": "m", "messages": []any{object{"role": "system", "content": "x"}, user("hi\n" + runtimeLine(mine))}}, mine},
		"openai chat, the user's text contains the line":   {provider.OpenAI, object{"model": "m", "messages": []any{user(runtimeLine(theirs) + " hi\n" + runtimeLine(mine))}}, mine},
		"openai chat, the user's text begins a line": {provider.OpenAI, object{"model": "m", "messages": []any{
			user("Runtime: agent=x | session=agent:main:peer:bob:c2\n" + runtimeLine(mine))}}, mine},
		"openai chat, a tool's result contains the line": {provider.OpenAI, object{"model": "m", "messages": []any{
			user("hi" + runtimeLine(mine)), message{"tool", runtimeLine(theirs)}, message{"assistant", runtimeLine(theirs)}}}, mine},
		"openai responses":               {provider.OpenAI, object{"model": "m", "input": []any{object{"role": "user", "content": []any{object{"type": "input_text", "text": "hi" + runtimeLine(mine)}}}}}, mine},
		"openai responses, instructions": {provider.OpenAI, object{"model": "m", "instructions": "x" + runtimeLine(mine), "input": "hi"}, mine},
		"openai responses, a tool's result contains the line": {provider.OpenAI, object{"model": "m", "instructions": "x" + runtimeLine(mine), "input": []any{
			user("hi"), object{"type": "function_call", "call_id": "1", "name": "exec", "arguments": runtimeLine(theirs)}, object{"type": "function_call_output", "call_id": "1", "output": runtimeLine(theirs)}}}, mine},
		"google":                          {provider.Google, object{"model": "m", "systemInstruction": object{"parts": []any{object{"text": "x" + runtimeLine(mine)}}}, "contents": []any{object{"parts": []any{object{"text": runtimeLine(theirs)}}}}}, mine},
		"a key with quotes":               {provider.Anthropic, object{"model": "m", "system": runtimeLine(`agent:main:peer:a"n\a:c1`)}, `agent:main:peer:a"n\a:c1`},
		"no session key":                  {provider.Anthropic, object{"model": "m", "system": runtimeLine("nothing")}, ""},
		"in a field that is not searched": {provider.Google, object{"model": "m", "tools": runtimeLine(mine)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := jsonOf(t, c.body)
			for n := 1; n <= len(body); n++ {
				b := newRequestBody(io.NopCloser(pieces{strings.NewReader(body), n}), c.provider)
				if passed, err := io.ReadAll(b); err != nil || string(passed) != body {
					t.Fatalf("the bytes changed: %v", err)
				}
				if model, session := b.modelAndSession(); model != "m" || session != c.session {
					t.Fatalf("pieces of %d: model %q, session %q, want %q", n, model, session, c.session)
				}
			}
		})
	}
}

func FuzzRequestBody(f *testing.F) {
	f.Add(`{"model":"m","messages":[{"role":"user","content":"Runtime: agent=main | session=agent:main:peer:a:b | x"}]}`, uint16(3))
	f.Add(strings.Repeat("Runtime: agent=", 200), uint16(7))
	f.Fuzz(func(t *testing.T, body string, n uint16) {
		cut := newRequestBody(io.NopCloser(pieces{strings.NewReader(body), int(n) + 1}), provider.OpenAI)
		whole := newRequestBody(io.NopCloser(strings.NewReader(body)), provider.OpenAI)
		for _, b := range []*requestBody{cut, whole} {
			if passed, err := io.ReadAll(b); err != nil || string(passed) != body {
				t.Fatalf("the bytes changed: %q, %v", passed, err)
			}
		}
		cutModel, cutSession := cut.modelAndSession()
		wholeModel, wholeSession := whole.modelAndSession()
		if cutModel != wholeModel || cutSession != wholeSession {
			t.Fatalf("%q, %q in pieces; %q, %q whole", cutModel, cutSession, wholeModel, wholeSession)
		}
	})
}
