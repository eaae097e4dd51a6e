package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// MaxIdentities is how many identities of a provider a person may have.
const MaxIdentities = 10

// External is somebody as an OpenID provider knows them, who has just proved it there. Issuer and
// Subject are who it is. An e-mail address says nothing of that: at many providers people choose it.
type External struct {
	Issuer, Subject string
	Email, Name     string // as the provider says, to be shown; may be empty
}

// Identity is an identity at a provider by which a person signs in.
type Identity struct {
	ID       string
	Issuer   string
	Email    string // as the provider said last; may be empty
	Name     string // as above
	LinkedAt time.Time
	UsedAt   time.Time // zero: never
}

// Label returns what to call the identity.
func (i Identity) Label() string {
	switch {
	case i.Email != "":
		return i.Email
	case i.Name != "":
		return i.Name
	}
	return "an identity without a name"
}

// Identities lists the identities of a person, the oldest first.
func (s *Service) Identities(ctx context.Context, id identity.UserID) ([]Identity, error) {
	all, err := database.All(ctx, s.db, func(r database.Row) (i Identity, err error) {
		var linked, used int64
		err = r.Scan(&i.ID, &i.Issuer, &i.Email, &i.Name, &linked, &used)
		i.LinkedAt, i.UsedAt = database.Time(linked), database.Time(used)
		return i, err
	}, `SELECT id, issuer, email, name, created_at, used_at FROM identities WHERE user_id = $1 ORDER BY created_at, id`, id)
	if err != nil {
		return nil, fmt.Errorf("list the identities of %s: %w", id, err)
	}
	return all, nil
}

// findByExternal returns the person that an identity is linked to; the zero Person, if to nobody.
func findByExternal(ctx context.Context, q database.Reader, x External) (Person, error) {
	p, err := database.One(ctx, q, scanPerson, `SELECT `+personColumns+` FROM identities i JOIN users u ON u.id = i.user_id WHERE i.issuer = $1 AND i.subject = $2`, x.Issuer, x.Subject)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, nil
	}
	if err != nil {
		return Person{}, fmt.Errorf("find the person of an identity: %w", err)
	}
	return p, nil
}

// SignInExternal signs in the person that an identity is linked to; the second factor is asked for
// as with a password. Faults: Forbidden, if it is linked to nobody.
func (s *Service) SignInExternal(ctx context.Context, x External, c Client) (SignedIn, error) {
	p, err := findByExternal(ctx, s.db, x)
	if err != nil {
		return SignedIn{}, err
	}
	if p.ID == "" {
		return SignedIn{}, fault.New(fault.Forbidden, "Nobody here has linked this identity. Sign in with your password and link it in your profile, or open the invitation that you have got.")
	}
	if err := s.seen(ctx, x); err != nil {
		return SignedIn{}, err
	}
	return s.Begin(ctx, p, ByOIDC, "", c)
}

// seen stores that an identity was used, and how the provider calls it.
func (s *Service) seen(ctx context.Context, x External) error {
	return s.db.Tx(ctx, "user.identity_used", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(ctx, tx, `UPDATE identities SET used_at = $1, email = $2, name = $3 WHERE issuer = $4 AND subject = $5`,
			database.Millis(now()), shown(x.Email), shown(x.Name), x.Issuer, x.Subject)
		return err
	})
}

// Link links an identity to the person of a session, who then signs in by it, too.
// Faults: Conflict, if it is linked to somebody else, or the person has too many.
func (s *Service) Link(ctx context.Context, session Session, x External) error {
	err := s.db.Tx(ctx, "user.link_identity", func(ctx context.Context, tx *database.Tx) error {
		if _, err := s.findSession(ctx, tx, `s.id = $1`, session.ID); err != nil {
			return err
		}
		return s.link(ctx, tx, session.actor(), session.Person.ID, x)
	})
	if err != nil {
		return fmt.Errorf("link an identity: %w", err)
	}
	return nil
}

// link is Link in the transaction of a caller who knows that the person wants it.
func (s *Service) link(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.UserID, x External) error {
	if x.Issuer == "" || x.Subject == "" {
		return errors.New("an identity without issuer or subject")
	}
	owner, err := findByExternal(ctx, tx, x)
	switch {
	case err != nil:
		return err
	case owner.ID == id:
		return nil
	case owner.ID != "":
		return fault.New(fault.Conflict, "This identity is linked to somebody else here.")
	}
	n, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM identities WHERE user_id = $1`, id)
	if err != nil {
		return err
	}
	if n >= MaxIdentities {
		return fault.New(fault.Conflict, "You have linked %d identities, the most there may be. Remove one first.", n)
	}
	number := newID("ident_")
	_, err = database.Exec(ctx, tx, `INSERT INTO identities (id, issuer, subject, user_id, email, name, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		number, x.Issuer, x.Subject, id, shown(x.Email), shown(x.Name), database.Millis(now()))
	if err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	return s.appendOwn(ctx, tx, actor, id, "user.identity_linked", map[string]any{"identity": number, "issuer": x.Issuer, "email": shown(x.Email)})
}

// linkNew links an identity to a person who is being made, which it must not be linked to yet.
func (s *Service) linkNew(ctx context.Context, tx *database.Tx, p Person, x External) error {
	owner, err := findByExternal(ctx, tx, x)
	if err == nil && owner.ID != "" {
		err = fault.New(fault.Conflict, "This identity is linked to %s, and the invitation is for %s. Sign in, and ask for an invitation of your address.", owner.Email, p.Email)
	}
	if err != nil {
		return err
	}
	return s.link(ctx, tx, identity.ByUser("", p.ID), p.ID, x)
}

// Unlink removes an identity of the person of a session, and ends the sessions that were begun by
// such identities, but for this one.
// Faults: NotFound; Conflict, if the person could not sign in any more.
func (s *Service) Unlink(ctx context.Context, session Session, id string) error {
	err := s.db.Tx(database.UseReserve(ctx), "user.unlink_identity", func(ctx context.Context, tx *database.Tx) error {
		p, err := find(ctx, tx, string(session.Person.ID))
		if err != nil {
			return err
		}
		n, err := database.Exec(ctx, tx, `DELETE FROM identities WHERE id = $1 AND user_id = $2`, id, p.ID)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "There is no such identity: it was removed already.")
		}
		left, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM identities WHERE user_id = $1`, p.ID)
		if err != nil {
			return err
		}
		if left == 0 && !p.Password {
			return fault.New(fault.Conflict, "You have no password and no other identity: you could not sign in any more. Set a password first.")
		}
		if _, err := database.Exec(ctx, tx, `DELETE FROM sign_ins WHERE user_id = $1 AND method = $2 AND id <> $3`, p.ID, ByOIDC, session.ID); err != nil {
			return err
		}
		if _, err := database.Exec(ctx, tx, `DELETE FROM sign_in_challenges WHERE user_id = $1 AND method = $2`, p.ID, ByOIDC); err != nil {
			return err
		}
		return s.appendOwn(ctx, tx, session.actor(), p.ID, "user.identity_removed", map[string]any{"identity": id})
	})
	if err != nil {
		return fmt.Errorf("remove an identity: %w", err)
	}
	return nil
}

// UseInvitationExternal makes a new person, who signs in by an identity and has no password, a member
// of the account of an invitation. The e-mail address is that of the invitation, which has reached the
// person; the provider's is not looked at. It uses the invitation up in the same transaction.
// Faults: NotFound, as of Inspect; Conflict, if somebody has that address or identity, who has to sign
// in and open the invitation.
func (s *Service) UseInvitationExternal(ctx context.Context, token string, x External, c Client) (SignedIn, error) {
	return s.join(ctx, Invite, token, Session{}, NewPerson{Name: shown(x.Name), external: &x}, c)
}

// UseFirstExternal makes a new person, who signs in by an identity and has no password, the first owner
// of the account of a link. The e-mail address is what the person has typed; the provider's is not looked
// at. It uses the link up in the same transaction. Faults: as of UseFirst.
func (s *Service) UseFirstExternal(ctx context.Context, token, email string, x External, c Client) (SignedIn, error) {
	return s.join(ctx, First, token, Session{}, NewPerson{Email: email, Name: shown(x.Name), external: &x}, c)
}

// CheckPresent checks the password of the person of a session before a change of how it signs in. A
// person without one has none to give. Faults: Forbidden, if it is wrong; RateLimited.
func (s *Service) CheckPresent(ctx context.Context, session Session, password vault.Secret) error {
	_, err := s.checkOwn(ctx, session, password)
	return err
}

// AllowAddress counts a sign-in from an address that goes by way of a provider. Faults: RateLimited.
func (s *Service) AllowAddress(c Client) error { return s.allowAddress(c.Address) }

// shown returns what a provider says as it is stored: one line that is not too long.
func shown(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "")))
	for utf8.RuneCountInString(text) > MaxName {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
