// Package access says who is calling and what they may do: accounts, plans, API
// keys with their scopes, and rate limits. Every other room is handed the
// Principal that it makes.
package access

import (
	"agento.host/agento/internal/identity"

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
)

// maxName is the longest name or label, in characters; the contract's for agents.
const maxName = 100

// Settings are what the service stands on.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Plans  *Plans // nil: SelfHosted()
	Log    *slog.Logger
}

// Service keeps accounts and keys, and tells callers apart. Safe for concurrent use.
type Service struct {
	db        *database.DB
	events    *event.Log
	plans     *Plans
	log       *slog.Logger
	known     known
	strangers *strangers
	uses      uses
}

// New makes the service. Run writes down what it learns about the use of keys.
func New(s Settings) *Service {
	plans := s.Plans
	if plans == nil {
		plans = SelfHosted()
	}
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{db: s.DB, events: s.Events, plans: plans, log: log, strangers: newStrangers()}
}

// Run remembers the keys last used, then writes down once a minute which keys
// were used, until ctx ends; what is left then is written too.
func (s *Service) Run(ctx context.Context) error {
	if err := s.recall(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "recall keys", "error", err)
	}
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			s.flush(last)
			return nil
		}
	}
}

// newID makes an id that cannot be guessed: 96 random bits.
func newID(prefix string) string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails: the process ends instead
	return prefix + hex.EncodeToString(b[:])
}

// now is the present as the database keeps it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// checkText notes what is wrong with a name or label.
func checkText(wrong fault.Fields, field, text string) {
	switch {
	case utf8.RuneCountInString(text) > maxName:
		wrong.Add(field, "must have at most %d characters", maxName)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		wrong.Add(field, "must be plain text without control characters")
	}
}

// record appends an event of this room in the change's transaction.
func (s *Service) record(ctx context.Context, tx *database.Tx, account, topic, kind, actor string, data map[string]any) error {
	err := s.events.Append(ctx, tx, identity.ParseActor(identity.AccountID(account), actor), event.Event{Topic: event.Topic(topic), Kind: kind, Data: data})
	if err != nil {
		return fmt.Errorf("record %s: %w", kind, err)
	}
	return nil
}
