package access

import (
	"context"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Damaged rows keep the server neither from starting nor from listing the others. A
// damaged key is refused, and can be revoked.
func TestDamagedAccountsAndKeys(t *testing.T) {
	s := newTestService(t)
	a, b := newAccount(t, s, "a"), newAccount(t, s, "b")
	k, secret := newKey(t, s, a.ID, Chat)
	_, otherSecret := newKey(t, s, a.ID, Chat)
	err := s.db.Tx(t.Context(), "access.test", func(ctx context.Context, tx *database.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE accounts SET created_at = '{' WHERE id = $1`, b.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE keys SET revoked_at = '{' WHERE id = $1`, k.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if problem, err := s.PlanProblem(t.Context()); err != nil || problem != "" {
		t.Error(problem, err)
	}
	if all, err := s.Accounts(t.Context()); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	if found, err := s.Account(t.Context(), "b"); err != nil || found.ID != b.ID {
		t.Error(found, err)
	}
	if all, err := s.Keys(t.Context(), a.ID); err != nil || len(all) != 2 {
		t.Error(all, err)
	}
	_, err = s.Authenticate(t.Context(), secret, clientAddr())
	wantFault(t, err, fault.Unauthorized)
	if _, err := s.Authenticate(t.Context(), otherSecret, clientAddr()); err != nil {
		t.Error(err)
	}
	if err := s.RevokeKey(t.Context(), operatorOf(a.ID), k.ID); err != nil {
		t.Error(err)
	}
	if n, err := database.One(t.Context(), s.db, database.Scalar[int], `SELECT count(*) FROM keys WHERE typeof(revoked_at) = 'integer' AND revoked_at > 0`); err != nil || n != 1 {
		t.Error(n, err)
	}
}
