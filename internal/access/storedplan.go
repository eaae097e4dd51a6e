package access

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// PlanSource says where a plan is known from.
type PlanSource string

// The sources of plans.
const (
	PlanOfFile    PlanSource = "plans file"
	PlanBuiltIn   PlanSource = "built in"
	PlanRemoved   PlanSource = "removed"   // it was in a plans file before, and its accounts keep its limits
	PlanForgotten PlanSource = "forgotten" // nothing is known of it: its accounts can add nothing
)

// KnownPlan is a plan with its source, and how many accounts have it.
type KnownPlan struct {
	Plan
	Source   PlanSource
	Accounts int
}

// Missing reports whether the plan is in no plans file any more.
func (p KnownPlan) Missing() bool { return p.Source == PlanRemoved || p.Source == PlanForgotten }

// planRecord is the JSON form of a plan in the database.
type planRecord struct {
	Name     string          `json:"name"`
	Limits   limitsRecord    `json:"limits"`
	Features map[string]bool `json:"features"`
}

type limitsRecord struct {
	MaxAgents         int   `json:"maxAgents"`
	MaxSkillsPerAgent int   `json:"maxSkillsPerAgent"`
	StorageBytes      int64 `json:"storageBytes"`
}

// StorePlans stores the plans of the plans file, so that they are known when they are
// removed from it. Call it before the server accepts requests.
func (s *Service) StorePlans(ctx context.Context) error {
	err := s.db.Tx(ctx, "access.store_plans", func(ctx context.Context, tx *database.Tx) error {
		for _, p := range s.plans.List() {
			if err := storePlan(ctx, tx, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the plans: %w", err)
	}
	return nil
}

// PlanOf returns the plan of an account, read through q. Read it in the transaction
// that adds something, so that its limits also hold for concurrent changes.
// Faults: NotFound.
func (s *Service) PlanOf(ctx context.Context, q database.Reader, account identity.AccountID) (Plan, error) {
	id, err := database.One(ctx, q, database.Scalar[string], `SELECT plan_id FROM accounts WHERE id = $1 AND deleted_at = 0`, account)
	if errors.Is(err, sql.ErrNoRows) {
		return Plan{}, accountNotFound(string(account))
	}
	if err != nil {
		return Plan{}, fmt.Errorf("find plan of account %s: %w", account, err)
	}
	return s.plan(ctx, q, id)
}

func (s *Service) plan(ctx context.Context, q database.Reader, id string) (Plan, error) {
	p, _, err := s.findPlan(ctx, q, id)
	return p, err
}

// findPlan returns a plan as it is in the plans file, or built in, or else as it was last
// known.
func (s *Service) findPlan(ctx context.Context, q database.Reader, id string) (Plan, PlanSource, error) {
	if p, ok := s.plans.inFile(id); ok && s.plans.fromFile {
		return p, PlanOfFile, nil
	}
	if p, ok := s.plans.Get(id); ok {
		return p, PlanBuiltIn, nil
	}
	p, err := database.OneReadable(ctx, q, scanPlan, damagedPlan, `SELECT id, plan FROM plans WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return forgottenPlan(id), PlanForgotten, nil
	}
	if err != nil {
		return Plan{}, "", fmt.Errorf("find plan %s: %w", id, err)
	}
	return p, PlanRemoved, nil
}

// forgottenPlan returns what an account may use of whose plan nothing is known: what it has,
// and nothing more.
func forgottenPlan(id string) Plan {
	p := Plan{ID: id, Name: id, Status: planStatus, Limits: Limits{StorageBytes: DefaultStorageBytes}, Features: map[string]bool{}}
	for _, f := range features() {
		p.Features[f] = f == FeatureAPIAccess
	}
	return p
}

// Plans lists the plans of the plans file, the built-in one, and those that accounts have
// although they are in no file any more.
func (s *Service) Plans(ctx context.Context) ([]KnownPlan, error) {
	counts, err := s.countByPlan(ctx)
	if err != nil {
		return nil, err
	}
	ids := s.plans.ids()
	for _, c := range counts {
		if !slices.Contains(ids, c.plan) {
			ids = append(ids, c.plan)
		}
	}
	all := make([]KnownPlan, len(ids))
	for i, id := range ids {
		p, source, err := s.findPlan(ctx, s.db, id)
		if err != nil {
			return nil, err
		}
		all[i] = KnownPlan{Plan: p, Source: source}
		for _, c := range counts {
			if c.plan == id {
				all[i].Accounts = c.accounts
			}
		}
	}
	return all, nil
}

// DefaultPlan returns the id of the plan of an account that is created without one.
func (s *Service) DefaultPlan() string { return s.plans.Default().ID }

// PlanSources returns the source of every plan that an account has.
func (s *Service) PlanSources(ctx context.Context) (map[string]PlanSource, error) {
	all, err := s.Plans(ctx)
	sources := make(map[string]PlanSource, len(all))
	for _, p := range all {
		sources[p.ID] = p.Source
	}
	return sources, err
}

// PlanProblem says to the operator which accounts have a plan that is in no plans file, and
// what to do; empty: none has.
func (s *Service) PlanProblem(ctx context.Context) (string, error) {
	return s.planProblem(ctx, "name")
}

// PublicPlanProblem is PlanProblem for everybody: it has the ids of the accounts, which say
// nothing about them, in place of their names.
func (s *Service) PublicPlanProblem(ctx context.Context) (string, error) {
	return s.planProblem(ctx, "id")
}

// planProblem describes the accounts by a column.
func (s *Service) planProblem(ctx context.Context, column string) (string, error) {
	plans, err := s.Plans(ctx)
	if err != nil {
		return "", err
	}
	var problems []string
	for _, p := range plans {
		if !p.Missing() {
			continue
		}
		names, err := database.All(ctx, s.db, database.Scalar[string],
			`SELECT `+column+` FROM accounts WHERE plan_id = $1 AND deleted_at = 0 ORDER BY created_at, id LIMIT $2`, p.ID, namedAccounts)
		if err != nil {
			return "", fmt.Errorf("list the accounts with the plan %s: %w", p.ID, err)
		}
		problems = append(problems, describeMissing(p, names))
	}
	return strings.Join(problems, " "), nil
}

// namedAccounts is how many accounts PlanProblem names for each plan.
const namedAccounts = 5

func describeMissing(p KnownPlan, names []string) string {
	for i := range names {
		names[i] = fmt.Sprintf("%q", names[i])
	}
	accounts := strings.Join(names, ", ")
	if more := p.Accounts - len(names); more > 0 {
		accounts += fmt.Sprintf(" and %d more", more)
	}
	kept := "They keep the limits that it had."
	if p.Source == PlanForgotten {
		kept = "Its limits are not known, so they can add nothing."
	}
	return fmt.Sprintf("The plan %s is in no plans file, but these accounts have it: %s. %s Add it to the file that --plans names, or give them another plan: agento accounts set-plan ACCOUNT PLAN.", p.ID, accounts, kept)
}

// SetPlan gives the actor's account another plan. What it has beyond the limits of that plan
// stays. Faults: Invalid, naming the plans; NotFound.
func (s *Service) SetPlan(ctx context.Context, actor identity.Actor, planID string) error {
	plan, ok := s.plans.Get(planID)
	if !ok {
		return s.unknownPlan()
	}
	return s.changeAccount(ctx, actor, "access.set_plan", func(ctx context.Context, tx *database.Tx, a Account) (string, map[string]any, error) {
		if a.PlanID == planID {
			return "", nil, nil
		}
		if err := storePlan(ctx, tx, plan); err != nil {
			return "", nil, err
		}
		_, err := database.Exec(ctx, tx, `UPDATE accounts SET plan_id = $1 WHERE id = $2`, planID, a.ID)
		return "account.plan_changed", map[string]any{"planId": planID, "formerPlanId": a.PlanID}, err
	})
}

func (s *Service) unknownPlan() error {
	return fault.Fields{"planId": "must be one of " + strings.Join(s.plans.ids(), ", ")}.Err()
}

// planCount is how many accounts have a plan.
type planCount struct {
	plan     string
	accounts int
}

func (s *Service) countByPlan(ctx context.Context) ([]planCount, error) {
	counts, err := database.All(ctx, s.db, func(r database.Row) (c planCount, err error) { return c, r.Scan(&c.plan, &c.accounts) },
		`SELECT plan_id, count(*) FROM accounts WHERE deleted_at = 0 GROUP BY plan_id ORDER BY plan_id`)
	if err != nil {
		return nil, fmt.Errorf("count the accounts by plan: %w", err)
	}
	return counts, nil
}

// storePlan stores a plan, unless it is stored in this form.
func storePlan(ctx context.Context, tx *database.Tx, p Plan) error {
	text, err := json.Marshal(planRecord{Name: p.Name, Limits: limitsRecord(p.Limits), Features: p.Features})
	if err != nil {
		return err
	}
	_, err = database.Exec(ctx, tx, `INSERT INTO plans (id, plan, stored_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET plan = excluded.plan, stored_at = excluded.stored_at WHERE plans.plan <> excluded.plan`,
		p.ID, string(text), database.Millis(now()))
	return err
}

// scanPlan scans a plan. Limits and features that it was stored without are those of a plans
// file that does not name them.
func scanPlan(r database.Row) (Plan, error) {
	var id, text string
	if err := r.Scan(&id, &text); err != nil {
		return Plan{}, err
	}
	p := forgottenPlan(id)
	record := planRecord{Limits: limitsRecord(p.Limits)}
	if err := json.Unmarshal([]byte(text), &record); err != nil {
		return p, &database.ColumnError{Column: "plan", Err: err}
	}
	p.Name, p.Limits = record.Name, Limits(record.Limits)
	for _, f := range features() {
		p.Features[f] = record.Features[f]
	}
	return p, nil
}

// damagedPlan keeps a plan that cannot be decoded, as one of which nothing is known.
func damagedPlan(p *Plan, _ error) (row string, keep bool) { return "plan " + p.ID, true }
