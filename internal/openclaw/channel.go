package openclaw

import (
	"context"
	"regexp"

	"agento.host/agento/internal/vault"
)

// OpenClaw's names of the channels.
const (
	channelTelegram = "telegram"
	channelSlack    = "slack"
)

// slackHosts are Slack's API, its WebSockets and its files.
var slackHosts = []string{"slack.com", "wss-primary.slack.com", "wss-backup.slack.com", "files.slack.com", "*.slack-files.com", "*.slack-edge.com"}

// ChannelHosts returns the hosts that gateways connect to themselves for channels. Telegram
// is reached through this server.
func ChannelHosts(slack bool) []string {
	if slack {
		return slackHosts
	}
	return nil
}

// Telegram connects the agent to a bot.
type Telegram struct {
	Token vault.Secret // that the gateway calls the Bot API with; it begins with the bot's number
	// AllowFrom are the numeric ids of the users who may write; empty means
	// everybody who finds the bot.
	AllowFrom []string
	// URL is another Bot API server; empty means https://api.telegram.org.
	URL string
}

// Slack connects the agent to a workspace, in socket mode.
type Slack struct {
	BotToken vault.Secret // xoxb-
	AppToken vault.Secret // xapp-
	// AllowFrom are the ids of the users who may write; empty means everybody in
	// the workspace.
	AllowFrom []string
}

// channels renders the connected channels. People who write through a channel are
// peers: the bindings route each of them to a session of their own at the guest
// entry.
func (a Agent) channels() (channels object, bindings list) {
	channels, bindings = object{}, list{}
	if t := a.Telegram; t != nil {
		c := accessPolicy(t.AllowFrom)
		c["botToken"] = secretRef(secretTelegram)
		if t.URL != "" {
			c["apiRoot"] = "${" + envTelegram + "}"
		}
		channels[channelTelegram] = c
		bindings = append(bindings, bind(channelTelegram))
	}
	if s := a.Slack; s != nil {
		c := accessPolicy(s.AllowFrom)
		c["mode"] = "socket"
		c["botToken"] = secretRef(secretSlackBot)
		c["appToken"] = secretRef(secretSlackApp)
		channels[channelSlack] = c
		bindings = append(bindings, bind(channelSlack))
	}
	return channels, bindings
}

// accessPolicy renders who may write. Groups stay disabled: there, one peer would
// read what the agent writes to another.
func accessPolicy(allowFrom []string) object {
	if len(allowFrom) == 0 {
		return object{"enabled": true, "configWrites": false, "groupPolicy": "disabled", "dmPolicy": "open", "allowFrom": list{"*"}}
	}
	allowed := list{}
	for _, id := range allowFrom {
		allowed = append(allowed, literal(id))
	}
	return object{"enabled": true, "configWrites": false, "groupPolicy": "disabled", "dmPolicy": "allowlist", "allowFrom": allowed}
}

func bind(channel string) object {
	return object{"agentId": string(Guest), "match": object{"channel": channel, "accountId": "*"}}
}

// ChannelStatus is what a gateway says of one of its channels.
type ChannelStatus struct {
	Configured bool // the gateway has the channel
	Connected  bool
	LastError  string // without tokens; empty: none
}

// SlackStatus returns the state of the connection to Slack. That of Telegram is known from its
// calls.
func (g *Gateway) SlackStatus(ctx context.Context) (ChannelStatus, error) {
	var out struct {
		ChannelAccounts map[string][]struct{ Connected, LastError any }
	}
	if err := g.call(ctx, "channels.status", map[string]any{}, &out); err != nil {
		return ChannelStatus{}, err
	}
	accounts := out.ChannelAccounts[channelSlack]
	if len(accounts) == 0 {
		return ChannelStatus{}, nil
	}
	return ChannelStatus{
		Configured: true,
		Connected:  accounts[0].Connected == true,
		LastError:  slackToken.ReplaceAllString(text(accounts[0].LastError), "[secret]"),
	}, nil
}

// slackToken matches Slack's tokens.
var slackToken = regexp.MustCompile(`\bx(?:ox[a-z]|app)-[A-Za-z0-9-]+`)
