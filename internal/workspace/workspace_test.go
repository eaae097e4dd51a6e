package workspace_test

import (
	"agento.host/agento/internal/identity"

	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/workspace"
)

const (
	account = "acct_1"
	agent   = "agent-1"
	key     = "key_1"
)

func newService(t testing.TB) *workspace.Service {
	t.Helper()
	db := databasetest.New(t)
	s := &workspace.Service{DB: db, Events: event.NewLog(db)}
	initAgent(t, s, account, agent)
	return s
}

func initAgent(t testing.TB, s *workspace.Service, account, agent string) {
	t.Helper()
	inTx(t, s, func(tx *database.Tx) error {
		return s.Init(t.Context(), tx, account, agent, key, "My Assistant", "", "")
	})
}

func inTx(t testing.TB, s *workspace.Service, f func(*database.Tx) error) {
	t.Helper()
	if err := s.DB.Tx(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantFault(t testing.TB, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want a fault %s", err, code)
	}
	return fault.From(err)
}

// kinds lists what the agent's log holds, oldest first, as "kind actor".
func kinds(t testing.TB, s *workspace.Service) []string {
	t.Helper()
	events := must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Topic: event.Topic("agent/" + agent), Limit: 1000}))
	var all []string
	for i := len(events) - 1; i >= 0; i-- {
		all = append(all, events[i].Kind+" "+events[i].Actor.String())
	}
	return all
}

func TestInitWritesUsefulDefaults(t *testing.T) {
	s := newService(t)
	p := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	if !strings.HasPrefix(p.SoulMD, "# SOUL.md\n\nYou are a helpful assistant.") || len(p.SoulHash) != 64 || p.SoulUpdatedAt.IsZero() {
		t.Errorf("%+v", p)
	}
	if p.IdentityMD != "# IDENTITY.md\n\n- **Name:** My Assistant" {
		t.Errorf("%q", p.IdentityMD)
	}
	w := must[workspace.Procedures](t)(s.Procedures(t.Context(), account, agent))
	if w.WorkflowMD != "# Workflow\n\n## Role\n\nDescribe your agent's role here." || w.RuleFiles == nil || len(w.RuleFiles) != 0 {
		t.Errorf("%+v", w)
	}
}

func TestInitNamesEveryBrokenField(t *testing.T) {
	s := newService(t)
	err := s.DB.Tx(t.Context(), func(tx *database.Tx) error {
		return s.Init(t.Context(), tx, account, "agent-2", key, "x", "a\x00b", strings.Repeat("x", workspace.MaxWorkflowBytes+1))
	})
	f := wantFault(t, err, fault.Invalid)
	if len(f.Details) != 2 || f.Details["soulMd"] == "" || f.Details["workflowMd"] == "" {
		t.Errorf("%+v", f)
	}
}

func TestSetSoulKeepsEveryVersion(t *testing.T) {
	s := newService(t)
	first := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	v := must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "be kind", strings.ToUpper(first.SoulHash)))
	if v.Number != 2 || !v.Live || v.Actor != key || v.Content != "be kind" {
		t.Errorf("%+v", v)
	}
	_, err := s.SetSoul(t.Context(), account, agent, key, "be rude", first.SoulHash)
	if f := wantFault(t, err, fault.Conflict); f.Details["currentHash"] != v.Hash {
		t.Errorf("%+v", f)
	}
	again := must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "be kind", ""))
	if again.Number != 2 {
		t.Errorf("the same content made version %d", again.Number)
	}
	old := must[workspace.Version](t)(s.Version(t.Context(), account, agent, workspace.Soul, 1))
	if old.Content != first.SoulMD || old.Live {
		t.Errorf("%+v", old)
	}
	if got := kinds(t, s); len(got) != 1 || got[0] != "agent.personality_updated "+key {
		t.Errorf("%v", got)
	}
}

func TestSoulLimits(t *testing.T) {
	s := newService(t)
	for name, c := range map[string]struct {
		content string
		ok      bool
	}{
		"as long as the model is given": {strings.Repeat("ж", workspace.MaxCharacters), true},
		"one more":                      {strings.Repeat("ж", workspace.MaxCharacters+1), false},
		"an emoji counts twice":         {strings.Repeat("🦀", workspace.MaxCharacters/2) + "x", false},
		"empty":                         {"", false},
		"blank":                         {" \n\t", false},
		"NUL":                           {"a\x00", false},
		"not UTF-8":                     {"a\xff", false},
	} {
		_, err := s.SetSoul(t.Context(), account, agent, key, c.content, "")
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && wantFault(t, err, fault.Invalid).Details["soulMd"] == "" {
			t.Errorf("%s: the field is not named: %v", name, err)
		}
	}
}

func TestWorkflowMayBeEmptyAndHasALimit(t *testing.T) {
	s := newService(t)
	must[workspace.Version](t)(s.SetWorkflow(t.Context(), account, agent, key, strings.Repeat("x", workspace.MaxWorkflowBytes), ""))
	_, err := s.SetWorkflow(t.Context(), account, agent, key, strings.Repeat("x", workspace.MaxWorkflowBytes+1), "")
	wantFault(t, err, fault.Invalid)
	v := must[workspace.Version](t)(s.SetWorkflow(t.Context(), account, agent, key, "", ""))
	if v.Number != 3 {
		t.Errorf("%+v", v)
	}
	_, err = s.SetWorkflow(t.Context(), account, agent, key, "x", "0000")
	wantFault(t, err, fault.Conflict)
}

func TestRestoreMakesANewVersion(t *testing.T) {
	s := newService(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "two", ""))
	v := must[workspace.Version](t)(s.Restore(t.Context(), account, agent, "key_2", workspace.Soul, 1))
	if v.Number != 3 || v.RestoredFrom != 1 || v.Actor != "key_2" || !v.Live {
		t.Errorf("%+v", v)
	}
	if again := must[workspace.Version](t)(s.Restore(t.Context(), account, agent, key, workspace.Soul, 3)); again.Number != 3 {
		t.Errorf("restoring what is live made version %d", again.Number)
	}
	_, err := s.Restore(t.Context(), account, agent, key, workspace.Soul, 99)
	wantFault(t, err, fault.NotFound)
}

func TestVersionsPage(t *testing.T) {
	s := newService(t)
	for i := range 6 {
		must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, fmt.Sprint("v", i+2), ""))
	}
	var got []int64
	var before int64
	for {
		p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Soul, before, 3))
		for _, v := range p.Versions {
			got = append(got, v.Number)
			if v.Content != "" {
				t.Error("a list carries content")
			}
		}
		if before = p.Next; before == 0 {
			break
		}
	}
	if fmt.Sprint(got) != "[7 6 5 4 3 2 1]" {
		t.Error(got)
	}
	_, err := s.Versions(t.Context(), account, agent, workspace.Soul, 0, 101)
	wantFault(t, err, fault.Invalid)
	_, err = s.Versions(t.Context(), account, agent, "rules/none.md", 0, 0)
	wantFault(t, err, fault.NotFound)
}

func TestRules(t *testing.T) {
	s := newService(t)
	put := func(name, content string) (workspace.Version, error) {
		return s.PutRule(t.Context(), account, agent, key, name, content, "")
	}
	must[workspace.Version](t)(put("example-new-request.md", "one"))
	must[workspace.Version](t)(put("daily-review", "zwölf"))
	rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent))
	if len(rules) != 2 || rules[0].Document.Rule() != "daily-review" || rules[0].Size != 6 || rules[1].Document.Rule() != "example-new-request" {
		t.Errorf("%+v", rules)
	}
	w := must[workspace.Procedures](t)(s.Procedures(t.Context(), account, agent))
	if fmt.Sprint(w.RuleFiles) != "[daily-review.md example-new-request.md]" {
		t.Error(w.RuleFiles)
	}
	if r := must[workspace.Version](t)(s.Rule(t.Context(), account, agent, "daily-review.md")); r.Content != "zwölf" {
		t.Errorf("%+v", r)
	}
	_, err := put("Daily-Review", "x")
	wantFault(t, err, fault.Conflict)
	for _, name := range []string{"", ".md", "a b", "../a", "a.md.md", strings.Repeat("x", 65), "ä"} {
		_, err := put(name, "x")
		wantFault(t, err, fault.Invalid)
	}
	_, err = put("big", strings.Repeat("x", workspace.MaxRuleBytes+1))
	wantFault(t, err, fault.Invalid)
	_, err = put("empty", "")
	wantFault(t, err, fault.Invalid)
	_, err = s.PutRule(t.Context(), account, agent, key, "new", "x", "abc")
	wantFault(t, err, fault.Conflict)
}

func TestADeletedRuleCanBeRestored(t *testing.T) {
	s := newService(t)
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "refunds", "pay", ""))
	if name := must[string](t)(s.DeleteRule(t.Context(), account, agent, key, "refunds.md")); name != "refunds" {
		t.Error(name)
	}
	_, err := s.Rule(t.Context(), account, agent, "refunds")
	wantFault(t, err, fault.NotFound)
	_, err = s.DeleteRule(t.Context(), account, agent, key, "refunds")
	wantFault(t, err, fault.NotFound)
	d := must[workspace.Document](t)(workspace.RuleDocument("refunds"))
	_, err = s.Restore(t.Context(), account, agent, key, d, 2)
	wantFault(t, err, fault.Invalid)
	if v := must[workspace.Version](t)(s.Restore(t.Context(), account, agent, key, d, 1)); v.Number != 3 || v.Content != "pay" {
		t.Errorf("%+v", v)
	}
	want := "[agent.rule_updated key_1 agent.rule_deleted key_1 agent.rule_updated key_1]"
	if got := fmt.Sprint(kinds(t, s)); got != want {
		t.Error(got)
	}
}

func TestARuleOfAnotherCaseMayFollowADeletedOne(t *testing.T) {
	s := newService(t)
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "refunds", "a", ""))
	must[string](t)(s.DeleteRule(t.Context(), account, agent, key, "refunds"))
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "Refunds", "b", ""))
	d := must[workspace.Document](t)(workspace.RuleDocument("refunds"))
	_, err := s.Restore(t.Context(), account, agent, key, d, 1)
	wantFault(t, err, fault.Conflict)
}

func TestAHundredRulesUnderConcurrency(t *testing.T) {
	s := newService(t)
	var wg sync.WaitGroup
	results := make(chan error, workspace.MaxRules+10)
	for i := range workspace.MaxRules + 10 {
		wg.Go(func() {
			_, err := s.PutRule(t.Context(), account, agent, key, fmt.Sprint("rule-", i), "x", "")
			results <- err
		})
	}
	wg.Wait()
	close(results)
	refused := 0
	for err := range results {
		if err != nil {
			wantFault(t, err, fault.Conflict)
			refused++
		}
	}
	if rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent)); len(rules) != workspace.MaxRules || refused != 10 {
		t.Errorf("%d rules, %d refused", len(rules), refused)
	}
}

func TestOneOfManyWritersWithTheSameHashWins(t *testing.T) {
	s := newService(t)
	hash := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent)).SoulHash
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range cap(results) {
		wg.Go(func() {
			_, err := s.SetSoul(t.Context(), account, agent, key, fmt.Sprint("soul ", i), hash)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for err := range results {
		if err == nil {
			won++
		} else {
			wantFault(t, err, fault.Conflict)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

func TestRenameChangesTheNameLineAlone(t *testing.T) {
	s := newService(t)
	inTx(t, s, func(tx *database.Tx) error {
		return s.Rename(t.Context(), tx, account, agent, key, "Ada $1\nLovelace")
	})
	p := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	if p.IdentityMD != "# IDENTITY.md\n\n- **Name:** Ada $1 Lovelace" {
		t.Errorf("%q", p.IdentityMD)
	}
}

func TestAccountsDoNotSeeEachOther(t *testing.T) {
	s := newService(t)
	initAgent(t, s, "acct_2", "agent-2")
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "mine", "x", ""))
	ctx, other := t.Context(), "acct_2"
	rule := must[workspace.Document](t)(workspace.RuleDocument("mine"))
	for name, call := range map[string]func() error{
		"Personality": func() error { _, err := s.Personality(ctx, other, agent); return err },
		"SetSoul":     func() error { _, err := s.SetSoul(ctx, other, agent, key, "x", ""); return err },
		"Procedures":  func() error { _, err := s.Procedures(ctx, other, agent); return err },
		"SetWorkflow": func() error { _, err := s.SetWorkflow(ctx, other, agent, key, "x", ""); return err },
		"Rules":       func() error { _, err := s.Rules(ctx, other, agent); return err },
		"Rule":        func() error { _, err := s.Rule(ctx, other, agent, "mine"); return err },
		"PutRule":     func() error { _, err := s.PutRule(ctx, other, agent, key, "mine", "x", ""); return err },
		"DeleteRule":  func() error { _, err := s.DeleteRule(ctx, other, agent, key, "mine"); return err },
		"Versions":    func() error { _, err := s.Versions(ctx, other, agent, workspace.Soul, 0, 0); return err },
		"Version":     func() error { _, err := s.Version(ctx, other, agent, rule, 1); return err },
		"Restore":     func() error { _, err := s.Restore(ctx, other, agent, key, workspace.Soul, 1); return err },
		"Content":     func() error { _, err := s.Content(ctx, s.DB, other, agent); return err },
		"Rename": func() error {
			return s.DB.Tx(ctx, func(tx *database.Tx) error { return s.Rename(ctx, tx, other, agent, key, "x") })
		},
		"Absorb": func() error {
			_, err := s.Absorb(ctx, other, agent, home{"SOUL.md": "x"})
			return err
		},
	} {
		if f := fault.From(call()); f.Code != fault.NotFound || strings.Contains(f.Message, "rule") {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestDeleteAgentLeavesNothing(t *testing.T) {
	s := newService(t)
	initAgent(t, s, account, "agent-2")
	c := must[workspace.Content](t)(s.Content(t.Context(), s.DB, account, agent))
	inTx(t, s, func(tx *database.Tx) error {
		return errors.Join(s.Delivered(t.Context(), tx, account, agent, c), s.DeleteAgent(t.Context(), tx, account, agent))
	})
	_, err := s.Personality(t.Context(), account, agent)
	wantFault(t, err, fault.NotFound)
	must[workspace.Personality](t)(s.Personality(t.Context(), account, "agent-2"))
	for _, table := range []string{"documents", "home_documents"} {
		n := must[int](t)(database.One(t.Context(), s.DB, database.Scalar[int], "SELECT COUNT(*) FROM "+table+" WHERE agent_id = $1", agent))
		if n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

func TestChangedRunsInsideTheChange(t *testing.T) {
	s := newService(t)
	calls := 0
	s.Changed = func(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
		calls++
		if accountID != account || agentID != agent {
			t.Error(accountID, agentID)
		}
		return errors.New("undo")
	}
	if _, err := s.SetSoul(t.Context(), account, agent, key, "x", ""); err == nil || calls != 1 {
		t.Fatal(err, calls)
	}
	s.Changed = nil
	p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Soul, 0, 0))
	if len(p.Versions) != 1 {
		t.Error("the change outlived its failure")
	}
}
