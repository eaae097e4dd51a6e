package main

import (
	"context"
	"fmt"

	"agento.host/agento/client"
)

type chatCommand struct {
	agentArg
	Message string `arg:"" help:"The message."`
	Session string `help:"Chat session."`
	Peer    string `help:"Your end user."`
}

// Run sends the message and prints the answer while it arrives.
func (c chatCommand) Run(ctx context.Context, t *terminal) error {
	in := client.ChatRequest{Message: c.Message, SessionID: c.Session, PeerID: c.Peer}
	for e, err := range c.client().Chat(ctx, c.ID, in) {
		if err != nil {
			return err
		}
		if e.Type == "error" {
			return &client.Error{Code: e.Code, Message: e.Message}
		}
		if _, err := fmt.Fprint(t.out, e.Content); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(t.out)
	return err
}
