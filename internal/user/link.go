package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// LinkKind is what a one-time link is for. It is also the last part of the link's path.
type LinkKind string

// The kinds of links.
const (
	First  LinkKind = "first"      // makes the first owner of an account
	Invite LinkKind = "invitation" // makes a member of an account
	Reset  LinkKind = "reset"      // sets a password
)

// How long links last.
const (
	FirstLifetime      = 15 * time.Minute
	ResetLifetime      = 15 * time.Minute
	InvitationLifetime = 7 * 24 * time.Hour
)

// LinkPath is the path below the public address that links begin with.
const LinkPath = "/app/"

// Link is a one-time link. Only its hash is stored, so it is shown once.
type Link struct {
	Kind      LinkKind
	URL       vault.Secret // a path, if the installation's public address is not known
	Token     vault.Secret
	ExpiresAt time.Time
}

// LinkInfo is what a page shows of a link before it is used.
type LinkInfo struct {
	Kind      LinkKind
	Account   string      // the name of the account; empty for Reset
	Email     string      // whom it is for; empty for First
	Role      access.Role // empty for Reset
	ExpiresAt time.Time
	// Exists is true if somebody with the e-mail address can sign in already: an invitation is
	// then accepted by that person, signed in.
	Exists bool
}

// NewPerson is what a person says who uses a link.
type NewPerson struct {
	Email    string // of First; that of an invitation is in the link
	Name     string
	Password vault.Secret

	external *External // who signs in by this, without a password; nil: with the password
}

// storedLink is a row.
type storedLink struct {
	id        string
	kind      LinkKind
	account   identity.AccountID
	user      identity.UserID // of Reset
	email     string
	role      access.Role
	createdBy string
	createdAt time.Time
	expiresAt time.Time
}

// Inspect returns what a link is for. It uses nothing up. Faults: NotFound, if the link does
// not exist, was used, has ended, or is of another kind.
func (s *Service) Inspect(ctx context.Context, kind LinkKind, token string) (LinkInfo, error) {
	l, err := s.openLink(ctx, s.db, kind, token)
	if err != nil {
		return LinkInfo{}, err
	}
	info := LinkInfo{Kind: l.kind, Email: l.email, Role: l.role, ExpiresAt: l.expiresAt}
	if l.account != "" {
		a, err := s.access.Account(ctx, string(l.account))
		if err != nil {
			return LinkInfo{}, err
		}
		info.Account = a.Name
	}
	if l.email != "" {
		p, hash, err := findForSignIn(ctx, s.db, l.email)
		if err != nil {
			return LinkInfo{}, err
		}
		info.Exists = p.ID != "" && (l.kind != Reset || hash != "")
	}
	return info, nil
}

// FirstLink makes a link that makes the first owner of an account, and ends older ones.
// Faults: Conflict, if the account has an owner; NotFound, if there is no such account.
func (s *Service) FirstLink(ctx context.Context, actor identity.Actor) (l Link, err error) {
	err = s.db.Tx(ctx, "user.first_link", func(ctx context.Context, tx *database.Tx) error {
		if err := s.checkAccount(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := checkNoOwner(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, `kind = $2 AND account_id = $3`, First, actor.AccountID); err != nil {
			return err
		}
		l, err = s.storeLink(ctx, tx, actor, storedLink{kind: First, account: actor.AccountID, role: access.Owner}, FirstLifetime)
		if err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, accountTopic(actor.AccountID), "account.first_link_made", nil)
	})
	if err != nil {
		return Link{}, fmt.Errorf("make the first link: %w", err)
	}
	return l, nil
}

// UseFirst makes the first owner of the account of a link, and signs the person in. It uses the
// link up in the same transaction. session is that of a person who is signed in already, and
// becomes the owner; the zero Session, if nobody is.
// Faults: NotFound, as of Inspect; Invalid; Conflict, if the account has an owner, or somebody
// has the e-mail address, who must sign in first.
func (s *Service) UseFirst(ctx context.Context, token string, session Session, in NewPerson, c Client) (SignedIn, error) {
	return s.join(ctx, First, token, session, in, c)
}

// UseInvitation makes a person a member of the account of an invitation, and signs it in. Somebody
// who can sign in already has to be signed in, as the person who was invited. It uses the
// invitation up in the same transaction. Faults: as of UseFirst.
func (s *Service) UseInvitation(ctx context.Context, token string, session Session, in NewPerson, c Client) (SignedIn, error) {
	return s.join(ctx, Invite, token, session, in, c)
}

// join makes the person who uses a link a member of its account.
func (s *Service) join(ctx context.Context, kind LinkKind, token string, session Session, in NewPerson, c Client) (signedIn SignedIn, err error) {
	l, err := s.openLink(ctx, s.db, kind, token) // before a hash is made for it
	if err != nil {
		return SignedIn{}, err
	}
	var hash string
	p := session.Person
	if session.ID == "" {
		if kind == Invite {
			in.Email = l.email
		}
		if p, hash, err = s.newPerson(ctx, in); err != nil {
			return SignedIn{}, err
		}
	} else if kind == Invite && session.Person.Email != l.email {
		return SignedIn{}, fault.New(fault.Conflict, "This invitation is for %s, and you are signed in as %s. Sign out first.", l.email, session.Person.Email)
	}
	err = s.db.Tx(ctx, "user.join", func(ctx context.Context, tx *database.Tx) error {
		if l, err = s.openLink(ctx, tx, kind, token); err != nil {
			return err
		}
		if err := tx.Lock(ctx, database.LockMembers, string(l.account)); err != nil {
			return err
		}
		if kind == First {
			if err := checkNoOwner(ctx, tx, l.account); err != nil {
				return err
			}
		}
		if session.ID == "" {
			if existing, _, err := findForSignIn(ctx, tx, p.Email); err != nil {
				return err
			} else if existing.ID != "" {
				return fault.New(fault.Conflict, "%s can sign in already. Sign in first, and open the link again.", p.Email)
			}
			if err := insertPerson(ctx, tx, p, hash); err != nil {
				return err
			}
			if in.external != nil {
				if err := s.linkNew(ctx, tx, p, *in.external); err != nil {
					return err
				}
			}
		} else if _, err := s.findSession(ctx, tx, `s.id = $1`, session.ID); err != nil {
			return err
		}
		if err := s.useLink(ctx, tx, l); err != nil {
			return err
		}
		if kind == First {
			if err := endLinks(ctx, tx, `kind = $2 AND account_id = $3`, First, l.account); err != nil {
				return err
			}
		}
		if err := s.addMember(ctx, tx, identity.ByUser(l.account, p.ID), p, l); err != nil {
			return err
		}
		if session.ID == "" {
			method := ByLink
			if in.external != nil {
				method = ByOIDC
			}
			signedIn, err = s.startSession(ctx, tx, p, l.account, method, c)
			return err
		}
		if _, err := database.Exec(ctx, tx, `UPDATE sign_ins SET in_account = $1 WHERE id = $2`, l.account, session.ID); err != nil {
			return err
		}
		signedIn.Session, err = s.findSession(ctx, tx, `s.id = $1`, session.ID)
		return err
	})
	if err != nil {
		return SignedIn{}, fmt.Errorf("use a link: %w", err)
	}
	return signedIn, nil
}

// newPerson returns a person to be stored, with the hash of its password. Faults: Invalid.
func (s *Service) newPerson(ctx context.Context, in NewPerson) (p Person, hash string, err error) {
	wrong := fault.Fields{}
	email, err := NormalizeEmail(in.Email)
	if err != nil {
		wrong.Add("email", "must be an e-mail address such as ada@example.com")
	}
	name := strings.TrimSpace(in.Name)
	checkName(wrong, name)
	if in.external == nil {
		checkPassword(wrong, in.Password, email)
	}
	if err := wrong.Err(); err != nil {
		return Person{}, "", err
	}
	p = Person{ID: identity.UserID(newID(identity.UserPrefix)), Email: email, Name: name, Password: in.external == nil, CreatedAt: now()}
	if p.Password {
		hash, err = s.hasher.hash(ctx, in.Password)
	}
	return p, hash, err
}

// ResetLink makes a link with which a person sets a new password, and ends older ones. Until it
// is used, the present password stays valid. The second factor stays, unless secondFactor: then
// it is removed at once, and the person's sessions end.
// Faults: NotFound.
func (s *Service) ResetLink(ctx context.Context, actor identity.Actor, idOrEmail string, secondFactor bool) (l Link, err error) {
	err = s.db.Tx(ctx, "user.reset_link", func(ctx context.Context, tx *database.Tx) error {
		p, err := find(ctx, tx, idOrEmail)
		if err != nil {
			return err
		}
		if secondFactor {
			if err := s.removeTOTP(ctx, tx, p); err != nil {
				return err
			}
			if _, err := endSessions(ctx, tx, p.ID, ""); err != nil {
				return err
			}
			if err := s.appendOwn(ctx, tx, actor, p.ID, "user.second_factor_removed", nil); err != nil {
				return err
			}
		}
		l, err = s.resetLink(ctx, tx, actor, p)
		return err
	})
	if err != nil {
		return Link{}, fmt.Errorf("make a reset link: %w", err)
	}
	return l, nil
}

func (s *Service) resetLink(ctx context.Context, tx *database.Tx, actor identity.Actor, p Person) (Link, error) {
	if err := endLinks(ctx, tx, `kind = $2 AND user_id = $3`, Reset, p.ID); err != nil {
		return Link{}, err
	}
	l, err := s.storeLink(ctx, tx, actor, storedLink{kind: Reset, user: p.ID, email: p.Email}, ResetLifetime)
	if err != nil {
		return Link{}, err
	}
	return l, s.appendOwn(ctx, tx, actor, p.ID, "user.reset_link_made", nil)
}

// UseReset sets the password of the person of a reset link, and ends all of its sessions: it
// signs in next, with its second factor. Faults: NotFound, as of Inspect; Invalid.
func (s *Service) UseReset(ctx context.Context, token string, password vault.Secret) error {
	l, err := s.openLink(ctx, s.db, Reset, token)
	if err != nil {
		return err
	}
	wrong := fault.Fields{}
	checkPassword(wrong, password, l.email)
	if err := wrong.Err(); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	err = s.db.Tx(ctx, "user.reset", func(ctx context.Context, tx *database.Tx) error {
		if l, err = s.openLink(ctx, tx, Reset, token); err != nil {
			return err
		}
		p, err := find(ctx, tx, string(l.user))
		if err != nil {
			return err
		}
		if err := s.useLink(ctx, tx, l); err != nil {
			return err
		}
		if _, err := database.Exec(ctx, tx, `UPDATE users SET password = $1 WHERE id = $2`, hash, p.ID); err != nil {
			return err
		}
		return s.passwordChanged(ctx, tx, identity.ByUser("", p.ID), p, "")
	})
	if err != nil {
		return fmt.Errorf("use a reset link: %w", err)
	}
	return nil
}

// storeLink stores a new link.
func (s *Service) storeLink(ctx context.Context, tx *database.Tx, actor identity.Actor, l storedLink, lifetime time.Duration) (Link, error) {
	at, token := now(), newToken()
	l.id, l.createdAt, l.expiresAt, l.createdBy = newID("link_"), at, at.Add(lifetime), actor.String()
	_, err := database.Exec(ctx, tx, `INSERT INTO user_links (id, hash, kind, account_id, user_id, email, role, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, NULLIF($5, ''), $6, $7, $8, $9, $10)`,
		l.id, hashOf(token.Reveal()), l.kind, l.account, l.user, l.email, l.role, l.createdBy, database.Millis(at), database.Millis(l.expiresAt))
	if err != nil {
		return Link{}, fmt.Errorf("store link: %w", err)
	}
	return s.linkOf(l, token), nil
}

func (s *Service) linkOf(l storedLink, token vault.Secret) Link {
	return Link{
		Kind: l.kind, Token: token, ExpiresAt: l.expiresAt,
		URL: vault.NewSecret(s.publicURL + LinkPath + string(l.kind) + "?" + url.Values{"token": {token.Reveal()}}.Encode()),
	}
}

const linkColumns = `id, kind, account_id, COALESCE(user_id, ''), email, role, created_by, created_at, expires_at`

func scanLink(r database.Row) (storedLink, error) {
	var l storedLink
	var created, expires int64
	err := r.Scan(&l.id, &l.kind, &l.account, &l.user, &l.email, &l.role, &l.createdBy, &created, &expires)
	l.createdAt, l.expiresAt = database.Time(created), database.Time(expires)
	return l, err
}

// damagedLink keeps a link some of whose columns cannot be decoded in lists: it can be revoked.
func damagedLink(l *storedLink, _ error) (row string, keep bool) { return "link " + l.id, true }

// openLink returns a link that can be used now. An invitation needs somebody who may make it now, too. Faults: NotFound.
func (s *Service) openLink(ctx context.Context, q database.Reader, kind LinkKind, token string) (storedLink, error) {
	l, err := database.One(ctx, q, scanLink,
		`SELECT `+linkColumns+` FROM user_links WHERE hash = $1 AND kind = $2 AND used_at = 0 AND ended_at = 0 AND expires_at > $3
		AND (account_id = '' OR EXISTS (SELECT 1 FROM accounts a WHERE a.id = user_links.account_id AND a.deleted_at = 0))`, hashOf(token), kind, database.Millis(now()))
	if errors.Is(err, sql.ErrNoRows) {
		return storedLink{}, fault.New(fault.NotFound, "This link does not exist, was used already, or has ended. Ask for another one.")
	}
	if err != nil {
		return storedLink{}, fmt.Errorf("find link: %w", err)
	}
	if l.kind != Invite {
		return l, nil
	}
	// Whoever was removed, lowered or revoked since has left no way in.
	err = s.checkManages(ctx, q, identity.ParseActor(l.account, l.createdBy), l.role)
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Unauthorized) {
		return storedLink{}, fault.New(fault.NotFound, "This invitation has ended, because whoever made it may not invite any more. Ask for another one.")
	}
	return l, err
}

// useLink uses a link up.
func (s *Service) useLink(ctx context.Context, tx *database.Tx, l storedLink) error {
	n, err := database.Exec(ctx, tx, `UPDATE user_links SET used_at = $1 WHERE id = $2 AND used_at = 0`, database.Millis(now()), l.id)
	if err == nil && n == 0 {
		err = fault.New(fault.NotFound, "This link was used already.")
	}
	return err
}

// endLinks ends the links of a condition, whose arguments begin at $2.
func endLinks(ctx context.Context, tx *database.Tx, condition string, args ...any) error {
	_, err := database.Exec(ctx, tx, `UPDATE user_links SET ended_at = $1 WHERE used_at = 0 AND ended_at = 0 AND `+condition, append([]any{database.Millis(now())}, args...)...)
	if err != nil {
		return fmt.Errorf("end links: %w", err)
	}
	return nil
}
