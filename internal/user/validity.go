package user

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// checkInterval is how often the sessions of open streams are looked up. What this process
	// changes is looked up at once.
	checkInterval = 2 * time.Second
	checkBatch    = 500 // bounds the parameters of one query
	flushInterval = time.Minute
	// sweepInterval is how often sessions, links and tries that have ended are deleted.
	sweepInterval    = 10 * time.Minute
	keepLinks        = 30 * 24 * time.Hour // that have ended
	lastFlushTimeout = 5 * time.Second
)

// Run ends the contexts of WhileValid, writes when sessions were used, and deletes what has
// ended, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	check, flush, sweep := time.NewTicker(checkInterval), time.NewTicker(flushInterval), time.NewTicker(sweepInterval)
	defer check.Stop()
	defer flush.Stop()
	defer sweep.Stop()
	people := s.events.SubscribePrefix(TopicPrefix)
	defer people.Close()
	accounts := s.events.SubscribePrefix(access.AccountTopicPrefix)
	defer accounts.Close()
	for {
		select {
		case <-check.C:
			s.endStreams(ctx)
		case <-people.Ready():
			people.Take()
			s.endStreams(ctx)
		case <-accounts.Ready():
			accounts.Take()
			s.endStreams(ctx)
		case <-flush.C:
			s.flush(ctx)
		case <-sweep.C:
			if !s.db.IsQuiet() { // which removes nothing
				s.sweep(ctx)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlushTimeout)
			defer cancel()
			s.flush(last)
			return nil
		}
	}
}

// openStreams are the contexts of WhileValid.
type openStreams struct {
	mu  sync.Mutex
	all map[*openStream]struct{} // guarded by mu
}

type openStream struct {
	session  identity.SignInID
	account  identity.AccountID
	role     access.Role
	operator bool // it needs the person to be an operator
	end      context.CancelCauseFunc
}

// WhileValid returns a context that ends with ctx, and at most seconds after the session of a
// person has ended, is in another account, or the person's role in it has changed, or the
// account was disabled; its cause is then an Unauthorized fault. Run must run. The caller calls
// the function.
func (s *Service) WhileValid(ctx context.Context, who access.Principal) (context.Context, context.CancelFunc) {
	return s.whileOpen(ctx, &openStream{session: who.SignIn, account: who.AccountID, role: who.Role})
}

// WhileSignedIn is WhileValid for a page, which may also be that of a person in no account or of
// an operator: it ends, too, when the person is not an operator any more.
func (s *Service) WhileSignedIn(ctx context.Context, session Session) (context.Context, context.CancelFunc) {
	return s.whileOpen(ctx, &openStream{session: session.ID, account: session.AccountID, role: session.Role, operator: session.Person.Operator})
}

func (s *Service) whileOpen(ctx context.Context, stream *openStream) (context.Context, context.CancelFunc) {
	ctx, stream.end = context.WithCancelCause(ctx)
	s.streams.mu.Lock()
	if s.streams.all == nil {
		s.streams.all = map[*openStream]struct{}{}
	}
	s.streams.all[stream] = struct{}{}
	s.streams.mu.Unlock()
	return ctx, func() {
		s.streams.mu.Lock()
		delete(s.streams.all, stream)
		s.streams.mu.Unlock()
		stream.end(nil)
	}
}

// endStreams ends the streams whose session is not what they were opened with.
func (s *Service) endStreams(ctx context.Context) {
	s.streams.mu.Lock()
	open := make([]*openStream, 0, len(s.streams.all))
	for stream := range s.streams.all {
		open = append(open, stream)
	}
	s.streams.mu.Unlock()
	if len(open) == 0 {
		return
	}
	sessions, err := s.sessionsOf(ctx, open)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "look up the sessions of open streams", "error", err)
		}
		return
	}
	at := now()
	for _, stream := range open {
		session, ok := sessions[stream.session]
		if !ok || !session.valid(at) || session.AccountID != stream.account || session.Role != stream.role || session.Disabled || stream.operator && !session.Person.Operator {
			stream.end(fault.New(fault.Unauthorized, "Your session has ended, or what you may do in this account has changed."))
		}
	}
}

func (s *Service) sessionsOf(ctx context.Context, open []*openStream) (map[identity.SignInID]Session, error) {
	sessions := map[identity.SignInID]Session{}
	for _, stream := range open {
		sessions[stream.session] = Session{}
	}
	ids := make([]any, 0, len(sessions))
	for id := range sessions {
		ids = append(ids, id)
	}
	clear(sessions)
	for len(ids) > 0 {
		batch := ids[:min(checkBatch, len(ids))]
		ids = ids[len(batch):]
		places := make([]string, len(batch))
		for i := range batch {
			places[i] = fmt.Sprintf("$%d", i+1)
		}
		found, err := database.AllReadable(ctx, s.db, scanSession, damagedSession,
			sessionQuery+` WHERE s.id IN (`+strings.Join(places, ", ")+`)`, batch...)
		if err != nil {
			return nil, fmt.Errorf("look up sessions: %w", err)
		}
		for _, session := range found {
			sessions[session.ID] = session
		}
	}
	return sessions, nil
}

// uses are the sessions that were used since they were written last.
type uses struct {
	mu  sync.Mutex
	all map[identity.SignInID]time.Time // guarded by mu
}

func (u *uses) add(id identity.SignInID, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = map[identity.SignInID]time.Time{}
	}
	u.all[id] = at
}

// flush writes when sessions were used. What cannot be written is lost: it is at most a minute.
func (s *Service) flush(ctx context.Context) {
	s.uses.mu.Lock()
	all := s.uses.all
	s.uses.all = nil
	s.uses.mu.Unlock()
	if len(all) == 0 {
		return
	}
	err := s.db.Tx(ctx, "user.flush", func(ctx context.Context, tx *database.Tx) error {
		for id, at := range all {
			if _, err := database.Exec(ctx, tx, `UPDATE sign_ins SET used_at = $1 WHERE id = $2 AND used_at < $1`, database.Millis(at), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "write when sessions were used", "error", err)
	}
}

// sweep deletes what has ended.
func (s *Service) sweep(ctx context.Context) {
	at := now()
	err := s.db.Tx(ctx, "user.sweep", func(ctx context.Context, tx *database.Tx) error {
		for query, before := range map[string]time.Time{
			`DELETE FROM sign_ins WHERE expires_at <= $1`:           at,
			`DELETE FROM sign_ins WHERE used_at <= $1`:              at.Add(-SessionIdle - flushInterval),
			`DELETE FROM sign_in_challenges WHERE expires_at <= $1`: at,
			`DELETE FROM sign_in_tries WHERE since <= $1`:           at.Add(-triesWindow),
			`DELETE FROM user_links WHERE expires_at <= $1`:         at.Add(-keepLinks),
		} {
			if _, err := database.Exec(ctx, tx, query, database.Millis(before)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "delete sessions and links that have ended", "error", err)
	}
}
