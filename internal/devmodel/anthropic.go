package devmodel

import (
	"encoding/json"
	"fmt"
	"net/http"

	"agento.host/agento/internal/provider"
)

type anthropicBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Input     json.RawMessage `json:"input"`
	ToolUseID string          `json:"tool_use_id"`
	Content   anthropicText   `json:"content"`
}

// anthropicText is a content: a string or a list of blocks.
type anthropicText []anthropicBlock

// UnmarshalJSON implements json.Unmarshaler.
func (t *anthropicText) UnmarshalJSON(data []byte) error {
	blocks, err := decodeParts[anthropicBlock](data, func(text string) anthropicBlock {
		return anthropicBlock{Type: "text", Text: text}
	})
	*t = blocks
	return err
}

func (t anthropicText) text() string {
	var parts []string
	for _, b := range t {
		parts = append(parts, b.Text)
	}
	return joinParagraphs(parts...)
}

func decodeAnthropic(_ *http.Request, body []byte) (Request, error) {
	var in struct {
		Model    string        `json:"model"`
		Stream   bool          `json:"stream"`
		System   anthropicText `json:"system"`
		Messages []struct {
			Role    string        `json:"role"`
			Content anthropicText `json:"content"`
		} `json:"messages"`
		Tools []Tool `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, fmt.Errorf("decode the request: %w", err)
	}
	r := Request{Protocol: provider.AnthropicMessages, Model: in.Model, Stream: in.Stream, System: in.System.text(), Tools: in.Tools}
	for _, m := range in.Messages {
		r.Messages = append(r.Messages, anthropicMessages(m.Role, m.Content)...)
	}
	return r, nil
}

// anthropicMessages returns the tool results of a user message as messages of their
// own, before the user's text.
func anthropicMessages(role string, content anthropicText) []Message {
	var results []Message
	message := Message{Role: role}
	var texts []string
	for _, b := range content {
		switch b.Type {
		case "text":
			texts = append(texts, b.Text)
		case "tool_use":
			message.Calls = append(message.Calls, ToolCall{ID: b.ID, Name: b.Name, Input: string(b.Input)})
		case "tool_result":
			results = append(results, Message{Role: ToolRole, CallID: b.ToolUseID, Text: b.Content.text()})
		}
	}
	message.Text = joinParagraphs(texts...)
	if len(results) > 0 && message.Text == "" && message.Calls == nil {
		return results
	}
	return append(results, message)
}

type anthropicEncoder struct {
	*turn
	blocks int
	open   bool // a text block is open
}

func encodeAnthropic(t *turn) encoder { return &anthropicEncoder{turn: t} }

func (s *anthropicEncoder) begin() {
	s.out.send("message_start", object{"type": "message_start", "message": s.message([]any{}, nil, 1)})
	s.out.send("ping", object{"type": "ping"})
}

func (s *anthropicEncoder) text(chunk string) {
	if !s.open {
		s.openBlock(object{"type": "text", "text": ""})
		s.open = true
	}
	s.delta(object{"type": "text_delta", "text": chunk})
}

func (s *anthropicEncoder) call(c ToolCall) {
	s.closeText()
	s.openBlock(object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": object{}})
	s.delta(object{"type": "input_json_delta", "partial_json": c.Input})
	s.closeBlock()
}

func (s *anthropicEncoder) end() {
	s.closeText()
	s.out.send("message_delta", object{
		"type":  "message_delta",
		"delta": object{"stop_reason": s.stopReason(), "stop_sequence": nil},
		"usage": s.usageObject(s.usage.Output),
	})
	s.out.send("message_stop", object{"type": "message_stop"})
}

func (s *anthropicEncoder) complete() any {
	content := []any{}
	if text := s.allText(); text != "" {
		content = append(content, object{"type": "text", "text": text})
	}
	for _, c := range s.reply.Calls {
		content = append(content, object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": json.RawMessage(c.Input)})
	}
	return s.message(content, s.stopReason(), s.usage.Output)
}

func (s *anthropicEncoder) failure(status int, reason, message string) any {
	if reason == "" {
		reason = anthropicReasons[status]
	}
	if reason == "" {
		reason = "api_error"
	}
	return object{"type": "error", "error": object{"type": reason, "message": message}}
}

var anthropicReasons = map[int]string{
	400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
	404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error",
}

func (s *anthropicEncoder) message(content []any, stopReason any, output int64) object {
	return object{
		"id": "msg_" + s.id, "type": "message", "role": Assistant, "model": s.request.Model, "content": content,
		"stop_reason": stopReason, "stop_sequence": nil, "usage": s.usageObject(output),
	}
}

func (s *anthropicEncoder) usageObject(output int64) object {
	return object{
		"input_tokens": s.usage.Input, "output_tokens": output,
		"cache_read_input_tokens": s.usage.CacheRead, "cache_creation_input_tokens": s.usage.CacheWrite,
	}
}

func (s *anthropicEncoder) stopReason() string {
	if s.reply.Stop != "" {
		return s.reply.Stop
	}
	if len(s.reply.Calls) > 0 {
		return "tool_use"
	}
	return "end_turn"
}

func (s *anthropicEncoder) openBlock(block object) {
	s.out.send("content_block_start", object{"type": "content_block_start", "index": s.blocks, "content_block": block})
}

func (s *anthropicEncoder) delta(delta object) {
	s.out.send("content_block_delta", object{"type": "content_block_delta", "index": s.blocks, "delta": delta})
}

func (s *anthropicEncoder) closeBlock() {
	s.out.send("content_block_stop", object{"type": "content_block_stop", "index": s.blocks})
	s.blocks++
}

func (s *anthropicEncoder) closeText() {
	if s.open {
		s.closeBlock()
		s.open = false
	}
}
