package openclaw

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"agento.host/agento/internal/vault"
)

const telegramURL = "https://api.telegram.org"

// slackHosts are the hosts that the Slack channel connects to: the API, its WebSockets,
// and files.
var slackHosts = []string{
	"slack.com", "wss-primary.slack.com", "wss-backup.slack.com", "files.slack.com", "*.slack-files.com", "*.slack-edge.com",
}

// ChannelHosts returns the hosts that the enabled channels connect to. botAPI is as
// Telegram.URL.
func ChannelHosts(telegram bool, botAPI string, slack bool) []string {
	var hosts []string
	if telegram {
		name, _ := TelegramServer(cmp.Or(botAPI, telegramURL))
		hosts = append(hosts, name)
	}
	if slack {
		hosts = append(hosts, slackHosts...)
	}
	return hosts
}

// localTelegram is the name by which agents reach a Bot API server that the operator gives
// as an address or as localhost, which mean something else in the network of an agent.
const localTelegram = "telegram.agento.internal"

// TelegramServer returns the name by which agents reach the Bot API server at a URL, and
// the host:port where the server reaches it. Both are empty for a URL without a host.
func TelegramServer(botAPI string) (name, address string) {
	u, err := url.Parse(botAPI)
	if err != nil || u.Hostname() == "" {
		return "", ""
	}
	name = strings.ToLower(u.Hostname())
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	address = net.JoinHostPort(name, port)
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" {
		name = localTelegram
	}
	return name, address
}

// Telegram connects the agent to a bot.
type Telegram struct {
	Token vault.Secret // from BotFather
	// AllowFrom are the numeric ids of the users who may write; empty means
	// everybody who finds the bot.
	AllowFrom []string
	// URL is another Bot API server; empty means telegramURL.
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
		channels["telegram"] = c
		bindings = append(bindings, bind("telegram"))
	}
	if s := a.Slack; s != nil {
		c := accessPolicy(s.AllowFrom)
		c["mode"] = "socket"
		c["botToken"] = secretRef(secretSlackBot)
		c["appToken"] = secretRef(secretSlackApp)
		channels["slack"] = c
		bindings = append(bindings, bind("slack"))
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
