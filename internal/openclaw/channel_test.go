package openclaw_test

import (
	"slices"
	"testing"

	"agento.host/agento/internal/openclaw"
)

func TestChannelHosts(t *testing.T) {
	if hosts := openclaw.ChannelHosts(false, false); len(hosts) != 0 {
		t.Errorf("without channels: %q", hosts)
	}
	if hosts := openclaw.ChannelHosts(true, false); !slices.Equal(hosts, []string{"api.telegram.org"}) {
		t.Errorf("Telegram: %q", hosts)
	}
	hosts := openclaw.ChannelHosts(true, true)
	for _, needed := range []string{"api.telegram.org", "slack.com", "wss-primary.slack.com", "wss-backup.slack.com", "files.slack.com"} {
		if !slices.Contains(hosts, needed) {
			t.Errorf("both: %q has no %s", hosts, needed)
		}
	}
}
