package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// How long a sign-in session lasts.
const (
	SessionLifetime  = 30 * 24 * time.Hour
	OperatorLifetime = 12 * time.Hour     // of an operator's
	SessionIdle      = 7 * 24 * time.Hour // without a request
)

// Method is how a person has signed in.
type Method string

// The methods.
const (
	ByPassword Method = "password"
	ByLink     Method = "link"
	ByOIDC     Method = "oidc"
)

// Client is where a person signs in from.
type Client struct {
	Address netip.Addr
	Agent   string // the User-Agent header
}

// agent returns the User-Agent as it is stored.
func (c Client) agent() string {
	text := strings.ToValidUTF8(c.Agent, "")
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	for utf8.RuneCountInString(text) > 200 {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

func (c Client) address() string {
	if !c.Address.IsValid() {
		return ""
	}
	return c.Address.String()
}

// Session is a sign-in session, with the person and what it may do in the account that the
// session is in.
type Session struct {
	ID        identity.SignInID
	Person    Person
	AccountID identity.AccountID // empty: the person is in no account, or has to choose one
	Account   string             // its name
	Role      access.Role        // in the account
	Disabled  bool               // the account is disabled: its owner can do nothing
	Method    Method
	Address   string
	Agent     string
	CreatedAt time.Time
	UsedAt    time.Time // up to a minute late
	ExpiresAt time.Time // also ends after SessionIdle

	planID string
}

// SignedIn is what a sign-in has given. It has a session, or a challenge if the person has to
// give a code of the second factor.
type SignedIn struct {
	Token   vault.Secret // of the session, for the cookie
	Session Session

	Challenge vault.Secret // for SignInWithCode, for ten minutes
}

// NeedsCode reports whether the second factor is missing.
func (s SignedIn) NeedsCode() bool { return !s.Challenge.Empty() }

// Session returns the session of a token. It reads the database on every call, so that a
// session that was ended is refused from the next request on.
// Faults: Unauthorized.
func (s *Service) Session(ctx context.Context, token string) (Session, error) {
	if len(token) < 40 || len(token) > 64 {
		return Session{}, signedOut()
	}
	session, err := s.findSession(ctx, s.db, `s.hash = $1`, hashOf(token))
	if err != nil {
		return Session{}, err
	}
	s.uses.add(session.ID, now())
	return session, nil
}

// Principal returns the person of a session as the caller of the API, in the account that the
// session is in. Faults: Unauthorized, if the session has ended; Forbidden, if the person is in
// no account, the account is disabled, or the second factor must be set up first.
func (s *Service) Principal(_ context.Context, session Session) (access.Principal, error) {
	switch {
	case session.ID == "":
		return access.Principal{}, signedOut()
	case session.Person.MustSetUpTOTP():
		return access.Principal{}, fault.New(fault.Forbidden, "Operators need a second factor. Set it up first.")
	case session.AccountID == "":
		return access.Principal{}, fault.New(fault.Forbidden, "You are in no account. Choose an account, or ask its owner to invite you.")
	case session.Disabled:
		return access.Principal{}, fault.New(fault.Forbidden, "The account %s is disabled. Ask the operator of the installation.", session.Account)
	}
	return session.principal(), nil
}

// personRateLimit is how many requests to the API a person may make in a Window: pages make
// several each.
const personRateLimit = 3000

func (s Session) principal() access.Principal {
	return access.Principal{
		AccountID: s.AccountID, UserID: s.Person.ID, Role: s.Role, SignIn: s.ID, PlanID: s.planID, Scopes: s.Role.Scopes(), RateLimit: personRateLimit,
	}
}

// actor returns the person of a session as the actor of a change of its own sign-in.
func (s Session) actor() identity.Actor { return identity.ByUser("", s.Person.ID) }

// Sessions lists the sessions of a person, the one that was used last first.
func (s *Service) Sessions(ctx context.Context, id identity.UserID) ([]Session, error) {
	all, err := database.AllReadable(ctx, s.db, scanSession, damagedSession, sessionQuery+` WHERE s.user_id = $1 ORDER BY s.used_at DESC, s.id`, id)
	if err != nil {
		return nil, fmt.Errorf("list the sessions of %s: %w", id, err)
	}
	at := now()
	valid := all[:0]
	for _, session := range all {
		if session.valid(at) {
			valid = append(valid, session)
		}
	}
	return valid, nil
}

// SignOut ends the session.
func (s *Service) SignOut(ctx context.Context, session Session) error {
	return s.EndSession(ctx, session, session.ID)
}

// EndSession ends a session of the same person. Faults: NotFound.
func (s *Service) EndSession(ctx context.Context, session Session, id identity.SignInID) error {
	err := s.db.Tx(database.UseReserve(ctx), "user.end_session", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `DELETE FROM sign_ins WHERE id = $1 AND user_id = $2`, id, session.Person.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "There is no such session: it has ended already.")
		}
		return s.appendOwn(ctx, tx, session.actor(), session.Person.ID, "user.signed_out", map[string]any{"session": id})
	})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// EndOtherSessions ends every session of the person but this one, and returns how many.
func (s *Service) EndOtherSessions(ctx context.Context, session Session) (ended int, err error) {
	err = s.db.Tx(database.UseReserve(ctx), "user.end_sessions", func(ctx context.Context, tx *database.Tx) error {
		if ended, err = endSessions(ctx, tx, session.Person.ID, session.ID); err != nil || ended == 0 {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), session.Person.ID, "user.signed_out", map[string]any{"sessions": ended})
	})
	return ended, err
}

// SwitchAccount moves a session to another account of the person. Its open streams end.
// Faults: NotFound, if the person is not in the account.
func (s *Service) SwitchAccount(ctx context.Context, session Session, account identity.AccountID) (Session, error) {
	err := s.db.Tx(ctx, "user.switch_account", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE sign_ins SET in_account = $1 WHERE id = $2 AND user_id = $3 AND EXISTS
			(SELECT 1 FROM memberships m JOIN accounts a ON a.id = m.account_id WHERE m.account_id = $1 AND m.user_id = $3 AND a.deleted_at = 0)`, account, session.ID, session.Person.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "You are not in this account.")
		}
		if _, err := database.Exec(ctx, tx, `UPDATE users SET in_account = $1 WHERE id = $2`, account, session.Person.ID); err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, Topic(session.Person.ID))
		return nil
	})
	if err != nil {
		return Session{}, fmt.Errorf("switch account: %w", err)
	}
	return s.findSession(ctx, s.db, `s.id = $1`, session.ID)
}

// startSession makes a session of a person in the transaction of its sign-in, and ends what is
// left of others.
func (s *Service) startSession(ctx context.Context, tx *database.Tx, p Person, account identity.AccountID, m Method, c Client) (SignedIn, error) {
	at, token := now(), newToken()
	lifetime := SessionLifetime
	if p.Operator {
		lifetime = OperatorLifetime
	}
	if account == "" {
		var err error
		if account, err = lastAccount(ctx, tx, p.ID); err != nil {
			return SignedIn{}, err
		}
	}
	id := identity.SignInID(newID("as_"))
	for _, change := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM sign_ins WHERE user_id = $1 AND id NOT IN (SELECT id FROM sign_ins WHERE user_id = $1 ORDER BY used_at DESC, id LIMIT $2)`, []any{p.ID, maxSessions - 1}},
		{`INSERT INTO sign_ins (id, hash, user_id, in_account, method, address, agent, created_at, used_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)`,
			[]any{id, hashOf(token.Reveal()), p.ID, account, m, c.address(), c.agent(), database.Millis(at), database.Millis(at.Add(lifetime))}},
		{`UPDATE users SET signed_in_at = $1, in_account = $2 WHERE id = $3`, []any{database.Millis(at), account, p.ID}},
		{`DELETE FROM sign_in_challenges WHERE user_id = $1`, []any{p.ID}},
		{`DELETE FROM sign_in_tries WHERE subject = $1`, []any{subjectOf(p.Email)}},
	} {
		if _, err := database.Exec(ctx, tx, change.query, change.args...); err != nil {
			return SignedIn{}, fmt.Errorf("start session: %w", err)
		}
	}
	err := s.appendOwn(ctx, tx, identity.ByUser("", p.ID), p.ID, "user.signed_in", map[string]any{"method": m, "session": id})
	if err != nil {
		return SignedIn{}, err
	}
	session, err := s.findSession(ctx, tx, `s.id = $1`, id)
	return SignedIn{Token: token, Session: session}, err
}

// lastAccount returns the account that a person was in last or, if it is not in that any more,
// the first one; empty, if it is in none.
func lastAccount(ctx context.Context, q database.Reader, id identity.UserID) (identity.AccountID, error) {
	account, err := database.One(ctx, q, database.Scalar[identity.AccountID],
		`SELECT m.account_id FROM memberships m JOIN accounts a ON a.id = m.account_id JOIN users u ON u.id = m.user_id
		WHERE m.user_id = $1 AND a.deleted_at = 0 ORDER BY a.disabled_at <> 0, m.account_id <> u.in_account, m.created_at LIMIT 1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return account, err
}

// endSessions ends the sessions of a person but for one, and its challenges.
func endSessions(ctx context.Context, tx *database.Tx, id identity.UserID, but identity.SignInID) (int, error) {
	n, err := database.Exec(ctx, tx, `DELETE FROM sign_ins WHERE user_id = $1 AND id <> $2`, id, but)
	if err == nil {
		_, err = database.Exec(ctx, tx, `DELETE FROM sign_in_challenges WHERE user_id = $1`, id)
	}
	if err != nil {
		return 0, fmt.Errorf("end the sessions of %s: %w", id, err)
	}
	return int(n), nil
}

// EndAllSessions ends every session and every link of an installation that was restored from a
// backup: since then, some of them may have been ended in the original. People stay.
func EndAllSessions(ctx context.Context, tx *database.Tx) error {
	for _, table := range []string{"sign_ins", "sign_in_challenges", "sign_in_tries"} {
		if _, err := database.Exec(ctx, tx, `DELETE FROM `+table); err != nil {
			return fmt.Errorf("end all sessions: %w", err)
		}
	}
	return endLinks(ctx, tx, `kind <> $2`, "")
}

// valid reports whether the session has not ended by itself.
func (s Session) valid(at time.Time) bool {
	return at.Before(s.ExpiresAt) && at.Before(s.UsedAt.Add(SessionIdle))
}

func signedOut() error {
	return fault.New(fault.Unauthorized, "You are not signed in, or your session has ended. Sign in again.")
}

// sessionQuery finds sessions with the person and its role. An account that was deleted, and
// one that the person is not in any more, is none. An account whose state is damaged is disabled.
const sessionQuery = `SELECT s.id, s.method, s.address, s.agent, s.created_at, s.used_at, s.expires_at,
	COALESCE(a.id, ''), COALESCE(a.name, ''), COALESCE(a.plan_id, ''), COALESCE(a.disabled_at <> 0, FALSE), COALESCE(m.role, ''), ` + personColumns + `
	FROM sign_ins s JOIN users u ON u.id = s.user_id
	LEFT JOIN memberships m ON m.user_id = s.user_id AND m.account_id = s.in_account AND EXISTS (SELECT 1 FROM accounts WHERE id = m.account_id AND deleted_at = 0)
	LEFT JOIN accounts a ON a.id = m.account_id`

func scanSession(r database.Row) (Session, error) {
	var x Session
	var created, used, expires int64
	var p personRow
	err := r.Scan(append([]any{&x.ID, &x.Method, &x.Address, &x.Agent, &created, &used, &expires, &x.AccountID, &x.Account, &x.planID, &x.Disabled, &x.Role}, p.columns()...)...)
	x.CreatedAt, x.UsedAt, x.ExpiresAt, x.Person = database.Time(created), database.Time(used), database.Time(expires), p.person()
	return x, err
}

// damagedSession refuses a session some of whose columns cannot be decoded: it may have ended.
func damagedSession(x *Session, _ error) (row string, keep bool) {
	return "session " + string(x.ID), false
}

// findSession returns the session that a condition names. Faults: Unauthorized. A row that
// cannot be decoded is refused, too.
func (s *Service) findSession(ctx context.Context, q database.Reader, condition string, args ...any) (Session, error) {
	session, err := database.OneReadable(ctx, q, scanSession, damagedSession, sessionQuery+` WHERE `+condition, args...)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !session.valid(now()) {
		return Session{}, signedOut()
	}
	if err != nil {
		return Session{}, fmt.Errorf("find session: %w", err)
	}
	return session, nil
}
