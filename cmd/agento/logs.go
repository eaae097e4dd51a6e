package main

import (
	"context"
	"fmt"
)

type logsCommand struct {
	agentArg
	Tail   int  `help:"Number of lines." default:"100"`
	Follow bool `help:"Print new lines as they appear." short:"f"`
}

// Run prints the log.
func (c logsCommand) Run(ctx context.Context, t *terminal) error {
	if !c.Follow {
		text, err := c.client().Logs(ctx, c.ID, c.Tail)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(t.out, text)
		return err
	}
	for line, err := range c.client().FollowLogs(ctx, c.ID, c.Tail) {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(t.out, line); err != nil {
			return err
		}
	}
	return nil
}
