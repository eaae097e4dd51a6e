package openclaw

import "agento.host/agento/internal/vault"

// Telegram connects the agent to a bot.
type Telegram struct {
	Token vault.Secret // BotFather's
	// AllowFrom are the numeric ids of the users who may write; empty means
	// everybody who finds the bot.
	AllowFrom []string
	// URL replaces https://api.telegram.org: a Bot API server of one's own.
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

// channels renders what is connected. Whoever writes through a channel is a peer
// like any other: bindings lead them to the guest entry, in sessions of their own.
func (a Agent) channels() (channels object, bindings list) {
	channels, bindings = object{}, list{}
	if t := a.Telegram; t != nil {
		c := doors(t.AllowFrom)
		c["botToken"] = secretRef(secretTelegram)
		if t.URL != "" {
			c["apiRoot"] = "${" + envTelegram + "}"
		}
		channels["telegram"] = c
		bindings = append(bindings, bind("telegram"))
	}
	if s := a.Slack; s != nil {
		c := doors(s.AllowFrom)
		c["mode"] = "socket"
		c["botToken"] = secretRef(secretSlackBot)
		c["appToken"] = secretRef(secretSlackApp)
		channels["slack"] = c
		bindings = append(bindings, bind("slack"))
	}
	return channels, bindings
}

// doors says who may write; groups stay closed, where one peer would read what
// the agent tells another.
func doors(allowFrom []string) object {
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
