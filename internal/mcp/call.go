package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

const (
	// progressInterval is the time between two signs of progress of a call that takes long.
	// Clients give up after a minute without one.
	progressInterval = 5 * time.Second
	// textInterval is the least time between two pieces of an answer.
	textInterval = 500 * time.Millisecond
	// cancelTime is how long the end of a turn may take whose call was cancelled.
	cancelTime = 10 * time.Second
)

// boundTool is a tool with the arguments of its route.
type boundTool struct {
	tool
	method, path string
	arguments    rest.Arguments
	id           string // the argument for {id}; empty if the path has none
	schema       map[string]any
	api          *http.Client
}

func bind(t tool, s Settings) (*boundTool, error) {
	b := &boundTool{tool: t}
	b.method, b.path = pathOf(t.pattern)
	var err error
	if b.arguments, err = s.Arguments(b.method, b.path); err != nil {
		return nil, err
	}
	properties, required := maps.Clone(b.arguments.Properties), slices.Clone(b.arguments.Required)
	if schema, ok := properties["id"]; ok && slices.Contains(b.arguments.Path, "id") {
		collection, _, _ := strings.Cut(strings.TrimPrefix(b.path, "/v1/"), "/")
		b.id = idNames()[collection]
		delete(properties, "id")
		properties[b.id] = schema
		required[slices.Index(required, "id")] = b.id
	}
	for _, name := range t.without {
		delete(properties, name)
	}
	b.schema = map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		b.schema["required"] = required
	}
	b.api = &http.Client{Transport: inProcess{s.API}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return b, nil
}

// describe returns the tool as clients see it.
func (b *boundTool) describe() *mcp.Tool {
	destructive, open := b.method == http.MethodDelete || b.method == http.MethodPut, false
	return &mcp.Tool{
		Name: b.name, Title: b.title, Description: b.description, InputSchema: b.schema,
		Annotations: &mcp.ToolAnnotations{
			Title: b.title, ReadOnlyHint: readsOnly(b.method), DestructiveHint: &destructive, OpenWorldHint: &open,
			IdempotentHint: b.method == http.MethodDelete || b.method == http.MethodPut,
		},
	}
}

// call returns the handler of a tool.
func (h *Handler) call(b *boundTool) mcp.ToolHandler {
	return func(ctx context.Context, req *mcp.CallToolRequest) (result *mcp.CallToolResult, err error) {
		defer func() { // the library runs tools on goroutines of its own, where a panic would end the server
			if p := recover(); p != nil {
				h.settings.Log.ErrorContext(ctx, "a tool panicked", "tool", b.name, "panic", p, "stack", string(debug.Stack()))
				result, err = failed("The tool failed on the server."), nil
			}
		}()
		in, ok := ctx.Value(requestKey{}).(*request)
		if !ok {
			return nil, errors.New("the call has no request")
		}
		args := map[string]json.RawMessage{}
		if len(req.Params.Arguments) > 0 {
			if err := json.Unmarshal(req.Params.Arguments, &args); err != nil {
				return failed("The arguments must be a JSON object."), nil
			}
		}
		for name := range args {
			if _, known := b.schema["properties"].(map[string]any)[name]; !known {
				return failed(fmt.Sprintf("%s has no argument %q. It has: %s.", b.name, name, strings.Join(slices.Sorted(maps.Keys(b.schema["properties"].(map[string]any))), ", "))), nil
			}
		}
		p := newProgress(ctx, req)
		defer p.stop()
		if b.chats {
			return b.chat(in, args, p), nil
		}
		return b.run(in.ctx, args), nil
	}
}

// failed returns the result of a call that did not do what it should.
func failed(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{IsError: true, Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

// failure is failed for an error of the API or of the call.
func failure(ctx context.Context, err error) *mcp.CallToolResult {
	var e *client.Error
	switch {
	case errors.As(err, &e):
		text := e.Error()
		if e.RequestID != "" {
			text += "\n  requestId: " + e.RequestID
		}
		return failed(text)
	case errors.Is(context.Cause(ctx), errCancelled):
		return failed("The call was cancelled.")
	case fault.From(err).Code != fault.Internal:
		return failed(fault.From(err).Message)
	}
	return failed("The call ended before its result: " + err.Error())
}

// run makes the request of a tool. Its result is the body of the response.
func (b *boundTool) run(ctx context.Context, args map[string]json.RawMessage) *mcp.CallToolResult {
	req, err := b.request(ctx, args)
	if err != nil {
		return failure(ctx, err)
	}
	res, err := b.api.Do(req)
	if err != nil {
		return failure(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return failure(ctx, err)
	}
	if res.StatusCode/100 != 2 {
		var e client.ErrorEnvelope
		if json.Unmarshal(body, &e) != nil || e.Error == nil {
			return failed(fmt.Sprintf("The server answered %d.", res.StatusCode))
		}
		return failure(ctx, e.Error)
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: strings.TrimSpace(string(body))}}}
}

// request returns the request of the arguments: those that are not in the path or in the
// query are the body. Faults: Invalid.
func (b *boundTool) request(ctx context.Context, args map[string]json.RawMessage) (*http.Request, error) {
	rest := maps.Clone(args)
	path, err := b.takePath(rest)
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	for _, name := range b.arguments.Query {
		if raw, ok := rest[name]; ok {
			query.Set(name, plain(raw))
			delete(rest, name)
		}
	}
	var body io.Reader = http.NoBody
	if b.arguments.Body {
		text, err := json.Marshal(rest)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	u, err := url.Parse("http://agento" + path)
	if err != nil {
		return nil, err
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, b.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if b.arguments.Body {
		req.Header.Set("Content-Type", "application/json")
	}
	if b.header[0] != "" {
		req.Header.Set(b.header[0], b.header[1])
	}
	return req, nil
}

// takePath returns the path with its wildcards replaced by the arguments, which it removes.
// Faults: Invalid.
func (b *boundTool) takePath(args map[string]json.RawMessage) (string, error) {
	path := b.path
	for _, wildcard := range b.arguments.Path {
		name := wildcard
		if wildcard == "id" {
			name = b.id
		}
		value := plain(args[name])
		if value == "" || value == "." || value == ".." {
			return "", fault.Fields{name: "is required, and must name something"}.Err()
		}
		path = strings.Replace(path, "{"+wildcard+"}", url.PathEscape(value), 1)
		delete(args, name)
	}
	return path, nil
}

// plain returns a JSON value as a parameter: a text as it is, and null as none.
func plain(raw json.RawMessage) string {
	var text string
	switch {
	case json.Unmarshal(raw, &text) == nil:
		return text
	case raw == nil:
		return ""
	}
	return string(raw)
}

// chat sends a message and waits for the whole answer. The turn goes on if the connection
// breaks, and ends if the call is cancelled.
func (b *boundTool) chat(in *request, args map[string]json.RawMessage, p *progress) *mcp.CallToolResult {
	agent := plain(args[b.id])
	if agent == "" || agent == "." || agent == ".." {
		return failure(in.ctx, fault.Fields{b.id: "is required, and must name an agent"}.Err())
	}
	delete(args, b.id)
	text, err := json.Marshal(args)
	if err != nil {
		return failure(in.ctx, err)
	}
	var message client.ChatRequest
	if err := json.Unmarshal(text, &message); err != nil {
		return failed("The arguments do not fit: " + err.Error())
	}
	api := &client.Client{URL: "http://agento", HTTP: b.api, Retries: -1}
	var answer strings.Builder
	var turn string
	for e, err := range api.Chat(in.ctx, agent, message) {
		turn = e.TurnID
		switch {
		case err != nil:
			if turn != "" && (in.endsTurn || errors.Is(context.Cause(in.ctx), errCancelled)) && in.ctx.Err() != nil {
				b.cancelTurn(in.ctx, api, agent, turn)
			}
			return failure(in.ctx, err)
		case e.Type == "error":
			return partial(answer.String(), e)
		case e.Type == "done":
			return answered(answer.String(), e)
		}
		answer.WriteString(e.Content)
		p.text(e.Content)
	}
	return failed("The answer ended before its end. The turn is " + turn + ".")
}

func (b *boundTool) cancelTurn(ctx context.Context, api *client.Client, agent, turn string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer cancel()
	_, _ = api.CancelTurn(ctx, agent, turn) // nobody waits for the result
}

// answered is the result of a whole answer: its text, and what continues the conversation.
func answered(text string, e client.ChatEvent) *mcp.CallToolResult {
	about, err := json.Marshal(map[string]string{"sessionId": e.SessionID, "turnId": e.TurnID, "stopReason": e.StopReason})
	if err != nil {
		return failed(err.Error())
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}, &mcp.TextContent{Text: string(about)}}}
}

// partial is the result of an answer that failed.
func partial(text string, e client.ChatEvent) *mcp.CallToolResult {
	result := failed(fmt.Sprintf("%s (%s)\n  turnId: %s", e.Message, e.Code, e.TurnID))
	if text != "" {
		result.Content = append([]mcp.Content{&mcp.TextContent{Text: text}}, result.Content...)
	}
	return result
}

// progress tells the client of a call that it goes on, if the client asked for that.
type progress struct {
	ctx     context.Context
	session *mcp.ServerSession
	token   any

	mu      sync.Mutex
	timer   *time.Timer // reports that the call goes on; guarded by mu
	stopped bool        // guarded by mu
	number  float64     // of reports so far; guarded by mu
	pending string      // text that was not reported; guarded by mu
	last    time.Time   // guarded by mu
}

// newProgress returns the progress of a call. ctx is the one that the library has passed,
// which leads to the response of the call.
func newProgress(ctx context.Context, req *mcp.CallToolRequest) *progress {
	p := &progress{ctx: ctx, session: req.Session, token: req.Params.GetProgressToken()}
	if p.token == nil {
		return p
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	began := time.Now()
	p.timer = time.AfterFunc(progressInterval, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.stopped {
			return
		}
		message := p.pending
		if message == "" {
			message = fmt.Sprintf("Working for %d s", int(time.Since(began).Seconds()))
		}
		p.reportLocked(message)
		p.timer.Reset(progressInterval)
	})
	return p
}

// text reports the next piece of an answer, together with those before it that came too fast.
func (p *progress) text(piece string) {
	if p.token == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pending += piece; time.Since(p.last) >= textInterval {
		p.reportLocked(p.pending)
	}
}

func (p *progress) reportLocked(message string) {
	p.number++
	p.pending, p.last = "", time.Now()
	// It fails if the client has disconnected, which the call notices itself.
	_ = p.session.NotifyProgress(p.ctx, &mcp.ProgressNotificationParams{ProgressToken: p.token, Progress: p.number, Message: message})
}

// stop ends the reports.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
