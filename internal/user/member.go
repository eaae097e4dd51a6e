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

// Member is a person as an account sees it.
type Member struct {
	ID         identity.UserID
	Email      string
	Name       string
	Role       access.Role
	TOTP       bool
	JoinedAt   time.Time
	SignedInAt time.Time // zero: never. In whatever account
}

const memberQuery = `SELECT u.id, u.email, u.name, m.role, u.totp_at <> 0, m.created_at, u.signed_in_at FROM memberships m JOIN users u ON u.id = m.user_id`

func scanMember(r database.Row) (Member, error) {
	var m Member
	var joined, signed int64
	err := r.Scan(&m.ID, &m.Email, &m.Name, &m.Role, &m.TOTP, &joined, &signed)
	m.JoinedAt, m.SignedInAt = database.Time(joined), database.Time(signed)
	return m, err
}

// damagedMember keeps a member some of whose columns cannot be decoded: it can be removed.
func damagedMember(m *Member, _ error) (row string, keep bool) { return "member " + string(m.ID), true }

// Members lists the people of an account: owners first, then by e-mail address.
func (s *Service) Members(ctx context.Context, account identity.AccountID) ([]Member, error) {
	all, err := database.AllReadable(ctx, s.db, scanMember, damagedMember,
		memberQuery+` WHERE m.account_id = $1 ORDER BY CASE m.role WHEN 'owner' THEN 0 WHEN 'admin' THEN 1 WHEN 'developer' THEN 2 ELSE 3 END, u.email`, account)
	if err != nil {
		return nil, fmt.Errorf("list the members of account %s: %w", account, err)
	}
	return all, nil
}

// Member returns a person of an account. Faults: NotFound.
func (s *Service) Member(ctx context.Context, account identity.AccountID, id identity.UserID) (Member, error) {
	return findMember(ctx, s.db, account, id)
}

func findMember(ctx context.Context, q database.Reader, account identity.AccountID, id identity.UserID) (Member, error) {
	m, err := database.OneReadable(ctx, q, scanMember, damagedMember, memberQuery+` WHERE m.account_id = $1 AND m.user_id = $2`, account, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Member{}, fault.New(fault.NotFound, "There is no member %q in this account.", id)
	}
	if err != nil {
		return Member{}, fmt.Errorf("find member %s: %w", id, err)
	}
	return m, nil
}

// SetRole gives a person of the actor's account another role. The person's streams in the
// account end. An admin manages people other than owners, and makes none; a key also gives no
// role that has scopes which it lacks.
// Faults: Forbidden; Conflict, if the person is the last owner; NotFound.
func (s *Service) SetRole(ctx context.Context, actor identity.Actor, id identity.UserID, role access.Role) (m Member, err error) {
	if _, err := access.ParseRole(string(role)); err != nil {
		return Member{}, err
	}
	err = s.changeMember(ctx, actor, "user.set_role", id, func(ctx context.Context, tx *database.Tx, before Member) error {
		m = before
		if before.Role == role {
			return nil
		}
		if err := s.checkManages(ctx, tx, actor, before.Role, role); err != nil {
			return err
		}
		if before.Role == access.Owner {
			if err := checkNotLastOwner(ctx, tx, actor.AccountID, id); err != nil {
				return err
			}
		}
		if _, err := database.Exec(ctx, tx, `UPDATE memberships SET role = $1 WHERE account_id = $2 AND user_id = $3`, role, actor.AccountID, id); err != nil {
			return err
		}
		m.Role = role
		return s.appendEvent(ctx, tx, actor, Topic(id), "member.role_changed", map[string]any{"email": m.Email, "role": role, "formerRole": before.Role})
	})
	return m, err
}

// RemoveMember removes a person from the actor's account, and from its swarms. The person's
// streams in the account and its invitations end. Everybody may leave by removing itself.
// Faults: as of SetRole.
func (s *Service) RemoveMember(ctx context.Context, actor identity.Actor, id identity.UserID) error {
	return s.changeMember(ctx, actor, "user.remove_member", id, func(ctx context.Context, tx *database.Tx, m Member) error {
		if actor.Kind != identity.User || actor.ID != string(id) {
			if err := s.checkManages(ctx, tx, actor, m.Role); err != nil {
				return err
			}
		}
		if m.Role == access.Owner {
			if err := checkNotLastOwner(ctx, tx, actor.AccountID, id); err != nil {
				return err
			}
		}
		if _, err := database.Exec(ctx, tx, `DELETE FROM memberships WHERE account_id = $1 AND user_id = $2`, actor.AccountID, id); err != nil {
			return err
		}
		if err := endLinks(ctx, tx, `kind = $2 AND account_id = $3 AND created_by = $4`, Invite, actor.AccountID, id); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, Topic(id), "member.removed", map[string]any{"email": m.Email, "role": m.Role})
	})
}

func (s *Service) changeMember(ctx context.Context, actor identity.Actor, kind string, id identity.UserID, change func(context.Context, *database.Tx, Member) error) error {
	return s.db.Tx(database.UseReserve(ctx), kind, func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockMembers, string(actor.AccountID)); err != nil {
			return err
		}
		m, err := findMember(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		return change(ctx, tx, m)
	})
}

// addMember adds the person who has used a link to its account. Somebody who is in it already
// gets the role of the link if that is higher.
func (s *Service) addMember(ctx context.Context, tx *database.Tx, actor identity.Actor, p Person, l storedLink) error {
	present, err := findMember(ctx, tx, l.account, p.ID)
	switch {
	case err == nil && present.Role.AtLeast(l.role):
		return nil
	case err == nil:
		if _, err := database.Exec(ctx, tx, `UPDATE memberships SET role = $1 WHERE account_id = $2 AND user_id = $3`, l.role, l.account, p.ID); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, Topic(p.ID), "member.role_changed", map[string]any{"email": p.Email, "role": l.role, "formerRole": present.Role, "by": l.createdBy})
	case !fault.Is(err, fault.NotFound):
		return err
	}
	type counts struct{ members, accounts int }
	n, err := database.One(ctx, tx, func(r database.Row) (n counts, err error) { return n, r.Scan(&n.members, &n.accounts) },
		`SELECT (SELECT COUNT(*) FROM memberships WHERE account_id = $1), (SELECT COUNT(*) FROM memberships WHERE user_id = $2)`, l.account, p.ID)
	if err != nil {
		return err
	}
	if n.members >= MaxMembers {
		return fault.New(fault.Conflict, "The account has %d members already, the most it may have.", n.members)
	}
	if n.accounts >= maxAccounts {
		return fault.New(fault.Conflict, "You are in %d accounts already, the most that a person may be in.", n.accounts)
	}
	_, err = database.Exec(ctx, tx, `INSERT INTO memberships (account_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)`, l.account, p.ID, l.role, database.Millis(now()))
	if err != nil {
		return fmt.Errorf("add member: %w", err)
	}
	return s.appendEvent(ctx, tx, actor, Topic(p.ID), "member.joined", map[string]any{"email": p.Email, "role": l.role, "by": l.createdBy})
}

// checkManages returns nil if the actor may manage people with each of the roles, now.
// Faults: Forbidden; Unauthorized, if the actor has ended since it was authenticated.
func (s *Service) checkManages(ctx context.Context, q database.Reader, actor identity.Actor, roles ...access.Role) error {
	own := access.Owner
	switch actor.Kind {
	case identity.Operator, identity.System:
		return nil
	case identity.User:
		m, err := findMember(ctx, q, actor.AccountID, identity.UserID(actor.ID))
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.Forbidden, "You are not in this account any more.")
		}
		if err != nil {
			return err
		}
		own = m.Role
	case identity.Key:
		scopes, err := s.access.KeyScopes(ctx, q, actor)
		if err != nil {
			return err
		}
		if scopes.Has(access.AgentsWrite) && scopes.Has(access.Chat) {
			scopes = scopes.With(access.ChatOwner) // see access.Principal.ChatsAsOwner
		}
		for _, role := range roles {
			if lacks := role.Scopes().Without(scopes); role == access.Owner || !lacks.Empty() || !scopes.Has(access.AccountAdmin) {
				return fault.New(fault.Forbidden, "This API key manages only people whose role has no more rights than it has, and no owners: %s has %s.", role, role.Scopes()).With("role", string(role))
			}
		}
		return nil
	default:
		return fault.New(fault.Forbidden, "Agents manage no people.")
	}
	for _, role := range roles {
		if !own.Manages(role) {
			return fault.New(fault.Forbidden, "Your role in this account, %s, does not manage people who are %s.", own, role).With("role", string(role))
		}
	}
	return nil
}

// checkNotLastOwner returns nil if the account has another owner. Faults: Conflict.
func checkNotLastOwner(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.UserID) error {
	n, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM memberships WHERE account_id = $1 AND role = 'owner' AND user_id <> $2`, account, id)
	if err == nil && n == 0 {
		return fault.New(fault.Conflict, "This is the last owner of the account. Make somebody else an owner first.")
	}
	return err
}

// checkNoOwner returns nil if the account has no owner. Faults: Conflict.
func checkNoOwner(ctx context.Context, q database.Reader, account identity.AccountID) error {
	n, err := database.One(ctx, q, database.Scalar[int], `SELECT COUNT(*) FROM memberships WHERE account_id = $1 AND role = 'owner'`, account)
	if err == nil && n > 0 {
		return fault.New(fault.Conflict, "The account has an owner already, who can invite others. If no owner can sign in any more: agento users reset EMAIL")
	}
	return err
}

// checkAccount returns nil if there is such an account. Faults: NotFound.
func (s *Service) checkAccount(ctx context.Context, q database.Reader, account identity.AccountID) error {
	n, err := database.One(ctx, q, database.Scalar[int], `SELECT COUNT(*) FROM accounts WHERE id = $1 AND deleted_at = 0`, account)
	if err == nil && n == 0 {
		return fault.New(fault.NotFound, "There is no account %q.", account)
	}
	return err
}

func accountTopic(id identity.AccountID) event.Topic {
	return event.Topic(access.AccountTopicPrefix + id)
}
