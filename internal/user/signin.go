package user

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	// maxTries is how many wrong passwords and codes, together, a person may give in
	// triesWindow. Whoever signs in completely begins anew.
	maxTries    = 10
	triesWindow = 15 * time.Minute
	// addressTries is how many sign-ins an address may try in a minute.
	addressTries = 60
	// challengeLifetime is how long a sign-in waits for the second factor.
	challengeLifetime = 10 * time.Minute
)

// SignIn signs a person in by e-mail address and password. Tries are counted by person, over
// every way in, and also for addresses that nobody has, so that neither the answer nor the time
// that it takes says whether there is such a person.
// Faults: Unauthorized, if the address or the password is wrong; RateLimited; Unavailable.
func (s *Service) SignIn(ctx context.Context, email string, password vault.Secret, c Client) (SignedIn, error) {
	if err := s.allowAddress(c.Address); err != nil {
		return SignedIn{}, err
	}
	if len(password.Reveal()) > maxPassword || password.Empty() || len(email) > 4*maxEmail {
		return SignedIn{}, wrongPassword()
	}
	email = cmp.Or(first(NormalizeEmail(email)), strings.ToLower(email)) // what is no address is nobody's
	if err := s.countTry(ctx, email); err != nil {
		return SignedIn{}, err
	}
	p, hash, err := findForSignIn(ctx, s.db, email)
	if err != nil {
		return SignedIn{}, err
	}
	ok, err := s.hasher.check(ctx, hash, password)
	if err != nil {
		return SignedIn{}, err
	}
	if !ok {
		return SignedIn{}, wrongPassword()
	}
	return s.Begin(ctx, p, ByPassword, hash, c)
}

// Begin signs in a person whose first factor was checked: it returns a session, or a challenge
// if the person has a second factor. checked is the hash of the password that was checked, so
// that one which was changed meanwhile is refused; it is empty for other methods.
func (s *Service) Begin(ctx context.Context, p Person, m Method, checked string, c Client) (in SignedIn, err error) {
	err = s.db.Tx(ctx, "user.sign_in", func(ctx context.Context, tx *database.Tx) error {
		if p, err = find(ctx, tx, string(p.ID)); err != nil {
			return err
		}
		if checked != "" {
			if _, hash, err := findForSignIn(ctx, tx, p.Email); err != nil || hash != checked {
				return cmp.Or(err, wrongPassword())
			}
		}
		if !p.TOTP {
			in, err = s.startSession(ctx, tx, p, "", m, c)
			return err
		}
		in.Challenge = newToken()
		_, err := database.Exec(ctx, tx, `INSERT INTO sign_in_challenges (hash, user_id, method, expires_at) VALUES ($1, $2, $3, $4)`,
			hashOf(in.Challenge.Reveal()), p.ID, m, database.Millis(now().Add(challengeLifetime)))
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = wrongPassword() // removed meanwhile
	}
	if err != nil {
		return SignedIn{}, fmt.Errorf("sign in: %w", err)
	}
	return in, nil
}

// SignInWithCode completes a sign-in by a code of the second factor, or a recovery code.
// Faults: Unauthorized, if the code is wrong or the challenge has ended; RateLimited.
func (s *Service) SignInWithCode(ctx context.Context, challenge, code string, c Client) (in SignedIn, err error) {
	if err := s.allowAddress(c.Address); err != nil {
		return SignedIn{}, err
	}
	p, _, err := s.findChallenge(ctx, s.db, challenge)
	if err != nil {
		return SignedIn{}, err
	}
	if err := s.countTry(ctx, p.Email); err != nil {
		return SignedIn{}, err
	}
	err = s.db.Tx(ctx, "user.sign_in", func(ctx context.Context, tx *database.Tx) error {
		p, method, err := s.findChallenge(ctx, tx, challenge)
		if err != nil {
			return err
		}
		if err := s.useCode(ctx, tx, p, code); err != nil {
			return err
		}
		in, err = s.startSession(ctx, tx, p, "", method, c)
		return err
	})
	if err != nil {
		return SignedIn{}, fmt.Errorf("sign in: %w", err)
	}
	return in, nil
}

// findChallenge returns whose sign-in a challenge is of. Faults: Unauthorized.
func (s *Service) findChallenge(ctx context.Context, q database.Reader, challenge string) (p Person, m Method, err error) {
	id, err := database.One(ctx, q, func(r database.Row) (id identity.UserID, err error) { return id, r.Scan(&id, &m) },
		`SELECT user_id, method FROM sign_in_challenges WHERE hash = $1 AND expires_at > $2`, hashOf(challenge), database.Millis(now()))
	if err == nil {
		p, err = find(ctx, q, string(id))
	}
	if errors.Is(err, sql.ErrNoRows) || fault.Is(err, fault.NotFound) {
		return Person{}, "", fault.New(fault.Unauthorized, "This sign-in has taken too long, or a newer one was completed. Begin again.")
	}
	return p, m, err
}

// findForSignIn returns the person with an e-mail address and the hash of its password; the
// zero Person and no hash, if there is none.
func findForSignIn(ctx context.Context, q database.Reader, email string) (p Person, hash string, err error) {
	p, err = database.One(ctx, q, func(r database.Row) (Person, error) {
		var row personRow
		err := r.Scan(append(row.columns(), &hash)...)
		return row.person(), err
	}, `SELECT `+personColumns+`, u.password FROM users u WHERE u.email = $1`, email)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, "", nil
	}
	if err != nil {
		return Person{}, "", fmt.Errorf("find user: %w", err)
	}
	return p, hash, nil
}

func wrongPassword() error {
	return fault.New(fault.Unauthorized, "The e-mail address or the password is wrong.")
}

// countTry counts that a password or code of a person is checked, before it is, so that tries
// at the same time do not pass together. Faults: RateLimited.
func (s *Service) countTry(ctx context.Context, email string) error {
	at, subject := now(), subjectOf(email)
	return s.db.Tx(ctx, "user.count_try", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `DELETE FROM sign_in_tries WHERE subject = $1 AND since <= $2`, subject, database.Millis(at.Add(-triesWindow)))
		if err != nil {
			return err
		}
		type tries struct{ count, since int64 }
		found, err := database.One(ctx, tx, func(r database.Row) (t tries, err error) { return t, r.Scan(&t.count, &t.since) },
			`SELECT count, since FROM sign_in_tries WHERE subject = $1`, subject)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if found.count >= maxTries {
			wait := database.Time(found.since).Add(triesWindow).Sub(at)
			f := fault.New(fault.RateLimited, "There were too many wrong passwords or codes. Try again in %d minutes.", int(wait/time.Minute)+1)
			f.RetryAfter = wait
			return f
		}
		_, err = database.Exec(ctx, tx, `INSERT INTO sign_in_tries (subject, count, since) VALUES ($1, 1, $2) ON CONFLICT (subject) DO UPDATE SET count = count + 1`, subject, database.Millis(at))
		return err
	})
}

// clearTries forgets the tries of a person that has proved who it is.
func clearTries(ctx context.Context, tx *database.Tx, email string) error {
	_, err := database.Exec(ctx, tx, `DELETE FROM sign_in_tries WHERE subject = $1`, subjectOf(email))
	return err
}

// subjectOf returns what tries are counted by.
func subjectOf(email string) string { return hashOf("tries " + email) }

// allowAddress counts a try of an address; of IPv6, of the network that one customer has.
// Faults: RateLimited.
func (s *Service) allowAddress(a netip.Addr) error {
	if a.Is6() && !a.Is4In6() {
		if network, err := a.Prefix(64); err == nil {
			a = network.Addr()
		}
	}
	d := s.addresses.Allow(identity.KeyID("address "+a.String()), addressTries, time.Now())
	if d.OK {
		return nil
	}
	f := fault.New(fault.RateLimited, "There were too many sign-ins from your address. Try again in a minute.")
	f.RetryAfter = d.RetryAfter
	return f
}

// ChangePassword gives the person of a session another password, and ends its other sessions.
// Faults: Invalid; Forbidden, if the present password is wrong; RateLimited.
func (s *Service) ChangePassword(ctx context.Context, session Session, present, next vault.Secret) error {
	wrong := fault.Fields{}
	checkPassword(wrong, next, session.Person.Email)
	if err := wrong.Err(); err != nil {
		return err
	}
	hash, err := s.checkOwn(ctx, session, present)
	if err != nil {
		return err
	}
	newHash, err := s.hasher.hash(ctx, next)
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, "user.change_password", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE users SET password = $1 WHERE id = $2 AND password = $3`, newHash, session.Person.ID, hash)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Conflict, "The password was changed meanwhile.")
		}
		return s.passwordChanged(ctx, tx, session.actor(), session.Person, session.ID)
	})
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	return nil
}

// checkOwn checks the password of the person of a session, and returns its hash. A person
// without one, who signs in otherwise, has none to give.
func (s *Service) checkOwn(ctx context.Context, session Session, password vault.Secret) (hash string, err error) {
	_, hash, err = findForSignIn(ctx, s.db, session.Person.Email)
	if err != nil || hash == "" {
		return hash, err
	}
	if err := s.countTry(ctx, session.Person.Email); err != nil {
		return "", err
	}
	ok := false
	if len(password.Reveal()) <= maxPassword {
		if ok, err = s.hasher.check(ctx, hash, password); err != nil {
			return "", err
		}
	}
	if !ok {
		return "", fault.New(fault.Forbidden, "Your present password is wrong.").With("password", "is wrong")
	}
	return hash, nil
}

// passwordChanged ends what an older password has given.
func (s *Service) passwordChanged(ctx context.Context, tx *database.Tx, actor identity.Actor, p Person, but identity.SignInID) error {
	if _, err := endSessions(ctx, tx, p.ID, but); err != nil {
		return err
	}
	if err := clearTries(ctx, tx, p.Email); err != nil {
		return err
	}
	if err := endLinks(ctx, tx, `kind = $2 AND user_id = $3`, Reset, p.ID); err != nil {
		return err
	}
	return s.appendOwn(ctx, tx, actor, p.ID, "user.password_changed", nil)
}

// Rename gives the person of a session another name.
func (s *Service) Rename(ctx context.Context, session Session, name string) error {
	name = strings.TrimSpace(name)
	wrong := fault.Fields{}
	checkName(wrong, name)
	if err := wrong.Err(); err != nil {
		return err
	}
	return s.db.Tx(ctx, "user.rename", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE users SET name = $1 WHERE id = $2 AND name <> $1`, name, session.Person.ID)
		if err != nil || n == 0 {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), session.Person.ID, "user.renamed", map[string]any{"name": name})
	})
}

// first returns the value, which is the zero value if there is an error.
func first[T any](v T, _ error) T { return v }
