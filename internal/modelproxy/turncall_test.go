package modelproxy

import "testing"

func TestReasonOfAnError(t *testing.T) {
	for name, c := range map[string]struct{ kind, body, want string }{
		"Anthropic":              {"application/json", `{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}`, "Request exceeds the maximum size"},
		"as a stream":            {"text/event-stream", "data: {\"error\": {\"message\": \"Tool schema field foo is not supported\"}}", "Tool schema field foo is not supported"},
		"events":                 {"text/event-stream", "event: error\ndata: {\"error\":\ndata: {\"message\":\"No.\"}}\n\n", "No."},
		"Google":                 {"application/json", "[{\"error\":{\"code\":400,\"message\":\"Bad\\ncontents.\",\"status\":\"INVALID_ARGUMENT\"}}]", "Bad contents."},
		"a text":                 {"application/json", `{"error":"model \"x\" not found, try pulling it first"}`, `model "x" not found, try pulling it first`},
		"FastAPI":                {"application/json", `{"detail":"Not Found"}`, "Not Found"},
		"vLLM":                   {"application/json", `{"object":"error","message":"Too long.","type":"BadRequestError","code":400}`, "Too long."},
		"plain":                  {"text/plain; charset=utf-8", "upstream connect error\n", "upstream connect error"},
		"only a code":            {"application/json", `{"error":{"message":null,"code":"insufficient_quota"}}`, "insufficient_quota"},
		"a page":                 {"text/html", "<html>502 Bad Gateway</html>", ""},
		"nothing":                {"", "", ""},
		"an error without words": {"application/json", `{"error":{}}`, ""},
	} {
		if got := errorReason(c.kind, []byte(c.body)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
