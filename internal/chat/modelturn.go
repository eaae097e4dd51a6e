package chat

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/trace"
)

// limitGrace is how long a gateway may take to end a turn that has reached a limit, from the
// answer with which it should. A caller gets the end within five seconds.
const limitGrace = 3 * time.Second

// settleTime is how long the end of a turn waits for the end of its last model call, which is
// due at the same time.
const settleTime = time.Second

// errAnswerEnded ends the gateway's run of a turn whose answer is complete without it.
var errAnswerEnded = errors.New("the answer has ended")

// ModelTurn returns the turn that a model call of an agent belongs to, or nil. The key is
// that of the gateway's session; continues reports whether the call goes on with a run. A
// gateway runs one turn of a session at a time, so that the calls with the session's key are
// those of its turn.
func (s *Service) ModelTurn(ctx context.Context, account identity.AccountID, agentID identity.AgentID, sessionKey string, continues func() bool) *modelturn.Turn {
	v, ok := openclaw.ParseSessionKey(sessionKey)
	if !ok {
		return nil
	}
	if v.Channel != apiChannel {
		return s.channelTurns.find(agentID, sessionKey, continues, func() modelturn.Limits {
			a, err := s.agents.Find(ctx, account, agentID)
			if err != nil {
				return s.limits
			}
			return s.limits.Lowered(a.Config.Limits())
		})
	}
	r := s.runs.running(identity.SessionID(v.Conversation))
	// OpenClaw folds keys to lower case. An agent can name only its own sessions.
	if r == nil || r.session.AgentID != agentID || !strings.EqualFold(r.session.GatewayKey, sessionKey) {
		return nil
	}
	return r.modelTurn()
}

// beginModelTurn begins to read the model calls of a turn. end ends the gateway's run; stop
// releases what is held for the turn.
func (s *Service) beginModelTurn(ctx context.Context, r *run, limits modelturn.Limits, end context.CancelCauseFunc) (turn *modelturn.Turn, stop func()) {
	turn = modelturn.New(modelturn.Settings{
		Limits: limits, Key: string(r.current().key), MaxText: openclaw.MaxAnswer, Trace: trace.Of(ctx),
		Emit: func(piece string) { s.addPiece(ctx, r, r.extend(piece)) },
		Ended: func(o modelturn.Outcome) {
			if o.Truncated {
				end(errAnswerEnded)
				return
			}
			time.AfterFunc(limitGrace, func() { end(errAnswerEnded) })
		},
		GivenUp: func(c *modelturn.Call) {
			// The gateway ends its run by itself, and only a call that it makes again
			// shows that it does not.
			time.AfterFunc(limitGrace, func() {
				if c.Latest() {
					end(errAnswerEnded)
				}
			})
		},
	})
	r.setModelTurn(turn)
	if limits.Time == 0 {
		return turn, func() {}
	}
	// A tool or an answer that takes longer than the turn may is ended with it.
	timer := time.AfterFunc(limits.Time, func() {
		turn.Expire()
		end(errAnswerEnded)
	})
	return turn, func() { timer.Stop() }
}

// addPiece has a new piece of a turn's answer stored.
func (s *Service) addPiece(ctx context.Context, r *run, first bool) {
	if !first || s.storeFirstPiece(ctx, r) != nil {
		s.wakePieceLoop()
	}
}

// answerEnd returns the end of a turn by what its model calls have come to, and by the error
// with which the gateway ended its run. ok is false if the turn did not end with an answer.
func answerEnd(o modelturn.Outcome, truncated bool, err error) (stopReason string, ok bool) {
	switch {
	case o.Limit:
		return stopLimit, true
	case o.Truncated, truncated:
		return stopTruncated, true
	case err == nil && o.Stop == modelturn.Broken && o.Failure != "":
		return "", false // the gateway tells a failure of the model as an answer of its own
	case err != nil && !o.Whole():
		return "", false
	}
	switch o.Stop {
	case modelturn.Length:
		return stopLength, true
	case modelturn.Refusal:
		return stopRefusal, true
	case modelturn.Filter:
		return stopFilter, true
	}
	return stopCompleted, true
}

// turnFault returns the fault that callers see for a turn that failed with err. If its latest
// model call failed, that is the reason: the gateway may only say that something failed, or
// its run was ended because of it.
func turnFault(o modelturn.Outcome, err error) *fault.Fault {
	var failed *openclaw.TurnError
	isTurn := errors.As(err, &failed)
	switch {
	case o.Failure == "" || err != nil && !errors.Is(err, context.Canceled) && (!isTurn || !failed.IsOfModel()):
	case o.Timeout:
		return fault.New(fault.UpstreamTimeout, "%s", o.Failure).Because(err)
	default:
		return fault.New(fault.Upstream, "%s", o.Failure).Because(err)
	}
	if isTurn {
		return failed.Fault()
	}
	return fault.From(err)
}

// channelTurns are the turns of channels, which have no record: a turn begins with a model
// call that is not about the results of tools.
type channelTurns struct {
	mu  sync.Mutex
	all map[channelKey]*modelturn.Turn // guarded by mu
}

type channelKey struct {
	agent   identity.AgentID
	session string
}

// maxChannelTurns is how many turns of channels are kept. Of more, some begin anew.
const maxChannelTurns = 10_000

func newChannelTurns() *channelTurns {
	return &channelTurns{all: map[channelKey]*modelturn.Turn{}}
}

// find returns the turn of a call in a session of a channel.
func (c *channelTurns) find(agentID identity.AgentID, session string, continues func() bool, limits func() modelturn.Limits) *modelturn.Turn {
	key := channelKey{agentID, session}
	c.mu.Lock()
	t := c.all[key]
	c.mu.Unlock()
	if t != nil && continues() {
		return t
	}
	t = modelturn.New(modelturn.Settings{Limits: limits()})
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.all[key]; !ok && len(c.all) >= maxChannelTurns {
		for other := range c.all { // any one
			delete(c.all, other)
			break
		}
	}
	c.all[key] = t
	return t
}
