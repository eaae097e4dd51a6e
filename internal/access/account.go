package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const accountPrefix = "acct_"

// Account is a tenant. Every other record belongs to one account.
type Account struct {
	ID        identity.AccountID
	Name      string
	PlanID    string
	CreatedAt time.Time
}

// CreateAccount stores a new account. If planID is empty, the account gets the default
// plan. The event is recorded in the new account, whatever account the actor has.
// Faults: Invalid; Conflict, if an account has that name.
func (s *Service) CreateAccount(ctx context.Context, actor identity.Actor, name, planID string) (Account, error) {
	a := Account{ID: identity.AccountID(newID(accountPrefix)), Name: strings.TrimSpace(name), PlanID: planID, CreatedAt: now()}
	if a.PlanID == "" {
		a.PlanID = s.plans.Default().ID
	}
	if err := s.checkAccount(a); err != nil {
		return Account{}, err
	}
	actor.AccountID = a.ID
	err := s.db.Tx(ctx, "access.create_account", func(ctx context.Context, tx *database.Tx) error {
		if err := insertAccount(ctx, tx, a); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, event.Topic("account/"+a.ID), "account.created", map[string]any{"name": a.Name, "planId": a.PlanID})
	})
	if err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	return a, nil
}

// Accounts lists every account, newest first. It is for the operator: no caller of
// the API may see the list.
func (s *Service) Accounts(ctx context.Context) ([]Account, error) {
	all, err := database.AllReadable(ctx, s.db, scanAccount, damagedAccount,
		`SELECT `+accountColumns+` FROM accounts ORDER BY created_at DESC, id DESC`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

// Account finds an account by its id or its name.
// Faults: NotFound.
func (s *Service) Account(ctx context.Context, idOrName string) (Account, error) {
	a, err := database.OneReadable(ctx, s.db, scanAccount, damagedAccount,
		`SELECT `+accountColumns+` FROM accounts WHERE id = $1 OR name = $1`, idOrName)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, accountNotFound(idOrName)
	}
	if err != nil {
		return Account{}, fmt.Errorf("find account: %w", err)
	}
	return a, nil
}

// PlanOf returns the plan of an account, read through q. Read it in the transaction
// that adds something, so that its limits also hold for concurrent changes.
// Faults: NotFound.
func (s *Service) PlanOf(ctx context.Context, q database.Reader, account identity.AccountID) (Plan, error) {
	id, err := database.One(ctx, q, database.Scalar[string], `SELECT plan_id FROM accounts WHERE id = $1`, account)
	if errors.Is(err, sql.ErrNoRows) {
		return Plan{}, accountNotFound(string(account))
	}
	if err != nil {
		return Plan{}, fmt.Errorf("find plan of account %s: %w", account, err)
	}
	return s.plans.Get(id)
}

// CheckPlans returns an error that names every account whose plan is missing from the
// plans file. Call it before the server accepts requests.
func (s *Service) CheckPlans(ctx context.Context) error {
	accounts, err := s.Accounts(ctx)
	if err != nil {
		return err
	}
	var missing []error
	for _, a := range accounts {
		if _, err := s.plans.Get(a.PlanID); err != nil {
			missing = append(missing, fmt.Errorf("account %s (%s): %w", a.ID, a.Name, err))
		}
	}
	return errors.Join(missing...)
}

func (s *Service) checkAccount(a Account) error {
	wrong := fault.Fields{}
	switch {
	case a.Name == "":
		wrong.Add("name", "must not be empty")
	case fault.IsBlank(a.Name):
		wrong.Add("name", "must not consist of blanks")
	case strings.HasPrefix(a.Name, accountPrefix):
		// Account finds by id or name: a name must not look like another account's id.
		wrong.Add("name", "must not begin with %s", accountPrefix)
	default:
		checkText(wrong, "name", a.Name)
	}
	if _, err := s.plans.Get(a.PlanID); err != nil {
		wrong.Add("planId", "must be one of %s", strings.Join(s.plans.ids(), ", "))
	}
	return wrong.Err()
}

func accountNotFound(idOrName string) error {
	return fault.New(fault.NotFound, "There is no account %q.", idOrName)
}

const accountColumns = `id, name, plan_id, created_at`

func scanAccount(r database.Row) (Account, error) {
	var a Account
	var created int64
	err := r.Scan(&a.ID, &a.Name, &a.PlanID, &created)
	a.CreatedAt = database.Time(created)
	return a, err
}

// damagedAccount keeps an account whose time cannot be decoded: nothing depends on it.
func damagedAccount(a *Account, _ error) (row string, keep bool) {
	return "account " + string(a.ID), true
}

func insertAccount(ctx context.Context, tx *database.Tx, a Account) error {
	n, err := database.Exec(ctx, tx,
		`INSERT INTO accounts (`+accountColumns+`) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`,
		a.ID, a.Name, a.PlanID, database.Millis(a.CreatedAt))
	if err == nil && n == 0 {
		return fault.New(fault.Conflict, "There is an account named %q already. Choose another name.", a.Name)
	}
	return err
}
