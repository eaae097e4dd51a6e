package devmodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"agento.host/agento/internal/provider"
)

type geminiContent struct {
	Role  string `json:"role"`
	Parts []struct {
		Text         string `json:"text"`
		FunctionCall *struct {
			ID   string          `json:"id"`
			Name string          `json:"name"`
			Args json.RawMessage `json:"args"`
		} `json:"functionCall"`
		FunctionResponse *struct {
			ID       string          `json:"id"`
			Name     string          `json:"name"`
			Response json.RawMessage `json:"response"`
		} `json:"functionResponse"`
	} `json:"parts"`
}

func decodeGemini(r *http.Request, body []byte) (Request, error) {
	var in struct {
		System   geminiContent   `json:"systemInstruction"`
		Contents []geminiContent `json:"contents"`
		Tools    []struct {
			Functions []Tool `json:"functionDeclarations"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Request{}, fmt.Errorf("decode the request: %w", err)
	}
	model, method, _ := strings.Cut(r.PathValue("call"), ":")
	if method != "generateContent" && method != "streamGenerateContent" {
		return Request{}, fmt.Errorf("the scripted model has no method %q", method)
	}
	out := Request{Protocol: provider.GoogleGenerativeAI, Model: model, Stream: method == "streamGenerateContent"}
	if out.Stream && r.URL.Query().Get("alt") != "sse" {
		return Request{}, errors.New("the scripted model streams with alt=sse only")
	}
	for _, p := range in.System.Parts {
		out.System = joinParagraphs(out.System, p.Text)
	}
	for _, t := range in.Tools {
		out.Tools = append(out.Tools, t.Functions...)
	}
	for _, c := range in.Contents {
		out.Messages = append(out.Messages, geminiMessages(c)...)
	}
	return out, nil
}

// geminiMessages returns the function responses of a user's content as messages of
// their own. The name of a call that has no id is its id.
func geminiMessages(c geminiContent) []Message {
	var results []Message
	message := Message{Role: User}
	if c.Role == "model" {
		message.Role = Assistant
	}
	for _, p := range c.Parts {
		message.Text = joinParagraphs(message.Text, p.Text)
		if f := p.FunctionCall; f != nil {
			message.Calls = append(message.Calls, ToolCall{ID: firstNonEmpty(f.ID, f.Name), Name: f.Name, Input: string(f.Args)})
		}
		if f := p.FunctionResponse; f != nil {
			results = append(results, Message{Role: ToolRole, CallID: firstNonEmpty(f.ID, f.Name), Text: string(f.Response)})
		}
	}
	if len(results) > 0 && message.Text == "" {
		return results
	}
	return append(results, message)
}

type geminiEncoder struct{ *turn }

func encodeGemini(t *turn) encoder { return geminiEncoder{turn: t} }

func (geminiEncoder) begin() {}

func (s geminiEncoder) text(chunk string) { s.out.send("", s.frame([]any{object{"text": chunk}}, "")) }

func (s geminiEncoder) call(c ToolCall) {
	s.out.send("", s.frame([]any{geminiCall(c)}, ""))
}

func (s geminiEncoder) end() { s.out.send("", s.frame([]any{object{"text": ""}}, s.finishReason())) }

func (s geminiEncoder) complete() any {
	parts := []any{}
	if text := s.allText(); text != "" {
		parts = append(parts, object{"text": text})
	}
	for _, c := range s.reply.Calls {
		parts = append(parts, geminiCall(c))
	}
	return s.frame(parts, s.finishReason())
}

func (s geminiEncoder) finishReason() string {
	if s.reply.Stop != "" {
		return s.reply.Stop
	}
	return "STOP"
}

func (s geminiEncoder) failure(status int, reason, message string) any {
	if reason == "" {
		reason = geminiReasons[status]
	}
	if reason == "" {
		reason = "INTERNAL"
	}
	return object{"error": object{"code": status, "message": message, "status": reason}}
}

var geminiReasons = map[int]string{
	400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
	429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}

// frame returns one piece of the answer. Each has the usage, as Google's do.
func (s geminiEncoder) frame(parts []any, finish string) object {
	candidate := object{"index": 0, "content": object{"role": "model", "parts": parts}}
	if finish != "" {
		candidate["finishReason"] = finish
	}
	prompt := s.usage.Input + s.usage.CacheRead + s.usage.CacheWrite
	return object{
		"candidates": []any{candidate}, "modelVersion": s.request.Model, "responseId": s.id,
		"usageMetadata": object{
			"promptTokenCount": prompt, "candidatesTokenCount": s.usage.Output,
			"cachedContentTokenCount": s.usage.CacheRead, "totalTokenCount": prompt + s.usage.Output,
		},
	}
}

func geminiCall(c ToolCall) object {
	return object{"functionCall": object{"id": c.ID, "name": c.Name, "args": json.RawMessage(c.Input)}}
}
