package openaiapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// completion is the answer of a turn in one piece, or a chunk of it.
type completion struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitzero"`
}

type choice struct {
	Index        int             `json:"index"`
	Message      *answer         `json:"message,omitempty"` // of a completion
	Delta        *delta          `json:"delta,omitempty"`   // of a chunk
	Logprobs     json.RawMessage `json:"logprobs"`          // always null
	FinishReason *string         `json:"finish_reason"`
}

type answer struct {
	Role    string          `json:"role"`
	Content string          `json:"content"`
	Refusal json.RawMessage `json:"refusal"` // always null
}

type delta struct {
	Role    string  `json:"role,omitempty"` // in the first chunk
	Content *string `json:"content,omitempty"`
}

type usage struct {
	Prompt           int64        `json:"prompt_tokens"`
	Completion       int64        `json:"completion_tokens"`
	Total            int64        `json:"total_tokens"`
	PromptDetail     promptDetail `json:"prompt_tokens_details"`
	CompletionDetail answerDetail `json:"completion_tokens_details"`
}

type promptDetail struct {
	Cached int64 `json:"cached_tokens"`
}

type answerDetail struct {
	Reasoning int64 `json:"reasoning_tokens"`
}

func newUsage(u chat.Usage) *usage {
	return &usage{
		Prompt: u.InputTokens, Completion: u.OutputTokens, Total: u.InputTokens + u.OutputTokens,
		PromptDetail: promptDetail{u.CacheReadTokens}, CompletionDetail: answerDetail{u.ReasoningTokens},
	}
}

// finishReason returns why an answer ended, in OpenAI's words.
func finishReason(t chat.Turn) *string {
	reason := "stop"
	switch t.Why() {
	case "length", "limit":
		reason = "length"
	case "filter", "refusal":
		reason = "content_filter"
	}
	return &reason
}

// complete answers a chat completion.
func (s *server) complete(w http.ResponseWriter, r *http.Request, body []byte) (*rest.Stream, error) {
	in, prompt, err := readRequest(r, body)
	if err != nil {
		return nil, err
	}
	named, err := s.find(r.Context(), in.Model)
	if err != nil {
		return nil, err
	}
	prompt.Chore = named.chore
	reading, err := s.Chat.StartPrompt(r.Context(), s.Caller(r.Context()), named.agent.ID, prompt)
	if err != nil {
		return nil, err
	}
	e := &exchange{server: s, reading: reading, model: in.Model, withUsage: in.StreamOptions != nil && isTrue(in.StreamOptions.IncludeUsage)}
	if isTrue(in.Stream) {
		return e.stream(), nil
	}
	return nil, e.answer(w, r)
}

// exchange is one answer to a chat completion.
type exchange struct {
	server    *server
	reading   *chat.Reading
	model     string // as the client has named it
	withUsage bool   // the stream ends with a chunk of the usage
}

// turnHeader names the turn in a response, as in those of the other API.
const turnHeader = "X-Turn-Id"

func (e *exchange) header() http.Header { return http.Header{turnHeader: {string(e.reading.Turn.ID)}} }

// follow calls emit with each piece of the answer, and ends the reading.
func (e *exchange) follow(ctx context.Context, emit func(text string) error) (end chat.Turn, err error) {
	defer func() { e.reading.Leave(!end.Ended() && e.server.Draining.Err() == nil) }()
	return e.server.Chat.Follow(ctx, e.reading.Turn, 0, func(_ int64, text string) error { return emit(text) })
}

func (e *exchange) newCompletion(object string, choices ...choice) completion {
	t := e.reading.Turn
	return completion{ID: "chatcmpl-" + strings.TrimPrefix(string(t.ID), "turn_"), Object: object, Created: t.CreatedAt.Unix(), Model: e.model, Choices: choices}
}

// answer writes the whole answer.
func (e *exchange) answer(w http.ResponseWriter, r *http.Request) error {
	var text strings.Builder
	end, err := e.follow(r.Context(), func(piece string) error {
		text.WriteString(piece)
		return nil
	})
	if err != nil {
		return err
	}
	c := e.newCompletion("chat.completion", choice{Message: &answer{Role: "assistant", Content: text.String()}, FinishReason: finishReason(end)})
	c.Usage = newUsage(end.Usage)
	w.Header()[turnHeader] = e.header()[turnHeader]
	rest.WriteJSON(w, http.StatusOK, c)
	return nil
}

// stream returns the answer as chunks. An answer that fails has no finish_reason and no [DONE]:
// an error object is its end.
func (e *exchange) stream() *rest.Stream {
	return &rest.Stream{
		Header:  e.header(),
		Waiting: func() string { return e.server.Chat.Waiting(e.reading.Turn.ID) },
		Serve: func(ctx context.Context, out *rest.Events) error {
			begun := false
			begin := func() error {
				if begun {
					return nil
				}
				begun = true
				empty := ""
				return e.sendDelta(out, delta{Role: "assistant", Content: &empty}, nil)
			}
			end, err := e.follow(ctx, func(text string) error {
				if err := begin(); err != nil {
					return err
				}
				return e.sendDelta(out, delta{Content: &text}, nil)
			})
			if err != nil {
				return err
			}
			if err := begin(); err != nil {
				return err
			}
			if err := e.sendDelta(out, delta{}, finishReason(end)); err != nil {
				return err
			}
			if e.withUsage {
				c := e.newCompletion(chunkObject)
				c.Choices, c.Usage = []choice{}, newUsage(end.Usage)
				if err := out.Send(c); err != nil {
					return err
				}
			}
			return out.SendLine([]byte("[DONE]"))
		},
		Fail: func(out *rest.Events, f *fault.Fault) {
			_ = out.Send(newErrorObject(f)) // fails if the client has disconnected
		},
	}
}

const chunkObject = "chat.completion.chunk"

// chunkWithUsage is a chunk of a stream that ends with the usage: all others have null.
type chunkWithUsage struct {
	completion
	Usage json.RawMessage `json:"usage"`
}

func (e *exchange) sendDelta(out *rest.Events, d delta, reason *string) error {
	c := e.newCompletion(chunkObject, choice{Delta: &d, FinishReason: reason})
	if e.withUsage {
		return out.Send(chunkWithUsage{completion: c})
	}
	return out.Send(c)
}
