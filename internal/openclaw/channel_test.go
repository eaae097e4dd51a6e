package openclaw_test

import (
	"slices"
	"testing"

	"agento.host/agento/internal/openclaw"
)

func TestChannelHosts(t *testing.T) {
	if hosts := openclaw.ChannelHosts(false); len(hosts) != 0 {
		t.Errorf("without Slack: %q", hosts)
	}
	hosts := openclaw.ChannelHosts(true)
	for _, needed := range []string{"slack.com", "wss-primary.slack.com", "wss-backup.slack.com", "files.slack.com"} {
		if !slices.Contains(hosts, needed) {
			t.Errorf("%q has no %s", hosts, needed)
		}
	}
}
