// Package event is the ordered log of what happened, which is also the audit log, and
// the notifications on which other parts of the server read it. The log is the source of
// truth and its events are never changed. A notification only reports that there is
// something new.
package event

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// AgentPrefix begins the topics of AgentTopic.
const AgentPrefix = "agent/"

// ActivityPrefix begins the topics of the activity of accounts: each event that is appended
// also notifies ActivityPrefix + account + "/" + topic, so that who follows an account needs
// not know whose each thing is. They have notifications only, no events.
const ActivityPrefix = "activity/"

// ParseActivity returns the account and the topic of a topic that begins with ActivityPrefix.
func ParseActivity(t Topic) (identity.AccountID, Topic) {
	account, topic, _ := strings.Cut(strings.TrimPrefix(string(t), ActivityPrefix), "/")
	return identity.AccountID(account), Topic(topic)
}

// AgentTopic is the topic of an agent: its events, and its observed state.
func AgentTopic(id identity.AgentID) Topic { return Topic(AgentPrefix + string(id)) }

// ReconcilePrefix begins the topics of ReconcileTopic.
const ReconcilePrefix = "reconcile/"

// ReconcileTopic is the topic of changes that an agent's reconciler must act on: of its
// desired state, and of what its home should hold. It has notifications only, no events.
func ReconcileTopic(id identity.AgentID) Topic { return Topic(ReconcilePrefix + string(id)) }

// SwarmTopic is the topic of a swarm.
func SwarmTopic(id identity.SwarmID) Topic { return Topic("swarm/" + string(id)) }

// ChatTopic is the topic of the conversations of an agent in the activity of its account: a turn
// was accepted, has begun or has ended, or a message of a channel was saved. It has notifications
// only, no events.
func ChatTopic(id identity.AgentID) Topic { return Topic("chat/" + string(id)) }

// Event is one thing that happened in the account of its actor.
type Event struct {
	Number int64          // counts the events of the account from 1
	Actor  identity.Actor // who changed it
	Topic  Topic          // what it is about
	Kind   string         // what happened: "agent.created"
	Data   map[string]any
	At     time.Time
}

// Log appends events, lists them, and notifies subscribers.
type Log struct {
	db       *database.DB
	notifier *notifier
}

// NewLog returns the log of a database. A server has one, because notifications reach
// the subscribers of the same Log only.
func NewLog(db *database.DB) *Log { return &Log{db: db, notifier: newNotifier()} }

// Append writes an event in the transaction of the change that it records, and notifies
// its topic after the commit. The log sets e's Number, Actor and At. Data must not contain a
// secret.
func (l *Log) Append(ctx context.Context, tx *database.Tx, actor identity.Actor, e Event) error {
	data, err := json.Marshal(e.Data)
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	_, err = tx.ExecContext(ctx,
		`INSERT INTO events (account_id, topic, kind, actor, request_id, data, at, number)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT COALESCE(MAX(number), 0) + 1 FROM events WHERE account_id = $1))`,
		actor.AccountID, e.Topic, e.Kind, actor.String(), actor.Request, string(data), database.Millis(time.Now()))
	if err != nil {
		return fmt.Errorf("append event %s: %w", e.Kind, err)
	}
	l.NotifyAfterCommit(tx, e.Topic)
	if actor.AccountID != "" {
		l.NotifyActivity(tx, actor.AccountID, e.Topic)
	}
	return nil
}

// NotifyActivity notifies who follows an account of a topic, after the transaction is committed.
func (l *Log) NotifyActivity(tx *database.Tx, account identity.AccountID, t Topic) {
	l.NotifyAfterCommit(tx, Topic(ActivityPrefix+string(account)+"/"+string(t)))
}

// Repeated returns the first event that the actor's request has appended. ok is false if
// there is none, so that nothing of the request was committed. A request with an
// idempotency key is executed again if the server crashed before the response was
// stored. What must not happen twice calls Repeated in its transaction and, if ok,
// returns what the event names.
func (l *Log) Repeated(ctx context.Context, q database.Reader, actor identity.Actor) (e Event, ok bool, err error) {
	if actor.Request == "" {
		return Event{}, false, nil
	}
	e, err = database.OneReadable(ctx, q, scan, damaged,
		`SELECT `+columns+` FROM events WHERE account_id = $1 AND request_id = $2 AND request_id <> '' ORDER BY seq LIMIT 1`, actor.AccountID, actor.Request)
	if errors.Is(err, sql.ErrNoRows) {
		return Event{}, false, nil
	}
	if err != nil {
		return Event{}, false, fmt.Errorf("find the events of request %s: %w", actor.Request, err)
	}
	return e, true, nil
}

// NotifyAfterCommit notifies a topic after the transaction is committed.
func (l *Log) NotifyAfterCommit(tx *database.Tx, t Topic) {
	tx.AfterCommit(func() { l.Notify(t) })
}

// Notify notifies the subscribers of a topic. They then read its records again.
func (l *Log) Notify(t Topic) { l.notifier.notify(t) }

// Subscribe returns a channel that receives after each notification of the topic,
// and a function that ends the subscription. Read the records once after Subscribe,
// then after each receive.
func (l *Log) Subscribe(t Topic) (<-chan struct{}, func()) { return l.notifier.subscribe(t) }

// SubscribePrefix returns a subscription to every topic that begins with prefix. The
// caller closes it.
func (l *Log) SubscribePrefix(prefix string) *PrefixSubscription {
	return l.notifier.subscribePrefix(prefix)
}

// Filter selects events. Empty fields select all.
type Filter struct {
	Topic  Topic
	Kind   string
	Actor  string // as returned by identity.Actor.String
	Since  time.Time
	Before int64 // only events with a smaller Number; 0: all
	Limit  int
}

// List returns an account's events, newest first.
func (l *Log) List(ctx context.Context, account identity.AccountID, f Filter) ([]Event, error) {
	where := []string{"account_id = $1"}
	args := []any{account}
	add := func(condition string, v any) {
		args = append(args, v)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if f.Topic != "" {
		add("topic = $%d", f.Topic)
	}
	if f.Kind != "" {
		add("kind = $%d", f.Kind)
	}
	if f.Actor != "" {
		add("actor = $%d", f.Actor)
	}
	if !f.Since.IsZero() {
		add("at >= $%d", database.Millis(f.Since))
	}
	if f.Before > 0 {
		add("number < $%d", f.Before)
	}
	args = append(args, f.Limit)
	query := fmt.Sprintf(`SELECT `+columns+` FROM events WHERE %s ORDER BY number DESC LIMIT $%d`,
		strings.Join(where, " AND "), len(args))
	return database.AllReadable(ctx, l.db, scan, damaged, query, args...)
}

const columns = `number, account_id, topic, kind, actor, data, at`

func scan(r database.Row) (Event, error) {
	var e Event
	var account identity.AccountID
	var actor, data string
	var at int64
	if err := r.Scan(&e.Number, &account, &e.Topic, &e.Kind, &actor, &data, &at); err != nil {
		return e, err
	}
	e.Actor = identity.ParseActor(account, actor)
	e.At = database.Time(at)
	if err := json.Unmarshal([]byte(data), &e.Data); err != nil {
		return e, &database.ColumnError{Column: "data", Err: err}
	}
	if e.Data == nil { // it was appended without data
		e.Data = map[string]any{}
	}
	return e, nil
}

// damaged keeps an event whose row cannot be decoded, with a text that says so.
func damaged(e *Event, err error) (row string, keep bool) {
	e.Data = map[string]any{"damaged": database.DescribeDamage(err)}
	return fmt.Sprintf("event %d of %s", e.Number, e.Actor.AccountID), true
}
