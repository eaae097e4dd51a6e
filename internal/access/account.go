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
	ID         identity.AccountID
	Name       string
	PlanID     string
	CreatedAt  time.Time
	DisabledAt time.Time // zero: it is not disabled
	DeletedAt  time.Time // zero: it is not deleted; otherwise the server removes what it has
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
		if plan, ok := s.plans.Get(a.PlanID); ok {
			if err := storePlan(ctx, tx, plan); err != nil {
				return err
			}
		}
		return s.appendEvent(ctx, tx, actor, accountTopic(a.ID), "account.created", map[string]any{"name": a.Name, "planId": a.PlanID})
	})
	if err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	return a, nil
}

// Accounts lists every account, newest first, also those of which something is still to be
// removed. It is for the operator: no caller of the API may see the list.
func (s *Service) Accounts(ctx context.Context) ([]Account, error) {
	all, err := database.AllReadable(ctx, s.db, scanAccount, damagedAccount,
		`SELECT `+accountColumns+` FROM accounts WHERE removed_at = 0 ORDER BY created_at DESC, id DESC`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

// Account finds an account by its id or its name.
// Faults: NotFound, also if it was deleted.
func (s *Service) Account(ctx context.Context, idOrName string) (Account, error) {
	return findAccount(ctx, s.db, idOrName)
}

// Rename gives the actor's account another name.
// Faults: Invalid; Conflict, if an account has that name; NotFound.
func (s *Service) Rename(ctx context.Context, actor identity.Actor, name string) error {
	name = strings.TrimSpace(name)
	wrong := fault.Fields{}
	checkAccountName(wrong, name)
	if err := wrong.Err(); err != nil {
		return err
	}
	return s.changeAccount(ctx, actor, "access.rename_account", func(ctx context.Context, tx *database.Tx, a Account) (string, map[string]any, error) {
		if a.Name == name {
			return "", nil, nil
		}
		n, err := database.Exec(ctx, tx, `UPDATE accounts SET name = $1 WHERE id = $2 AND NOT EXISTS (SELECT 1 FROM accounts WHERE name = $1)`, name, a.ID)
		if err == nil && n == 0 {
			err = nameTaken(name)
		}
		return "account.renamed", map[string]any{"name": name, "formerName": a.Name}, err
	})
}

func (s *Service) checkAccount(a Account) error {
	wrong := fault.Fields{}
	checkAccountName(wrong, a.Name)
	if _, ok := s.plans.Get(a.PlanID); !ok {
		wrong.Add("planId", "must be one of %s", strings.Join(s.plans.ids(), ", "))
	}
	return wrong.Err()
}

func checkAccountName(wrong fault.Fields, name string) {
	switch {
	case name == "":
		wrong.Add("name", "must not be empty")
	case fault.IsBlank(name):
		wrong.Add("name", "must not consist of blanks")
	case strings.HasPrefix(name, accountPrefix):
		// Account finds by id or name: a name must not look like another account's id.
		wrong.Add("name", "must not begin with %s", accountPrefix)
	default:
		checkText(wrong, "name", name)
	}
}
func accountNotFound(idOrName string) error {
	return fault.New(fault.NotFound, "There is no account %q.", idOrName)
}

const accountColumns = `id, name, plan_id, created_at, disabled_at, deleted_at`

func scanAccount(r database.Row) (Account, error) {
	var a Account
	var created, disabled, deleted int64
	err := r.Scan(&a.ID, &a.Name, &a.PlanID, &created, &disabled, &deleted)
	a.CreatedAt, a.DisabledAt, a.DeletedAt = database.Time(created), database.Time(disabled), database.Time(deleted)
	return a, err
}

// findAccount finds an account by its id or its name. Faults: NotFound.
func findAccount(ctx context.Context, q database.Reader, idOrName string) (Account, error) {
	a, err := database.OneReadable(ctx, q, scanAccount, damagedAccount,
		`SELECT `+accountColumns+` FROM accounts WHERE (id = $1 OR name = $1) AND deleted_at = 0`, idOrName)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, accountNotFound(idOrName)
	}
	if err != nil {
		return Account{}, fmt.Errorf("find account: %w", err)
	}
	return a, nil
}

// damagedAccount keeps an account whose times cannot be decoded: whoever uses its keys reads
// them again.
func damagedAccount(a *Account, _ error) (row string, keep bool) {
	return "account " + string(a.ID), true
}

func insertAccount(ctx context.Context, tx *database.Tx, a Account) error {
	n, err := database.Exec(ctx, tx,
		`INSERT INTO accounts (id, name, plan_id, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`,
		a.ID, a.Name, a.PlanID, database.Millis(a.CreatedAt))
	if err == nil && n == 0 {
		return nameTaken(a.Name)
	}
	return err
}

func nameTaken(name string) error {
	return fault.New(fault.Conflict, "There is an account named %q already. Choose another name.", name)
}

// changeAccount calls change with the actor's account in a transaction, and appends the event
// that it returns; no kind means that nothing was changed. Faults: NotFound.
func (s *Service) changeAccount(ctx context.Context, actor identity.Actor, kind string, change func(context.Context, *database.Tx, Account) (event string, data map[string]any, err error)) error {
	return s.db.Tx(ctx, kind, func(ctx context.Context, tx *database.Tx) error {
		a, err := findAccount(ctx, tx, string(actor.AccountID))
		if err != nil {
			return err
		}
		happened, data, err := change(ctx, tx, a)
		if err != nil || happened == "" {
			return err
		}
		return s.appendEvent(ctx, tx, actor, accountTopic(a.ID), happened, data)
	})
}

// AccountTopicPrefix begins the topics of accounts. An account's id follows.
const AccountTopicPrefix = "account/"

func accountTopic(id identity.AccountID) event.Topic { return event.Topic(AccountTopicPrefix + id) }
