package access

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// withPlans returns a service on the same database whose plans file has that text; empty: it
// has none. It has started as a server does.
func withPlans(t testing.TB, s *Service, text string) *Service {
	t.Helper()
	plans := SelfHosted()
	if text != "" {
		var err error
		if plans, err = load(t, text); err != nil {
			t.Fatal(err)
		}
	}
	next := New(Settings{DB: s.db, Events: s.events, Plans: plans})
	if err := next.StorePlans(t.Context()); err != nil {
		t.Fatal(err)
	}
	return next
}

func wantPlan(t testing.TB, s *Service, a Account, id string, limits Limits) Plan {
	t.Helper()
	p, err := s.PlanOf(t.Context(), s.db, a.ID)
	if err != nil || p.ID != id || p.Limits != limits {
		t.Fatalf("%+v %v", p, err)
	}
	return p
}

// An account keeps the limits of its plan when the plans file is introduced, changed and
// dropped.
func TestAccountKeepsItsPlanWhateverThePlansFile(t *testing.T) {
	s := withPlans(t, newTestService(t), "")
	early := newAccount(t, s, "early")
	s = withPlans(t, s, twoPlans)
	wantPlan(t, s, early, selfHostedID, builtIn().Limits)
	pro, err := s.CreateAccount(t.Context(), operator, "pro", "plan_pro")
	if err != nil {
		t.Fatal(err)
	}
	if problem, err := s.PlanProblem(t.Context()); problem != "" || err != nil {
		t.Error(problem, err)
	}

	s = withPlans(t, s, strings.Replace(twoPlans, "maxSkillsPerAgent: 20", "maxSkillsPerAgent: 30", 1))
	s = withPlans(t, s, "")
	p := wantPlan(t, s, pro, "plan_pro", Limits{Unlimited, 30, UnlimitedBytes})
	if p.Name != "Pro" || !p.Features[FeatureSwarms] || p.Features[FeatureKnowledge] || len(p.Features) != len(features()) {
		t.Errorf("%+v", p)
	}
	_, secret := newKey(t, s, pro.ID, Chat)
	who, err := s.Authenticate(t.Context(), secret, clientAddr())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Allows(t.Context(), who, FeatureSwarms); err != nil {
		t.Error(err)
	}
	wantFault(t, s.Allows(t.Context(), who, FeatureKnowledge), fault.PlanLimit)
	if err := s.CheckStorage(t.Context(), s.db, pro.ID, DefaultStorageBytes+1); err != nil {
		t.Error(err)
	}
	problem, err := s.PlanProblem(t.Context())
	for _, want := range []string{"plan_pro", `"pro"`, "keep the limits", "agento accounts set-plan"} {
		if err != nil || !strings.Contains(problem, want) {
			t.Errorf("%q %v", problem, err)
		}
	}
	if public, err := s.PublicPlanProblem(t.Context()); err != nil || strings.Contains(public, `"pro"`) || !strings.Contains(public, string(pro.ID)) {
		t.Errorf("%q %v", public, err)
	}
	_, err = s.CreateAccount(t.Context(), operator, "more", "plan_pro")
	wantFault(t, err, fault.Invalid)
}

// A plan that an account got without a server is known when the plans file is gone.
func TestPlanIsStoredWhenAnAccountGetsIt(t *testing.T) {
	s := newTestService(t)
	plans, err := load(t, twoPlans)
	if err != nil {
		t.Fatal(err)
	}
	command := New(Settings{DB: s.db, Events: s.events, Plans: plans})
	a, err := command.CreateAccount(t.Context(), operator, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	wantPlan(t, s, a, "plan_free", Limits{MaxAgents: 1, StorageBytes: DefaultStorageBytes})
	if err := command.SetPlan(t.Context(), operatorOf(a.ID), "plan_pro"); err != nil {
		t.Fatal(err)
	}
	wantPlan(t, s, a, "plan_pro", Limits{Unlimited, 20, UnlimitedBytes})
}

func TestSetPlanNamesTheOnesThereAre(t *testing.T) {
	s := withPlans(t, newTestService(t), twoPlans)
	a := newAccount(t, s, "a")
	if f := wantFault(t, s.SetPlan(t.Context(), operatorOf(a.ID), "plan_none"), fault.Invalid); !strings.Contains(f.Details["planId"], "plan_free, plan_pro, plan_self_hosted") {
		t.Error(f.Details)
	}
	wantFault(t, s.SetPlan(t.Context(), operatorOf("acct_none"), "plan_pro"), fault.NotFound)
	for range 2 {
		if err := s.SetPlan(t.Context(), operatorOf(a.ID), selfHostedID); err != nil {
			t.Fatal(err)
		}
	}
	if got := eventKinds(t, s, a.ID); len(got) != 2 || got[0] != "account.plan_changed" {
		t.Error(got)
	}
}

// Of a plan that was never stored, or cannot be read, accounts keep what they have and can add
// nothing.
func TestForgottenPlanAllowsNothingNew(t *testing.T) {
	s := withPlans(t, newTestService(t), twoPlans)
	a, err := s.CreateAccount(t.Context(), operator, "a", "plan_pro")
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{`UPDATE plans SET plan = '{'`, `DELETE FROM plans`} {
		err := s.db.Tx(t.Context(), "access.test", func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, damage)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s := New(Settings{DB: s.db, Events: s.events})
		p := wantPlan(t, s, a, "plan_pro", Limits{StorageBytes: DefaultStorageBytes})
		wantFault(t, p.AllowsAgent(0), fault.PlanLimit)
		wantFault(t, p.Allows(FeatureKnowledge), fault.PlanLimit)
		if err := p.Allows(FeatureAPIAccess); err != nil {
			t.Error(err)
		}
	}
	problem, err := New(Settings{DB: s.db, Events: s.events}).PlanProblem(t.Context())
	if err != nil || !strings.Contains(problem, "can add nothing") {
		t.Errorf("%q %v", problem, err)
	}
}

func TestPlansListsWhereTheyAreKnownFrom(t *testing.T) {
	s := withPlans(t, newTestService(t), twoPlans)
	for name, plan := range map[string]string{"a": "plan_free", "b": "plan_pro", "c": "plan_pro"} {
		if _, err := s.CreateAccount(t.Context(), operator, name, plan); err != nil {
			t.Fatal(err)
		}
	}
	list := func(s *Service) (text string) {
		all, err := s.Plans(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			text += p.ID + " " + string(p.Source) + " " + string(rune('0'+p.Accounts)) + ";"
		}
		return text
	}
	if got := list(s); got != "plan_free plans file 1;plan_pro plans file 2;plan_self_hosted built in 0;" {
		t.Error(got)
	}
	only, _, _ := strings.Cut(twoPlans, "  - id: plan_pro")
	if got := list(withPlans(t, s, only)); got != "plan_free plans file 1;plan_self_hosted built in 0;plan_pro removed 2;" {
		t.Error(got)
	}
	own := strings.Replace(only, "plan_free", selfHostedID, 1)
	if got := list(withPlans(t, s, own)); got != "plan_self_hosted plans file 0;plan_free removed 1;plan_pro removed 2;" {
		t.Error(got)
	}
}
