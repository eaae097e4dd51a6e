package chat

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

const (
	// leaseTime is how long the holder of a turn may act without renewing its lease.
	leaseTime = 10 * time.Second
	// maxWait is how long a queued turn may wait for a server to run again.
	maxWait = 10 * time.Minute
	// replayTime is how long the pieces of an ended turn are kept, at least.
	replayTime = 10 * time.Minute
	// Limits of queued turns. A turn that runs is not counted.
	maxQueuedOfSession = 20
	maxQueuedOfAccount = 200
	// queueRetryAfter is the Retry-After of a full queue.
	queueRetryAfter = 5 * time.Second
	// retryUnavailable is the Retry-After of a turn that failed because something is not
	// available at the moment.
	retryUnavailable = 10 * time.Second
	// cancelRetry is the pause of Cancel after a state that changed under it.
	cancelRetry = 5 * time.Millisecond
)

// State is the state of a turn.
type State string

// The states of a turn. The last three are final.
const (
	Queued    State = "queued"  // waits for earlier turns of its session
	Running   State = "running" // is being answered
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Why a turn ended.
const (
	stopCompleted   = "completed"
	stopLength      = "length"    // the model's answer reached its maximum length
	stopRefusal     = "refusal"   // the model refused
	stopFilter      = "filter"    // a filter of the provider ended the answer
	stopLimit       = "limit"     // the turn reached a limit
	stopTruncated   = "truncated" // the answer was too long
	stopCancelled   = "cancelled"
	stopInterrupted = "interrupted" // its server stopped or died
	stopExpired     = "expired"     // no server ran for too long
	stopError       = "error"
)

// cancelOnDisconnect is the value of ChatRequest.OnDisconnect that ends the turn when its
// reader leaves.
const cancelOnDisconnect = "cancel"

// Turn is one message with its answer.
type Turn struct {
	ID         identity.TurnID
	AccountID  identity.AccountID
	AgentID    identity.AgentID
	SessionID  identity.SessionID
	State      State
	StopReason string // why it ended; empty until then
	LastSeq    int64  // the number of the last piece; 0 until the turn ends
	Usage
	ErrorCode    fault.Code // of a turn that failed
	ErrorMessage string
	CreatedAt    time.Time
	StartedAt    time.Time // zero: not yet
	EndedAt      time.Time // zero: not yet
	Source       Source    // of the message; empty: not known

	message      vault.Text // empty if the turn was read after its end; sealed as in the history
	context      vault.Text // empty if the turn was read after its end
	onDisconnect string
	key          identity.KeyID // that sent the message; empty if no key has

	messageNumber int64 // of the message in the history; 0 until the turn starts
	hasInput      bool  // see Service.addInput
	oneShot       bool  // its session serves no other turn, and neither is in a list
}

// Usage is what the model calls of a turn have used. It is zero until the turn has ended.
type Usage struct {
	InputTokens      int64 // all that were sent
	CacheReadTokens  int64 // those of InputTokens that were read from the provider's cache
	CacheWriteTokens int64 // those of InputTokens that were written to it
	OutputTokens     int64
	// ReasoningTokens are those of OutputTokens that are no text, as far as that is known.
	ReasoningTokens   int64
	Requests          int64 // model calls that the provider has answered
	EstimatedRequests int64 // those of Requests whose tokens the provider has not reported
	UnpricedRequests  int64 // those of Requests whose price is unknown
	CostMicros        int64 // the price of the others, in millionths of a US dollar
}

// Ended reports whether the turn has ended. The zero Turn has not.
func (t Turn) Ended() bool { return t.State == Done || t.State == Failed || t.State == Cancelled }

// CancelOnDisconnect reports whether the turn is to be cancelled when the reader of its
// answer leaves.
func (t Turn) CancelOnDisconnect() bool { return t.onDisconnect == cancelOnDisconnect }

// Err returns the fault of a turn that ended without its whole answer, otherwise nil.
func (t Turn) Err() error {
	switch t.State {
	case Failed:
		f := fault.New(t.ErrorCode, "%s", t.ErrorMessage)
		if t.ErrorCode == fault.Unavailable || t.ErrorCode == fault.RateLimited {
			f.RetryAfter = retryUnavailable
		}
		return f.Expected() // the account's agent and model provider have failed
	case Cancelled:
		return fault.New(fault.Conflict, "The turn was cancelled.")
	}
	return nil
}

// Why returns why the answer ended, as the last event of a stream has it; empty for a turn that
// failed, whose error says it.
func (t Turn) Why() string {
	switch t.StopReason {
	case stopCompleted:
		return "end"
	case stopTruncated:
		return "length"
	case stopExpired:
		return stopInterrupted
	case stopError:
		return ""
	}
	return t.StopReason
}

// counted returns the turn with its usage: that of its model calls or, of calls that agento has
// not seen, the tokens that the gateway has counted.
func (t Turn) counted(result openclaw.TurnResult, calls modelturn.Usage) Turn {
	t.Usage = Usage{
		InputTokens: calls.Input + calls.CacheRead, CacheReadTokens: calls.CacheRead, CacheWriteTokens: calls.CacheWrite,
		OutputTokens: calls.Output, ReasoningTokens: calls.Reasoning,
		Requests: calls.Requests, EstimatedRequests: calls.Estimated, UnpricedRequests: calls.Unpriced, CostMicros: calls.Micros,
	}
	if calls == (modelturn.Usage{}) {
		t.InputTokens, t.OutputTokens = result.InputTokens, result.OutputTokens
	}
	return t
}

// ended returns the turn as it is after its end.
func (t Turn) ended(state State, reason string, pieces int, at time.Time) Turn {
	t.State, t.StopReason, t.LastSeq, t.EndedAt = state, reason, int64(pieces), at
	return t
}

func (t Turn) interrupted(pieces int, at time.Time) Turn {
	t = t.ended(Failed, stopInterrupted, pieces, at)
	t.ErrorCode, t.ErrorMessage = fault.Unavailable, "The server stopped during this turn. Send the message again."
	return t
}

func (t Turn) expired(at time.Time) Turn {
	t = t.ended(Failed, stopExpired, 0, at)
	t.ErrorCode, t.ErrorMessage = fault.Unavailable, "No server ran for too long to answer this message. Send it again."
	return t
}

// restored returns the turn as it is after the restore of a backup that was made while it was
// open: the original may have answered it.
func (t Turn) restored(pieces int, at time.Time) Turn {
	t = t.ended(Failed, stopInterrupted, pieces, at)
	t.ErrorCode, t.ErrorMessage = fault.Unavailable, "This installation was restored from a backup that was made before this turn ended. Send the message again, unless it was answered since."
	return t
}

// newTurnID returns an id of 50 bits of time and 80 random bits. Ids that are made at the
// same time are neighbours in the indexes, so that storing many turns changes few pages.
func newTurnID() identity.TurnID {
	const digits = "0123456789abcdefghijklmnopqrstuv" // sorted as strings are
	id := []byte("turn_0123456789" + strings.ToLower(rand.Text()[:16]))
	for i, ms := 14, now().UnixMilli(); i >= 5; i, ms = i-1, ms>>5 {
		id[i] = digits[ms&31]
	}
	return identity.TurnID(id)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Start checks a message and stores it as a turn of its session, in one transaction. It
// starts the session if it is the owner's first. The turn runs when the earlier turns of
// the session have ended, whether or not somebody follows it.
// Faults: Invalid, with every invalid field; NotFound, for the agent or the session;
// PlanLimit, if the account stores too much; Conflict, if the session belongs to a channel; NotRunning; RateLimited, if too many
// turns are queued; Unavailable, if the server stops or agents cannot be isolated.
func (s *Service) Start(ctx context.Context, caller Caller, agentID identity.AgentID, in client.ChatRequest) (Turn, error) {
	a, err := s.agents.Find(ctx, caller.AccountID, agentID)
	if err != nil {
		return Turn{}, err
	}
	if earlier, ok, err := s.findStarted(ctx, s.db, caller, a.ID); ok || err != nil {
		return earlier, err
	}
	contextText, err := checkRequest(in)
	if err != nil {
		return Turn{}, err
	}
	if err := s.admit(ctx, a, len(in.Message)); err != nil {
		return Turn{}, err
	}
	session := newSession(caller, a, in.PeerID)
	if in.SessionID != "" {
		if session, err = s.namedSession(ctx, caller, a, in); err != nil {
			return Turn{}, err
		}
	}
	t := Turn{
		ID: newTurnID(), AccountID: a.AccountID, AgentID: a.ID, CreatedAt: now(),
		onDisconnect: in.OnDisconnect, Source: caller.Source,
	}
	if caller.Kind == identity.Key {
		t.key = identity.KeyID(caller.ID)
	}
	ctx = context.WithoutCancel(ctx) // the driver would watch ctx in a goroutine for each statement
	repeated := false
	err = s.db.GroupTx(ctx, "chat.start", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockSession, string(a.ID)); err != nil {
			return err
		}
		if earlier, ok, err := s.findStarted(ctx, tx, caller, a.ID); ok || err != nil {
			t, repeated = earlier, ok
			return err
		}
		if in.SessionID == "" {
			if session, err = findOrInsertSession(ctx, tx, session); err != nil {
				return err
			}
		}
		t.SessionID = session.ID
		if t.message, t.context, err = s.sealRequest(ctx, tx, t, in.Message, contextText); err != nil {
			return err
		}
		if t, err = s.insertTurn(ctx, tx, t); err != nil {
			return err
		}
		if t.State == Running {
			err = s.setTitle(ctx, tx, session, t, in.Message)
		}
		if err != nil || caller.Request == "" {
			return err
		}
		return s.events.Append(ctx, tx, caller.Actor, event.Event{Topic: event.AgentTopic(a.ID), Kind: turnCreated, Data: map[string]any{"turn": t.ID}})
	})
	if err != nil {
		return Turn{}, err
	}
	if !repeated {
		s.accepted(ctx, t, session, a)
	}
	return t, nil
}

// admit returns nil if an agent can have a turn that stores so many bytes.
// Faults: PlanLimit; NotRunning; Unavailable.
func (s *Service) admit(ctx context.Context, a agent.Agent, stores int) error {
	if err := s.gateways.CheckIsolation(); err != nil {
		return err
	}
	if err := a.CheckRunning(); err != nil {
		return err
	}
	if s.runs.isStopped() {
		return errStopped
	}
	if err := s.checkQuota(ctx, a.AccountID, stores); err != nil {
		return err
	}
	return s.agents.WithholdEdits(ctx, a)
}

// sealRequest returns the message of a new turn and its context as they are stored.
// Faults: Conflict, if the agent's data key is damaged.
func (s *Service) sealRequest(ctx context.Context, tx *database.Tx, t Turn, message, contextText string) (sealedMessage, sealedContext vault.Text, err error) {
	if sealedMessage, err = s.seal(ctx, tx, t, message, messagePlace(t.SessionID, t.ID, "user", "")); err == nil {
		sealedContext, err = s.seal(ctx, tx, t, contextText, contextPlace(t.ID))
	}
	return sealedMessage, sealedContext, err
}

// openRequest returns the message of a turn and its context.
func (s *Service) openRequest(ctx context.Context, t Turn) (message, contextText string, err error) {
	key, err := s.textKey(ctx, s.db, t.AccountID, t.AgentID)
	if err != nil {
		return "", "", err
	}
	if message, err = key.Open(t.message, messagePlace(t.SessionID, t.ID, "user", "")...); err != nil {
		return "", "", fmt.Errorf("open the message of a turn: %w", err)
	}
	if contextText, err = key.Open(t.context, contextPlace(t.ID)...); err != nil {
		return "", "", fmt.Errorf("open the context of a turn: %w", err)
	}
	return message, contextText, nil
}

// errNotSealed means that a text cannot be stored because the agent's data key is missing
// or damaged.
var errNotSealed = errors.New("the text cannot be sealed")

// seal seals a text of a turn. Errors: errNotSealed.
func (s *Service) seal(ctx context.Context, q database.Reader, t Turn, text string, place []string) (vault.Text, error) {
	key, err := s.textKey(ctx, q, t.AccountID, t.AgentID)
	if err != nil {
		return vault.Text{}, err
	}
	sealed, err := key.Seal(text, place...)
	if err != nil {
		return vault.Text{}, fmt.Errorf("%w: %w", errNotSealed, err)
	}
	return sealed, nil
}

// textKey returns the key of the texts of an agent.
func (s *Service) textKey(ctx context.Context, q database.Reader, account identity.AccountID, agentID identity.AgentID) (vault.TextKey, error) {
	return s.vault.TextKey(ctx, q, account, vault.OfAgent(agentID))
}

// checkQuota returns nil if an account may store so many bytes more. Faults: PlanLimit.
func (s *Service) checkQuota(ctx context.Context, account identity.AccountID, more int) error {
	if s.quota == nil {
		return nil
	}
	return s.quota.CheckStorage(ctx, s.db, account, int64(more))
}

// turnCreated is the event of a turn whose request has an idempotency key. Other turns
// need none: they are rows themselves.
const turnCreated = "turn.created"

// findStarted returns the turn that an earlier execution of the caller's request has
// started. See event.Log.Repeated. Faults: NotFound.
func (s *Service) findStarted(ctx context.Context, q database.Reader, caller Caller, agentID identity.AgentID) (_ Turn, ok bool, err error) {
	e, ok, err := s.events.Repeated(ctx, q, caller.Actor)
	if !ok || err != nil {
		return Turn{}, false, err
	}
	id, _ := e.Data["turn"].(string)
	t, err := findTurn(ctx, q, caller.AccountID, agentID, caller.visible(), identity.TurnID(id))
	return t, true, err
}

// notify tells who follows the account that a turn was stored, has begun or has ended.
func (s *Service) notify(tx *database.Tx, t Turn) {
	if !t.oneShot {
		s.events.NotifyActivity(tx, t.AccountID, event.ChatTopic(t.AgentID))
	}
}

// insertTurn stores a new turn. Faults: RateLimited.
func (s *Service) insertTurn(ctx context.Context, tx *database.Tx, t Turn) (_ Turn, err error) {
	s.notify(tx, t)
	if t.messageNumber, err = nextMessageNumber(ctx, tx, t.AccountID, t.AgentID); err != nil {
		return t, err
	}
	if t.State, err = insertTurn(ctx, tx, t, s.holder); err != nil {
		return t, err
	}
	if t.State == Running {
		t.StartedAt = t.CreatedAt
		return t, nil
	}
	ofSession, ofAccount, err := countQueued(ctx, tx, t)
	switch {
	case err != nil:
		return t, err
	case ofSession > maxQueuedOfSession:
		err = queueFull("This session has %d queued messages, the limit.", maxQueuedOfSession)
	case ofAccount > maxQueuedOfAccount:
		err = queueFull("Your account has %d queued messages, the limit.", maxQueuedOfAccount)
	}
	return t, err
}

func queueFull(format string, limit int) error {
	f := fault.New(fault.RateLimited, format+" Wait until some have been answered, or cancel them.", limit)
	f.RetryAfter = queueRetryAfter
	return f
}

// namedSession returns the session that a message names. Faults: NotFound; Conflict, if the
// message cannot be sent to it.
func (s *Service) namedSession(ctx context.Context, caller Caller, a agent.Agent, in client.ChatRequest) (Session, error) {
	found, err := findSession(ctx, s.db, caller, a.ID, identity.SessionID(in.SessionID), in.PeerID)
	switch {
	case err != nil:
	case found.Imported:
		err = fault.New(fault.Conflict, "This session was imported, and can only be read: the agent does not remember it. Start a new session.")
	case found.Channel != apiChannel:
		err = fault.New(fault.Conflict, "This session belongs to the channel %s. Reply in that channel.", found.Channel)
	case found.Entry == openclaw.Main && a.Config.SharedMode():
		err = fault.New(fault.Conflict, "This session was started before config.sharedMode was set, with rights that nobody has now. Start a new session.")
	}
	return found, err
}

// findOrInsertSession returns the latest session of the owner of initial, or stores
// initial if there is none: concurrent first messages of an owner share the session that
// one of them starts.
func findOrInsertSession(ctx context.Context, tx *database.Tx, initial Session) (Session, error) {
	found, err := latestSession(ctx, tx, initial)
	if !errors.Is(err, sql.ErrNoRows) {
		return found, err
	}
	return initial, insertSession(ctx, tx, initial)
}

// FindTurn returns a turn and its text so far. Faults: NotFound, for the agent or the
// turn.
func (s *Service) FindTurn(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.TurnID) (Turn, string, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return Turn{}, "", err
	}
	r := s.runs.find(id) // before the row, so that a turn that ends in between has its whole text
	t, err := findTurn(ctx, s.db, caller.AccountID, agentID, caller.visible(), id)
	if err == nil && t.oneShot {
		t, err = Turn{}, noTurn(agentID, id)
	}
	switch {
	case err != nil:
		return t, "", err
	case t.Ended():
		text, err := s.answerOf(ctx, s.db, t)
		return t, text, err
	case r != nil:
		return t, r.text(), nil
	}
	stored, err := s.readPieces(ctx, s.db, t)
	return t, stored.text(), err
}

// TurnQuery selects turns of an agent.
type TurnQuery struct {
	State   State              // empty: any
	Session identity.SessionID // empty: any
	Offset  int                // how many to skip
	Limit   int
}

// Turns returns the agent's turns that a query selects, newest first, and how many there are
// on all pages. Faults: NotFound, for the agent or the session.
func (s *Service) Turns(ctx context.Context, caller Caller, agentID identity.AgentID, query TurnQuery) ([]Turn, int, error) {
	if err := s.checkSession(ctx, caller, agentID, query.Session, ""); err != nil {
		return nil, 0, err
	}
	return listTurns(ctx, s.db, caller.AccountID, agentID, caller.visible(), query)
}

// Cancel ends a turn and its model call, and returns the turn as it has ended. The text
// until then stays. A turn that has ended before is returned as it is.
// Faults: NotFound.
func (s *Service) Cancel(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.TurnID) (Turn, error) {
	t, _, err := s.FindTurn(ctx, caller, agentID, id)
	if err != nil || t.Ended() {
		return t, err
	}
	return s.cancel(ctx, t)
}

// cancel is Cancel for a turn that was found.
func (s *Service) cancel(ctx context.Context, t Turn) (Turn, error) {
	for {
		t, err := findTurn(ctx, s.db, t.AccountID, t.AgentID, "", t.ID)
		if err != nil || t.Ended() {
			return t, err
		}
		if r := s.runs.find(t.ID); r != nil && t.State == Running {
			r.stop(errCancelled)
			end, err := r.follow(ctx, endOfTurn, nil)
			if !end.Ended() {
				return end, err
			}
			return end, nil
		}
		ended, err := s.cancelStored(ctx, t)
		if err != nil || ended.Ended() {
			return ended, err
		}
		// The turn is just being started, or ended, by this server.
		select {
		case <-time.After(cancelRetry):
		case <-ctx.Done():
			return t, ctx.Err()
		}
	}
}

// cancelStored ends a turn that this server does not run: it is queued, or another
// server holds it, which finds out when it renews its lease. The returned turn has not
// ended if its state has changed in between.
func (s *Service) cancelStored(ctx context.Context, t Turn) (Turn, error) {
	var cancelled Turn
	err := s.db.Tx(ctx, "chat.cancel_stored", func(ctx context.Context, tx *database.Tx) error {
		if t.State == Queued {
			end := t.ended(Cancelled, stopCancelled, 0, now())
			s.notify(tx, end)
			ok, err := endQueuedTurn(ctx, tx, end)
			if ok {
				cancelled = end
			}
			return err
		}
		end, err := s.takeOver(ctx, tx, t, func(pieces int) Turn { return t.ended(Cancelled, stopCancelled, pieces, now()) }, s.holder)
		if err == nil {
			cancelled = end
		}
		return err
	})
	if errors.Is(err, errNotHeld) {
		return t, nil
	}
	if err != nil || !cancelled.Ended() {
		return t, err
	}
	s.runs.end(cancelled)
	return cancelled, nil
}

// checkSession returns a fault if there is no such agent, or no such session of it that
// exists for the caller and is the peer's. An empty session or peer means any.
func (s *Service) checkSession(ctx context.Context, caller Caller, agentID identity.AgentID, session identity.SessionID, peer string) error {
	_, err := s.agents.Find(ctx, caller.AccountID, agentID)
	if session != "" && err == nil {
		_, err = findSession(ctx, s.db, caller, agentID, session, peer)
	}
	return err
}
