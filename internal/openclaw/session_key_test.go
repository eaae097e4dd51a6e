package openclaw_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
)

func TestSessionKeyFormat(t *testing.T) {
	tests := []struct {
		peer, conversation, want string
	}{
		{"", "sess_abc123", "agent:main:api:sess_abc123"},
		{"", "", "agent:main:api:x-"},
		{"alice", "sess_1", "agent:guest:peer:" + openclaw.PeerTag("alice") + ":sess_1"},
	}
	for _, tt := range tests {
		got := openclaw.SessionKey(openclaw.EntryFor(tt.peer), tt.peer, tt.conversation)
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("SessionKey(%q, %q) = %s, want %s…", tt.peer, tt.conversation, got, tt.want)
		}
	}
}

// Different peers and conversations have keys that still differ after OpenClaw has
// folded their case and split them at colons.
func TestSessionKeysAreUnique(t *testing.T) {
	odd := []string{"a", "A", "a:b", "a:b:c", "", " a", "a ", "x-", "x-a", "ä", "a\x00", "Peer", "peer",
		strings.Repeat("a", 64), strings.Repeat("a", 65), openclaw.PeerTag("a"), "x-" + openclaw.PeerTag("a"), "main", "cron", "direct"}
	seen := make(map[string]string)
	for _, peer := range odd {
		for _, conversation := range odd {
			for _, entry := range []openclaw.Entry{openclaw.Main, openclaw.Guest} {
				key := openclaw.SessionKey(entry, peer, conversation)
				folded := strings.ToLower(key)
				session := string(entry) + "|" + peer + "|" + conversation
				if other, taken := seen[folded]; taken {
					t.Errorf("%q and %q share %s", session, other, folded)
				}
				seen[folded] = session
				s, ok := openclaw.ParseSessionKey(key)
				if !ok || s.Entry != entry || s.Channel != "api" || (s.Peer == "") != (peer == "") {
					t.Errorf("ParseSessionKey(%s) = %+v, %v", key, s, ok)
				}
			}
		}
	}
}

func TestParseSessionKeyAcceptsChannelsOnlyWithAPeer(t *testing.T) {
	s, ok := openclaw.ParseSessionKey("agent:guest:telegram:direct:42")
	if !ok || s != (openclaw.Session{Entry: openclaw.Guest, Channel: "telegram", Peer: "42"}) {
		t.Errorf("telegram: %+v, %v", s, ok)
	}
	for _, bad := range []string{"", "agent:main", "agent:other:api:x", "agent:main:api:x:y", "agent:main:telegram:group:1", "main:api:x:y"} {
		if s, ok := openclaw.ParseSessionKey(bad); ok {
			t.Errorf("ParseSessionKey(%q) = %+v, want not ok", bad, s)
		}
	}
}

func FuzzSessionKey(f *testing.F) {
	f.Add("alice", "sess_1", "agent:main:api:x")
	f.Fuzz(func(t *testing.T, peer, conversation, other string) {
		key := openclaw.SessionKey(openclaw.EntryFor(peer), peer, conversation)
		s, ok := openclaw.ParseSessionKey(key)
		if !ok || s.Entry != openclaw.EntryFor(peer) || key != strings.ToLower(key) {
			t.Errorf("key %q of %q, %q: %+v %v", key, peer, conversation, s, ok)
		}
		_, _ = openclaw.ParseSessionKey(other)
	})
}

// TestOneShotKey is one that OpenClaw keeps in memory only: agent:ENTRY:dashboard:incognito-… without
// a further colon.
func TestOneShotKey(t *testing.T) {
	for _, entry := range []openclaw.Entry{openclaw.Guest, openclaw.Task} {
		key := openclaw.OneShotKey(entry, "sess_1")
		if want := "agent:" + string(entry) + ":dashboard:incognito-sess_1"; key != want {
			t.Errorf("OneShotKey = %q, want %q", key, want)
		}
		got, ok := openclaw.ParseSessionKey(key)
		if want := (openclaw.Session{Entry: entry, Channel: "api", Conversation: "sess_1"}); !ok || got != want {
			t.Errorf("ParseSessionKey(%q) = %+v, %t", key, got, ok)
		}
		if key := openclaw.OneShotKey(entry, "a:B"); strings.Count(key, ":") != 3 {
			t.Errorf("OneShotKey = %q", key)
		}
	}
	for _, key := range []string{"agent:guest:dashboard:other", "agent:nobody:dashboard:incognito-a", "agent:guest:dashboard:incognito-a:b"} {
		if v, ok := openclaw.ParseSessionKey(key); ok {
			t.Errorf("ParseSessionKey(%q) = %+v", key, v)
		}
	}
}

func TestTakesImages(t *testing.T) {
	for _, p := range provider.All() {
		if !openclaw.TakesImages("") || !openclaw.TakesImages(p.DefaultModel) {
			t.Errorf("the default model %s of %s takes no images", p.DefaultModel, p.Name)
		}
	}
	if openclaw.TakesImages("gpt-3.5-turbo") {
		t.Error("a model without eyes takes images")
	}
}
