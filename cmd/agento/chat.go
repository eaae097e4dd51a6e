package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"agento.host/agento/client"
)

type chatCommand struct {
	agentArg
	Message string `arg:"" optional:"" help:"The message; - reads it from standard input. Without one, a conversation begins: a message a line, /help shows more."`
	Session string `help:"Chat session."`
	Peer    string `help:"Your end user."`
	Context string `help:"What the agent is told about this conversation: a text, or an object in JSON."`
}

const (
	// cancelTimeout is how long Ctrl-C waits for the server to cancel the turn.
	cancelTimeout = 5 * time.Second
	// maxFollows is how often an answer whose connection breaks is followed again: a
	// server that restarts goes on with it.
	maxFollows = 5
	// followPause is the pause before that.
	followPause = time.Second
)

// Run sends the message and prints the answer while it arrives, or holds a conversation.
// Ctrl-C cancels the turn.
func (c chatCommand) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	talk := conversation{t: t, api: api, agent: id, session: c.Session, peer: c.Peer, context: contextValue(c.Context)}
	if c.Message == "" {
		return talk.hold(ctx)
	}
	if c.Message, err = (&inputs{in: t.in}).message(c.Message); err != nil {
		return err
	}
	return talk.send(ctx, c.Message)
}

// message returns the message of an argument; - is standard input.
func (r *inputs) message(given string) (string, error) {
	if given != "-" {
		return given, nil
	}
	text, err := r.file("-")
	if err == nil && strings.TrimSpace(text) == "" {
		err = usageError("standard input has no message")
	}
	return trimLine(text), err
}

// contextValue returns an object if the text is one in JSON.
func contextValue(text string) any {
	if text == "" {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) == nil {
		return json.RawMessage(text) // as it is: numbers keep their digits
	}
	return text
}

// conversation is a chat with one agent.
type conversation struct {
	t             *terminal
	api           *client.Client
	agent         string
	session, peer string
	context       any
	why           string // the stop reason of the last answer
}

// answer is what --json shows of a turn.
type answer struct {
	TurnID     string `json:"turnId"`
	Content    string `json:"content"`
	StopReason string `json:"stopReason"`
}

// send sends a message and prints the answer. When ctx ends it cancels the turn.
func (c *conversation) send(ctx context.Context, message string) error {
	in := client.ChatRequest{Message: message, SessionID: c.session, PeerID: c.peer, Context: c.context, OnDisconnect: "cancel"}
	out := &escapingWriter{w: c.t.out}
	var all strings.Builder
	show := func(text string) error {
		if c.t.json {
			all.WriteString(text)
			return nil
		}
		return out.WriteString(text)
	}
	turn, err := c.receive(ctx, c.api.Chat(ctx, c.agent, in), show)
	if c.t.json && err == nil {
		return c.t.printJSON(answer{turn, all.String(), c.why})
	}
	if !c.t.json && (err == nil || turn != "") {
		err = errors.Join(out.Flush(), endLine(c.t.out), err)
	}
	if ctx.Err() != nil {
		return c.cancel(ctx, turn)
	}
	if note := endNotes[c.why]; note != "" && err == nil {
		c.t.progress("%s", note)
	}
	return err
}

func endLine(w io.Writer) error {
	_, err := io.WriteString(w, "\n")
	return err
}

// receive passes the text of an answer to show and returns its turn. If the connection
// breaks, it follows the turn.
func (c *conversation) receive(ctx context.Context, events func(func(client.ChatEvent, error) bool), show func(string) error) (turn string, err error) {
	var last int64
	for follows := 0; ; follows++ {
		broken := error(nil)
		for e, err := range events {
			if e.TurnID != "" {
				turn = e.TurnID
			}
			switch {
			case ctx.Err() != nil:
				return turn, ctx.Err()
			case err != nil && turn != "" && follows < maxFollows && isBroken(err):
				broken = err
			case err != nil:
				return turn, err
			case e.Type == "error":
				return turn, &client.Error{Code: e.Code, Message: e.Message, RequestID: e.RequestID}
			case e.Type == "done":
				c.why = e.StopReason
			case e.Type == "text":
				last = max(last, e.ID)
				if err := show(e.Content); err != nil {
					return turn, err
				}
			}
			if broken != nil {
				break
			}
		}
		if broken == nil {
			return turn, nil
		}
		select {
		case <-ctx.Done():
			return turn, ctx.Err()
		case <-time.After(followPause):
		}
		events = c.api.FollowTurn(ctx, c.agent, turn, last)
	}
}

// isBroken reports whether an error is of the connection, and not an answer of the server.
func isBroken(err error) bool {
	var answered *client.Error
	return !errors.As(err, &answered)
}

// endNotes say why an answer ended, unless the model had said everything.
var endNotes = map[string]string{
	"length":  "The answer reached its maximum length: ask the agent to continue.",
	"refusal": "The model refused.",
	"filter":  "A filter of the model provider ended the answer.",
	"limit":   "The answer reached a limit of the server.",
}

// cancel waits until the turn is cancelled and says so. If nothing of the answer has
// arrived, its id is not known; the server then cancels it because its reader has left.
func (c *conversation) cancel(ctx context.Context, turn string) error {
	if turn != "" {
		limited, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer stop()
		if _, err := c.api.CancelTurn(limited, c.agent, turn); err != nil {
			return fmt.Errorf("cancel the turn %s: %w", turn, err)
		}
	}
	c.t.progress("The turn is cancelled. Its text so far is in the history.")
	return ctx.Err()
}
