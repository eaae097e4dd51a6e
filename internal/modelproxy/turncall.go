package modelproxy

import (
	"encoding/json"
	"net/http"
	"slices"

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
	if turn.AwaitsResults() {
		turn.Results(toolResults(x.api.Name, body))
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
	}
	r.Failure, r.Timeout = x.secret.Text(r.Failure), x.result.Cause == TimedOut
	u := x.result.Usage
	r.Usage = modelturn.Usage{
		Input: u.Input + u.CacheWrite, CacheRead: u.CacheRead, CacheWrite: u.CacheWrite, Output: u.Output, Reasoning: u.Reasoning,
		Requests: u.Requests, Estimated: u.Estimated, Unpriced: u.Unpriced, Micros: u.Micros,
	}
	x.call.End(r)
}

// requestMessage is a message of a request in any of the providers' formats.
type requestMessage struct {
	Role    string          `json:"role"`
	Type    string          `json:"type"`
	Content json.RawMessage `json:"content"`
	Parts   []requestPart   `json:"parts"`
	Output  json.RawMessage `json:"output"`
}

type requestPart struct {
	Type     string          `json:"type"`
	Text     string          `json:"text"`
	Content  json.RawMessage `json:"content"`
	Response json.RawMessage `json:"functionResponse"`
}

// read returns the text of the message, and whether it has the results of tools.
func (m *requestMessage) read() (text string, results bool) {
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
	for _, raw := range slices.Backward(messagesOf(name, body)) {
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

// messagesOf returns the messages of a request; none if they cannot be read.
func messagesOf(name provider.Name, body []byte) []json.RawMessage {
	var request struct {
		Messages []json.RawMessage `json:"messages"`
		Input    json.RawMessage   `json:"input"`
		Contents []json.RawMessage `json:"contents"`
	}
	if json.Unmarshal(body, &request) != nil {
		return nil
	}
	all := append(request.Messages, request.Contents...)
	if name == provider.OpenAI && len(all) == 0 && json.Unmarshal(request.Input, &all) != nil {
		return nil // a text
	}
	return all
}

// toolResults returns the results of tools with which a request ends, in their order.
func toolResults(name provider.Name, body []byte) []string {
	var found [][]string // of each message, the last one first
	for _, raw := range slices.Backward(messagesOf(name, body)) {
		var m requestMessage
		if json.Unmarshal(raw, &m) != nil {
			break
		}
		text, results := m.read()
		if !results && (m.Role != "user" || openclaw.UserText(text) != "") {
			break
		}
		found = append(found, m.results(text))
	}
	slices.Reverse(found)
	return slices.Concat(found...)
}

// results returns the results of tools in the message, whose text was read.
func (m *requestMessage) results(text string) (found []string) {
	switch m.Type {
	case "function_call_output", "custom_tool_call_output":
		return []string{plainText(m.Output)}
	}
	if m.Role == "tool" {
		return []string{text}
	}
	for _, p := range m.Parts {
		switch {
		case p.Type == "tool_result":
			found = append(found, plainText(p.Content))
		case p.Response != nil:
			var r struct {
				Response json.RawMessage `json:"response"`
			}
			_ = json.Unmarshal(p.Response, &r) // otherwise it has no text
			found = append(found, string(r.Response))
		}
	}
	return found
}

// plainText returns a text that is a string, or the texts of a list of parts.
func plainText(raw json.RawMessage) string {
	var text string
	var parts []requestPart
	if json.Unmarshal(raw, &text) == nil || json.Unmarshal(raw, &parts) != nil {
		return text
	}
	for _, p := range parts {
		text += p.Text
	}
	return text
}
