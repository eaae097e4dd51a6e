package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// CheckStorage returns nil if an account may store so many bytes more than it has. The
// triggers of the tables with texts and files keep the count.
// Faults: PlanLimit, naming the limit; NotFound.
func (s *Service) CheckStorage(ctx context.Context, q database.Reader, account identity.AccountID, more int64) error {
	got, err := database.OneReadable(ctx, q, scanStored, damagedStored,
		`SELECT a.id, a.plan_id, coalesce(s.bytes, 0) FROM accounts a LEFT JOIN account_storage s ON s.account_id = a.id WHERE a.id = $1 AND a.deleted_at = 0`, account)
	if errors.Is(err, sql.ErrNoRows) {
		return accountNotFound(string(account))
	}
	if err != nil {
		return fmt.Errorf("read the storage of account %s: %w", account, err)
	}
	plan, err := s.plan(ctx, q, got.plan)
	if err != nil {
		return err
	}
	return plan.AllowsStorage(got.bytes, more)
}

// StoredBytes returns how many bytes of texts and files an account has stored.
func (s *Service) StoredBytes(ctx context.Context, account identity.AccountID) (int64, error) {
	got, err := database.OneReadable(ctx, s.db, scanStored, damagedStored, `SELECT account_id, '', bytes FROM account_storage WHERE account_id = $1`, account)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the storage of account %s: %w", account, err)
	}
	return got.bytes, nil
}

// StoredBytesOfAll returns StoredBytes of every account that has stored something. It is for the
// operator.
func (s *Service) StoredBytesOfAll(ctx context.Context) (map[identity.AccountID]int64, error) {
	all, err := database.AllReadable(ctx, s.db, scanStored, damagedStored, `SELECT account_id, '', bytes FROM account_storage`)
	if err != nil {
		return nil, fmt.Errorf("read the storage of the accounts: %w", err)
	}
	bytes := make(map[identity.AccountID]int64, len(all))
	for _, v := range all {
		bytes[v.account] = v.bytes
	}
	return bytes, nil
}

// stored is what an account has stored.
type stored struct {
	account identity.AccountID
	plan    string
	bytes   int64
}

func scanStored(r database.Row) (v stored, err error) {
	return v, r.Scan(&v.account, &v.plan, &v.bytes)
}

// damagedStored keeps a count that cannot be decoded, as none: the account is not to blame.
func damagedStored(v *stored, _ error) (row string, keep bool) {
	return "storage of account " + string(v.account), true
}
