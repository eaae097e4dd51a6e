package modelproxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// answerWith answers a call with a text in place of the model, as the model would: streamed
// or not, in the API's format.
func (x *exchange) answerWith(w http.ResponseWriter, r *http.Request, body []byte, text string) {
	var request struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	_ = json.Unmarshal(body, &request) // what is not there has its zero value
	model := request.Model
	if model == "" {
		model = x.result.Model
	}
	path := r.URL.Path
	streams := request.Stream || strings.HasSuffix(path, ":streamGenerateContent")
	var whole any
	var events []object
	switch {
	case strings.HasSuffix(path, "/messages"):
		whole, events = anthropicAnswer(model, text)
	case strings.HasSuffix(path, "/responses"), strings.HasSuffix(path, "/responses/compact"):
		whole, events = responsesAnswer(model, text)
	case strings.HasSuffix(path, "enerateContent"):
		whole = googleAnswer(model, text)
		events = []object{googleAnswer(model, text)}
	case strings.HasSuffix(path, "ompletions"):
		whole, events = chatAnswer(model, text)
	default: // such as embeddings, which no text can answer
		x.write(w, http.StatusBadRequest, text) // the agent and its model are well
		return
	}
	if !streams {
		w.Header().Set("Content-Type", "application/json")
		encoded, err := json.Marshal(whole)
		if err == nil { // it has only texts and numbers
			_, _ = w.Write(encoded)
		}
		return
	}
	if strings.HasSuffix(path, ":streamGenerateContent") && r.URL.Query().Get("alt") != "sse" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(events)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		encoded, err := json.Marshal(e)
		if err != nil {
			return
		}
		if kind, ok := e["type"].(string); ok {
			_, _ = fmt.Fprintf(w, "event: %s\n", kind)
		}
		_, _ = fmt.Fprintf(w, "data: %s\n\n", encoded)
	}
	if strings.HasSuffix(path, "ompletions") {
		_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	}
}

// answerID is the id of an answer that no model has given.
const answerID = "agento_limit"

func anthropicAnswer(model, text string) (whole object, events []object) {
	usage := object{"input_tokens": 0, "output_tokens": 0}
	message := func(content []any, stop any) object {
		return object{
			"id": "msg_" + answerID, "type": "message", "role": "assistant", "model": model, "content": content,
			"stop_reason": stop, "stop_sequence": nil, "usage": usage,
		}
	}
	return message([]any{object{"type": "text", "text": text}}, "end_turn"), []object{
		{"type": "message_start", "message": message([]any{}, nil)},
		{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}},
		{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": text}},
		{"type": "content_block_stop", "index": 0},
		{"type": "message_delta", "delta": object{"stop_reason": "end_turn", "stop_sequence": nil}, "usage": usage},
		{"type": "message_stop"},
	}
}

func chatAnswer(model, text string) (whole object, events []object) {
	frame := func(kind string, choice object) object {
		choice["index"] = 0
		return object{"id": "chatcmpl-" + answerID, "object": kind, "created": 0, "model": model, "choices": []any{choice}}
	}
	usage := object{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
	whole = frame("chat.completion", object{"message": object{"role": "assistant", "content": text}, "finish_reason": "stop"})
	whole["usage"] = usage
	const chunk = "chat.completion.chunk"
	last := frame(chunk, object{"delta": object{}, "finish_reason": "stop"})
	last["usage"] = usage
	return whole, []object{
		frame(chunk, object{"delta": object{"role": "assistant", "content": ""}, "finish_reason": nil}),
		frame(chunk, object{"delta": object{"content": text}, "finish_reason": nil}),
		last,
	}
}

func responsesAnswer(model, text string) (whole object, events []object) {
	id := "msg_" + answerID
	part := func(text string) object {
		return object{"type": "output_text", "text": text, "annotations": []any{}}
	}
	item := func(status string, content ...any) object {
		return object{"id": id, "type": "message", "role": "assistant", "status": status, "content": append([]any{}, content...)}
	}
	answer := func(status string, output ...any) object {
		return object{
			"id": "resp_" + answerID, "object": "response", "created_at": 0, "status": status, "model": model, "output": append([]any{}, output...),
			"error": nil, "incomplete_details": nil, "tools": []any{}, "parallel_tool_calls": true,
			"usage": object{
				"input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
				"input_tokens_details": object{"cached_tokens": 0}, "output_tokens_details": object{"reasoning_tokens": 0},
			},
		}
	}
	whole = answer("completed", item("completed", part(text)))
	events = []object{
		{"type": "response.created", "response": answer("in_progress")},
		{"type": "response.output_item.added", "output_index": 0, "item": item("in_progress")},
		{"type": "response.content_part.added", "item_id": id, "output_index": 0, "content_index": 0, "part": part("")},
		{"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": text},
		{"type": "response.output_text.done", "item_id": id, "output_index": 0, "content_index": 0, "text": text},
		{"type": "response.content_part.done", "item_id": id, "output_index": 0, "content_index": 0, "part": part(text)},
		{"type": "response.output_item.done", "output_index": 0, "item": item("completed", part(text))},
		{"type": "response.completed", "response": whole},
	}
	for i, e := range events {
		e["sequence_number"] = i
	}
	return whole, events
}

func googleAnswer(model, text string) object {
	return object{
		"candidates": []any{object{
			"index": 0, "content": object{"role": "model", "parts": []any{object{"text": text}}}, "finishReason": "STOP",
		}},
		"modelVersion":  model,
		"usageMetadata": object{"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0},
	}
}
