package user

import (
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// AddOperator makes somebody an operator, who is outside every account, and returns a link with
// which a new person sets a password; a person who has one gets none. An operator can do nothing
// before the second factor is set up.
// Faults: Invalid; Conflict, if the person is an operator and has a password.
func (s *Service) AddOperator(ctx context.Context, actor identity.Actor, email, name string) (p Person, l Link, err error) {
	if email, err = NormalizeEmail(email); err != nil {
		return Person{}, Link{}, err
	}
	name = strings.TrimSpace(name)
	wrong := fault.Fields{}
	checkName(wrong, name)
	if err := wrong.Err(); err != nil {
		return Person{}, Link{}, err
	}
	err = s.db.Tx(ctx, "user.add_operator", func(ctx context.Context, tx *database.Tx) error {
		p, err = find(ctx, tx, email)
		switch {
		case fault.Is(err, fault.NotFound):
			p = Person{ID: identity.UserID(newID(identity.UserPrefix)), Email: email, Name: name, Operator: true, CreatedAt: now()}
			if err := insertPerson(ctx, tx, p, ""); err != nil {
				return err
			}
		case err != nil:
			return err
		case p.Operator && p.Password:
			return fault.New(fault.Conflict, "%s is an operator already. For another password: agento users reset %s", email, email)
		default:
			if _, err := database.Exec(ctx, tx, `UPDATE users SET operator = TRUE WHERE id = $1`, p.ID); err != nil {
				return err
			}
			if _, err := endSessions(ctx, tx, p.ID, ""); err != nil { // those last longer than an operator's
				return err
			}
		}
		p.Operator = true
		if err := s.appendOwn(ctx, tx, actor, p.ID, "operator.added", map[string]any{"email": email}); err != nil || p.Password {
			return err
		}
		l, err = s.resetLink(ctx, tx, actor, p)
		return err
	})
	if err != nil {
		return Person{}, Link{}, fmt.Errorf("add operator: %w", err)
	}
	return p, l, nil
}

// Remove removes a person altogether, with its sessions and memberships.
// Faults: NotFound; Conflict, if the person is the last owner of an account.
func (s *Service) Remove(ctx context.Context, actor identity.Actor, idOrEmail string) (p Person, err error) {
	err = s.db.Tx(database.UseReserve(ctx), "user.remove", func(ctx context.Context, tx *database.Tx) error {
		if p, err = find(ctx, tx, idOrEmail); err != nil {
			return err
		}
		alone, err := database.All(ctx, tx, database.Scalar[string], `SELECT a.name FROM memberships m JOIN accounts a ON a.id = m.account_id
			WHERE m.user_id = $1 AND m.role = $2 AND a.deleted_at = 0 AND NOT EXISTS (SELECT 1 FROM memberships o WHERE o.account_id = m.account_id AND o.role = $2 AND o.user_id <> $1) ORDER BY a.name LIMIT 1`, p.ID, access.Owner)
		if err != nil {
			return err
		}
		if len(alone) > 0 {
			return fault.New(fault.Conflict, "%s is the last owner of the account %s. Invite another owner first, or delete the account.", p.Email, alone[0])
		}
		if err := s.appendOwn(ctx, tx, actor, p.ID, "user.removed", map[string]any{"email": p.Email}); err != nil {
			return err
		}
		if err := vault.ShredUser(ctx, tx, p.ID); err != nil {
			return err
		}
		if _, err := database.Exec(ctx, tx, `DELETE FROM swarm_members WHERE user_id = $1`, p.ID); err != nil {
			return err
		}
		tx.Erase()
		_, err = database.Exec(ctx, tx, `DELETE FROM users WHERE id = $1`, p.ID)
		return err
	})
	if err != nil {
		return Person{}, fmt.Errorf("remove user: %w", err)
	}
	return p, nil
}
