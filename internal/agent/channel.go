package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// connectTimeout is how long a gateway may run before a channel of which nothing was heard
// counts as not connected. Source: a busy machine needs a minute.
const connectTimeout = 2 * time.Minute

// channelTokens are the secrets that each channel needs.
var channelTokens = map[channel.Name][]provider.SecretName{
	channel.Telegram: {provider.TelegramToken},
	channel.Slack:    {provider.SlackBotToken, provider.SlackAppToken},
}

// showChannels sets the states of the agent's channels, given its own secrets. The first that
// has failed is the agent's error, if it has no other.
func (s *Service) showChannels(ctx context.Context, q database.Reader, v *View, own Origins) error {
	v.Channels = map[channel.Name]channel.State{}
	if v.Damage != "" {
		return nil
	}
	for name, tokens := range channelTokens {
		if slices.ContainsFunc(tokens, func(n provider.SecretName) bool { _, ok := own[n]; return ok }) {
			v.Channels[name] = channel.State{}
		}
	}
	if len(v.Channels) == 0 {
		return nil
	}
	unclaimed, err := s.vault.UnclaimedOf(ctx, q, v.AccountID, vault.OfAgent(v.ID))
	if err != nil {
		return err
	}
	reported, err := s.channels.List(ctx, q, v.AccountID, v.ID, v.GatewayGeneration)
	if err != nil {
		return err
	}
	for _, name := range []channel.Name{channel.Slack, channel.Telegram} {
		if _, ok := v.Channels[name]; !ok {
			continue
		}
		state := v.channelState(name, own, unclaimed, reported)
		v.Channels[name] = state
		if state.Status == channel.Failed && v.DesiredState == DesiredRunning && v.LastError == "" {
			v.LastError, v.ErrorCategory = state.Error, CategoryChannel
		}
	}
	return nil
}

// tokenProblem returns what is wrong with the tokens of a channel that the agent has one for;
// empty: nothing.
func (a Agent) tokenProblem(name channel.Name, has func(provider.SecretName) bool, unclaimed []provider.SecretName) string {
	for _, token := range channelTokens[name] {
		if !has(token) {
			return fmt.Sprintf("Slack needs two tokens, and the agent has no %s: set it with PUT /v1/agents/%s/secrets and restart the agent. Or remove the other one with deleteSecrets.", token, a.ID)
		}
		if slices.Contains(unclaimed, token) {
			return TokenTaken(a.ID, token)
		}
	}
	return ""
}

// channelState returns the state of a channel that the agent has a token for.
func (v *View) channelState(name channel.Name, own Origins, unclaimed []provider.SecretName, reported map[channel.Name]channel.State) channel.State {
	failed := func(text string) channel.State { return channel.State{Status: channel.Failed, Error: text} }
	if !v.Config.channelEnabled(string(name)) {
		return channel.State{Status: channel.Disabled}
	}
	if text := v.tokenProblem(name, func(n provider.SecretName) bool { _, ok := own[n]; return ok }, unclaimed); text != "" {
		return failed(text)
	}
	state, ok := reported[name]
	switch {
	case v.Status != client.Running && v.DesiredState == DesiredRunning && !v.HasFailed():
		return channel.State{Status: channel.Connecting}
	case !v.IsRunning():
		return channel.State{Status: channel.Stopped}
	case ok:
		return state
	case v.NeedsRestart || time.Since(v.StartedAt) < connectTimeout:
		return channel.State{Status: channel.Connecting}
	}
	return failed(fmt.Sprintf("The agent's gateway has not connected to the channel %s. GET /v1/agents/%s/logs says more; a restart begins anew.", name, v.ID))
}
