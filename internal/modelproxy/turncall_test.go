package modelproxy

import "testing"

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
