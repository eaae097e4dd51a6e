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
	"strings"

	"agento.host/agento/internal/runtime"
)

// TurnRequest is one message to an agent.
type TurnRequest struct {
	Entry      Entry
	SessionKey string // of SessionKey
	// System is context for this turn alone; it is not kept in the session.
	System  string
	Message string
}

// TurnResult is how a turn went.
type TurnResult struct {
	Text         string // all deltas
	InputTokens  int64  // as the provider counted; 0 if it did not say
	OutputTokens int64
}

// Turn sends a message and hands every delta of the answer to emit as it comes.
// Text that the model writes before it calls a tool may be cut in the deltas; the
// history has all of it. Two turns of one session run one after the other. When
// ctx ends or emit fails, the connection is closed, which aborts the run and its
// model call; the error is then ctx's or emit's. Any other failure is a *TurnError,
// the end of the gateway by Close too; the result holds what came before it.
func (g *Gateway) Turn(ctx context.Context, r TurnRequest, emit func(delta string) error) (TurnResult, error) {
	if g.life.Err() != nil { // it was given nothing yet, so that another gateway may be
		return TurnResult{}, gone(fmt.Errorf("%w: %w", errLinkClosed, runtime.ErrNotRunning))
	}
	open, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection before the body is drained
	defer context.AfterFunc(g.life, cancel)()
	resp, err := g.post(open, r)
	if err != nil {
		return TurnResult{}, g.goneOr(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		return TurnResult{}, refusal(resp.StatusCode, body)
	}
	var text strings.Builder
	result, err := readTurn(resp.Body, func(delta string) error {
		text.WriteString(delta)
		return emit(delta)
	})
	result.Text = text.String()
	if err != nil {
		return result, g.goneOr(ctx, err)
	}
	return result, nil
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (g *Gateway) post(ctx context.Context, r TurnRequest) (*http.Response, error) {
	// Only the last message: OpenClaw has the session, and would flatten earlier
	// ones into the text.
	messages := []chatMessage{{"user", r.Message}}
	if r.System != "" {
		messages = []chatMessage{{"system", r.System}, {"user", r.Message}}
	}
	body, err := json.Marshal(map[string]any{
		"model":          "openclaw/" + string(r.Entry),
		"stream":         true,
		"stream_options": map[string]bool{"include_usage": true},
		"messages":       messages,
	})
	if err != nil {
		return nil, fmt.Errorf("write a turn: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, baseURL+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask for a turn: %w", err)
	}
	g.authorize(req)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Openclaw-Session-Key", r.SessionKey)
	return g.http.Do(req)
}

// goneOr leaves typed errors alone and turns what a broken connection gives into
// one, unless it broke because the caller wanted it to.
func (g *Gateway) goneOr(ctx context.Context, err error) error {
	var turn *TurnError
	var emit emitError
	switch {
	case errors.As(err, &emit):
		return emit.error
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &turn):
		return err
	case g.life.Err() != nil:
		return gone(errLinkClosed) // err only says how that showed
	}
	return gone(err)
}

func gone(cause error) error {
	return &TurnError{Kind: GatewayGone, Message: "The agent's gateway stopped answering.", cause: cause}
}

// emitError marks an error as emit's own.
type emitError struct{ error }

// maxLine bounds one line of a stream; a delta is a few bytes.
const maxLine = 8 << 20

// readTurn reads the events of a stream until its [DONE]. Lines and fields that it
// does not know are skipped.
func readTurn(body io.Reader, emit func(string) error) (TurnResult, error) {
	var result TurnResult
	var failed error
	lines := bufio.NewReaderSize(body, 16<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			if failed != nil { // it said why before it hung up
				return result, failed
			}
			return result, fmt.Errorf("read the stream: %w", err)
		}
		data, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			return result, failed
		}
		if failed != nil {
			continue
		}
		var chunk turnChunk
		if json.Unmarshal(data, &chunk) != nil {
			continue
		}
		chunk.count(&result)
		if delta := chunk.text(); delta != "" {
			if err := emit(delta); err != nil {
				return result, emitError{err}
			}
		}
		failed = chunk.failure()
	}
}

// readLine returns a line without its end. A last line without one is cut off text.
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
		r.InputTokens, r.OutputTokens = tokens(c.Usage.Prompt), tokens(c.Usage.Completion)
	}
}

// tokens takes numbers that can be counts, and 0 for the rest.
func tokens(n float64) int64 {
	if n < 0 || n > 1e12 {
		return 0
	}
	return int64(n)
}

func (c turnChunk) failure() error {
	if c.Error == nil {
		return nil
	}
	return failureOf(http.StatusOK, c.Error)
}
