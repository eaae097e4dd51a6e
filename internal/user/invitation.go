package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Invitation is one that waits for its person.
type Invitation struct {
	ID        string
	Email     string
	Role      access.Role
	CreatedBy string // the actor, as identity.Actor.String returns it
	CreatedAt time.Time
	ExpiresAt time.Time
}

func (l storedLink) invitation() Invitation {
	return Invitation{ID: l.id, Email: l.email, Role: l.role, CreatedBy: l.createdBy, CreatedAt: l.createdAt, ExpiresAt: l.expiresAt}
}

// Invite invites somebody to the actor's account, with a role. An older invitation of the same
// address ends. Only this result has the link. Who may give a role: see SetRole. If the actor's
// request has invited before, the invitation gets another link, because nobody has got the first.
// Faults: Invalid; Forbidden; Conflict, if the person is in the account, or too many
// invitations wait; NotFound, if there is no such account.
func (s *Service) Invite(ctx context.Context, actor identity.Actor, email string, role access.Role) (in Invitation, l Link, err error) {
	if email, err = NormalizeEmail(email); err != nil {
		return Invitation{}, Link{}, err
	}
	if _, err := access.ParseRole(string(role)); err != nil {
		return Invitation{}, Link{}, err
	}
	err = s.db.Tx(ctx, "user.invite", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockMembers, string(actor.AccountID)); err != nil {
			return err
		}
		if err := s.checkAccount(ctx, tx, actor.AccountID); err != nil {
			return err
		}
		if err := s.checkManages(ctx, tx, actor, role); err != nil {
			return err
		}
		if created, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok {
			in, l, err = s.replaceToken(ctx, tx, actor, created.Topic.ID())
			return err
		}
		if err := checkInvitable(ctx, tx, actor.AccountID, email); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, `kind = $2 AND account_id = $3 AND email = $4`, Invite, actor.AccountID, email); err != nil {
			return err
		}
		if l, err = s.storeLink(ctx, tx, actor, storedLink{kind: Invite, account: actor.AccountID, email: email, role: role}, InvitationLifetime); err != nil {
			return err
		}
		stored, err := s.openLink(ctx, tx, Invite, l.Token.Reveal())
		if err != nil {
			return err
		}
		in = stored.invitation()
		return s.appendEvent(ctx, tx, actor, invitationTopic(in.ID), "invitation.created", map[string]any{"email": email, "role": role})
	})
	if err != nil {
		return Invitation{}, Link{}, fmt.Errorf("invite: %w", err)
	}
	return in, l, nil
}

// checkInvitable returns nil if an address can be invited. Faults: Conflict.
func checkInvitable(ctx context.Context, tx *database.Tx, account identity.AccountID, email string) error {
	type counts struct{ members, waiting int }
	n, err := database.One(ctx, tx, func(r database.Row) (n counts, err error) { return n, r.Scan(&n.members, &n.waiting) },
		`SELECT (SELECT COUNT(*) FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.account_id = $1 AND u.email = $2),
		(SELECT COUNT(*) FROM user_links WHERE account_id = $1 AND kind = $3 AND used_at = 0 AND ended_at = 0 AND expires_at > $4 AND email <> $2)`,
		account, email, Invite, database.Millis(now()))
	switch {
	case err != nil:
		return err
	case n.members > 0:
		return fault.New(fault.Conflict, "%s is in this account already. Change the role instead.", email)
	case n.waiting >= MaxInvitations:
		return fault.New(fault.Conflict, "There are %d invitations already that wait, the most there may be. Revoke one first.", n.waiting)
	}
	return nil
}

// Invitations lists the invitations of an account that wait, newest first.
func (s *Service) Invitations(ctx context.Context, account identity.AccountID) ([]Invitation, error) {
	links, err := database.AllReadable(ctx, s.db, scanLink, damagedLink, `SELECT `+linkColumns+` FROM user_links
		WHERE account_id = $1 AND kind = $2 AND used_at = 0 AND ended_at = 0 AND expires_at > $3 ORDER BY created_at DESC, id`, account, Invite, database.Millis(now()))
	if err != nil {
		return nil, fmt.Errorf("list the invitations of account %s: %w", account, err)
	}
	all := make([]Invitation, len(links))
	for i, l := range links {
		all[i] = l.invitation()
	}
	return all, nil
}

// replaceToken gives an invitation that waits another link, in place of one that nobody has got.
func (s *Service) replaceToken(ctx context.Context, tx *database.Tx, actor identity.Actor, id string) (Invitation, Link, error) {
	l, err := waiting(ctx, tx, actor.AccountID, id)
	if err != nil {
		return Invitation{}, Link{}, err
	}
	token := newToken()
	_, err = database.Exec(ctx, tx, `UPDATE user_links SET hash = $1 WHERE id = $2`, hashOf(token.Reveal()), id)
	return l.invitation(), s.linkOf(l, token), err
}

// waiting returns an invitation that waits. Faults: NotFound.
func waiting(ctx context.Context, q database.Reader, account identity.AccountID, id string) (storedLink, error) {
	l, err := database.One(ctx, q, scanLink, `SELECT `+linkColumns+` FROM user_links WHERE account_id = $1 AND kind = $2 AND id = $3 AND used_at = 0 AND ended_at = 0 AND expires_at > $4`,
		account, Invite, id, database.Millis(now()))
	if errors.Is(err, sql.ErrNoRows) {
		return storedLink{}, fault.New(fault.NotFound, "There is no invitation %q that waits in this account.", id)
	}
	return l, err
}

// RevokeInvitation ends an invitation of the actor's account. Faults: Forbidden, as of SetRole;
// NotFound, also if it was used or has ended.
func (s *Service) RevokeInvitation(ctx context.Context, actor identity.Actor, id string) error {
	err := s.db.Tx(database.UseReserve(ctx), "user.revoke_invitation", func(ctx context.Context, tx *database.Tx) error {
		l, err := waiting(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		if err := s.checkManages(ctx, tx, actor, l.role); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, `id = $2`, id); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, invitationTopic(id), "invitation.revoked", map[string]any{"email": l.email, "role": l.role})
	})
	if err != nil {
		return fmt.Errorf("revoke invitation: %w", err)
	}
	return nil
}

// invitationPrefix begins the topics of invitations.
const invitationPrefix = "invitation/"

func invitationTopic(id string) event.Topic { return event.Topic(invitationPrefix + id) }
