package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
)

// Logs is the result of Client.Logs.
type Logs struct {
	Logs string `json:"logs" doc:"Log lines: an RFC 3339 time, a level in brackets, and a message."`
}

// Logs returns the last tail lines of an agent's log; 0 is the server's default.
func (c *Client) Logs(ctx context.Context, agentID string, tail int) (string, error) {
	out, err := data[Logs](ctx, c, http.MethodGet, agentPath(agentID)+"/logs"+tailQuery(tail), nil)
	return out.Logs, err
}

// FollowLogs yields the last tail lines and then each line as it appears, until
// ctx ends.
func (c *Client) FollowLogs(ctx context.Context, agentID string, tail int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		res, err := c.do(ctx, http.MethodGet, agentPath(agentID)+"/logs/stream"+tailQuery(tail), nil)
		if err != nil {
			yield("", err)
			return
		}
		defer func() { _ = res.Body.Close() }()
		dataLines(res.Body)(yield)
	}
}

func tailQuery(tail int) string {
	if tail <= 0 {
		return ""
	}
	return fmt.Sprintf("?tail=%d", tail)
}
