package modelproxy

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
)

// beginCall counts the call for its turn. If the turn has reached a limit, it answers with
// the turn's last sentence in place of the model, and returns false. body is the request.
func (x *exchange) beginCall(w http.ResponseWriter, r *http.Request, session string, body []byte) bool {
	if x.proxy.turn == nil {
		return true
	}
	turn := x.proxy.turn(r.Context(), x.upstream.AccountID, x.upstream.AgentID, session, func() bool { return answersTools(x.api.Name, body) })
	if turn == nil {
		return true
	}
	if !x.proxy.fromGateway(r.Context()) {
		x.proxy.log.InfoContext(r.Context(), "a program of an agent has called the model", "account", x.upstream.AccountID, "agent", x.upstream.AgentID)
		return true
	}
	call, final := turn.Begin()
	if call == nil {
		x.answerWith(w, r, body, final)
		return false
	}
	x.call = call
	return true
}

// endCall reports the end of the call to its turn.
func (x *exchange) endCall() {
	var r modelturn.Result
	if x.answer != nil {
		r = x.answer.result()
	}
	if x.result.Failure != "" {
		r.Failure = x.result.Failure
	} else if r.Failure == "" {
		r.Failure = x.reason
	}
	r.Failure = x.maskKey(r.Failure)
	r.Timeout = x.result.Status == http.StatusRequestTimeout || x.result.Status == http.StatusGatewayTimeout
	c := x.result.Counts
	r.Input, r.CacheRead, r.Output = c.Input+c.CacheWrite, c.CacheRead, c.Output
	if x.response != nil {
		r.Reasoning = x.response.tally.reasoningTokens()
	}
	x.call.End(r)
}

// maskKey removes the account's key from a text that a provider has sent.
func (x *exchange) maskKey(text string) string {
	if x.key == "" {
		return text
	}
	return strings.ReplaceAll(text, x.key, "[key]")
}

// maxReason is the longest message of a provider that callers are told, in bytes.
const maxReason = 1000

// errorReason returns what the body of an error says, in any of the formats that providers
// and the proxies before them use; empty if it says nothing that a person can read.
func errorReason(contentType string, body []byte) string {
	text := bytes.TrimSpace(body)
	var data []byte
	events := sseReader{data: func(p []byte) { data = append(data, p...) }, end: func() {}}
	events.write(text)
	if events.endLine(); len(data) > 0 {
		text = bytes.TrimSpace(data)
	}
	var answers []json.RawMessage
	if json.Unmarshal(text, &answers) == nil && len(answers) > 0 {
		text = answers[0] // Google's streams
	}
	var answer struct {
		Error   *providerError `json:"error"`
		Message string         `json:"message"`
		Detail  any            `json:"detail"` // of FastAPI, with which many model servers are built
	}
	reason := ""
	switch kind, _, _ := mime.ParseMediaType(contentType); {
	case json.Unmarshal(text, &answer) == nil:
		detail, _ := answer.Detail.(string)
		if answer.Error != nil {
			reason = answer.Error.message
		}
		for _, other := range []string{answer.Message, detail} {
			if reason == "" {
				reason = other
			}
		}
	case kind == "text/plain":
		reason = string(text)
	}
	return cleanText(strings.Join(strings.Fields(reason), " "), maxReason)
}

// isPage reports whether an answer is a web page, as captive portals and wrong addresses
// send it.
func isPage(res *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// requestMessage is a message of a request in any of the providers' formats.
type requestMessage struct {
	Role    string          `json:"role"`
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
	Parts   []requestPart   `json:"parts"`
}

type requestPart struct {
	Type     string          `json:"type"`
	Text     string          `json:"text"`
	Response json.RawMessage `json:"functionResponse"`
}

// read returns the text of the message, and whether it has the results of tools.
func (m requestMessage) read() (text string, results bool) {
	if json.Unmarshal(m.Content, &text) != nil && m.Parts == nil {
		_ = json.Unmarshal(m.Content, &m.Parts) // other content has no text
	}
	results = m.Role == "tool" || m.Type == "function_call_output" || m.Type == "custom_tool_call_output"
	for _, p := range m.Parts {
		text += p.Text
		results = results || p.Type == "tool_result" || p.Response != nil
	}
	return text, results
}

// answersTools reports whether a request goes on with a run: it ends with the results of tools,
// after which OpenClaw may have added a message of its own.
func answersTools(name provider.Name, body []byte) bool {
	var request struct {
		Messages []json.RawMessage `json:"messages"`
		Input    json.RawMessage   `json:"input"`
		Contents []json.RawMessage `json:"contents"`
	}
	if json.Unmarshal(body, &request) != nil {
		return false
	}
	all := append(request.Messages, request.Contents...)
	if name == provider.OpenAI && len(all) == 0 && json.Unmarshal(request.Input, &all) != nil {
		return false // a text
	}
	for _, raw := range slices.Backward(all) {
		var m requestMessage
		if json.Unmarshal(raw, &m) != nil {
			return false
		}
		text, results := m.read()
		if results || m.Role != "user" || openclaw.UserText(text) != "" {
			return results
		}
	}
	return false
}
