package chat

import (
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
)

// withSlack gives a new agent a Slack channel.
func withSlack(in *client.CreateAgentRequest) {
	in.Secrets["slackBotToken"], in.Secrets["slackAppToken"] = "xoxb-1", "xapp-1"
}

// slack returns the state of an agent's Slack, and its error.
func (env *testEnv) slack(a agent.Agent) (state channel.State, lastError string, category agent.ErrorCategory) {
	env.t.Helper()
	v, err := env.agents.View(env.t.Context(), account, a.ID)
	env.must(err)
	return v.Channels[channel.Slack], v.LastError, v.ErrorCategory
}

// What a gateway says of Slack shows in the agent within a minute, without its tokens.
func TestTheStateOfSlackIsReported(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada", withSlack)
		if s, text, _ := env.slack(a); s.Status != channel.Connecting || text != "" {
			t.Errorf("at the start: %+v, %q", s, text)
		}
		env.gateways.setSlack(map[string]any{"connected": false, "lastError": nil})
		env.startReader()
		env.waitForSubscribers(1)
		for _, c := range []struct {
			state  map[string]any
			status channel.Status
			words  []string
		}{
			{map[string]any{"connected": true}, channel.Connected, nil},
			{map[string]any{"connected": false, "lastError": "An API error occurred: invalid_auth"}, channel.Failed, []string{"Slack refuses the agent's tokens (invalid_auth)", "PUT /v1/agents/" + string(a.ID) + "/secrets"}},
			{map[string]any{"connected": false, "lastError": "failed with xoxb-12-abc and xapp-1-A-b."}, channel.Failed, []string{"not connected to Slack: failed with [secret] and [secret]."}},
			{map[string]any{"connected": true, "lastError": "old"}, channel.Connected, nil},
		} {
			env.gateways.setSlack(c.state)
			time.Sleep(time.Minute)
			s, text, category := env.slack(a)
			if s.Status != c.status || text != s.Error || (s.Error != "") != (category == agent.CategoryChannel) {
				t.Errorf("%v: %+v, %q (%s)", c.state, s, text, category)
			}
			for _, word := range c.words {
				if !strings.Contains(text, word) {
					t.Errorf("%v: %q does not contain %q", c.state, text, word)
				}
			}
			if strings.Contains(text, "xoxb-12") || strings.Contains(text, "xapp-1-") {
				t.Errorf("the error has a token: %s", text)
			}
		}
	})
}
