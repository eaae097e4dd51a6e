package devmodel

import (
	"encoding/json"
	"fmt"
	"net/http"

	"agento.host/agento/internal/provider"
)

// openAIText is a content: a string, null, or a list of parts.
type openAIText []openAIPart

type openAIPart struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *openAIText) UnmarshalJSON(data []byte) error {
	parts, err := decodeParts[openAIPart](data, func(text string) openAIPart { return openAIPart{Text: text} })
	*t = parts
	return err
}

func (t openAIText) text() string {
	var parts []string
	for _, p := range t {
		parts = append(parts, p.Text)
	}
	return joinParagraphs(parts...)
}

type chatCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

func decodeChat(_ *http.Request, body []byte) (Request, error) {
	var in struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role       string     `json:"role"`
			Content    openAIText `json:"content"`
			ToolCalls  []chatCall `json:"tool_calls"`
			ToolCallID string     `json:"tool_call_id"`
		} `json:"messages"`
		Tools []struct {
			Function Tool `json:"function"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, fmt.Errorf("decode the request: %w", err)
	}
	r := Request{Protocol: provider.OpenAICompletions, Model: in.Model, Stream: in.Stream}
	for _, t := range in.Tools {
		r.Tools = append(r.Tools, t.Function)
	}
	for _, m := range in.Messages {
		if isSystem(m.Role) {
			r.System = joinParagraphs(r.System, m.Content.text())
			continue
		}
		message := Message{Role: m.Role, Text: m.Content.text(), CallID: m.ToolCallID}
		for _, c := range m.ToolCalls {
			message.Calls = append(message.Calls, ToolCall{ID: c.ID, Name: c.Function.Name, Input: c.Function.Arguments})
		}
		r.Messages = append(r.Messages, message)
	}
	return r, nil
}

type chatEncoder struct {
	*turn
	calls int
}

func encodeChat(t *turn) encoder { return &chatEncoder{turn: t} }

func (s *chatEncoder) begin() { s.delta(object{"role": Assistant, "content": ""}, nil) }

func (s *chatEncoder) text(chunk string) { s.delta(object{"content": chunk}, nil) }

func (s *chatEncoder) call(c ToolCall) {
	index := s.calls
	s.calls++
	wire := toChatCall(c)
	wire.Index = &index
	arguments := wire.Function.Arguments
	wire.Function.Arguments = ""
	s.delta(object{"tool_calls": []any{wire}}, nil)
	s.delta(object{"tool_calls": []any{object{"index": index, "function": object{"arguments": arguments}}}}, nil)
}

func (s *chatEncoder) end() {
	s.delta(object{}, s.finishReason())
	if s.includesUsage() {
		usage := s.frame("chat.completion.chunk", []any{})
		usage["usage"] = s.usageObject()
		s.out.send("", usage)
	}
	s.out.raw("data: [DONE]\n\n")
}

func (s *chatEncoder) complete() any {
	message := object{"role": Assistant, "content": s.allText()}
	if len(s.reply.Calls) > 0 {
		calls := make([]any, len(s.reply.Calls))
		for i, c := range s.reply.Calls {
			calls[i] = toChatCall(c)
		}
		message["tool_calls"] = calls
	}
	answer := s.frame("chat.completion", []any{object{"index": 0, "message": message, "finish_reason": s.finishReason()}})
	answer["usage"] = s.usageObject()
	return answer
}

func (s *chatEncoder) failure(status int, reason, message string) any {
	return openAIFailure(status, reason, message)
}

// openAIFailure returns the error body of OpenAI's protocols.
func openAIFailure(status int, reason, message string) any {
	kind := "invalid_request_error"
	switch {
	case status >= 500:
		kind = "server_error"
	case status == http.StatusTooManyRequests:
		kind = "rate_limit_error"
	}
	if reason == "" && status == http.StatusUnauthorized {
		reason = "invalid_api_key"
	}
	var code any
	if reason != "" {
		code = reason
	}
	return object{"error": object{"message": message, "type": kind, "param": nil, "code": code}}
}

// includesUsage reports whether the caller asked for a last chunk with the usage.
// Otherwise OpenAI sends none in a stream.
func (s *chatEncoder) includesUsage() bool {
	var in struct {
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	return json.Unmarshal(s.request.Body, &in) == nil && in.StreamOptions.IncludeUsage
}

func (s *chatEncoder) delta(delta object, finish any) {
	s.out.send("", s.frame("chat.completion.chunk", []any{object{"index": 0, "delta": delta, "finish_reason": finish}}))
}

func (s *chatEncoder) frame(kind string, choices []any) object {
	return object{"id": "chatcmpl-" + s.id, "object": kind, "created": s.at.Unix(), "model": s.request.Model, "choices": choices}
}

func (s *chatEncoder) finishReason() string {
	if s.reply.Stop != "" {
		return s.reply.Stop
	}
	if len(s.reply.Calls) > 0 {
		return "tool_calls"
	}
	return "stop"
}

// usageObject counts as OpenAI does: tokens from the cache are part of the prompt.
func (s *chatEncoder) usageObject() object {
	prompt := s.usage.Input + s.usage.CacheRead + s.usage.CacheWrite
	return object{
		"prompt_tokens": prompt, "completion_tokens": s.usage.Output, "total_tokens": prompt + s.usage.Output,
		"prompt_tokens_details": object{"cached_tokens": s.usage.CacheRead},
	}
}

func toChatCall(c ToolCall) chatCall {
	wire := chatCall{ID: c.ID, Type: "function"}
	wire.Function.Name, wire.Function.Arguments = c.Name, c.Input
	return wire
}

func isSystem(role string) bool { return role == "system" || role == "developer" }
