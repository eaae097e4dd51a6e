package openclaw_test

import (
	"slices"
	"testing"

	"agento.host/agento/internal/openclaw"
)

func TestChannelHosts(t *testing.T) {
	for _, c := range []struct {
		telegram bool
		url      string
		slack    bool
		has      string
		count    int
	}{
		{false, "", false, "", 0},
		{true, "", false, "api.telegram.org", 1},
		{true, "https://Bot.example.com/api", false, "bot.example.com", 1},
		{true, "http://127.0.0.1:8081", false, "telegram.agento.internal", 1},
		{true, "http://localhost", false, "telegram.agento.internal", 1},
		{false, "", true, "wss-primary.slack.com", 6},
		{true, "", true, "slack.com", 7},
	} {
		hosts := openclaw.ChannelHosts(c.telegram, c.url, c.slack)
		if len(hosts) != c.count || c.has != "" && !slices.Contains(hosts, c.has) {
			t.Errorf("%+v: %q", c, hosts)
		}
	}
}

func TestTelegramServer(t *testing.T) {
	for url, want := range map[string][2]string{
		"https://api.telegram.org": {"api.telegram.org", "api.telegram.org:443"},
		"http://bot.lan:8081/x":    {"bot.lan", "bot.lan:8081"},
		"http://[::1]:8081":        {"telegram.agento.internal", "[::1]:8081"},
		"http://10.0.0.1":          {"telegram.agento.internal", "10.0.0.1:80"},
		"":                         {"", ""},
	} {
		if name, address := openclaw.TelegramServer(url); name != want[0] || address != want[1] {
			t.Errorf("%s: %q %q", url, name, address)
		}
	}
}
