package openclaw

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// Entry is one of the two sides of an agent; see the package comment.
type Entry string

// The entries of every gateway.
const (
	Main  Entry = "main"
	Guest Entry = "guest"
)

// EntryFor is Guest if a peer is named, else Main.
func EntryFor(peer string) Entry {
	if peer == "" {
		return Main
	}
	return Guest
}

// Session says what a session key stands for.
type Session struct {
	Entry   Entry
	Channel string // "api", "telegram", "slack", …
	// Peer is PeerTag of the caller's peer id for "api"; a channel's own id else.
	// Empty: no peer.
	Peer string
	// Conversation is what SessionKey was given if it was plain, else a tag of it.
	Conversation string
}

// SessionKey names the session of a peer (empty: none) and a conversation. Two
// different pairs never share a key, whatever characters they hold: OpenClaw folds
// case and splits at colons, so what is not plain is replaced by a tag. A peer is
// always a tag, because the key is shown to the model.
func SessionKey(entry Entry, peer, conversation string) string {
	if peer == "" {
		return "agent:" + string(entry) + ":api:" + plain(conversation)
	}
	return "agent:" + string(entry) + ":peer:" + PeerTag(peer) + ":" + plain(conversation)
}

// PeerTag is how a peer id appears in session keys: 32 characters of a–z and 2–7.
func PeerTag(peer string) string { return tag("peer", peer) }

// ParseSessionKey reads a key of SessionKey, or one that OpenClaw made for a
// channel. ok is false for anything else.
func ParseSessionKey(key string) (s Session, ok bool) {
	parts := strings.Split(key, ":")
	if len(parts) < 4 || parts[0] != "agent" || (parts[1] != string(Main) && parts[1] != string(Guest)) {
		return Session{}, false
	}
	entry := Entry(parts[1])
	switch {
	case parts[2] == "api" && len(parts) == 4:
		return Session{Entry: entry, Channel: "api", Conversation: parts[3]}, true
	case parts[2] == "peer" && len(parts) == 5:
		return Session{Entry: entry, Channel: "api", Peer: parts[3], Conversation: parts[4]}, true
	case parts[2] != "peer" && parts[2] != "api" && len(parts) >= 5 && parts[3] == "direct":
		return Session{Entry: entry, Channel: parts[2], Peer: strings.Join(parts[4:], ":")}, true
	}
	return Session{}, false
}

// SessionOf finds whose model request this is, in a line of OpenClaw's own. For
// Anthropic, Google and OpenAI's Responses it stands in the system text; for Chat
// Completions in the last message of a user that has one. Nothing else may be
// searched: tools and earlier messages can hold such a line of anybody's making.
func SessionOf(text string) (key string, ok bool) {
	const line, field = "\nRuntime: agent=", " | session="
	// The last one: what a caller wrote stands before it.
	at := strings.LastIndex(text, line)
	if at < 0 {
		return "", false
	}
	rest, _, _ := strings.Cut(text[at+len(line):], "\n")
	_, rest, ok = strings.Cut(rest, field)
	if !ok {
		return "", false
	}
	key, _, _ = strings.Cut(rest, " | ")
	return key, strings.HasPrefix(key, "agent:")
}

const tagPrefix = "x-"

// plain keeps short, simple ids readable and tags the rest.
func plain(s string) string {
	if s == "" || len(s) > 64 || strings.HasPrefix(s, tagPrefix) {
		return tagPrefix + tag("conversation", s)
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return tagPrefix + tag("conversation", s)
		}
	}
	return s
}

func tag(kind, s string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}
