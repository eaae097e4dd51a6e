// Command go asks an agent through one of the Go clients of OpenAI's API. The arguments are the
// client (openai-go-1 or openai-go-3) and what to do, as JSON; the result is JSON on standard
// output. See ../client.mjs for the fields.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// request is what to do.
type request struct {
	Model        string
	Messages     []struct{ Role, Content string }
	Stream       bool
	Again        bool // ask once more after an error
	Conversation string
	Timeout      int // of an attempt, in ms
	Retries      *int
}

// result is what the client has got.
type result struct {
	Text   string `json:"text"`
	Finish string `json:"finish"`
	Tokens int64  `json:"tokens"`
	Error  string `json:"error,omitempty"`
	First  string `json:"first,omitempty"` // the error before asking again
	Status int    `json:"status,omitempty"`
}

func main() {
	in := request{Timeout: 60_000}
	if err := json.Unmarshal([]byte(os.Args[2]), &in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ask := map[string]func(context.Context, request) (result, error){"openai-go-1": askV1, "openai-go-3": askV3}[os.Args[1]]
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := ask(ctx, in)
	if err != nil && in.Again {
		first := err.Error()
		out, err = ask(ctx, in)
		out.First = first
	}
	if err != nil {
		out.Error = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

func (r request) retries() int {
	if r.Retries != nil {
		return *r.Retries
	}
	return 2
}

func (r request) timeout() time.Duration { return time.Duration(r.Timeout) * time.Millisecond }
