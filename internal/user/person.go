package user

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// personColumns are those of personRow; u are the users.
const personColumns = `u.id, u.email, u.name, u.operator, u.password <> '', u.totp_at, u.created_at, u.signed_in_at`

// personRow is a row of the users while it is read.
type personRow struct {
	p                     Person
	totp, created, signed int64
}

func (r *personRow) columns() []any {
	return []any{&r.p.ID, &r.p.Email, &r.p.Name, &r.p.Operator, &r.p.Password, &r.totp, &r.created, &r.signed}
}

func (r *personRow) person() Person {
	p := r.p
	p.TOTP, p.CreatedAt, p.SignedInAt = r.totp != 0, database.Time(r.created), database.Time(r.signed)
	return p
}

func scanPerson(r database.Row) (Person, error) {
	var row personRow
	err := r.Scan(row.columns()...)
	return row.person(), err
}

// damagedPerson keeps a person some of whose columns cannot be decoded: it can be removed.
func damagedPerson(p *Person, _ error) (row string, keep bool) { return "user " + string(p.ID), true }

// find returns the person whose id or e-mail address is given. Faults: NotFound.
func find(ctx context.Context, q database.Reader, idOrEmail string) (Person, error) {
	p, err := database.OneReadable(ctx, q, scanPerson, damagedPerson, `SELECT `+personColumns+` FROM users u WHERE u.id = $1 OR u.email = lower($1)`, idOrEmail)
	if errors.Is(err, sql.ErrNoRows) {
		return Person{}, fault.New(fault.NotFound, "There is no user %q.", idOrEmail)
	}
	if err != nil {
		return Person{}, fmt.Errorf("find user: %w", err)
	}
	return p, nil
}

// Person returns the person with an id or e-mail address. It is for the operator: a caller of
// the API sees only Member. Faults: NotFound.
func (s *Service) Person(ctx context.Context, idOrEmail string) (Person, error) {
	return find(ctx, s.db, idOrEmail)
}

// People lists everybody, by e-mail address. It is for the operator.
func (s *Service) People(ctx context.Context) ([]Person, error) {
	all, err := database.AllReadable(ctx, s.db, scanPerson, damagedPerson, `SELECT `+personColumns+` FROM users u ORDER BY u.email`)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return all, nil
}

// IsEmpty reports whether nobody can sign in.
func (s *Service) IsEmpty(ctx context.Context) (bool, error) {
	n, err := database.One(ctx, s.db, database.Scalar[int], `SELECT COUNT(*) FROM (SELECT 1 FROM users LIMIT 1)`)
	if err != nil {
		return false, fmt.Errorf("count users: %w", err)
	}
	return n == 0, nil
}

// Membership is an account that a person is in.
type Membership struct {
	AccountID identity.AccountID
	Account   string // its name
	Role      access.Role
	Disabled  bool
}

// Memberships lists the accounts that a person is in, by name.
func (s *Service) Memberships(ctx context.Context, id identity.UserID) ([]Membership, error) {
	all, err := database.All(ctx, s.db, func(r database.Row) (m Membership, err error) {
		return m, r.Scan(&m.AccountID, &m.Account, &m.Role, &m.Disabled)
	}, `SELECT a.id, a.name, m.role, a.disabled_at <> 0 FROM memberships m JOIN accounts a ON a.id = m.account_id WHERE m.user_id = $1 AND a.deleted_at = 0 ORDER BY a.name`, id)
	if err != nil {
		return nil, fmt.Errorf("list the accounts of %s: %w", id, err)
	}
	return all, nil
}

// AllMemberships returns the accounts of everybody, by name. It is for the operator.
func (s *Service) AllMemberships(ctx context.Context) (map[identity.UserID][]Membership, error) {
	type row struct {
		user identity.UserID
		Membership
	}
	rows, err := database.All(ctx, s.db, func(r database.Row) (x row, err error) {
		return x, r.Scan(&x.user, &x.AccountID, &x.Account, &x.Role, &x.Disabled)
	}, `SELECT m.user_id, a.id, a.name, m.role, a.disabled_at <> 0 FROM memberships m JOIN accounts a ON a.id = m.account_id WHERE a.deleted_at = 0 ORDER BY a.name`)
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", err)
	}
	all := map[identity.UserID][]Membership{}
	for _, x := range rows {
		all[x.user] = append(all[x.user], x.Membership)
	}
	return all, nil
}

// Names returns what to call people: those of the ids that exist.
func (s *Service) Names(ctx context.Context, ids []identity.UserID) (map[identity.UserID]string, error) {
	names := make(map[identity.UserID]string, len(ids))
	for _, id := range ids {
		if _, ok := names[id]; ok {
			continue
		}
		p, err := find(ctx, s.db, string(id))
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names[id] = p.Label()
	}
	return names, nil
}

// insertPerson stores a new person. Faults: Conflict, if somebody has the e-mail address.
func insertPerson(ctx context.Context, tx *database.Tx, p Person, hash string) error {
	n, err := database.Exec(ctx, tx, `INSERT INTO users (id, email, name, password, operator, created_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (email) DO NOTHING`,
		p.ID, p.Email, p.Name, hash, p.Operator, database.Millis(p.CreatedAt))
	if err != nil {
		return fmt.Errorf("store user: %w", err)
	}
	if n == 0 {
		return fault.New(fault.Conflict, "There is a user %s already.", p.Email)
	}
	return nil
}
