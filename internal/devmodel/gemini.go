package devmodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	model, method, _ := strings.Cut(r.PathValue("call"), ":")
	if method != "generateContent" && method != "streamGenerateContent" {
		return Request{}, fmt.Errorf("the scripted model has no method %q", method)
	}
	out := Request{API: Gemini, Model: model, Stream: method == "streamGenerateContent"}
	if out.Stream && r.URL.Query().Get("alt") != "sse" {
		return Request{}, errors.New("the scripted model streams with alt=sse only")
	}
	for _, p := range in.System.Parts {
		out.System = paragraphs(out.System, p.Text)
	}
	for _, t := range in.Tools {
		out.Tools = append(out.Tools, t.Functions...)
	}
	for _, c := range in.Contents {
		out.Messages = append(out.Messages, geminiMessages(c)...)
	}
	return out, nil
}

// geminiMessages takes the functions' answers out of a user's content. Calls
// without an id are known by their name.
func geminiMessages(c geminiContent) []Message {
	var results []Message
	said := Message{Role: User}
	if c.Role == "model" {
		said.Role = Assistant
	}
	for _, p := range c.Parts {
		said.Text = paragraphs(said.Text, p.Text)
		if f := p.FunctionCall; f != nil {
			said.Calls = append(said.Calls, ToolCall{ID: firstOf(f.ID, f.Name), Name: f.Name, Input: string(f.Args)})
		}
		if f := p.FunctionResponse; f != nil {
			results = append(results, Message{Role: ToolRole, CallID: firstOf(f.ID, f.Name), Text: string(f.Response)})
		}
	}
	if len(results) > 0 && said.Text == "" {
		return results
	}
	return append(results, said)
}

type geminiSpeaker struct{ *turn }

func speakGemini(t *turn) speaker { return geminiSpeaker{turn: t} }

func (geminiSpeaker) begin() {}

func (s geminiSpeaker) text(chunk string) { s.out.send("", s.frame([]any{object{"text": chunk}}, "")) }

func (s geminiSpeaker) call(c ToolCall) {
	s.out.send("", s.frame([]any{geminiCall(c)}, ""))
}

func (s geminiSpeaker) end() { s.out.send("", s.frame([]any{object{"text": ""}}, "STOP")) }

func (s geminiSpeaker) whole() any {
	parts := []any{}
	if text := s.allText(); text != "" {
		parts = append(parts, object{"text": text})
	}
	for _, c := range s.reply.Calls {
		parts = append(parts, geminiCall(c))
	}
	return s.frame(parts, "STOP")
}

func (s geminiSpeaker) failure(status int, reason, message string) any {
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

// frame is one piece of the answer; the usage goes with each, as Google does.
func (s geminiSpeaker) frame(parts []any, finish string) object {
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
