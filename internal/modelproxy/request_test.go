package modelproxy

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// line is what OpenClaw 2026.9.6 writes, as seen on a real gateway.
func line(key string) string {
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

// said is a message with its keys in the order of OpenAI's clients.
type said struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func TestSessionAndModelAreReadFromTheRequest(t *testing.T) {
	const mine, theirs = "agent:main:peer:ana:c1", "agent:main:peer:bob:c2"
	user := func(text string) said { return said{"user", text} }
	for name, c := range map[string]struct {
		provider string
		body     any
		session  string
	}{
		"anthropic":                         {Anthropic, object{"model": "m", "messages": []any{user("hi")}, "system": []any{object{"type": "text", "text": "Be kind." + line(mine)}}}, mine},
		"anthropic, a user writes the line": {Anthropic, object{"model": "m", "system": "Be kind." + line(mine), "messages": []any{user(line(theirs))}}, mine},
		"anthropic, only a user writes it":  {Anthropic, object{"model": "m", "messages": []any{user(line(theirs))}}, ""},
		"the context writes it":             {Anthropic, object{"model": "m", "system": "## Conversation Context" + line(theirs) + "\n## Runtime" + line(mine)}, mine},
		"openai chat":                       {OpenAI, object{"model": "m", "messages": []any{object{"role": "system", "content": "x"}, user("hi\n" + line(mine))}}, mine},
		"openai chat, the user writes it":   {OpenAI, object{"model": "m", "messages": []any{user(line(theirs) + " hi\n" + line(mine))}}, mine},
		"openai chat, the user leaves it open": {OpenAI, object{"model": "m", "messages": []any{
			user("Runtime: agent=x | session=agent:main:peer:bob:c2\n" + line(mine))}}, mine},
		"openai chat, a tool's answer has it": {OpenAI, object{"model": "m", "messages": []any{
			user("hi" + line(mine)), said{"tool", line(theirs)}, said{"assistant", line(theirs)}}}, mine},
		"openai responses":               {OpenAI, object{"model": "m", "input": []any{object{"role": "user", "content": []any{object{"type": "input_text", "text": "hi" + line(mine)}}}}}, mine},
		"openai responses, instructions": {OpenAI, object{"model": "m", "instructions": "x" + line(mine), "input": "hi"}, mine},
		"google":                         {Google, object{"model": "m", "systemInstruction": object{"parts": []any{object{"text": "x" + line(mine)}}}, "contents": []any{object{"parts": []any{object{"text": line(theirs)}}}}}, mine},
		"a key with quotes":              {Anthropic, object{"model": "m", "system": line(`agent:main:peer:a"n\a:c1`)}, `agent:main:peer:a"n\a:c1`},
		"no session key":                 {Anthropic, object{"model": "m", "system": line("nothing")}, ""},
		"nested far, not searched":       {Google, object{"model": "m", "tools": line(mine)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := jsonOf(t, c.body)
			for n := 1; n <= len(body); n++ {
				b := watchRequest(io.NopCloser(pieces{strings.NewReader(body), n}), c.provider)
				if passed, err := io.ReadAll(b); err != nil || string(passed) != body {
					t.Fatalf("the bytes changed: %v", err)
				}
				if model, session := b.told(); model != "m" || session != c.session {
					t.Fatalf("pieces of %d: model %q, session %q, want %q", n, model, session, c.session)
				}
			}
		})
	}
}

func TestSplitSession(t *testing.T) {
	for key, want := range map[string][2]string{
		"agent:main:peer:ana:c1":         {"ana", "c1"},
		"agent:guest:peer:ana:c1:x":      {"ana", "c1:x"},
		"agent:main:telegram:direct:123": {"", "agent:main:telegram:direct:123"},
		"agent:main:main":                {"", "agent:main:main"},
		"":                               {"", ""},
	} {
		if peer, session := SplitSession(key); peer != want[0] || session != want[1] {
			t.Errorf("%s: %q, %q", key, peer, session)
		}
	}
}

func FuzzRequestBody(f *testing.F) {
	f.Add(`{"model":"m","messages":[{"role":"user","content":"Runtime: agent=main | session=agent:main:peer:a:b | x"}]}`, uint16(3))
	f.Add(strings.Repeat(marker, 200), uint16(7))
	f.Fuzz(func(t *testing.T, body string, n uint16) {
		cut := watchRequest(io.NopCloser(pieces{strings.NewReader(body), int(n) + 1}), OpenAI)
		whole := watchRequest(io.NopCloser(strings.NewReader(body)), OpenAI)
		for _, b := range []*requestBody{cut, whole} {
			if passed, err := io.ReadAll(b); err != nil || string(passed) != body {
				t.Fatalf("the bytes changed: %q, %v", passed, err)
			}
		}
		if cut.note.model != whole.note.model || cut.note.session != whole.note.session {
			t.Fatalf("%q, %q in pieces; %q, %q whole", cut.note.model, cut.note.session, whole.note.model, whole.note.session)
		}
	})
}

func TestMarkerIsFoundFarFromThePieces(t *testing.T) {
	// The finder itself, with text directly, so that a fuzzer's work is seeded.
	text := "xx" + marker + "a | session=agent:k | y " + marker + strings.Repeat("z", 3*maxMarked) + marker + "a | session=agent:last | "
	for n := 1; n < len(text); n += 7 {
		var keys []string
		var f finder
		for rest := text; rest != ""; {
			cut := min(n, len(rest))
			f.write([]byte(rest[:cut]), func(key string) { keys = append(keys, key) })
			rest = rest[cut:]
		}
		if got := strings.Join(keys, " "); got != "agent:k agent:last" {
			t.Fatalf("pieces of %d: %q", n, got)
		}
	}
}
