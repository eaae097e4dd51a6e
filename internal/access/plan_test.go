package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
)

const twoPlans = `
plans:
  - id: plan_free
    name: Free
    limits: &limits {maxAgents: 1, maxSkillsPerAgent: 0}
    features: {api_access: true}
  - id: plan_pro
    name: Pro
    limits:
      maxAgents: unlimited
      maxSkillsPerAgent: 20
      storageBytes: unlimited
    features:
      api_access: true
      swarms: true
`

func load(t testing.TB, text string) (*Plans, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plans.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadPlans(path)
}

func TestLoadPlansReadsTheFile(t *testing.T) {
	plans, err := load(t, twoPlans)
	if err != nil {
		t.Fatal(err)
	}
	if all := plans.List(); len(all) != 3 || all[2].ID != selfHostedID || all[0].ID != "plan_free" || plans.Default().ID != "plan_free" {
		t.Fatalf("%+v", all)
	}
	pro, ok := plans.Get("plan_pro")
	if !ok || pro.Name != "Pro" || pro.Status != "active" || pro.Limits != (Limits{Unlimited, 20, UnlimitedBytes}) {
		t.Fatalf("%+v", pro)
	}
	if on, known := pro.Features[FeatureKnowledge]; on || !known {
		t.Error("a feature that the file does not list is not off")
	}
	if pro.Features[FeatureKnowledge] = true; plans.List()[1].Features[FeatureKnowledge] {
		t.Error("the plans can be changed through a copy")
	}
}

func TestSelfHostedPlanAllowsEverything(t *testing.T) {
	plans, err := LoadPlans("")
	if err != nil {
		t.Fatal(err)
	}
	p := plans.Default()
	for _, f := range features() {
		if err := p.Allows(f); err != nil {
			t.Error(err)
		}
	}
	if p.ID != "plan_self_hosted" || p.Name != "Self-hosted" || p.AllowsAgent(1_000_000) != nil || p.AllowsSkill(1_000_000) != nil {
		t.Errorf("%+v", p)
	}
}

func TestFaultsNameTheMissingFeatureOrLimit(t *testing.T) {
	plans, err := load(t, twoPlans)
	if err != nil {
		t.Fatal(err)
	}
	p := plans.Default()
	if f := wantFault(t, p.Allows(FeatureSwarms), fault.PlanLimit); !strings.Contains(f.Message, "swarms") || f.Details["feature"] != "swarms" {
		t.Error(f)
	}
	if p.AllowsAgent(0) != nil {
		t.Error("the first agent is not allowed")
	}
	if f := wantFault(t, p.AllowsAgent(1), fault.PlanLimit); !strings.Contains(f.Message, "maxAgents is 1") || f.Details["limit"] != "maxAgents" {
		t.Error(f)
	}
	if f := wantFault(t, p.AllowsSkill(0), fault.PlanLimit); f.Details["limit"] != "maxSkillsPerAgent" {
		t.Error(f)
	}
}

func TestPlanOfAnAccount(t *testing.T) {
	s := newTestService(t)
	plans, err := load(t, twoPlans)
	if err != nil {
		t.Fatal(err)
	}
	s.plans = plans
	a, err := s.CreateAccount(t.Context(), operator, "a", "plan_pro")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := s.PlanOf(t.Context(), s.db, a.ID); err != nil || p.ID != "plan_pro" {
		t.Errorf("%+v %v", p, err)
	}
	_, err = s.PlanOf(t.Context(), s.db, "acct_none")
	wantFault(t, err, fault.NotFound)
	_, secret := newKey(t, s, a.ID, Chat)
	who, err := s.Authenticate(t.Context(), secret, clientAddr())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Allows(t.Context(), who, FeatureSwarms); err != nil {
		t.Error(err)
	}
	wantFault(t, s.Allows(t.Context(), who, FeatureKnowledge), fault.PlanLimit)
}

func TestPlanFileErrorsNameLineAndField(t *testing.T) {
	const good = "plans:\n  - id: plan_a\n    name: A\n    limits: {maxAgents: 1, maxSkillsPerAgent: 1}\n    features: {}\n"
	if _, err := load(t, good); err != nil {
		t.Fatal(err)
	}
	change := func(old, now string) string { return strings.Replace(good, old, now, 1) }
	for text, want := range map[string]string{
		"":                                       ":1: the file must be a mapping",
		"# nothing\n":                            ":1: the file must be a mapping",
		"[]":                                     ":1: the file must be a mapping",
		"other: 1":                               `:1: the file has an unknown field "other"`,
		"plans: []":                              ":1: plans must be a list",
		"plans: {}":                              ":1: plans must be a list",
		"plans:\n  - 7":                          ":2: plans[0] must be a mapping",
		good + "plans: []":                       ":6: the file has plans twice",
		good + "---\n" + good:                    "must hold one YAML document",
		"plans: [":                               "line 1",
		change("plan_a", "pro"):                  ":2: plans[0].id must be plan_",
		change("plan_a", "plan_a-b"):             ":2: plans[0].id must be plan_",
		change("name: A", "name:"):               ":3: plans[0].name must be",
		change("name: A", "name: [A]"):           ":3: plans[0].name must be",
		change("    name: A\n", ""):              ":2: plans[0] lacks name",
		change("maxAgents: 1", "maxAgents: -1"):  ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1", "maxAgents: 1.5"): ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1", "maxAgents: ten"): ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1", "maxAgents: 3000000000"):              ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1", "maxAgents: 99999999999999999999"):    ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1", "maxAgents: [1]"):                     ":4: plans[0].limits.maxAgents must be",
		change("maxAgents: 1, ", ""):                                 ":4: plans[0].limits lacks maxAgents",
		change("maxAgents", "maxAgent"):                              ":4: plans[0].limits has an unknown field",
		change("features: {}", "features: {swarm: true}"):            ":5: plans[0].features has an unknown field \"swarm\"; there are api_access, swarms",
		change("features: {}", "features: {swarms: 1}"):              ":5: plans[0].features.swarms must be true or false",
		change("features: {}", "features: yes please"):               ":5: plans[0].features must be a mapping",
		good + strings.TrimPrefix(good, "plans:\n"):                  ":6: plans[1].id plan_a is used by another plan",
		change("plan_a", "plan_"+strings.Repeat("a", 60)):            ":2: plans[0].id must be",
		change("name: A", "name: "+strings.Repeat("é", maxName+1)):   ":3: plans[0].name must be",
		change("maxAgents: 1, maxSkillsPerAgent: 1", "maxAgents: x"): ":4: plans[0].limits lacks maxSkillsPerAgent",
		change("maxAgents: 1", "maxAgents: 1, storageBytes: 1 GB"):   ":4: plans[0].limits.storageBytes must be",
	} {
		_, err := load(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
	if _, err := LoadPlans(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a missing file was read")
	}
}

func FuzzPlans(f *testing.F) {
	f.Add(twoPlans)
	f.Add("plans: &a [*a]")
	f.Add("plans: !!int x")
	f.Add("plans:\n- &a {id: *a, name: !!float x, limits: *a, features: {swarms: !!bool 3}}")
	f.Fuzz(func(t *testing.T, text string) {
		plans, err := parsePlans("plans.yaml", []byte(text))
		if err == nil && (plans.Default().ID == "" || plans.Default().Name == "") {
			t.Errorf("%q was accepted as plans", text)
		}
	})
}
