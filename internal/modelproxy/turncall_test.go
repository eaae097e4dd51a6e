package modelproxy

import (
	"slices"
	"testing"

	"agento.host/agento/internal/provider"
)

func TestReasonOfAnError(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"Anthropic":              {`{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}`, "Request exceeds the maximum size"},
		"as a stream":            {"data: {\"error\": {\"message\": \"Tool schema field foo is not supported\"}}", "Tool schema field foo is not supported"},
		"events":                 {"event: error\ndata: {\"error\":\ndata: {\"message\":\"No.\"}}\n\n", "No."},
		"Google":                 {"[{\"error\":{\"code\":400,\"message\":\"Bad\\ncontents.\",\"status\":\"INVALID_ARGUMENT\"}}]", "Bad contents."},
		"a text":                 {`{"error":"model \"x\" not found, try pulling it first"}`, `model "x" not found, try pulling it first`},
		"FastAPI":                {`{"detail":"Not Found"}`, "Not Found"},
		"vLLM":                   {`{"object":"error","message":"Too long.","type":"BadRequestError","code":400}`, "Too long."},
		"plain":                  {"upstream connect error\n", "upstream connect error"},
		"only a code":            {`{"error":{"message":null,"code":"insufficient_quota"}}`, "insufficient_quota"},
		"a page":                 {"<html>502 Bad Gateway</html>", ""},
		"nothing":                {"", ""},
		"an error without words": {`{"error":{}}`, ""},
	} {
		if got := parseError([]byte(c.body)).reason(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestResultsOfTools(t *testing.T) {
	for name, c := range map[string]struct {
		provider provider.Name
		body     string
		want     []string
	}{
		"anthropic": {provider.Anthropic, `{"messages":[{"role":"user","content":[{"type":"tool_result","content":"old"}]},{"role":"assistant","content":[]},
			{"role":"user","content":[{"type":"tool_result","content":"a"},{"type":"tool_result","content":[{"type":"text","text":"b"},{"type":"image"},{"type":"text","text":"c"}]}]},
			{"role":"user","content":[{"type":"text","text":"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nx\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"}]}]}`, []string{"a", "bc"}},
		"chat":      {provider.OpenAI, `{"messages":[{"role":"user","content":"q"},{"role":"tool","content":"a"},{"role":"tool","content":[{"type":"text","text":"b"}]}]}`, []string{"a", "b"}},
		"responses": {provider.OpenAI, `{"input":[{"role":"user","content":"q"},{"type":"function_call_output","output":"a"},{"type":"custom_tool_call_output","output":[{"type":"output_text","text":"b"}]}]}`, []string{"a", "b"}},
		"google":    {provider.Google, `{"contents":[{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"a":1}}}]}]}`, []string{`{"a":1}`}},
		"none":      {provider.Anthropic, `{"messages":[{"role":"user","content":"q"}]}`, nil},
		"no JSON":   {provider.Anthropic, `{`, nil},
	} {
		if got := toolResults(c.provider, []byte(c.body)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
