package openclaw

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"agento.host/agento/internal/runtime"
)

// TurnRequest is one message to an agent.
type TurnRequest struct {
	Entry      Entry
	SessionKey string // made by SessionKey
	// System is context for this turn only. The session does not keep it.
	System  string
	Message string
	Images  []string // data URLs
}

// TurnResult is the outcome of a turn.
type TurnResult struct {
	InputTokens  int64 // as counted by the provider; 0 if it reported none
	OutputTokens int64
	Truncated    bool // the answer was longer than MaxAnswer, and ended there
}

// Turn sends a message and calls emit with every delta of the answer as it arrives.
// An answer ends after MaxAnswer. Text that the model writes before it calls a tool may be missing from the deltas;
// the history has it. Two turns of one session run one after the other. When ctx
// ends or emit fails, Turn closes the connection, which aborts the run and its model
// call.
//
// Errors: ctx's error, or emit's. Every other failure is a *TurnError, also after
// Close. The error wraps
// runtime.ErrNotRunning if the gateway was closed before it got the message, so the
// caller can send it to another gateway.
func (g *Gateway) Turn(ctx context.Context, r TurnRequest, emit func(delta string) error) (TurnResult, error) {
	if g.open.Err() != nil {
		return TurnResult{}, errClosedBefore
	}
	reqCtx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection instead of draining the answer
	defer context.AfterFunc(g.open, cancel)()
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := g.postTurn(httptrace.WithClientTrace(reqCtx, trace), r)
	if err != nil && !connected.Load() && g.open.Err() != nil && ctx.Err() == nil {
		return TurnResult{}, errClosedBefore
	}
	if err != nil {
		return TurnResult{}, g.turnFailure(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return TurnResult{}, parseRejection(resp.StatusCode, body)
	}
	result, err := readTurn(resp.Body, emit)
	if err != nil {
		return result, g.turnFailure(ctx, err)
	}
	return result, nil
}

// errClosedBefore is the error of a turn whose message the gateway has not got.
var errClosedBefore = gatewayGone(fmt.Errorf("%w: %w", errClosed, runtime.ErrNotRunning))

type chatMessage struct {
	Role    string `json:"role"`
	Content any    `json:"content"` // a text, or parts
}

// content returns the message with its images in the form of the request.
func (r TurnRequest) content() any {
	if len(r.Images) == 0 {
		return r.Message
	}
	parts := list{object{"type": "text", "text": r.Message}}
	for _, url := range r.Images {
		parts = append(parts, object{"type": "image_url", "image_url": object{"url": url}})
	}
	return parts
}

func (g *Gateway) postTurn(ctx context.Context, r TurnRequest) (*http.Response, error) {
	// Only the new message: OpenClaw keeps the session, and would join earlier
	// messages into the text.
	messages := []chatMessage{{"user", r.content()}}
	if r.System != "" {
		messages = []chatMessage{{"system", r.System}, {"user", r.content()}}
	}
	body, err := json.Marshal(map[string]any{
		"model":          "openclaw/" + string(r.Entry),
		"stream":         true,
		"stream_options": map[string]bool{"include_usage": true},
		"messages":       messages,
	})
	if err != nil {
		return nil, fmt.Errorf("encode a turn: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("request a turn: %w", err)
	}
	if err := g.authorize(req); err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Openclaw-Session-Key", r.SessionKey)
	return g.http.Do(req)
}

// turnFailure returns the error of a turn that failed with err: the caller's own
// error if the caller ended the turn, a TurnError as it is, and GatewayGone for a
// broken connection.
func (g *Gateway) turnFailure(ctx context.Context, err error) error {
	var turn *TurnError
	var emit emitError
	switch {
	case errors.As(err, &emit):
		return emit.error
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &turn):
		return err
	case g.open.Err() != nil:
		return gatewayGone(errClosed) // err is only a consequence
	}
	return gatewayGone(err)
}

func gatewayGone(cause error) error {
	return &TurnError{Kind: GatewayGone, Message: "The agent's gateway stopped answering.", cause: cause}
}

// emitError marks an error that emit returned.
type emitError struct{ error }

const (
	// MaxAnswer is the longest answer that is read, in bytes. It is kept until it is stored,
	// and a hijacked gateway sends without end.
	MaxAnswer = 1 << 20
	// minDelta is what a delta counts at least: each is stored as a row, however short it is.
	// The gateway sends one every 75 ms or so.
	minDelta = 64
	// maxLine limits one line of a stream, in bytes. A delta has a few.
	maxLine = 2 << 20
)

// readTurn reads the events of a stream up to its [DONE] or to MaxAnswer. It skips unknown
// lines and fields.
func readTurn(body io.Reader, emit func(string) error) (TurnResult, error) {
	var result TurnResult
	var failure error
	left := MaxAnswer
	lines := bufio.NewReaderSize(body, 16<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			if failure != nil { // the gateway sent its error and then closed the connection
				return result, failure
			}
			return result, fmt.Errorf("read the stream: %w", err)
		}
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			return result, failure
		}
		if failure != nil {
			continue
		}
		var chunk turnChunk
		if json.Unmarshal(data, &chunk) != nil {
			continue
		}
		chunk.count(&result)
		if delta := chunk.text(); delta != "" {
			result.Truncated = len(delta) > left
			if text := cut(delta, left); text != "" {
				if err := emit(text); err != nil {
					return result, emitError{err}
				}
			}
			if left -= max(len(delta), minDelta); left <= 0 {
				result.Truncated = true
			}
			if result.Truncated {
				return result, nil
			}
		}
		failure = chunk.failure()
	}
}

// cut returns at most the first n bytes of a text, without half a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// readLine returns a line without its line end. A last line that has none is an
// io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if len(line) > maxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", maxLine)
		}
	}
}

type turnChunk struct {
	Choices []struct {
		Delta struct{ Content any }
	}
	Usage struct {
		Prompt     float64 `json:"prompt_tokens"`
		Completion float64 `json:"completion_tokens"`
	}
	Error any
}

func (c turnChunk) text() string {
	var b strings.Builder
	for _, choice := range c.Choices {
		if s, ok := choice.Delta.Content.(string); ok {
			b.WriteString(s)
		}
	}
	return b.String()
}

func (c turnChunk) count(r *TurnResult) {
	if c.Usage.Prompt > 0 || c.Usage.Completion > 0 {
		r.InputTokens, r.OutputTokens = tokenCount(c.Usage.Prompt), tokenCount(c.Usage.Completion)
	}
}

// tokenCount returns n as a count, and 0 if it cannot be one.
func tokenCount(n float64) int64 {
	if n < 0 || n > 1e12 {
		return 0
	}
	return int64(n)
}

func (c turnChunk) failure() error {
	if c.Error == nil {
		return nil
	}
	return parseFailure(http.StatusOK, c.Error)
}
