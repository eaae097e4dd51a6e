package widget

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Limits in a minute. docs/widgets.md lists them.
const (
	visitorMessages = 10
	addressMessages = 30
	addressRequests = 300
	addressVisitors = 30

	// networkBits: a client with an IPv6 address usually has its whole /64 network.
	networkBits = 64
	// maxDays is how many days of a widget Days returns.
	maxDays = 90
)

// What visitors read when a limit is reached.
const (
	sentenceSlow  = "You are sending messages faster than I can answer. Please wait a moment, then try again."
	sentenceDaily = "I have answered as many messages today as I may. Please come back tomorrow."
)

// LimitError means that a limit is reached. Sentence says so to the visitor, as an answer.
type LimitError struct{ Sentence string }

// Error implements error.
func (e *LimitError) Error() string { return "a limit of the widget is reached: " + e.Sentence }

// CheckAddress counts a request of an address. Faults: RateLimited.
func (s *Service) CheckAddress(addr netip.Addr) error {
	return s.allow("requests", addr, addressRequests)
}

// CheckNewVisitor counts a visitor that gets a new peer. Faults: RateLimited.
func (s *Service) CheckNewVisitor(addr netip.Addr) error {
	return s.allow("visitors", addr, addressVisitors)
}

func (s *Service) allow(what string, addr netip.Addr, limit int) error {
	d := s.limiter.Allow(limitKey(what, NetworkOf(addr)), limit, time.Now())
	if d.OK {
		return nil
	}
	seconds := d.RetryAfterSeconds()
	f := fault.New(fault.RateLimited, "Too many requests came from this address. Please try again in %d s.", seconds)
	f.RetryAfter = time.Duration(seconds) * time.Second
	return f
}

func limitKey(parts ...string) identity.KeyID {
	key := ""
	for _, p := range parts {
		key += p + "\x00"
	}
	return identity.KeyID(key)
}

// NetworkOf returns what stands for one client: its IPv4 address, or its IPv6 network.
func NetworkOf(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(networkBits); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

// Ticket is a message that was counted.
type Ticket struct {
	visitor Visitor
	day     string
}

// CountMessage counts a message of a visitor, before it is sent.
// Errors: *LimitError. Faults: Unauthorized, if the widget was deleted.
func (s *Service) CountMessage(ctx context.Context, v Visitor, addr netip.Addr) (Ticket, error) {
	at := time.Now()
	if !s.limiter.Allow(limitKey("visitor", string(v.Widget.ID), v.PeerID), visitorMessages, at).OK || !s.limiter.Allow(limitKey("messages", NetworkOf(addr)), addressMessages, at).OK {
		return Ticket{}, &LimitError{sentenceSlow}
	}
	t := Ticket{visitor: v, day: dayOf(at)}
	err := s.db.Tx(ctx, "widget.count_message", func(ctx context.Context, tx *database.Tx) error {
		w, err := find(ctx, tx, v.Widget.AccountID, v.Widget.ID)
		if fault.Is(err, fault.NotFound) || err == nil && !w.Enabled {
			return unknownWidget()
		}
		if err != nil {
			return err
		}
		used, err := dayIn(ctx, tx, w.ID, t.day)
		if err != nil {
			return err
		}
		if used.Messages >= w.Limits.Messages || w.Limits.Tokens > 0 && used.Tokens >= w.Limits.Tokens {
			return &LimitError{sentenceDaily}
		}
		return addToDay(ctx, tx, w.AccountID, w.ID, t.day, 1, 0)
	})
	return t, err
}

// GiveBack undoes CountMessage for a message that was refused.
func (s *Service) GiveBack(ctx context.Context, t Ticket) {
	err := s.db.Tx(context.WithoutCancel(ctx), "widget.give_back", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `UPDATE widget_days SET messages = messages - 1 WHERE widget_id = $1 AND day = $2 AND messages > 0`, t.visitor.Widget.ID, t.day)
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, "a refused message of a widget stays counted", "widget", t.visitor.Widget.ID, "error", err)
	}
}

// Began makes the tokens of a turn be counted when it has ended.
func (s *Service) Began(ctx context.Context, t Ticket, turn identity.TurnID) {
	w := t.visitor.Widget
	err := s.db.Tx(context.WithoutCancel(ctx), "widget.began", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `INSERT INTO widget_turns (turn_id, account_id, agent_id, widget_id, day)
			SELECT $1, account_id, agent_id, id, $2 FROM widgets WHERE account_id = $3 AND id = $4 ON CONFLICT DO NOTHING`, turn, t.day, w.AccountID, w.ID)
		return err
	})
	if err != nil {
		s.log.WarnContext(ctx, "the tokens of a turn of a widget are not counted", "turn", turn, "error", err)
	}
	s.open.some.Store(true)
}

// Days returns what a widget has used by day, newest first. Days without use are left out.
func (s *Service) Days(ctx context.Context, account identity.AccountID, id identity.WidgetID) ([]Day, error) {
	return database.AllReadable(ctx, s.db, scanDay, func(d *Day, _ error) (string, bool) { return "a day of widget " + string(id), true },
		`SELECT day, messages, tokens FROM widget_days WHERE account_id = $1 AND widget_id = $2 ORDER BY day DESC LIMIT $3`, account, id, maxDays)
}

func scanDay(r database.Row) (d Day, err error) { return d, r.Scan(&d.Date, &d.Messages, &d.Tokens) }

func dayIn(ctx context.Context, q database.Reader, id identity.WidgetID, day string) (Day, error) {
	found, err := database.AllReadable(ctx, q, scanDay, func(*Day, error) (string, bool) { return "a day of widget " + string(id), true },
		`SELECT day, messages, tokens FROM widget_days WHERE widget_id = $1 AND day = $2`, id, day)
	if err != nil || len(found) == 0 {
		return Day{Date: day}, err
	}
	return found[0], nil
}

func addToDay(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.WidgetID, day string, messages, tokens int64) error {
	_, err := database.Exec(ctx, tx, `INSERT INTO widget_days (account_id, widget_id, day, messages, tokens) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (widget_id, day) DO UPDATE SET messages = widget_days.messages + excluded.messages, tokens = widget_days.tokens + excluded.tokens`, account, id, day, messages, tokens)
	return err
}

// Turns finds turns. Faults: NotFound.
type Turns interface {
	FindTurn(ctx context.Context, caller chat.Caller, agent identity.AgentID, id identity.TurnID) (chat.Turn, string, error)
}

// openTurns knows whether widget_turns may have rows.
type openTurns struct{ some *atomic.Bool }

func newOpenTurns() openTurns {
	o := openTurns{new(atomic.Bool)}
	o.some.Store(true) // those of the process before
	return o
}

type openTurn struct {
	turn    identity.TurnID
	account identity.AccountID
	agent   identity.AgentID
	widget  identity.WidgetID
	day     string
}

// countTokens counts the tokens of the turns of widgets that have ended.
func (s *Service) countTokens(ctx context.Context) {
	if !s.open.some.Swap(false) {
		return
	}
	open, err := database.All(ctx, s.db, func(r database.Row) (t openTurn, err error) {
		return t, r.Scan(&t.turn, &t.account, &t.agent, &t.widget, &t.day)
	}, `SELECT turn_id, account_id, agent_id, widget_id, day FROM widget_turns`)
	for _, t := range open {
		if err == nil {
			err = s.countTurn(ctx, t)
		}
	}
	if err != nil {
		s.open.some.Store(true)
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "count the tokens of widgets", "error", err)
		}
	}
}

// countTurn counts the tokens of a turn, if it has ended.
func (s *Service) countTurn(ctx context.Context, t openTurn) error {
	turn, _, err := s.turns.FindTurn(ctx, chat.Caller{Actor: identity.ByWidget(t.account, t.widget)}, t.agent, t.turn)
	gone := fault.Is(err, fault.NotFound)
	if err != nil && !gone {
		return fmt.Errorf("find a turn of a widget: %w", err)
	}
	if !gone && !turn.Ended() {
		s.open.some.Store(true)
		return nil
	}
	return s.db.Tx(ctx, "widget.count_tokens", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `DELETE FROM widget_turns WHERE turn_id = $1`, t.turn)
		if err != nil || n == 0 || gone {
			return err
		}
		return addToDay(ctx, tx, t.account, t.widget, t.day, 0, turn.InputTokens+turn.OutputTokens)
	})
}
