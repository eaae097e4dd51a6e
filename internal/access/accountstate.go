package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// AccountState is what the operator has decided about an account.
type AccountState string

// The states of accounts.
const (
	AccountActive   AccountState = "active"
	AccountDisabled AccountState = "disabled" // its keys are refused, its agents are stopped, and nothing is deleted
	AccountDeleted  AccountState = "deleted"  // the server removes everything that it has
)

// State returns the account's state.
func (a Account) State() AccountState {
	switch {
	case !a.DeletedAt.IsZero():
		return AccountDeleted
	case !a.DisabledAt.IsZero():
		return AccountDisabled
	}
	return AccountActive
}

// Disable disables the actor's account: from now on its keys are refused. Package
// accountstate stops its agents. Disabling it again changes nothing. Faults: NotFound.
func (s *Service) Disable(ctx context.Context, actor identity.Actor) error {
	return s.changeAccount(database.UseReserve(ctx), actor, "access.disable_account", func(ctx context.Context, tx *database.Tx, a Account) (string, map[string]any, error) {
		if !a.DisabledAt.IsZero() {
			return "", nil, nil
		}
		_, err := database.Exec(ctx, tx, `UPDATE accounts SET disabled_at = $1 WHERE id = $2`, database.Millis(now()), a.ID)
		return "account.disabled", nil, err
	})
}

// Enable ends what Disable has begun: the account's keys work again, and package accountstate
// starts the agents that ran then. Faults: NotFound.
func (s *Service) Enable(ctx context.Context, actor identity.Actor) error {
	return s.changeAccount(ctx, actor, "access.enable_account", func(ctx context.Context, tx *database.Tx, a Account) (string, map[string]any, error) {
		if a.DisabledAt.IsZero() {
			return "", nil, nil
		}
		_, err := database.Exec(ctx, tx, `UPDATE accounts SET disabled_at = 0 WHERE id = $1`, a.ID)
		return "account.enabled", nil, err
	})
}

// DeleteAccount deletes the actor's account: from now on its keys are refused, nothing finds
// it, and its name is free. Package accountstate removes what it has. name must be the
// account's. Faults: Invalid, if name is not; NotFound.
func (s *Service) DeleteAccount(ctx context.Context, actor identity.Actor, name string) error {
	return s.changeAccount(database.UseReserve(ctx), actor, "access.delete_account", func(ctx context.Context, tx *database.Tx, a Account) (string, map[string]any, error) {
		if name != a.Name {
			return "", nil, fault.Fields{"name": fmt.Sprintf("must be the account's name, which is %q, to confirm that everything of it is to be deleted", a.Name)}.Err()
		}
		_, err := database.Exec(ctx, tx, `UPDATE accounts SET deleted_at = $1, name = id WHERE id = $2`, database.Millis(now()), a.ID)
		return "account.deleted", map[string]any{"name": a.Name}, err
	})
}

// CheckActive returns nil if an account is neither disabled nor deleted. A request that was
// authenticated before calls it in the transaction in which it makes an agent run.
// Faults: Unauthorized.
func (s *Service) CheckActive(ctx context.Context, q database.Reader, account identity.AccountID) error {
	active, err := s.IsActive(ctx, q, account)
	if err == nil && !active {
		err = fault.New(fault.Unauthorized, "The account is disabled or deleted. Ask the operator, who can run: agento accounts enable %s", account)
	}
	return err
}

// IsActive reports whether an account exists and is neither disabled nor deleted.
func (s *Service) IsActive(ctx context.Context, q database.Reader, account identity.AccountID) (bool, error) {
	active, err := database.One(ctx, q, database.Scalar[bool], `SELECT disabled_at = 0 AND deleted_at = 0 FROM accounts WHERE id = $1`, account)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("read the state of account %s: %w", account, err)
	}
	return active, nil
}

// ClosedAccounts lists the accounts that are disabled, and those that are deleted and of which
// something is left.
func (s *Service) ClosedAccounts(ctx context.Context) ([]Account, error) {
	all, err := database.AllReadable(ctx, s.db, scanAccount, damagedAccount,
		`SELECT `+accountColumns+` FROM accounts WHERE (disabled_at <> 0 OR deleted_at <> 0) AND removed_at = 0 ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list the accounts that are disabled or deleted: %w", err)
	}
	return all, nil
}

// AccountsNamed returns those of the accounts that exist, also deleted ones of which something is
// left.
func (s *Service) AccountsNamed(ctx context.Context, ids []identity.AccountID) ([]Account, error) {
	var all []Account
	for _, id := range ids {
		a, err := database.OneReadable(ctx, s.db, scanAccount, damagedAccount,
			`SELECT `+accountColumns+` FROM accounts WHERE id = $1 AND removed_at = 0`, id)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read account %s: %w", id, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// MarkRemoved stores that nothing of a deleted account is left but its row. That refuses what
// a request that began before would still add. The event is the installation's, because those
// of the account are gone.
func (s *Service) MarkRemoved(ctx context.Context, account identity.AccountID) error {
	return s.db.Tx(database.UseReserve(ctx), "access.mark_removed", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `UPDATE accounts SET removed_at = $1 WHERE id = $2 AND deleted_at <> 0 AND removed_at = 0`, database.Millis(now()), account)
		if err != nil || n == 0 {
			return err
		}
		return s.appendEvent(ctx, tx, identity.BySystem(""), "installation/accounts", "account.removed", map[string]any{"accountId": account})
	})
}
