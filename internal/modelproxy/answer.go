package modelproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/provider"
)

// maxAnswer limits what is kept of an answer until it can be decoded: an event of a stream, or
// an answer that is no stream. Of a longer one nothing is known.
const maxAnswer = 4 << 20

// answerBody passes a provider's answer through unchanged and reports what it says to the
// call of the turn. Only one goroutine reads it.
type answerBody struct {
	io.ReadCloser
	answer *modelAnswer
	sse    *sseReader // nil if the answer is one JSON text
	data   []byte     // of the event or the answer that is being read
	long   bool       // data is longer than maxAnswer and not complete
}

// readAnswer returns body as it is read on behalf of the turn of the call.
func (x *exchange) readAnswer(res *http.Response, body io.ReadCloser) io.ReadCloser {
	if x.call == nil {
		return body
	}
	a := newAnswer(x.call, x.api.Name, res.Request.URL.Path)
	x.answer = a
	b := &answerBody{ReadCloser: body, answer: a}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch encoding := res.Header.Get("Content-Encoding"); {
	case a.read == nil || encoding != "" && encoding != "identity":
		x.call.Opaque()
		return body
	case kind == "text/event-stream":
		b.sse = &sseReader{data: b.keep, end: b.endEvent}
	case kind != "application/json":
		x.call.Opaque()
		return body
	}
	return b
}

// Read implements io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.sse != nil {
		b.sse.write(p[:n])
	} else {
		b.keep(p[:n])
	}
	if errors.Is(err, io.EOF) {
		b.endEvent() // an answer that is no stream, or an event without an empty line after it
	}
	return n, err
}

func (b *answerBody) keep(piece []byte) {
	if b.long = b.long || len(b.data)+len(piece) > maxAnswer; !b.long {
		b.data = append(b.data, piece...)
	}
}

func (b *answerBody) endEvent() {
	data, long := bytes.TrimSpace(b.data), b.long
	b.data, b.long = b.data[:0], false
	switch {
	case long && b.sse == nil:
		b.answer.call.Opaque()
	case long || len(data) == 0:
	case string(data) == "[DONE]":
		b.answer.done = true
	default:
		b.answer.readAll(data)
	}
}

// modelAnswer collects what one answer of a model says.
type modelAnswer struct {
	call    *modelturn.Call
	read    func(*modelAnswer, []byte) // reads an event, or an answer that is no stream; nil for an API whose answers have no text
	stop    modelturn.Stop
	done    bool   // the stream has come to its end
	failure string // the provider's message, if the answer ended with an error
	refused bool   // the model's own words are a refusal
	tools   []*toolCall
}

// toolCall is a call of a tool that is being streamed.
type toolCall struct {
	index     int
	name      string
	arguments strings.Builder
}

func newAnswer(call *modelturn.Call, name provider.Name, path string) *modelAnswer {
	a := &modelAnswer{call: call}
	switch {
	case name == provider.Anthropic && strings.HasSuffix(path, "/messages"):
		a.read = (*modelAnswer).readAnthropic
	case name == provider.OpenAI && (strings.HasSuffix(path, "/chat/completions") || strings.HasSuffix(path, "/completions")):
		a.read = (*modelAnswer).readChat
	case name == provider.OpenAI && strings.HasSuffix(path, "/responses"):
		a.read = (*modelAnswer).readResponses
	case name == provider.Google && strings.HasSuffix(path, "enerateContent"):
		a.read = (*modelAnswer).readGoogle
	}
	return a
}

// readAll reads an event, or several of them in a JSON array.
func (a *modelAnswer) readAll(data []byte) {
	if data[0] != '[' {
		a.read(a, data)
		return
	}
	var events []json.RawMessage
	if json.Unmarshal(data, &events) == nil {
		for _, e := range events {
			a.read(a, e)
		}
	}
}

// tool returns the call of a tool with that index in the answer.
func (a *modelAnswer) tool(index int) *toolCall {
	for _, t := range a.tools {
		if t.index == index {
			return t
		}
	}
	t := &toolCall{index: index}
	a.tools = append(a.tools, t)
	return t
}

// maxToolCalls is how many calls of tools of one answer are kept while they are streamed.
const maxToolCalls = 1000

// addArguments adds to the arguments of a call of a tool.
func (a *modelAnswer) addArguments(index int, name, piece string) {
	if len(a.tools) >= maxToolCalls {
		a.endTools()
	}
	t := a.tool(index)
	if t.name == "" {
		t.name = name
	}
	if t.arguments.Len()+len(piece) <= maxAnswer {
		t.arguments.WriteString(piece)
	}
}

// endTools reports the calls of tools that were streamed.
func (a *modelAnswer) endTools() {
	for _, t := range a.tools {
		a.call.ToolCall(t.name, t.arguments.String())
		a.setStop(modelturn.Tools)
	}
	a.tools = nil
}

// setStop records why the model stopped. Some providers say that a model has ended that
// waits for tools or has refused.
func (a *modelAnswer) setStop(s modelturn.Stop) {
	switch {
	case a.stop == modelturn.Tools && s == modelturn.End:
	case a.refused && s == modelturn.End:
		a.stop = modelturn.Refusal
	default:
		a.stop = s
	}
}

// result returns the end of the answer.
func (a *modelAnswer) result() modelturn.Result {
	a.endTools()
	if a.stop == modelturn.Broken && a.done && a.failure == "" {
		a.setStop(modelturn.End)
	}
	if a.failure != "" {
		a.stop = modelturn.Broken
	}
	return modelturn.Result{Stop: a.stop, Failure: a.failure}
}

// providerError is an error in any of the providers' formats: an object, or a text.
type providerError struct{ message string }

// UnmarshalJSON implements json.Unmarshaler.
func (e *providerError) UnmarshalJSON(data []byte) error {
	var fields struct {
		Message, Type, Code any
	}
	if json.Unmarshal(data, &e.message) == nil {
		return nil
	}
	_ = json.Unmarshal(data, &fields) // what is neither has no message
	for _, v := range []any{fields.Message, fields.Type, fields.Code} {
		if s, ok := v.(string); ok && s != "" {
			e.message = s
			return nil
		}
	}
	return nil
}

// fail records an error that ends an answer.
func (a *modelAnswer) fail(e *providerError) {
	if e == nil {
		return
	}
	if a.failure = e.message; a.failure == "" {
		a.failure = "The model provider ended the answer with an error."
	}
}

var anthropicStops = map[string]modelturn.Stop{
	"end_turn": modelturn.End, "stop_sequence": modelturn.End, "max_tokens": modelturn.Length, "model_context_window_exceeded": modelturn.Length,
	"tool_use": modelturn.Tools, "pause_turn": modelturn.Tools, "refusal": modelturn.Refusal,
}

type anthropicBlock struct {
	Type  string          `json:"type"`
	Text  string          `json:"text"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

func (a *modelAnswer) readAnthropic(data []byte) {
	var e struct {
		Type  string          `json:"type"`
		Index int             `json:"index"`
		Block *anthropicBlock `json:"content_block"`
		Delta struct {
			Type        string `json:"type"`
			Text        string `json:"text"`
			PartialJSON string `json:"partial_json"`
			StopReason  string `json:"stop_reason"`
		} `json:"delta"`
		Error *providerError `json:"error"`
		// Of an answer that is no stream.
		Content    []anthropicBlock `json:"content"`
		StopReason string           `json:"stop_reason"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	switch e.Type {
	case "content_block_start":
		if e.Block != nil {
			a.readAnthropicBlock(e.Index, *e.Block)
		}
	case "content_block_delta":
		switch e.Delta.Type {
		case "text_delta":
			a.call.Text(e.Delta.Text)
		case "input_json_delta":
			a.addArguments(e.Index, "", e.Delta.PartialJSON)
		}
	case "message_delta":
		a.setAnthropicStop(e.Delta.StopReason)
	case "message_stop":
		a.done = true
	case "message":
		for i, b := range e.Content {
			a.readAnthropicBlock(i, b)
		}
		a.setAnthropicStop(e.StopReason)
	case "error":
		a.fail(e.Error)
	}
}

func (a *modelAnswer) readAnthropicBlock(index int, b anthropicBlock) {
	switch b.Type {
	case "text":
		a.call.Text(b.Text)
	case "tool_use":
		input := string(b.Input)
		if input == "{}" {
			input = "" // the arguments follow
		}
		a.addArguments(index, b.Name, input)
	}
}

func (a *modelAnswer) setAnthropicStop(reason string) {
	if stop, ok := anthropicStops[reason]; ok {
		a.endTools()
		a.setStop(stop)
	} else if reason != "" {
		a.setStop(modelturn.End)
	}
}

var chatStops = map[string]modelturn.Stop{
	"stop": modelturn.End, "length": modelturn.Length, "content_filter": modelturn.Filter, "tool_calls": modelturn.Tools, "function_call": modelturn.Tools,
}

// chatMessage is a message of Chat Completions, or a piece of one.
type chatMessage struct {
	Content   chatText `json:"content"`
	Refusal   string   `json:"refusal"`
	ToolCalls []struct {
		Index    *int `json:"index"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

// chatText is a text, or an array of parts of which some are texts.
type chatText string

// UnmarshalJSON implements json.Unmarshaler. It takes other content for none, so that the
// rest of an event is read.
func (t *chatText) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*t = chatText(text)
		return nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal(data, &parts) == nil {
		for _, p := range parts {
			if p.Type == "text" || p.Type == "output_text" || p.Type == "" {
				*t += chatText(p.Text)
			}
		}
	}
	return nil
}

func (a *modelAnswer) readChat(data []byte) {
	var e struct {
		Choices []struct {
			Index        int          `json:"index"`
			Delta        *chatMessage `json:"delta"`
			Message      *chatMessage `json:"message"` // of an answer that is no stream
			Text         string       `json:"text"`    // of Completions
			FinishReason *string      `json:"finish_reason"`
		} `json:"choices"`
		Error *providerError `json:"error"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	a.fail(e.Error)
	for _, c := range e.Choices {
		if c.Index != 0 {
			continue
		}
		a.call.Text(c.Text)
		for _, m := range []*chatMessage{c.Delta, c.Message} {
			if m != nil {
				a.readChatMessage(*m)
			}
		}
		if c.FinishReason == nil || *c.FinishReason == "" {
			continue
		}
		a.endTools()
		if stop, ok := chatStops[*c.FinishReason]; ok {
			a.setStop(stop)
		} else {
			a.setStop(modelturn.End)
		}
	}
}

func (a *modelAnswer) readChatMessage(m chatMessage) {
	a.call.Text(string(m.Content))
	if m.Refusal != "" {
		a.refused = true
		a.call.Text(m.Refusal)
	}
	for i, c := range m.ToolCalls {
		if c.Index != nil {
			i = *c.Index
		}
		a.addArguments(i, c.Function.Name, c.Function.Arguments)
	}
}

// response is an answer of OpenAI's Responses.
type response struct {
	Status     string         `json:"status"`
	Error      *providerError `json:"error"`
	Incomplete *struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
	Output []responseItem `json:"output"`
}

type responseItem struct {
	Type      string `json:"type"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Content   []struct {
		Type    string `json:"type"`
		Text    string `json:"text"`
		Refusal string `json:"refusal"`
	} `json:"content"`
}

func (a *modelAnswer) readResponses(data []byte) {
	var e struct {
		Type     string         `json:"type"`
		Delta    chatText       `json:"delta"`
		Item     *responseItem  `json:"item"`
		Response *response      `json:"response"`
		Error    *providerError `json:"error"`
		Message  string         `json:"message"`
		Object   string         `json:"object"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	switch e.Type {
	case "response.output_text.delta":
		a.call.Text(string(e.Delta))
	case "response.refusal.delta":
		a.refused = true
		a.call.Text(string(e.Delta))
	case "response.output_item.done":
		if i := e.Item; i != nil && (i.Type == "function_call" || i.Type == "custom_tool_call") {
			a.call.ToolCall(i.Name, i.Arguments)
			a.setStop(modelturn.Tools)
		}
	case "response.completed", "response.incomplete", "response.failed":
		if e.Response != nil {
			a.endResponse(*e.Response)
		}
	case "error":
		if e.Error == nil {
			e.Error = &providerError{e.Message}
		}
		a.fail(e.Error)
	case "":
		var r response
		if e.Object == "response" && json.Unmarshal(data, &r) == nil {
			a.readResponse(r)
		}
		a.fail(e.Error)
	}
}

// readResponse reads an answer that is no stream.
func (a *modelAnswer) readResponse(r response) {
	for _, i := range r.Output {
		switch i.Type {
		case "message":
			for _, c := range i.Content {
				a.refused = a.refused || c.Refusal != ""
				a.call.Text(c.Text + c.Refusal)
			}
		case "function_call", "custom_tool_call":
			a.call.ToolCall(i.Name, i.Arguments)
			a.setStop(modelturn.Tools)
		}
	}
	a.endResponse(r)
}

func (a *modelAnswer) endResponse(r response) {
	switch {
	case r.Status == "failed":
		if r.Error == nil {
			r.Error = &providerError{}
		}
		a.fail(r.Error)
	case r.Incomplete != nil && r.Incomplete.Reason == "content_filter":
		a.setStop(modelturn.Filter)
	case r.Status == "incomplete":
		a.setStop(modelturn.Length)
	default:
		a.setStop(modelturn.End)
	}
}

// googleStops has the reasons that are not a filter of the provider's.
var googleStops = map[string]modelturn.Stop{
	"STOP": modelturn.End, "MAX_TOKENS": modelturn.Length, "OTHER": modelturn.End, "FINISH_REASON_UNSPECIFIED": modelturn.End,
	"MALFORMED_FUNCTION_CALL": modelturn.Broken, "UNEXPECTED_TOOL_CALL": modelturn.Broken, "TOO_MANY_TOOL_CALLS": modelturn.Broken,
}

func (a *modelAnswer) readGoogle(data []byte) {
	var e struct {
		Candidates []struct {
			Index   int `json:"index"`
			Content struct {
				Parts []struct {
					Text         string `json:"text"`
					Thought      bool   `json:"thought"`
					FunctionCall *struct {
						Name string          `json:"name"`
						Args json.RawMessage `json:"args"`
					} `json:"functionCall"`
				} `json:"parts"`
			} `json:"content"`
			FinishReason string `json:"finishReason"`
		} `json:"candidates"`
		PromptFeedback struct {
			BlockReason string `json:"blockReason"`
		} `json:"promptFeedback"`
		Error *providerError `json:"error"`
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	a.fail(e.Error)
	if e.PromptFeedback.BlockReason != "" {
		a.setStop(modelturn.Filter)
	}
	for _, c := range e.Candidates {
		if c.Index != 0 {
			continue
		}
		for _, p := range c.Content.Parts {
			if !p.Thought {
				a.call.Text(p.Text)
			}
			if p.FunctionCall != nil {
				a.call.ToolCall(p.FunctionCall.Name, string(p.FunctionCall.Args))
				a.setStop(modelturn.Tools)
			}
		}
		if c.FinishReason == "" {
			continue
		}
		stop, ok := googleStops[c.FinishReason]
		switch {
		case !ok:
			stop = modelturn.Filter
		case stop == modelturn.Broken:
			a.fail(&providerError{"The model ended its answer with " + c.FinishReason + "."})
		}
		a.setStop(stop)
	}
}
