package devmodel

import (
	"encoding/json"
	"fmt"
	"net/http"

	"agento.host/agento/internal/provider"
)

// responsesItem is one entry of a request's input.
type responsesItem struct {
	Type      string     `json:"type"`
	Role      string     `json:"role"`
	Content   openAIText `json:"content"`
	CallID    string     `json:"call_id"`
	Name      string     `json:"name"`
	Arguments string     `json:"arguments"`
	Output    openAIText `json:"output"`
}

// responsesInput is a string or a list of items.
type responsesInput []responsesItem

// UnmarshalJSON implements json.Unmarshaler.
func (in *responsesInput) UnmarshalJSON(data []byte) error {
	items, err := decodeParts[responsesItem](data, func(text string) responsesItem {
		return responsesItem{Role: User, Content: openAIText{{Text: text}}}
	})
	*in = items
	return err
}

func decodeResponses(_ *http.Request, body []byte) (Request, error) {
	var in struct {
		Model        string         `json:"model"`
		Stream       bool           `json:"stream"`
		Instructions string         `json:"instructions"`
		Input        responsesInput `json:"input"`
		Tools        []Tool         `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, fmt.Errorf("decode the request: %w", err)
	}
	r := Request{Protocol: provider.OpenAIResponses, Model: in.Model, Stream: in.Stream, System: in.Instructions, Tools: in.Tools}
	for _, item := range in.Input {
		switch {
		case item.Type == "function_call":
			r.Messages = append(r.Messages, Message{Role: Assistant, Calls: []ToolCall{{ID: item.CallID, Name: item.Name, Input: item.Arguments}}})
		case item.Type == "function_call_output":
			r.Messages = append(r.Messages, Message{Role: ToolRole, CallID: item.CallID, Text: item.Output.text()})
		case isSystem(item.Role):
			r.System = joinParagraphs(r.System, item.Content.text())
		case item.Role != "":
			r.Messages = append(r.Messages, Message{Role: item.Role, Text: item.Content.text()})
		}
	}
	return r, nil
}

type responsesEncoder struct {
	*turn
	sequence int
	items    []any // finished
	open     bool  // the message item is open
}

func encodeResponses(t *turn) encoder { return &responsesEncoder{turn: t, items: []any{}} }

func (s *responsesEncoder) begin() {
	s.event("response.created", object{"response": s.response("in_progress")})
	s.event("response.in_progress", object{"response": s.response("in_progress")})
}

func (s *responsesEncoder) text(chunk string) {
	if !s.open {
		s.open = true
		s.event("response.output_item.added", object{"output_index": 0, "item": s.message("in_progress", []any{})})
		s.event("response.content_part.added", s.addPosition(object{"part": outputText("")}))
	}
	s.event("response.output_text.delta", s.addPosition(object{"delta": chunk}))
}

func (s *responsesEncoder) call(c ToolCall) {
	s.closeMessage()
	index, item := len(s.items), s.functionCall(c, "in_progress")
	empty := s.functionCall(c, "in_progress")
	empty["arguments"] = ""
	s.event("response.output_item.added", object{"output_index": index, "item": empty})
	s.event("response.function_call_arguments.delta", object{"item_id": item["id"], "output_index": index, "delta": c.Input})
	s.event("response.function_call_arguments.done", object{"item_id": item["id"], "output_index": index, "name": c.Name, "arguments": c.Input})
	s.finishItem(s.functionCall(c, "completed"))
}

func (s *responsesEncoder) end() {
	s.closeMessage()
	status := s.endStatus()
	s.event("response."+status, object{"response": s.response(status)})
}

func (s *responsesEncoder) complete() any {
	if text := s.allText(); text != "" {
		s.items = append(s.items, s.message("completed", []any{outputText(text)}))
	}
	for _, c := range s.reply.Calls {
		s.items = append(s.items, s.functionCall(c, "completed"))
	}
	return s.response(s.endStatus())
}

func (s *responsesEncoder) endStatus() string {
	if s.reply.Stop != "" {
		return "incomplete"
	}
	return "completed"
}

func (s *responsesEncoder) failure(status int, reason, message string) any {
	return openAIFailure(status, reason, message)
}

func (s *responsesEncoder) closeMessage() {
	if !s.open {
		return
	}
	s.open = false
	done := outputText(s.allText())
	s.event("response.output_text.done", s.addPosition(object{"text": done["text"]}))
	s.event("response.content_part.done", s.addPosition(object{"part": done}))
	s.finishItem(s.message("completed", []any{done}))
}

func (s *responsesEncoder) finishItem(item object) {
	s.event("response.output_item.done", object{"output_index": len(s.items), "item": item})
	s.items = append(s.items, item)
}

func (s *responsesEncoder) event(kind string, body object) {
	body["type"], body["sequence_number"] = kind, s.sequence
	s.sequence++
	s.out.send(kind, body)
}

// addPosition adds the position of a piece of text in the answer.
func (s *responsesEncoder) addPosition(body object) object {
	body["item_id"], body["output_index"], body["content_index"] = "msg_"+s.id, 0, 0
	return body
}

func (s *responsesEncoder) message(status string, content []any) object {
	return object{"id": "msg_" + s.id, "type": "message", "role": Assistant, "status": status, "content": content}
}

func (s *responsesEncoder) functionCall(c ToolCall, status string) object {
	return object{"id": "fc_" + c.ID, "type": "function_call", "status": status, "call_id": c.ID, "name": c.Name, "arguments": c.Input}
}

func (s *responsesEncoder) response(status string) object {
	r := object{
		"id": "resp_" + s.id, "object": "response", "created_at": s.at.Unix(), "status": status, "model": s.request.Model,
		"output": s.items, "error": nil, "incomplete_details": nil, "tools": []any{}, "parallel_tool_calls": true, "usage": nil,
	}
	if status == "incomplete" {
		r["incomplete_details"] = object{"reason": s.reply.Stop}
	}
	if status == "completed" || status == "incomplete" {
		input := s.usage.Input + s.usage.CacheRead + s.usage.CacheWrite
		r["usage"] = object{
			"input_tokens": input, "output_tokens": s.usage.Output, "total_tokens": input + s.usage.Output,
			"input_tokens_details":  object{"cached_tokens": s.usage.CacheRead, "cache_write_tokens": s.usage.CacheWrite},
			"output_tokens_details": object{"reasoning_tokens": 0},
		}
	}
	return r
}

func outputText(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []any{}}
}
