package openclaw

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// Entry is one of the entries of an agent's gateway; see the package comment.
type Entry string

// The entries of every gateway.
const (
	Main  Entry = "main"
	Guest Entry = "guest"
	Task  Entry = "task"
)

// EntryFor returns Guest if there is a peer, otherwise Main.
func EntryFor(peer string) Entry {
	if peer == "" {
		return Main
	}
	return Guest
}

// Session is the content of a session key.
type Session struct {
	Entry   Entry
	Channel string // "api", "telegram", "slack", …
	// Peer is the PeerTag of the caller's peer id for "api", and the channel's own id
	// otherwise. Empty if there is no peer.
	Peer string
	// Conversation is the conversation of SessionKey if that was plain, otherwise a
	// hash of it.
	Conversation string
}

// SessionKey returns OpenClaw's key of the session of a peer (empty: none) and a
// conversation. Two different pairs never share a key, whatever characters they
// hold: OpenClaw folds case and splits at colons, so everything that is not plain is
// replaced by a hash. A peer is always hashed, because the model sees the key.
func SessionKey(entry Entry, peer, conversation string) string {
	if peer == "" {
		return "agent:" + string(entry) + ":api:" + plainOrHash(conversation)
	}
	return "agent:" + string(entry) + ":peer:" + PeerTag(peer) + ":" + plainOrHash(conversation)
}

// oneShotPrefix begins the last part of the keys of sessions that the gateway keeps in memory
// only.
const oneShotPrefix = "incognito-"

// OneShotKey returns the key of a session for a single turn. The gateway writes nothing of it to
// its home: OpenClaw keeps sessions with such a key in memory. DeleteSession removes it there.
func OneShotKey(entry Entry, conversation string) string {
	return "agent:" + string(entry) + ":dashboard:" + oneShotPrefix + plainOrHash(conversation)
}

// PeerTag returns a peer id as it appears in session keys: 32 characters of a–z and
// 2–7.
func PeerTag(peer string) string { return hash("peer", peer) }

// ParseSessionKey reads a key made by SessionKey or OneShotKey, or by OpenClaw for a channel. ok
// is false for every other key.
func ParseSessionKey(key string) (s Session, ok bool) {
	parts := strings.Split(key, ":")
	if len(parts) < 4 || parts[0] != "agent" || (parts[1] != string(Main) && parts[1] != string(Guest) && parts[1] != string(Task)) {
		return Session{}, false
	}
	entry := Entry(parts[1])
	switch {
	case parts[2] == "dashboard" && len(parts) == 4 && strings.HasPrefix(parts[3], oneShotPrefix):
		return Session{Entry: entry, Channel: "api", Conversation: strings.TrimPrefix(parts[3], oneShotPrefix)}, true
	case parts[2] == "api" && len(parts) == 4:
		return Session{Entry: entry, Channel: "api", Conversation: parts[3]}, true
	case parts[2] == "peer" && len(parts) == 5:
		return Session{Entry: entry, Channel: "api", Peer: parts[3], Conversation: parts[4]}, true
	case parts[2] != "peer" && parts[2] != "api" && len(parts) >= 5 && parts[3] == "direct":
		return Session{Entry: entry, Channel: parts[2], Peer: strings.Join(parts[4:], ":")}, true
	}
	return Session{}, false
}

const hashPrefix = "x-"

// plainOrHash keeps short, simple ids readable and hashes the others.
func plainOrHash(s string) string {
	if s == "" || len(s) > 64 || strings.HasPrefix(s, hashPrefix) {
		return hashPrefix + hash("conversation", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return hashPrefix + hash("conversation", s)
		}
	}
	return s
}

func hash(kind, s string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}
