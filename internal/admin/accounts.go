package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

func (s *server) listAccounts(r *http.Request) (any, error) {
	sources, err := s.Accounts.PlanSources(r.Context())
	if err != nil {
		return nil, err
	}
	all, err := s.Accounts.Accounts(r.Context())
	accounts := make([]Account, len(all))
	for i, a := range all {
		accounts[i] = accountOf(a, sources)
	}
	return accounts, err
}

func (s *server) createAccount(r *http.Request) (any, error) {
	var in Account
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	a, err := s.Accounts.CreateAccount(r.Context(), identity.ByOperator(""), in.Name, in.Plan)
	if err != nil {
		return nil, err
	}
	sources, err := s.Accounts.PlanSources(r.Context())
	return accountOf(a, sources), err
}

func accountOf(a access.Account, sources map[string]access.PlanSource) Account {
	return Account{
		ID: string(a.ID), Name: a.Name, Plan: a.PlanID, PlanSource: string(sources[a.PlanID]), State: string(a.State()),
		CreatedAt: a.CreatedAt, DisabledAt: a.DisabledAt,
	}
}

// account finds the account that a request names.
func (s *server) account(r *http.Request) (access.Account, error) {
	return s.Accounts.Account(r.Context(), r.URL.Query().Get("account"))
}

func (s *server) showAccount(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	return s.details(r, a)
}

func (s *server) details(r *http.Request, a access.Account) (d AccountDetails, err error) {
	plans, err := s.Accounts.Plans(r.Context())
	if err != nil {
		return d, err
	}
	for _, p := range plans {
		if p.ID == a.PlanID {
			d = AccountDetails{Account: accountOf(a, map[string]access.PlanSource{p.ID: p.Source}), Limits: Limits(p.Limits), Features: p.Features}
		}
	}
	if d.Agents, d.Running, err = s.AgentUsage(r.Context(), a.ID); err != nil {
		return d, err
	}
	if d.StorageBytes, err = s.Accounts.StoredBytes(r.Context(), a.ID); err != nil {
		return d, err
	}
	d.Keys, err = s.Accounts.CountKeys(r.Context(), a.ID)
	return d, err
}

func (s *server) changeAccount(r *http.Request) (any, error) {
	var in AccountChange
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	actor := identity.ByOperator(a.ID)
	switch in {
	case AccountChange{}:
		err = fault.New(fault.Invalid, "The new name or plan of the account must not be empty.")
	case AccountChange{Name: in.Name}:
		err = s.Accounts.Rename(r.Context(), actor, in.Name)
	case AccountChange{Plan: in.Plan}:
		err = s.Accounts.SetPlan(r.Context(), actor, in.Plan)
	case AccountChange{State: string(access.AccountDisabled)}:
		err = s.Accounts.Disable(r.Context(), actor)
	case AccountChange{State: string(access.AccountActive)}:
		err = s.Accounts.Enable(r.Context(), actor)
	default:
		err = fault.New(fault.Invalid, "A change of an account is a new name, another plan, or the state active or disabled.")
	}
	if err != nil {
		return nil, err
	}
	if a, err = s.Accounts.Account(r.Context(), string(a.ID)); err != nil {
		return nil, err
	}
	return s.details(r, a)
}

// deleteAccount returns what the account has, which is removed from now on.
func (s *server) deleteAccount(r *http.Request) (any, error) {
	a, err := s.account(r)
	if err != nil {
		return nil, err
	}
	d, err := s.details(r, a)
	if err != nil {
		return nil, err
	}
	return d, s.Accounts.DeleteAccount(r.Context(), identity.ByOperator(a.ID), r.URL.Query().Get("name"))
}

func (s *server) listPlans(r *http.Request) (any, error) {
	all, err := s.Accounts.Plans(r.Context())
	if err != nil {
		return nil, err
	}
	plans := Plans{All: make([]Plan, len(all))}
	for i, p := range all {
		plans.All[i] = Plan{
			ID: p.ID, Name: p.Name, Source: string(p.Source), Default: p.ID == s.Accounts.DefaultPlan(), Limits: Limits(p.Limits), Features: p.Features, Accounts: p.Accounts,
		}
	}
	plans.Problem, err = s.Accounts.PlanProblem(r.Context())
	return plans, err
}

func (s *server) listKeys(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	all, err := s.Accounts.Keys(r.Context(), account.ID)
	keys := make([]Key, len(all))
	for i, k := range all {
		keys[i] = keyOf(k)
	}
	return keys, err
}

func (s *server) createKey(r *http.Request) (any, error) {
	var in NewKey
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	scopes, err := access.ParseScopes(in.Scopes)
	if err != nil {
		return nil, err
	}
	created, secret, err := s.Accounts.CreateKey(r.Context(), identity.ByOperator(account.ID),
		access.NewKey{Label: in.Label, Scopes: scopes, RateLimit: in.RateLimit, ExpiresAt: in.ExpiresAt})
	k := keyOf(created)
	k.Secret = secret.Reveal()
	return k, err
}

func (s *server) editKey(r *http.Request) (any, error) {
	var in KeyChanges
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	changes := access.KeyChanges{Label: in.Label, RateLimit: in.RateLimit, ExpiresAt: in.ExpiresAt}
	if in.Scopes != nil {
		scopes, err := access.ParseScopes(in.Scopes)
		if err != nil {
			return nil, err
		}
		changes.Scopes = &scopes
	}
	k, err := s.Accounts.EditKey(r.Context(), identity.ByOperator(account.ID), keyID(r), changes)
	return keyOf(k), err
}

func (s *server) rotateKey(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	grace, err := time.ParseDuration(r.URL.Query().Get("grace"))
	if err != nil {
		return nil, err
	}
	rotated, secret, err := s.Accounts.RotateKey(r.Context(), identity.ByOperator(account.ID), keyID(r), grace)
	k := keyOf(rotated)
	k.Secret = secret.Reveal()
	return k, err
}

func (s *server) revokeKey(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	return nil, s.Accounts.RevokeKey(r.Context(), identity.ByOperator(account.ID), keyID(r))
}

// keyID returns the key that a request names.
func keyID(r *http.Request) identity.KeyID { return identity.KeyID(r.URL.Query().Get("key")) }

func keyOf(k access.Key) Key {
	return Key{
		ID: string(k.ID), Label: k.Label, Hint: k.Hint, Scopes: k.Scopes.Names(), RateLimit: k.RateLimit,
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, UsedAt: k.UsedAt, RevokedAt: k.RevokedAt, PreviousUntil: k.PreviousUntil,
	}
}
