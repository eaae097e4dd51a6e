// Package access identifies callers and decides what they may do. It owns accounts,
// plans, API keys with their scopes, and rate limits. Authenticate returns the
// Principal that the other packages receive.
//
// Its two rate limiters count a sliding window. A token bucket such as
// golang.org/x/time/rate cannot replace them: it lets up to twice the limit through
// in one window, and has neither the exact number of remaining requests nor the time
// of the reset, which the API returns in headers.
package access

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// maxName is the longest name or label, in characters. The API has the same limit for
// the names of agents.
const maxName = 100

// Settings configure a Service.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Plans  *Plans       // nil: SelfHosted()
	Log    *slog.Logger // nil: nothing is logged
}

// Service stores accounts and keys, and authenticates callers. It is safe for
// concurrent use.
type Service struct {
	db          *database.DB
	events      *event.Log
	plans       *Plans
	log         *slog.Logger
	unknownKeys *unknownKeyLimiter
	lastUses    lastUses
	streams     openStreams
}

// New returns a Service. Its Run writes to the database when keys were last used.
func New(s Settings) *Service {
	plans := s.Plans
	if plans == nil {
		plans = SelfHosted()
	}
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: s.DB, events: s.Events, plans: plans, log: log, unknownKeys: newUnknownKeyLimiter()}
}

// Run writes once a minute which keys were used, and ends the contexts of WhileValid, until ctx ends. It writes the rest before it
// returns.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	check := time.NewTicker(checkInterval)
	defer check.Stop()
	changed := s.events.SubscribePrefix(keyTopicPrefix)
	defer changed.Close()
	accounts := s.events.SubscribePrefix(AccountTopicPrefix)
	defer accounts.Close()
	for {
		select {
		case <-tick.C:
			s.flush(ctx)
		case <-check.C:
			s.endStreams(ctx, s.streams.keys())
		case <-changed.Ready():
			s.endStreamsOf(ctx, changed.Take())
		case <-accounts.Ready():
			s.endStreamsOf(ctx, accounts.Take())
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlushTimeout)
			defer cancel()
			s.flush(last)
			return nil
		}
	}
}

// newID returns an id of 96 random bits, which cannot be guessed.
func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return prefix + hex.EncodeToString(b[:])
}

// now returns the current time with the precision of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// checkText adds to wrong what is wrong with a name or label.
func checkText(wrong fault.Fields, field, text string) {
	switch {
	case utf8.RuneCountInString(text) > maxName:
		wrong.Add(field, "must have at most %d characters", maxName)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		wrong.Add(field, "must be plain text without control characters")
	}
}

// appendEvent appends an event about an account or a key in the transaction of the
// change.
func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, topic event.Topic, kind string, data map[string]any) error {
	if err := s.events.Append(ctx, tx, actor, event.Event{Topic: topic, Kind: kind, Data: data}); err != nil {
		return fmt.Errorf("append %s: %w", kind, err)
	}
	return nil
}
