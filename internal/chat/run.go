package chat

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/trace"
)

// Why the runner of a turn is told to stop.
var (
	errCancelled = errors.New("the turn was cancelled")
	errStopping  = errors.New("the server stops")
	errLost      = errors.New("the server does not hold the turn any more")
	errStopped   = fault.New(fault.Unavailable, "The server is shutting down. Try again in a moment.").Expected()
)

// endOfTurn is a number after every piece.
const endOfTurn = math.MaxInt64

// run is a turn that this server has accepted or runs, with the pieces of its answer.
// Readers get a piece once it is stored, so that nothing that anybody has read is lost
// when the server dies.
type run struct {
	session Session
	trace   trace.Parent // the request that sent the message; the zero Parent if another process has got it

	mu      sync.Mutex
	turn    Turn                    // guarded by mu
	pieces  []string                // guarded by mu
	firstAt time.Time               // when the first of them came; guarded by mu
	taken   int                     // how many pieces a transaction may have read; guarded by mu
	model   *modelturn.Turn         // nil until the gateway has got the message; guarded by mu
	stored  int                     // how many pieces are in the database; guarded by mu
	changed chan struct{}           // closed when pieces are stored or the end comes; nil if nobody waits; guarded by mu
	cancel  context.CancelCauseFunc // ends the runner; nil while the turn is queued; guarded by mu
	stopped error                   // the reason, if it was told to stop before it started; guarded by mu
}

// append adds a piece to the answer and reports whether it is the first.
func (r *run) append(piece string) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pieces = append(r.pieces, piece)
	return r.noteFirstLocked()
}

// extend adds text to the answer, to the last piece if nobody has read that yet, and reports
// whether it is the first.
func (r *run) extend(text string) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.pieces); n > r.taken {
		r.pieces[n-1] += text
		return false
	}
	r.pieces = append(r.pieces, text)
	return r.noteFirstLocked()
}

// noteFirstLocked reports whether the piece that was added is the first. The caller holds mu.
func (r *run) noteFirstLocked() bool {
	if len(r.pieces) > 1 {
		return false
	}
	r.firstAt = time.Now()
	return true
}

// ending returns what Settings.Ended is told of a turn that has ended as t says.
func (r *run) ending(t Turn) Ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := Ending{State: t.State, StopReason: t.StopReason}
	if !t.StartedAt.IsZero() {
		e.Took = t.EndedAt.Sub(t.StartedAt)
		if !r.firstAt.IsZero() {
			e.FirstText = max(r.firstAt.Sub(t.StartedAt), time.Millisecond) // the start is stored in milliseconds
		}
	}
	return e
}

// empty reports whether the answer has no text so far.
func (r *run) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.pieces) == 0
}

func (r *run) setModelTurn(t *modelturn.Turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.model = t
}

// modelTurn returns the model calls of the turn, or nil if there can be none yet.
func (r *run) modelTurn() *modelturn.Turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.model
}

// end records the end of the turn and wakes the followers.
func (r *run) end(t Turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn, r.stored = t, min(len(r.pieces), int(t.LastSeq))
	r.wakeLocked()
}

func (r *run) wakeLocked() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// stop tells the runner to end the turn, for that reason.
func (r *run) stop(reason error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel == nil {
		r.stopped = reason
		return
	}
	r.cancel(reason)
}

func (r *run) id() identity.TurnID { return r.current().ID }

func (r *run) current() Turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turn
}

// text returns what is stored of the answer.
func (r *run) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.pieces[:r.stored], "")
}

// wholeText returns all of the answer, also what is not stored yet.
func (r *run) wholeText() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.pieces, "")
}

// unstored returns the pieces that are not in the database, and the number of the first.
func (r *run) unstored() (seq int, pieces []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken = len(r.pieces)
	return r.stored + 1, r.pieces[r.stored:len(r.pieces):len(r.pieces)]
}

// setStored records that the first n pieces are in the database, and wakes the followers.
func (r *run) setStored(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.turn.Ended() {
		r.stored = n
		r.wakeLocked()
	}
}

func (r *run) storedCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored
}

// next returns the stored pieces after a number. If there are none, it returns the turn,
// and, unless that has ended, a channel that is closed when there is more.
func (r *run) next(after int64) (pieces []string, t Turn, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if after < int64(r.stored) {
		return r.pieces[after:r.stored:r.stored], r.turn, nil
	}
	if r.turn.Ended() {
		return nil, r.turn, nil
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return nil, r.turn, r.changed
}

// follow calls emit with each piece after a number until the turn ends, and returns the
// turn. Errors: emit's, ctx's, and the turn's own; see Turn.Err.
func (r *run) follow(ctx context.Context, after int64, emit func(seq int64, text string) error) (Turn, error) {
	for {
		pieces, t, changed := r.next(after)
		for _, piece := range pieces {
			after++
			if err := emit(after, piece); err != nil {
				return Turn{}, err
			}
		}
		switch {
		case len(pieces) > 0:
		case changed == nil:
			return t, t.Err()
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return Turn{}, ctx.Err()
			}
		}
	}
}

// runs are the turns that this server has accepted or runs, until they end.
type runs struct {
	mu        sync.Mutex
	stopped   bool                        // no further turn is started; guarded by mu
	loopEnded func() bool                 // guarded by mu
	byTurn    map[identity.TurnID]*run    // guarded by mu
	bySession map[identity.SessionID]*run // the one that runs; guarded by mu
	runners   sync.WaitGroup
}

func newRuns() *runs {
	return &runs{loopEnded: func() bool { return false }, byTurn: map[identity.TurnID]*run{}, bySession: map[identity.SessionID]*run{}}
}

func (a *runs) find(id identity.TurnID) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byTurn[id]
}

// running returns the run of the session's turn that runs, or nil.
func (a *runs) running(session identity.SessionID) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bySession[session]
}

// allRunning returns every run of a turn that runs.
func (a *runs) allRunning() []*run {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := make([]*run, 0, len(a.bySession))
	for _, r := range a.bySession {
		all = append(all, r)
	}
	return all
}

// add adds a queued turn, unless a runner has taken it already.
func (a *runs) add(t Turn, session Session, parent trace.Parent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byTurn[t.ID] == nil {
		a.byTurn[t.ID] = &run{session: session, trace: parent, turn: t}
	}
}

// start calls answer in the background for a turn that this server holds. It does nothing
// if the server stops. The parent is used only if the turn was not added before.
func (a *runs) start(t Turn, session Session, parent trace.Parent, answer func(context.Context, *run)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return
	}
	r := a.byTurn[t.ID]
	if r == nil {
		r = &run{session: session, trace: parent}
		a.byTurn[t.ID] = r
	}
	a.bySession[t.SessionID] = r
	ctx, cancel := context.WithCancelCause(context.Background())
	r.mu.Lock()
	r.turn, r.cancel = t, cancel
	if r.stopped != nil {
		cancel(r.stopped)
	}
	r.mu.Unlock()
	a.runners.Go(func() {
		defer cancel(nil)
		answer(ctx, r)
	})
}

// end removes a turn that has ended and tells its followers.
func (a *runs) end(t Turn) {
	a.mu.Lock()
	r := a.byTurn[t.ID]
	delete(a.byTurn, t.ID)
	if r != nil && a.bySession[t.SessionID] == r {
		delete(a.bySession, t.SessionID)
	}
	a.mu.Unlock()
	if r != nil {
		r.end(t)
	}
}

// stopWith makes isStopped report true as soon as ctx ends, before stop is called: other
// parts of the server, such as the connections to gateways, may end earlier.
func (a *runs) stopWith(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loopEnded = func() bool { return ctx.Err() != nil }
}

func (a *runs) isStopped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopped || a.loopEnded()
}

// stop stops every runner and waits for them. No turn is started after it.
func (a *runs) stop() {
	a.mu.Lock()
	a.stopped = true
	a.mu.Unlock()
	for _, r := range a.allRunning() {
		r.stop(errStopping)
	}
	a.runners.Wait()
}
