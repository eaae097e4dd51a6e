package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/repository"
)

// ErrBusy is the error of a Source.Hold whose gateway has work to do.
var ErrBusy = homecopy.ErrBusy

// ErrRuns means that a backup of the installation is being made.
var ErrRuns = errors.New("a backup is being made already: wait until it ends")

const (
	// retryAfter is how long a regular backup waits after one that failed, if backups are not
	// made more often.
	retryAfter = 15 * time.Minute
	// keptResults is how many results of backups are remembered.
	keptResults = 200
)

// Schedule says which backups are made regularly.
type Schedule struct {
	Every time.Duration // 0: none
	To    Destination
	Keep  Keep
}

// Service makes the backups of an installation, one at a time, and remembers how they ended.
type Service struct {
	source   Source
	schedule Schedule
	started  time.Time
	running  sync.Mutex
}

// NewService returns the service. Its Run makes the regular backups.
func NewService(source Source, schedule Schedule) *Service {
	return &Service{source: source, schedule: schedule, started: time.Now()}
}

// Result is how a backup ended.
type Result struct {
	ID          string
	Destination string // as it may be shown
	Began       time.Time
	Ended       time.Time
	State       string // Complete, Loose, Incomplete or Failed
	Problem     string // what went wrong; empty: nothing
	Bytes       int64
	Stored      int64
	Held        time.Duration
	Agents      int      // not remembered
	Removed     []string // the backups that were not kept; not remembered
}

// Failed is the state of a backup that is none.
const Failed = "failed"

// Good reports whether everything can be restored from the backup.
func (r Result) Good() bool { return r.State == Complete || r.State == Loose }

// Make makes a backup, and deletes those that the rules do not keep if it is good. Errors: ErrRuns.
func (s *Service) Make(ctx context.Context, to Destination, keep Keep, progress func(Progress)) (Result, error) {
	if err := to.Check(); err != nil {
		return Result{}, err
	}
	if !s.running.TryLock() {
		return Result{}, ErrRuns
	}
	defer s.running.Unlock()
	r := Result{Began: time.Now(), Destination: repository.Shown(to.URL)}
	m, err := Make(ctx, s.source, to, progress)
	r.ID, r.State, r.Problem, r.Bytes, r.Stored, r.Held, r.Agents = m.ID, m.State(), m.Problem(), m.Bytes, m.Stored, m.Held(), len(m.Agents)
	if err != nil {
		r.ID, r.State, r.Problem = newID(r.Began), Failed, err.Error()
	}
	r.Ended = time.Now()
	err = errors.Join(err, s.save(context.WithoutCancel(ctx), r))
	if err == nil && r.Good() {
		var pruned Pruned
		if pruned, err = Prune(ctx, to, keep); err != nil {
			err = fmt.Errorf("the backup %s was made, but what need not be kept was not deleted: %w", r.ID, err)
		}
		r.Removed = pruned.Backups
	}
	return r, err
}

// save remembers how a backup ended.
func (s *Service) save(ctx context.Context, r Result) error {
	err := s.source.DB.Tx(ctx, "backup.save", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO backups (id, destination, began_at, ended_at, state, problem, bytes, stored_bytes, held_ms)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`,
			r.ID, r.Destination, database.Millis(r.Began), database.Millis(r.Ended), r.State, r.Problem, r.Bytes, r.Stored, r.Held.Milliseconds())
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM backups WHERE id NOT IN (SELECT id FROM backups ORDER BY ended_at DESC LIMIT $1)
			AND id NOT IN (SELECT id FROM backups WHERE state IN ('complete', 'loose') ORDER BY ended_at DESC LIMIT 1)`, keptResults)
		return err
	})
	if err != nil {
		return fmt.Errorf("remember how the backup ended: %w", err)
	}
	return nil
}

// Last returns the newest backup, and the newest good one; zero values if there is none, as in
// a database of an older schema.
func Last(ctx context.Context, q database.Reader) (newest, good Result, err error) {
	if ok, err := database.HasTable(ctx, q, "backups"); !ok {
		return newest, good, err
	}
	const columns = `SELECT id, destination, began_at, ended_at, state, problem, bytes, stored_bytes, held_ms FROM backups `
	newest, err = database.One(ctx, q, scanResult, columns+`ORDER BY ended_at DESC LIMIT 1`)
	if err == nil {
		good, err = database.One(ctx, q, scanResult, columns+`WHERE state IN ('complete', 'loose') ORDER BY ended_at DESC LIMIT 1`)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read how backups ended: %w", err)
	}
	return newest, good, err
}

func scanResult(row database.Row) (r Result, err error) {
	var began, ended, held int64
	err = row.Scan(&r.ID, &r.Destination, &began, &ended, &r.State, &r.Problem, &r.Bytes, &r.Stored, &held)
	r.Began, r.Ended, r.Held = time.UnixMilli(began), time.UnixMilli(ended), time.Duration(held)*time.Millisecond
	return r, err
}

// Degradation returns a sentence for everybody if the regular backups do not succeed; empty if
// they do, or if there are none.
func (s *Service) Degradation(ctx context.Context) string {
	if s.schedule.Every == 0 {
		return ""
	}
	newest, good, err := Last(ctx, s.source.DB)
	if err != nil {
		return "" // readiness tells of the database
	}
	since := s.started
	if good.Ended.After(since) {
		since = good.Ended
	}
	switch {
	case newest.State == Failed && newest.Ended.After(good.Ended):
		return "The last backup failed. agento doctor says why."
	case newest.State == Incomplete && newest.Ended.After(good.Ended):
		return "The last backup is incomplete: agents are missing in it. agento doctor names them."
	case time.Since(since) > 2*s.schedule.Every:
		return fmt.Sprintf("No backup has succeeded for %s, and one should be made every %s. agento doctor says more.", time.Since(since).Round(time.Minute), s.schedule.Every)
	}
	return ""
}

// Run makes the regular backups until ctx ends. The first one is made when the last good one is
// old enough, and at once if there is none. It first ends what a backup has left that was
// killed.
func (s *Service) Run(ctx context.Context) error {
	s.recover(ctx)
	if s.schedule.Every == 0 {
		return nil
	}
	_, good, err := Last(ctx, s.source.DB)
	if err != nil {
		return err
	}
	due := good.Began.Add(s.schedule.Every)
	if good.Began.After(time.Now()) { // the clock was set back
		due = time.Now()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		due = s.regular(ctx)
	}
}

// recover removes what a backup has left that was killed: what it was copying. The gateways that it
// held go on when the server adopts them.
func (s *Service) recover(ctx context.Context) {
	if !s.running.TryLock() {
		return // a backup has begun, which does the same
	}
	defer s.running.Unlock()
	if _, err := os.Lstat(s.source.scratch()); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := os.RemoveAll(s.source.scratch()); err != nil && ctx.Err() == nil {
		s.source.Log.WarnContext(ctx, "what is left of a backup that was killed cannot be removed", "error", err)
	}
}

// regular makes a backup and returns when the next one is due.
func (s *Service) regular(ctx context.Context) time.Time {
	began := time.Now()
	r, err := s.Make(ctx, s.schedule.To, s.schedule.Keep, func(Progress) {})
	log := s.source.Log
	switch {
	case ctx.Err() != nil:
	case r.ID == "" || r.State == Failed:
		log.ErrorContext(ctx, "the backup failed", "error", err)
		return time.Now().Add(min(s.schedule.Every, retryAfter))
	case err != nil:
		log.ErrorContext(ctx, "after the backup", "backup", r.ID, "error", err)
	case r.Problem != "":
		log.WarnContext(ctx, "a backup was made", "backup", r.ID, "state", r.State, "problem", r.Problem, "stored", r.Stored, "took", r.Ended.Sub(r.Began))
	default:
		log.InfoContext(ctx, "a backup was made", "backup", r.ID, "agents", r.Agents, "bytes", r.Bytes, "stored", r.Stored, "took", r.Ended.Sub(r.Began), "held", r.Held)
	}
	return began.Add(s.schedule.Every)
}
