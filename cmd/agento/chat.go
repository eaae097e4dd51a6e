package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
)

type chatCommand struct {
	agentArg
	Message string `arg:"" help:"The message."`
	Session string `help:"Chat session."`
	Peer    string `help:"Your end user."`
}

// cancelTimeout is how long Ctrl-C waits for the server to cancel the turn.
const cancelTimeout = 5 * time.Second

// Run sends the message and prints the answer while it arrives. Ctrl-C cancels the turn.
func (c chatCommand) Run(ctx context.Context, t *terminal) error {
	in := client.ChatRequest{Message: c.Message, SessionID: c.Session, PeerID: c.Peer, OnDisconnect: "cancel"}
	var turn, why string
	for e, err := range c.client().Chat(ctx, c.ID, in) {
		if ctx.Err() != nil {
			return c.cancel(ctx, t, turn)
		}
		if err != nil {
			return err
		}
		turn, why = e.TurnID, e.StopReason
		if e.Type == "error" {
			return &client.Error{Code: e.Code, Message: e.Message}
		}
		if _, err := fmt.Fprint(t.out, e.Content); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(t.out)
	if note := endNotes[why]; note != "" {
		_, noteErr := fmt.Fprintln(t.err, note)
		err = errors.Join(err, noteErr)
	}
	return err
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
func (c chatCommand) cancel(ctx context.Context, t *terminal, turn string) error {
	if turn != "" {
		limited, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer stop()
		if _, err := c.client().CancelTurn(limited, c.ID, turn); err != nil {
			return fmt.Errorf("cancel the turn %s: %w", turn, err)
		}
	}
	_, err := fmt.Fprintln(t.err, "\nThe turn is cancelled. Its text so far is in the history.")
	return errors.Join(err, ctx.Err())
}
