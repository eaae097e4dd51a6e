package openclaw_test

import (
	"encoding/json"
	"strings"
	"testing"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
)

// sessionInSystemText returns the session key that a system text names.
func sessionInSystemText(t *testing.T, text string) string {
	t.Helper()
	r := openclaw.NewSessionReader(provider.Anthropic)
	r.SystemText(inJSON(t, text))
	return r.Key()
}

// inJSON returns text as it is written between the quotes of a JSON string.
func inJSON(t *testing.T, text string) []byte {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return quoted[1 : len(quoted)-1]
}

func TestTheLastRuntimeLineNamesTheSession(t *testing.T) {
	real := "…\n## Conversation Context\n\nRuntime: agent=guest | session=agent:guest:peer:evil:x | host=a\n## Runtime\n\n" +
		"Runtime: agent=guest | session=agent:guest:peer:good:c1 | sessionId=1 | host=vm\n<!-- end -->"
	if key := sessionInSystemText(t, real); key != "agent:guest:peer:good:c1" {
		t.Errorf("key = %q, want the last line's", key)
	}
	for _, none := range []string{"", "Runtime: agent=a | session=agent:b", "\nRuntime: agent=main | host=x", "\nRuntime: agent=main | session=plain | "} {
		if key := sessionInSystemText(t, none); key != "" {
			t.Errorf("key of %q = %q, want none", none, key)
		}
	}
}

func TestMessagesNameTheSessionForOpenAIOnly(t *testing.T) {
	const line = "Runtime: agent=main | session=agent:main:api:x | host=vm"
	for _, c := range []struct {
		provider provider.Name
		role     string
		found    bool
	}{
		{provider.OpenAI, "user", true}, {provider.OpenAI, "developer", true}, {provider.OpenAI, "assistant", false}, {provider.OpenAI, "tool", false},
		{provider.Anthropic, "user", false}, {provider.Google, "user", false},
	} {
		r := openclaw.NewSessionReader(c.provider)
		r.MessageText(c.role, []byte(line))
		if found := r.Key() == "agent:main:api:x"; found != c.found {
			t.Errorf("%s, %s: key %q", c.provider, c.role, r.Key())
		}
	}
}

func TestSessionsAreFoundInPiecesOfAnySize(t *testing.T) {
	const marker, maxLine = "Runtime: agent=", 1024
	text := "xx" + marker + "a | session=agent:k | y " + marker + strings.Repeat("z", 3*maxLine) + marker + "a | session=agent:last | "
	for n := 1; n < len(text); n += 7 {
		var keys []string
		r := openclaw.NewSessionReader(provider.Anthropic)
		for rest := text; rest != ""; {
			cut := min(n, len(rest))
			before := r.Key()
			r.SystemText([]byte(rest[:cut]))
			if r.Key() != before {
				keys = append(keys, r.Key())
			}
			rest = rest[cut:]
		}
		if got := keys[len(keys)-1]; got != "agent:last" || n < 1000 && strings.Join(keys, " ") != "agent:k agent:last" {
			t.Fatalf("pieces of %d: %q", n, keys)
		}
	}
}

func TestUserTextOmitsOpenClawsAdditions(t *testing.T) {
	for message, want := range map[string]string{
		"[Tue 2026-11-24 12:37 UTC] echo hi\n\nRuntime: agent=main | session=agent:main:peer:p1:c1 | host=vm":                                "echo hi",
		"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nConversation data\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>":                                      "",
		"one <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>a<<<END_OPENCLAW_INTERNAL_CONTEXT>>>two<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>> never closed": "one two",
		"Runtime: agent=main is how it starts": "Runtime: agent=main is how it starts",
	} {
		if got := openclaw.UserText(message); got != want {
			t.Errorf("UserText(%q) = %q, want %q", message, got, want)
		}
	}
}

func FuzzSessionReader(f *testing.F) {
	f.Add("system\\nRuntime: agent=main | session=agent:main:api:x | ", uint16(3))
	f.Add(strings.Repeat("Runtime: agent=", 200), uint16(7))
	f.Fuzz(func(t *testing.T, text string, n uint16) {
		whole, pieces := openclaw.NewSessionReader(provider.OpenAI), openclaw.NewSessionReader(provider.OpenAI)
		whole.MessageText("user", []byte(text))
		for rest := []byte(text); len(rest) > 0; {
			cut := min(int(n)+1, len(rest))
			pieces.MessageText("user", rest[:cut])
			rest = rest[cut:]
		}
		if whole.Key() != pieces.Key() {
			t.Errorf("%q whole, %q in pieces of %d", whole.Key(), pieces.Key(), int(n)+1)
		}
		if key := whole.Key(); key != "" && !strings.HasPrefix(key, "agent:") {
			t.Errorf("key %q", key)
		}
	})
}
