package chat

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/trace"
)

// accepted runs a turn that Start has stored, or lets it wait. a is the agent as Start has
// read it.
func (s *Service) accepted(ctx context.Context, t Turn, session Session, a agent.Agent) {
	if t.State != Running {
		s.runs.add(t, session, trace.Of(ctx))
		return
	}
	s.runs.start(t, session, trace.Of(ctx), func(ctx context.Context, r *run) {
		s.answerOver(ctx, r, func(ctx context.Context) (*gateway.Connection, error) { return s.gateways.ConnectTo(ctx, a) })
	})
}

// answer is answerOver for a turn that has waited.
func (s *Service) answer(ctx context.Context, r *run) {
	s.answerOver(ctx, r, func(ctx context.Context) (*gateway.Connection, error) {
		return s.gateways.Connect(ctx, r.session.AgentID)
	})
}

// answerOver sends the message of a turn to the agent, and stores the end of the turn. It
// is the runner of the turn.
func (s *Service) answerOver(ctx context.Context, r *run, connect func(context.Context) (*gateway.Connection, error)) {
	r.mu.Lock()
	t := r.turn
	r.mu.Unlock()
	ctx, span := trace.Begin(r.trace.Within(ctx), "turn", trace.String("agento.account.id", string(t.AccountID)), trace.String("agento.agent.id", string(t.AgentID)),
		trace.String("agento.session.id", string(t.SessionID)), trace.String("agento.turn.id", string(t.ID)))
	defer span.End()
	result, outcome, err := s.callAgent(ctx, t, r, connect)
	reason := context.Cause(ctx)
	if errors.Is(reason, errNotSealed) {
		err, reason, outcome = reason, nil, modelturn.Outcome{}
	}
	r.mu.Lock()
	pieces := len(r.pieces)
	r.mu.Unlock()
	t = t.counted(result, outcome.Usage)
	stopReason, answered := answerEnd(outcome, result.Truncated, err)
	switch {
	case err != nil && errors.Is(reason, errCancelled):
		t = t.ended(Cancelled, stopCancelled, pieces, now())
	case answered:
		if stopReason == stopTruncated || stopReason == stopLimit {
			s.log.WarnContext(ctx, "an answer was ended at a limit", "account", t.AccountID, "agent", t.AgentID, "turn", t.ID, "limit", stopReason, "model calls", outcome.Calls)
		}
		t = t.ended(Done, stopReason, pieces, now())
	case reason != nil || s.runs.isStopped():
		t = t.interrupted(pieces, now())
	default:
		f := turnFault(outcome, err)
		if f.Code == fault.Internal {
			s.log.ErrorContext(ctx, "a turn failed", "agent", t.AgentID, "turn", t.ID, "error", err)
		}
		t = t.ended(Failed, stopError, pieces, now())
		t.ErrorCode, t.ErrorMessage = f.Code, f.Message
	}
	span.Set(trace.String("agento.turn.state", string(t.State)), trace.String("agento.turn.stop_reason", t.StopReason), trace.Int("gen_ai.usage.input_tokens", t.InputTokens),
		trace.Int("gen_ai.usage.output_tokens", t.OutputTokens), trace.Int("agento.turn.model_calls", outcome.Calls))
	if t.State == Failed {
		span.Fail(string(t.ErrorCode))
	}
	s.finish(context.WithoutCancel(ctx), r, t)
}

// callAgent sends the message of a turn to the agent. The text of the turn is that of its
// model calls; what the gateway makes of it is used only if the calls cannot be read.
func (s *Service) callAgent(ctx context.Context, t Turn, r *run, connect func(context.Context) (*gateway.Connection, error)) (openclaw.TurnResult, modelturn.Outcome, error) {
	message, contextText, err := s.openRequest(ctx, t)
	if err != nil {
		return openclaw.TurnResult{}, modelturn.Outcome{}, err
	}
	conn, err := s.awaitGateway(ctx, t, len(message)+len(contextText), connect)
	if err != nil {
		return openclaw.TurnResult{}, modelturn.Outcome{}, err
	}
	ctx, span := trace.BeginCall(ctx, "gateway")
	defer span.End()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	model, stop := s.beginModelTurn(ctx, r, s.limits.Lowered(conn.Config().Limits()), end)
	defer stop()
	request := openclaw.TurnRequest{Entry: r.session.Entry, SessionKey: r.session.GatewayKey, System: contextText, Message: message}
	if err := s.addInput(ctx, t, &request); err != nil {
		return openclaw.TurnResult{}, modelturn.Outcome{}, err
	}
	if r.session.oneShot {
		defer s.forget(context.WithoutCancel(ctx), r.session, conn)
	}
	emit := func(text string) error {
		if model.Silent() {
			s.addPiece(ctx, r, r.append(text))
		}
		return nil
	}
	result, err := conn.Turn(ctx, request, emit)
	for pause := firstRepeat; pause <= lastRepeat && notBegun(err) && !model.Called() && r.empty() && wait(ctx, pause); pause *= 2 {
		result, err = conn.Turn(ctx, request, emit)
	}
	if err != nil {
		span.Fail(trace.Reason(err))
	}
	settled, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	model.Settle(settled)
	return result, model.Close(err == nil), err
}

// The pauses before a message is given to a gateway again that could not begin its turn.
const (
	firstRepeat = 500 * time.Millisecond
	lastRepeat  = 4 * time.Second
)

// notBegun reports whether a turn ended because its gateway could not begin it. For some seconds
// after the gateway was killed in a turn, it is busy with that turn's session.
func notBegun(err error) bool {
	failed := (*openclaw.TurnError)(nil)
	return errors.As(err, &failed) && failed.Kind == openclaw.GatewayFailed
}

// wait reports whether a pause has passed before ctx has ended.
func wait(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// minWaiting is what a short message counts for while it waits, so that their number is limited, too.
const minWaiting = 16 << 10

// awaitGateway calls connect, which may wait until the agent's gateway can be called. Faults:
// RateLimited and Unavailable, if too many messages wait; connect's.
func (s *Service) awaitGateway(ctx context.Context, t Turn, bytes int, connect func(context.Context) (*gateway.Connection, error)) (*gateway.Connection, error) {
	ctx, span := trace.Begin(ctx, "wait for gateway")
	defer span.End()
	var conn *gateway.Connection
	leave, err := s.waiting.Acquire(ctx, string(t.AccountID), int64(max(bytes, minWaiting)))
	if err == nil {
		defer leave()
		conn, err = connect(ctx)
	}
	if err != nil {
		span.Fail(string(fault.From(err).Code))
	}
	return conn, err
}

// refused reports whether a turn ended like a request that was never accepted: the agent
// said nothing, and the fault is not the model's. Its message leaves nothing in the
// history.
func (t Turn) refused() bool {
	if t.State != Failed || t.StopReason != stopError || t.LastSeq > 0 {
		return false
	}
	return t.ErrorCode != fault.Upstream && t.ErrorCode != fault.UpstreamTimeout && t.ErrorCode != fault.Internal
}

// errNotHeld rolls back the end of a turn that who stores it may not end.
var errNotHeld = errors.New("the turn has another holder, or has ended")

// finish stores the end of a turn and its answer, and starts the next turn of the
// session.
func (s *Service) finish(ctx context.Context, r *run, t Turn) {
	var next Turn
	var nextSession Session
	err := s.db.GroupTx(ctx, "chat.finish", func(ctx context.Context, tx *database.Tx) (err error) {
		s.notify(tx, t)
		if held, err := isHeld(ctx, tx, t, s.holder); err != nil || !held { // it was deleted with its agent
			return cmp.Or(err, errNotHeld)
		}
		if seq, pieces := r.unstored(); len(pieces) > 0 {
			held, err := s.appendPieces(ctx, tx, t, seq, pieces, t.EndedAt)
			switch {
			case errors.Is(err, errNotSealed): // the turn ends without its answer
			case err != nil:
				return err
			case !held:
				return errNotHeld
			}
		}
		answer, err := s.storeMessages(ctx, tx, t, r.wholeText(), t.EndedAt)
		if err == nil {
			err = s.storeSteps(ctx, tx, t, r)
		}
		if err != nil {
			return err
		}
		more, err := endHeldTurn(ctx, tx, t, answer, s.holder)
		if errors.Is(err, sql.ErrNoRows) {
			return errNotHeld
		}
		if err != nil || !more || s.runs.isStopped() {
			return err
		}
		next, nextSession, err = s.claim(ctx, tx, t.SessionID)
		return err
	})
	switch {
	case errors.Is(err, errNotHeld):
		t = s.lostTurn(ctx, t, r.storedCount())
	case err != nil:
		// The row stays as it is until its lease expires.
		s.log.ErrorContext(ctx, "storing the end of a turn failed", "agent", t.AgentID, "turn", t.ID, "error", err)
		t = t.interrupted(r.storedCount(), t.EndedAt)
	}
	s.runs.end(t)
	s.ended(r.ending(t))
	if next.ID != "" {
		s.runs.start(next, nextSession, trace.Parent{}, s.answer)
	}
}

// lostTurn returns the end of a turn that this server does not hold any more: as another
// server stored it, or as interrupted after its stored pieces if its lease expired or it
// was deleted with its agent.
func (s *Service) lostTurn(ctx context.Context, t Turn, pieces int) Turn {
	if err := s.takeOverAbandoned(ctx, ""); err != nil {
		s.log.ErrorContext(ctx, "taking over turns failed", "error", err)
	}
	stored, err := findTurn(ctx, s.db, t.AccountID, t.AgentID, "", t.ID)
	if err == nil && stored.Ended() {
		return stored
	}
	return t.interrupted(pieces, t.EndedAt)
}

// storeMessages appends the message of a turn that has ended, and its answer unless that
// is empty, to the history, and returns the answer's seq. It appends nothing for a turn
// that was refused, or is one-shot.
func (s *Service) storeMessages(ctx context.Context, tx *database.Tx, t Turn, answer string, at time.Time) (seq int64, err error) {
	if t.oneShot {
		return 0, nil
	}
	if t.refused() {
		return 0, removeTitle(ctx, tx, t.SessionID)
	}
	if _, err := insertTurnMessage(ctx, tx, t, "user", t.message, t.messageNumber, t.StartedAt); err != nil || answer == "" {
		return 0, err
	}
	sealed, err := s.seal(ctx, tx, t, answer, messagePlace(t.SessionID, t.ID, "assistant", ""))
	if errors.Is(err, errNotSealed) {
		s.log.ErrorContext(ctx, "an answer is not in the history", "agent", t.AgentID, "turn", t.ID, "error", err)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, err := nextMessageNumber(ctx, tx, t.AccountID, t.AgentID)
	if err != nil {
		return 0, err
	}
	return insertTurnMessage(ctx, tx, t, "assistant", sealed, number, at)
}

// claim makes the first queued turn of a session the next one that this server runs. The
// turn has no id if there is none.
func (s *Service) claim(ctx context.Context, tx *database.Tx, id identity.SessionID) (Turn, Session, error) {
	t, err := claimNext(ctx, tx, id, s.holder, now())
	if errors.Is(err, sql.ErrNoRows) {
		return Turn{}, Session{}, nil
	}
	if err != nil {
		return t, Session{}, err
	}
	if t.messageNumber, err = nextMessageNumber(ctx, tx, t.AccountID, t.AgentID); err != nil {
		return t, Session{}, err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE turns SET message_number = $2 WHERE id = $1`, t.ID, t.messageNumber); err != nil {
		return t, Session{}, fmt.Errorf("number the message of a turn: %w", err)
	}
	session, err := findSession(ctx, tx, bySystem(t.AccountID), t.AgentID, t.SessionID, "")
	if err != nil {
		return t, session, err
	}
	return t, session, s.setTitleOf(ctx, tx, session, t)
}
