package chat

import (
	"context"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/openclaw"
)

const (
	// slackInterval is how often a gateway is asked whether it is connected to Slack.
	slackInterval = 15 * time.Second
	// slackTimeout bounds one answer.
	slackTimeout = 10 * time.Second
)

// reportSlack reports whether an agent's gateway is connected to Slack.
func (c *ChannelReader) reportSlack(ctx context.Context, a agent.Agent, conn *gateway.Connection) {
	if c.chat.channels == nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, slackTimeout)
	defer cancel()
	s, err := conn.SlackStatus(limited)
	if err != nil {
		if ctx.Err() == nil {
			c.chat.log.DebugContext(ctx, "asking a gateway for the state of Slack failed", "agent", a.ID, "error", err)
		}
		return
	}
	if r, ok := slackReport(a, s); ok {
		c.chat.channels.Report(r)
	}
}

// slackReport returns the report on a state; ok is false if it says nothing yet.
func slackReport(a agent.Agent, s openclaw.ChannelStatus) (r channel.Report, ok bool) {
	r = channel.Report{Account: a.AccountID, Agent: a.ID, Gateway: a.GatewayGeneration, Channel: channel.Slack}
	switch {
	case s.Connected:
		r.Status = channel.Connected
	case s.Configured && s.LastError != "":
		r.Status, r.Error = channel.Failed, slackError(a, s.LastError)
	default:
		return r, false
	}
	return r, true
}

// refusedTokens are Slack's names of errors that only other tokens end.
var refusedTokens = []string{"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "not_allowed_token_type", "missing_scope", "no_permission"}

func slackError(a agent.Agent, reason string) string {
	reason = strings.TrimSuffix(strings.TrimSpace(reason), ".")
	for _, name := range refusedTokens {
		if strings.Contains(reason, name) {
			return fmt.Sprintf("Slack refuses the agent's tokens (%s). Get the bot token and the app-level token of one app and set them as slackBotToken and slackAppToken with PUT /v1/agents/%s/secrets.", name, a.ID)
		}
	}
	return fmt.Sprintf("The agent is not connected to Slack: %s. It is tried again.", reason)
}
