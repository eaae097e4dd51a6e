// Package user owns people: their passwords and second factors, their sign-in sessions, the
// accounts that they are in with a role, the one-time links that make or repair all of that,
// operators, and the members of swarms. Package access says what a role may do.
//
// A person belongs to no account and is in any number of them. What an account sees of its
// members is Member; nothing tells it which other accounts they are in.
package user

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// The limits of what people type, and how many there may be.
const (
	MaxName        = 100 // characters
	maxEmail       = 254 // bytes
	MaxMembers     = 1000
	MaxInvitations = 200 // that wait
	maxAccounts    = 100 // of one person
	maxSessions    = 50  // of one person: another one ends the one that was used least recently
)

// Person is somebody who can sign in.
type Person struct {
	ID         identity.UserID
	Email      string // in lower case
	Name       string // may be empty
	Operator   bool
	Password   bool // it has one
	TOTP       bool // it has set up the second factor
	CreatedAt  time.Time
	SignedInAt time.Time // zero: never
}

// Label returns what to call the person: the name, or the e-mail address.
func (p Person) Label() string {
	if p.Name != "" {
		return p.Name
	}
	return p.Email
}

// MustSetUpTOTP reports whether the person may do nothing but set up the second factor, which
// operators need.
func (p Person) MustSetUpTOTP() bool { return p.Operator && !p.TOTP }

// Settings configure a Service.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Access *access.Service
	Vault  *vault.Vault // nil: nobody signs in with a second factor, for commands without the master key

	PublicURL string       // the base of links, such as https://agents.example.com; empty: links are paths
	Log       *slog.Logger // nil: nothing is logged
}

// Service stores people and signs them in. It is safe for concurrent use.
type Service struct {
	db        *database.DB
	events    *event.Log
	access    *access.Service
	vault     *vault.Vault
	publicURL string
	log       *slog.Logger

	hasher    hasher
	addresses *access.Limiter // wrong passwords by address
	uses      uses
	streams   openStreams
}

// New returns a Service. Its Run ends streams and writes when sessions were used.
func New(s Settings) *Service {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		db: s.DB, events: s.Events, access: s.Access, vault: s.Vault, publicURL: strings.TrimRight(s.PublicURL, "/"), log: log,
		hasher: newHasher(argonMemory), addresses: access.NewLimiter(),
	}
}

// TopicPrefix begins the topics of people. The id of a person follows.
const TopicPrefix = "user/"

// Topic returns the topic of a person: its events, and notifications of every change of its
// sessions and memberships.
func Topic(id identity.UserID) event.Topic { return event.Topic(TopicPrefix + id) }

// NormalizeEmail returns an e-mail address as it is stored. Faults: Invalid.
func NormalizeEmail(text string) (string, error) {
	email := strings.ToLower(strings.TrimSpace(text))
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > maxEmail || strings.ContainsFunc(email, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return "", fault.Fields{"email": "must be an e-mail address such as ada@example.com"}.Err()
	}
	return email, nil
}

// checkName adds to wrong what is wrong with a name.
func checkName(wrong fault.Fields, name string) {
	switch {
	case utf8.RuneCountInString(name) > MaxName:
		wrong.Add("name", "must have at most %d characters", MaxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		wrong.Add("name", "must be plain text without control characters")
	case name != "" && fault.IsBlank(name):
		wrong.Add("name", "must not consist of blanks")
	}
}

// newID returns an id of 96 random bits.
func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return prefix + hex.EncodeToString(b[:])
}

// newToken returns a token of 256 random bits.
func newToken() vault.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return vault.NewSecret(base64.RawURLEncoding.EncodeToString(b[:]))
}

// hashOf returns what is stored of a token. Tokens are random: a plain hash cannot be reversed,
// and finding a row by it reveals nothing of another token by its time.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// now returns the current time with the precision of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// appendEvent appends an event about a person to the log of the actor's account.
func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, topic event.Topic, kind string, data map[string]any) error {
	if err := s.events.Append(ctx, tx, actor, event.Event{Topic: topic, Kind: kind, Data: data}); err != nil {
		return fmt.Errorf("append %s: %w", kind, err)
	}
	return nil
}

// appendOwn appends an event of what a person does with its own sign-in to the log of each
// account that it is in, and to that of the installation.
func (s *Service) appendOwn(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.UserID, kind string, data map[string]any) error {
	accounts, err := database.All(ctx, tx, database.Scalar[identity.AccountID], `SELECT account_id FROM memberships WHERE user_id = $1 ORDER BY account_id LIMIT $2`, id, maxAccounts)
	if err != nil {
		return fmt.Errorf("list the accounts of %s: %w", id, err)
	}
	for _, account := range append(accounts, "") {
		actor.AccountID = account
		if err := s.appendEvent(ctx, tx, actor, Topic(id), kind, data); err != nil {
			return err
		}
	}
	return nil
}
